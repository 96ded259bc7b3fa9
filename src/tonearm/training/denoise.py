"""Stage 4 of a distillation: train a denoiser for the embeddings of a duet.

From the duet's embedding of a noisy window, a small network learns to predict its embedding of the
original window: a denoising autoencoder (Vincent et al. 2008) between embeddings. It also sees
windows without noise, and learns to leave those unchanged. All heads then read its output, except
AudioSet's, which noise hardly affects.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tonearm.datasets.storage import StoredArray
from tonearm.training.cut import cut
from tonearm.training.descent import Descent
from tonearm.training.duet import SECOND_FRONT_END, Denoiser, Duet
from tonearm.training.recipe import Recipe
from tonearm.training.teachers import STUDENT_FRONT_END

Floats = NDArray[np.float32]


class Sound(NamedTuple):
    """Frames of a clip from both front ends, of any length."""

    first: Floats | StoredArray  # float[frames, 128] of STUDENT_FRONT_END
    second: Floats | StoredArray  # float[frames, 96] of SECOND_FRONT_END


class Pairs(NamedTuple):
    """A duet's embeddings of windows, and what they would be without noise."""

    noisy: Tensor  # float32[windows, embedding]
    clean: Tensor  # the same


def denoise(
    recipe: Recipe,
    duet: Duet,
    clips: Iterable[Sequence[Sound]],
    checkpoint: Path,
    history: Path,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Train a denoiser for a duet, and set it as its `denoiser`.

    Parameters
    ----------
    duet
        The duet in its final state; its weights stay as they are.
    clips
        For each clip, its original version followed by the noisy ones.
    checkpoint, history
        Files to resume from after an interruption, and for the losses.
    tell
        Called with one-line progress messages.
    """
    settings = recipe.denoising
    torch.manual_seed(recipe.seed)
    denoiser = Denoiser(duet.embedding_size, settings.hidden, settings.dropout)
    groups = [(list(denoiser.parameters()), settings.descent.lr)]
    descent = Descent(denoiser, groups, settings.steps, settings.descent, recipe.seed)

    @functools.cache  # computed in the first step, so not at all if no steps remain
    def heard() -> Pairs:
        tell("denoising: hearing the clips amid noise")
        pairs = hear_pairs(recipe, duet, clips)
        for network in (descent.network, descent.average):
            network.scale_to(pairs.noisy)
        return pairs

    def losses(step: int) -> Mapping[str, Tensor]:
        pairs = heard()
        rng = np.random.default_rng((recipe.seed, step))
        chosen = torch.from_numpy(rng.integers(0, len(pairs.noisy), settings.batch_size))
        noisy = pairs.noisy[chosen]
        wanted = (pairs.clean[chosen] - noisy) / denoiser.deviation
        return {"error": (denoiser.correction(noisy) - wanted).square().mean()}

    duet.denoiser = descent.run(
        losses,
        checkpoint=checkpoint,
        history=history,
        every=recipe.checkpoint_steps,
        tell=lambda line: tell(f"denoising: {line}"),
    )


@torch.inference_mode()
def hear_pairs(recipe: Recipe, duet: Duet, clips: Iterable[Sequence[Sound]]) -> Pairs:
    """Return the embeddings of every window, noisy and original, paired with the original's."""
    noisy: list[Tensor] = []
    clean: list[Tensor] = []
    for as_it_is, *amid_noise in clips:
        wanted = _heard(recipe, duet, as_it_is)
        for sound in (wanted, *(_heard(recipe, duet, each) for each in amid_noise)):
            # If only one version is long enough for a last window, that window is left out.
            for window, own in zip(sound, wanted, strict=False):
                noisy.append(window)
                clean.append(own)
    return Pairs(torch.stack(noisy), torch.stack(clean))


def _heard(recipe: Recipe, duet: Duet, sound: Sound) -> list[Tensor]:
    """Return the duet's embedding of each window."""
    both = zip(
        cut(recipe, sound.first, STUDENT_FRONT_END),
        cut(recipe, sound.second, SECOND_FRONT_END),
        strict=False,
    )
    return [
        duet.listen(torch.from_numpy(first)[None], torch.from_numpy(second)[None])[0]
        for first, second in both
    ]
