"""Stage 3 of a distillation: fine-tune the last two layers of an ensemble's FCN on genres.

The lower layers process segments of the labelled clips, some of them degraded, once each; the last
two layers and the heads on them are then trained on the resulting maps. Finally, their weights are
interpolated with the initial ones, halfway by default (Wortsman et al. 2022, "Robust fine-tuning of
zero-shot models"): what the FCN learned from a million songs helps on recordings from elsewhere.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tonearm.datasets import Track
from tonearm.datasets.cache import CACHE_VERSION
from tonearm.datasets.storage import StoredArray
from tonearm.training.augment import Batch, crop, mixup
from tonearm.training.degradations import Degradation
from tonearm.training.ensemble import SECOND_FRONT_END, Ensemble
from tonearm.training.experiment import AugmentSettings
from tonearm.training.fcn import read_maps
from tonearm.training.optimisation import Log, Optimisation
from tonearm.training.recipe import DistillOptimiserSettings, Recipe
from tonearm.training.recipe_windows import windowing
from tonearm.training.runfolder import HISTORY
from tonearm.training.transfer_set import TransferSegment, settings_digest, transfer_digest

# Increase it when a code change alters the result for the same recipe and clips. Since version 2,
# the FCN repeats the maps of long windows, not their frames.
REFINEMENT_VERSION = 2

# float[frames, 96] of the original clip, then of its degraded versions (`training.degradations`).
Versions = Sequence[StoredArray]

_AS_IT_IS = AugmentSettings(stretch=0.0, transpose=0.0)


class UpperLayers(nn.Module):
    """The part that is trained: the last two layers of an ensemble's FCN, and the heads on them."""

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.layer4, self.layer5 = ensemble.fcn.layer4, ensemble.fcn.layer5
        self.on_embedding, self.on_all = ensemble.on_embedding, ensemble.on_all

    def forward(self, maps: Tensor) -> dict[str, Tensor]:
        """Return the log-probabilities of each head by its name, float32[batch, classes]."""
        features = torch.cat(read_maps(self.layer4, self.layer5, maps), dim=1)
        return {"on_embedding": self.on_embedding(features), "on_all": self.on_all(features)}

    def groups(self, settings: DistillOptimiserSettings) -> list[tuple[list[nn.Parameter], float]]:
        """Group the parameters by learning rate: FCN layers, heads."""
        layers = [*self.layer4.parameters(), *self.layer5.parameters()]
        heads = [*self.on_embedding.parameters(), *self.on_all.parameters()]
        return [(layers, settings.pretrained_lr), (heads, settings.lr)]


def refine(
    recipe: Recipe,
    ensemble: Ensemble,
    clips: Sequence[Versions],
    truth: NDArray[np.int64],
    folder: Path,
    log: Log = lambda line: None,
) -> None:
    """Fine-tune the last layers of an ensemble's FCN on genres, in place.

    Parameters
    ----------
    ensemble
        The ensemble. Its heads must have been fitted; training starts from there.
    clips
        Frames of `SECOND_FRONT_END`, of any length.
    truth
        int[clips], columns of the heads.
    folder
        Folder of the checkpoint to resume from after an interruption, and of the losses.
    log
        Called with one-line progress messages.
    """
    settings = recipe.refinement
    upper = UpperLayers(ensemble)
    published = copy.deepcopy(upper.state_dict())
    optimisation = Optimisation(
        upper, upper.groups(settings.optimiser), settings.steps, settings.optimiser, recipe.seed
    )

    @functools.cache  # computed in the first step, so not at all if no steps remain
    def lower_maps() -> tuple[Tensor, Tensor]:
        log(f"refinement: running the lower layers on {settings.segments} segments")
        return draw_segments(recipe, ensemble, clips, truth)

    def losses(step: int) -> Mapping[str, Tensor]:
        maps, genres = lower_maps()
        rng = np.random.default_rng((recipe.seed, step))
        chosen = torch.from_numpy(rng.integers(0, len(maps), settings.batch_size))
        batch = mixup(Batch(maps[chosen].float(), None, genres[chosen]), settings.mixup, rng)
        return {
            name: -(batch.target * log_probabilities).sum(dim=1).mean()
            for name, log_probabilities in upper(batch.logmel).items()
        }

    learned = optimisation.run(
        losses,
        checkpoint=folder / "last.pt",
        history=folder / HISTORY,
        every=recipe.checkpoint_steps,
        log=lambda line: log(f"refinement: {line}"),
    ).state_dict()
    for name, value in upper.state_dict().items():
        value.copy_(torch.lerp(published[name], learned[name], settings.share))
    ensemble.eval()


