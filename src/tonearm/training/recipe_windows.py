"""Cut a clip into the windows that the exported model will cut it into."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tonearm.datasets.storage import StoredArray
from tonearm.features.logmel import LogMelConfig
from tonearm.training.recipe import Recipe
from tonearm.windows import SHORTEST_TAIL_SECONDS, windows

Floats = NDArray[np.float32]


def windowing(recipe: Recipe) -> dict[str, float]:
    """Return the settings of the exported model's windows by name."""
    names = ("window_seconds", "hop_seconds")
    return {name: getattr(recipe.student, name) for name in names}


def recipe_windows(
    recipe: Recipe, frames: Floats | StoredArray, front_end: LogMelConfig
) -> Iterator[Floats]:
    """Yield the windows of the part of a clip that is used for training, float32[frames, mels].

    Parameters
    ----------
    frames
        float[frames, mels] of `front_end`.
    """
    longest, length, hop, tail = (
        round(seconds * front_end.frames_per_second)
        for seconds in (
            recipe.tuning.clip_seconds,
            recipe.student.window_seconds,
            recipe.student.hop_seconds,
            SHORTEST_TAIL_SECONDS,
        )
    )
    clip = np.asarray(frames[:longest], np.float32)
    for _, window in windows([clip], length=length, hop=hop, shortest_tail=tail):
        yield window
