"""Brings what the teachers say to a form that a student can be asked for: few, even numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tonearm.training.teachers import Said

Floats = NDArray[np.float32]

_LEAST_SPREAD = 1e-3  # of a feature: below it, it is divided by this
_FURTHEST = 6.0  # standard deviations a target may lie from the mean
# Of the widest component: narrower ones are not blown up to full size, being mostly noise.
_LEAST_COMPONENT = 0.05


class Targets(NamedTuple):
    """What a student is asked for, of one stretch of music."""

    musicnn: Floats  # float32[patches, components]
    musicnn_tags: Floats  # float32[patches, 50]
    fcn: Floats  # float32[64]
    fcn_tags: Floats  # float32[50]
    audioset: Floats  # float32[527], probabilities


class Wanted(NamedTuple):
    """The targets of a batch."""

    musicnn: Tensor  # float32[batch, components]
    musicnn_tags: Tensor  # float32[batch, 50]
    fcn: Tensor  # float32[batch, 64]
    fcn_tags: Tensor  # float32[batch, 50]
    audioset: Tensor  # float32[batch, 527], probabilities


@dataclass(frozen=True, eq=False)
class TargetSpace:
    """Standardises what the teachers say, and keeps the principal components of musicnn's maps.

    Attributes
    ----------
    mean, deviation
        Of musicnn's feature maps, float32[1506].
    components
        float32[1506, components], by which the standardised maps are multiplied; they bring each
        component to an even scale.
    musicnn_tags, fcn, fcn_tags
        Means and deviations, float32[2, n].
    """

    mean: Floats
    deviation: Floats
    components: Floats
    musicnn_tags: Floats
    fcn: Floats
    fcn_tags: Floats

    @classmethod
    def fit(cls, lessons: Sequence[Said], components: int) -> TargetSpace:
        """Find the space in which lessons lie, with at most so many components.

        Only unlabelled music is fitted on, so that nothing of labelled clips, held out or not,
        is in it.
        """
        maps = np.concatenate([said.musicnn for said in lessons])
        mean, deviation = maps.mean(axis=0), np.maximum(maps.std(axis=0), _LEAST_SPREAD)
        standard = (maps - mean) / deviation
        axes, spreads = _principal_axes(standard, components)
        scales = np.maximum(spreads, _LEAST_COMPONENT * spreads[0])
        return cls(
            mean,
            deviation,
            (axes / scales).astype(np.float32),
            _moments(np.concatenate([said.musicnn_tags for said in lessons])),
            _moments(np.stack([said.fcn for said in lessons])),
            _moments(np.stack([said.fcn_tags for said in lessons])),
        )

    def __call__(self, said: Said) -> Targets:
        """Bring what was said of one stretch of music into the space."""
        maps: Floats = _within((said.musicnn - self.mean) / self.deviation)
        return Targets(
            musicnn=_within(maps @ self.components),
            musicnn_tags=_standard(said.musicnn_tags, self.musicnn_tags),
            fcn=_standard(said.fcn, self.fcn),
            fcn_tags=_standard(said.fcn_tags, self.fcn_tags),
            audioset=(1 / (1 + np.exp(-said.audioset))).astype(np.float32),
        )

    def to_state(self) -> dict[str, Tensor]:
        """Return the numbers as tensors, to be stored with a network."""
        return {name: torch.from_numpy(array) for name, array in asdict(self).items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> TargetSpace:
        """Take back what `to_state` gave."""
        return cls(**{name: tensor.numpy() for name, tensor in state.items()})


def collate(targets: Sequence[Targets], patches: Sequence[int | None]) -> Wanted:
    """Stack targets for a batch.

    Parameters
    ----------
    patches
        Of each, the patch whose targets are wanted of musicnn, or None for the mean of all.
    """

    def stacked(arrays: Iterable[Floats]) -> Tensor:
        return torch.from_numpy(np.stack(list(arrays)))

    def heard(patched: Iterable[Floats]) -> Tensor:
        return stacked(
            rows.mean(axis=0) if patch is None else rows[patch]
            for rows, patch in zip(patched, patches, strict=True)
        )

    return Wanted(
        heard(target.musicnn for target in targets),
        heard(target.musicnn_tags for target in targets),
        stacked(target.fcn for target in targets),
        stacked(target.fcn_tags for target in targets),
        stacked(target.audioset for target in targets),
    )


def _principal_axes(standard: Floats, components: int) -> tuple[Floats, Floats]:
    """Find the widest directions of float32[rows, n], at most as many as it has rows.

    Returns
    -------
    float32[n, components] and the standard deviations float32[components], the widest first.
    """
    rows, columns = standard.shape
    # Of a tall table, the products of the columns are the smaller thing to decompose.
    square = standard.T @ standard if rows > columns else standard
    _, singular, axes = np.linalg.svd(square, full_matrices=False)
    spreads = np.sqrt((singular if rows > columns else singular**2) / rows)
    return axes[:components].T, spreads[:components]


def _moments(x: Floats) -> Floats:
    return np.stack([x.mean(axis=0), np.maximum(x.std(axis=0), _LEAST_SPREAD)])


def _standard(x: Floats, moments: Floats) -> Floats:
    mean, deviation = moments
    return _within((x - mean) / deviation)


def _within(x: Floats) -> Floats:
    """Bring in what lies further out than music does: a feature that unlabelled music hardly moves.

    Most of musicnn's feature maps are constant, and the least change of one is many deviations.
    """
    clipped: Floats = np.clip(x, -_FURTHEST, _FURTHEST)
    return clipped