def refinement_name(
    recipe: Recipe, tracks: Sequence[Track], clips: Sequence[TransferSegment], labels: Sequence[str]
) -> str:
    """Return a folder name that identifies what stage 3 learns from; `share` does not matter.

    Parameters
    ----------
    tracks
        The labelled tracks that the clips are of.
    """
    regularisations = ("fcn_regularisation", "fcn_embedding_regularisation")
    settings = {
        "version": REFINEMENT_VERSION,
        "seed": recipe.seed,
        "student": windowing(recipe),
        "ensemble": {name: getattr(recipe.ensemble, name) for name in regularisations},
        "refinement": asdict(replace(recipe.refinement, share=1.0)),
        "clip_seconds": recipe.tuning.clip_seconds,
        "features": CACHE_VERSION,
        "degraded": [each.folder_name() for each in clip_degradations(recipe)],
        "labels": list(labels),
        "truth": [track.label for track in tracks],
        "clips": transfer_digest(clips),
    }
    return f"refinement-{settings_digest(settings)}"


def clip_degradations(recipe: Recipe) -> list[Degradation]:
    """Return the degradations by which a recipe alters the clips of stage 3."""
    return [
        Degradation(SECOND_FRONT_END, number, recipe.tuning.clip_seconds)
        for number in range(recipe.refinement.degraded_copies)
    ]


@torch.inference_mode()
def draw_segments(
    recipe: Recipe, ensemble: Ensemble, clips: Sequence[Versions], truth: NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    """Draw segments of clips, equally many of each genre, and run the lower layers on them.

    Returns
    -------
    The maps of `Ensemble.lower`, float16[segments, ...], and float32[segments, classes], their
    smoothed labels.
    """
    settings = recipe.refinement
    rng = np.random.default_rng(recipe.seed)
    frames, longest = (
        round(seconds * SECOND_FRONT_END.frames_per_second)
        for seconds in (recipe.student.window_seconds, recipe.tuning.clip_seconds)
    )
    genres = np.unique(truth)
    drawn = genres[np.arange(settings.segments) % len(genres)]
    classes = ensemble.num_classes
    labels = np.eye(classes, dtype=np.float32)[drawn]
    labels = labels * (1 - settings.smoothing) + settings.smoothing / classes
    places = {genre: np.flatnonzero(truth == genre) for genre in genres}
    # One array for all maps: keeping small tensors among large temporary ones fragments memory.
    maps: Tensor | None = None
    for row, genre in enumerate(drawn):  # one by one, which is faster, see `Ensemble`
        clip = _one_version(clips[rng.choice(places[genre])], settings.degraded_share, rng)
        segment = crop(clip[:longest], frames, SECOND_FRONT_END, _AS_IT_IS, 0.0, rng)
        features = ensemble.lower(torch.from_numpy(segment)[np.newaxis])[0]
        if maps is None:
            maps = torch.empty((len(drawn), *features.shape), dtype=torch.float16)
        maps[row] = features
    assert maps is not None  # a recipe has one segment or more
    return maps, torch.from_numpy(labels)


def _one_version(clip: Versions, degraded_share: float, rng: np.random.Generator) -> StoredArray:
    """Return the original clip, or with that probability one of its degraded versions."""
    other = len(clip) > 1 and rng.random() < degraded_share
    return clip[int(rng.integers(1, len(clip))) if other else 0]
