"""Stage 4 of a distillation: a duet learns to hear through noise.

A small network is given what the duet hears of a noisy window, and learns what it heard of the same
window as it is: a denoising autoencoder (Vincent et al. 2008) between embeddings. It sees windows
without noise, too, and leaves those as they are. All heads but AudioSet's, which noise hardly
moves, then read what it gives.
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
    """Frames of a clip through both front ends, of any length."""

    first: Floats | StoredArray  # float[frames, 128] of STUDENT_FRONT_END
    second: Floats | StoredArray  # float[frames, 96] of SECOND_FRONT_END


class Pairs(NamedTuple):
    """What a duet hears of windows, and what it should have heard."""

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
    """Teach a duet a denoiser, and let it have it.

    Parameters
    ----------
    duet
        As it will be; nothing in it changes.
    clips
        Each as it is, then amid noise.
    checkpoint, history
        Files to go on from after a break, and for the losses.
    tell
        Is told in one line how far it is.
    """
    settings = recipe.denoising
    torch.manual_seed(recipe.seed)
    denoiser = Denoiser(duet.embedding_size, settings.hidden, settings.dropout)
    groups = [(list(denoiser.parameters()), settings.descent.lr)]
    descent = Descent(denoiser, groups, settings.steps, settings.descent, recipe.seed)

    @functools.cache  # heard when the first step is taken, so not at all if none is left
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
    """Let a duet hear every window of every clip: as it is, paired with itself, and amid noise."""
    noisy: list[Tensor] = []
    clean: list[Tensor] = []
    for as_it_is, *amid_noise in clips:
        wanted = _heard(recipe, duet, as_it_is)
        for sound in (wanted, *(_heard(recipe, duet, each) for each in amid_noise)):
            # Where one just makes a last window and the other does not, it is left out.
            for window, own in zip(sound, wanted, strict=False):
                noisy.append(window)
                clean.append(own)
    return Pairs(torch.stack(noisy), torch.stack(clean))


def _heard(recipe: Recipe, duet: Duet, sound: Sound) -> list[Tensor]:
    """Give what the duet hears of each window."""
    both = zip(
        cut(recipe, sound.first, STUDENT_FRONT_END),
        cut(recipe, sound.second, SECOND_FRONT_END),
        strict=False,
    )
    return [
        duet.listen(torch.from_numpy(first)[None], torch.from_numpy(second)[None])[0]
        for first, second in both
    ]
