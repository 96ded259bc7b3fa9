"""Stage 4 of a distillation: train a denoiser for the embeddings of an ensemble.

From the ensemble's embedding of a noisy window, a small network learns to predict its embedding of
the original window: a denoising autoencoder (Vincent et al. 2008) between embeddings. It also sees
windows without noise, and learns to leave those unchanged. All heads then read its output, except
AudioSet's, which noise hardly affects.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tonearm.datasets.cache import CACHE_VERSION
from tonearm.datasets.storage import StoredArray
from tonearm.training.degradations import Degradation, noise_numbers
from tonearm.training.ensemble import SECOND_FRONT_END, Denoiser, Ensemble
from tonearm.training.optimisation import Log, Optimisation
from tonearm.training.recipe import Recipe
from tonearm.training.recipe_windows import recipe_windows, windowing
from tonearm.training.runfolder import HISTORY
from tonearm.training.teachers import STUDENT_FRONT_END
from tonearm.training.transfer_set import settings_digest

# Increase it when a code change alters the result for the same recipe, clips and earlier stages.
DENOISING_VERSION = 2

Floats = NDArray[np.float32]


class ClipFrames(NamedTuple):
    """Frames of a clip from both front ends, of any length."""

    first: Floats | StoredArray  # float[frames, 128] of STUDENT_FRONT_END
    second: Floats | StoredArray  # float[frames, 96] of SECOND_FRONT_END


class Pairs(NamedTuple):
    """An ensemble's embeddings of windows, and what they would be without noise."""

    noisy: Tensor  # float32[windows, embedding]
    clean: Tensor  # the same


def denoise(
    recipe: Recipe,
    ensemble: Ensemble,
    clips: Iterable[Sequence[ClipFrames]],
    folder: Path,
    log: Log = lambda line: None,
) -> None:
    """Train a denoiser for an ensemble, and set it as its `denoiser`.

    Parameters
    ----------
    ensemble
        The ensemble in its final state; its weights stay as they are.
    clips
        For each clip, its original version followed by the noisy ones.
    folder
        Folder of the checkpoint to resume from after an interruption, and of the losses.
    log
        Called with one-line progress messages.
    """
    settings = recipe.denoising
    torch.manual_seed(recipe.seed)
    denoiser = Denoiser(ensemble.embedding_size, settings.hidden, settings.dropout)
    groups = [(list(denoiser.parameters()), settings.optimiser.lr)]
    optimisation = Optimisation(denoiser, groups, settings.steps, settings.optimiser, recipe.seed)

    @functools.cache  # computed in the first step, so not at all if no steps remain
    def pairs_of_clips() -> Pairs:
        log("denoising: embedding the noisy clips")
        pairs = embed_pairs(recipe, ensemble, clips)
        for network in (optimisation.network, optimisation.average):
            network.scale_to(pairs.noisy)
        return pairs

    def losses(step: int) -> Mapping[str, Tensor]:
        pairs = pairs_of_clips()
        rng = np.random.default_rng((recipe.seed, step))
        chosen = torch.from_numpy(rng.integers(0, len(pairs.noisy), settings.batch_size))
        noisy = pairs.noisy[chosen]
        correction = (pairs.clean[chosen] - noisy) / denoiser.deviation
        return {"error": (denoiser.correction(noisy) - correction).square().mean()}

    ensemble.denoiser = optimisation.run(
        losses,
        checkpoint=folder / "last.pt",
        history=folder / HISTORY,
        every=recipe.checkpoint_steps,
        log=lambda line: log(f"denoising: {line}"),
    )


def denoising_name(recipe: Recipe, tuned: str, refined: str | None) -> str:
    """Return a folder name that identifies what stage 4 learns from, including earlier stages.

    Parameters
    ----------
    tuned, refined
        The names of stages 2 and 3; None if stage 3 is left out.
    """
    settings = {
        "version": DENOISING_VERSION,
        "features": CACHE_VERSION,
        "tuned": tuned,
        "refined": refined,
        "share": recipe.refinement.share,
        "student": windowing(recipe),
        "denoising": asdict(recipe.denoising),
        "degraded": [each.folder_name() for noisy in noise_degradations(recipe) for each in noisy],
    }
    return f"denoising-{settings_digest(settings)}"


def noise_degradations(recipe: Recipe) -> list[list[Degradation]]:
    """Return the degradations by noise, for the student and for the FCN, with the same noise."""
    return [
        [
            Degradation(front_end, number, recipe.tuning.clip_seconds)
            for number in noise_numbers(recipe.denoising.noisy_copies)
        ]
        for front_end in (STUDENT_FRONT_END, SECOND_FRONT_END)
    ]


@torch.inference_mode()
def embed_pairs(recipe: Recipe, ensemble: Ensemble, clips: Iterable[Sequence[ClipFrames]]) -> Pairs:
    """Return the embeddings of every window, noisy and original, paired with the original's."""
    noisy: list[Tensor] = []
    clean: list[Tensor] = []
    for original, *noisy_versions in clips:
        targets = _embed_windows(recipe, ensemble, original)
        versions = [_embed_windows(recipe, ensemble, each) for each in noisy_versions]
        for version in (targets, *versions):
            # If only one version is long enough for a last window, that window is left out.
            for window, target in zip(version, targets, strict=False):
                noisy.append(window)
                clean.append(target)
    return Pairs(torch.stack(noisy), torch.stack(clean))


def _embed_windows(recipe: Recipe, ensemble: Ensemble, clip: ClipFrames) -> list[Tensor]:
    """Return the ensemble's embedding of each window."""
    both = zip(
        recipe_windows(recipe, clip.first, STUDENT_FRONT_END),
        recipe_windows(recipe, clip.second, SECOND_FRONT_END),
        strict=False,
    )
    return [
        ensemble.embed_windows(torch.from_numpy(first)[None], torch.from_numpy(second)[None])[0]
        for first, second in both
    ]
