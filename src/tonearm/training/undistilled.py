"""The default model without its four stages of training, to show what they add.

Both networks are as published. Only linear heads are fitted to labelled clips: a probe of mn04 in
the place of the student's genre head, and the two on the FCN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tonearm.datasets import Track
from tonearm.datasets.cache import FeatureCache
from tonearm.metadata import BundleMetadata
from tonearm.models.layers import required
from tonearm.models.student import Student, StudentOutputs
from tonearm.training import fcn
from tonearm.training.ensemble import SECOND_FRONT_END, Ensemble, LinearHead
from tonearm.training.export import export
from tonearm.training.labels import require_genres, require_labels
from tonearm.training.recipe import Recipe
from tonearm.training.recipe_windows import recipe_windows
from tonearm.training.teachers import STUDENT_FRONT_END
from tonearm.training.tune import audioset_weight

# Increase it when a code change alters the result for the same recipe and tracks.
UNDISTILLED_VERSION = 1
MEANS = 384  # of mn04's features

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Undistilled:
    """Makes undistilled models by a recipe's windows, heads, weights and temperature.

    Attributes
    ----------
    recipe
        The settings of its stages are not used.
    cache
        Where log-mels are kept.
    workers
        Number of processes that compute them.
    """

    recipe: Recipe
    cache: FeatureCache
    workers: int = 1
    # Of each track: what mn04 and the FCN say of it, which is the same in every fold.
    _features: dict[Track, tuple[Floats, Floats]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def fit(self, tracks: Sequence[Track], labels: Sequence[str], path: Path) -> Path:
        """Fit the heads to labelled tracks, and export the model.

        Parameters
        ----------
        tracks
            Those that cannot be decoded are left out.
        labels
            The genres, in the order of the logits.
        path
            The bundle to write.

        Raises
        ------
        DatasetError
            If a track's label is not among `labels`, or those that can be decoded have the same.
        FcnError, PretrainedError
            If the weights of a network are missing or invalid.
        """
        require_labels(tracks, labels)
        probe = LinearHead(MEANS, len(labels))
        student = PublishedStudent(self.recipe, labels, probe)
        ensemble = Ensemble(student, fcn.load_fcn(), self.recipe.ensemble, labels).eval()
        self._add_features(ensemble, tracks)
        usable = [track for track in tracks if track in self._features]
        require_genres(usable)
        truth = np.array([labels.index(str(track.label)) for track in usable])
        of_student, of_fcn = (
            np.stack(each) for each in zip(*(self._features[t] for t in usable), strict=True)
        )
        probe.fit(of_student, truth, self.recipe.tuning.soft_regularisation)
        ensemble.fit_heads(of_fcn, truth)
        settings = self.recipe.student
        metadata = BundleMetadata(
            name="undistilled",
            labels=tuple(labels),
            front_end=STUDENT_FRONT_END,
            second_front_end=SECOND_FRONT_END,
            window_seconds=settings.window_seconds,
            hop_seconds=settings.hop_seconds,
            temperature=settings.temperature,
            training={"model": "undistilled", "tracks": len(usable)},
            licence="Apache-2.0",
            attribution=f"{student.attribution}. Contains {fcn.ATTRIBUTION}",
        )
        return export(ensemble, metadata, path)

    @torch.inference_mode()
    def _add_features(self, ensemble: Ensemble, tracks: Sequence[Track]) -> None:
        """Run both networks on the windows of tracks that are new and can be decoded."""
        new = [track for track in tracks if track not in self._features]
        both = zip(
            *(
                self.cache.logmels(new, front_end, workers=self.workers)
                for front_end in (STUDENT_FRONT_END, SECOND_FRONT_END)
            ),
            strict=True,
        )
        for track, (first, second) in zip(new, both, strict=True):
            if first is None or second is None:
                continue
            windows = recipe_windows(self.recipe, first, STUDENT_FRONT_END)
            means = [ensemble.student.embed(torch.from_numpy(each)[None])[0] for each in windows]
            others = list(recipe_windows(self.recipe, second, SECOND_FRONT_END))
            self._features[track] = (
                torch.stack(means).mean(dim=0).numpy(),
                ensemble.mean_fcn_features(others),
            )


class PublishedStudent(Student):
    """mn04 as published: its embedding is the mean of its features, which the genre head reads."""

    def __init__(self, recipe: Recipe, labels: Sequence[str], head: nn.Module) -> None:
        weight = audioset_weight(recipe, labels)
        super().__init__(len(labels), labels=labels, audioset_weight=weight)
        del self.project
        self.embedding_size = MEANS
        self.classifier = head

    def embed(self, logmel: Tensor | None, descriptors: Tensor | None = None) -> Tensor:
        """Return the mean of the features of float32[batch, frames, mels], without the maximum."""
        return self._pooled(required(logmel))[:, :MEANS]

    def head_outputs(self, logmel: Tensor) -> StudentOutputs:
        """Return the logits of both heads, and the embedding, of float32[batch, frames, mels]."""
        means = self.embed(logmel)
        return StudentOutputs(self.classifier(means), self.audioset(means), means)
