"""Cut a clip into the windows that the exported model will cut it into."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tonearm.datasets.storage import StoredArray
from tonearm.features.logmel import LogMelConfig
from tonearm.training.recipe import Recipe
from tonearm.windows import model_windows

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
    rate, student = front_end.frames_per_second, recipe.student
    clip = np.asarray(frames[: round(recipe.tuning.clip_seconds * rate)], np.float32)
    for _, window in model_windows([clip], rate, student.window_seconds, student.hop_seconds):
        yield window
