"""Turn the teachers' outputs into targets for a student: few numbers, on a common scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tonearm.training.teachers import TeacherOutputs

Floats = NDArray[np.float32]

_LEAST_SPREAD = 1e-3  # least standard deviation a feature is divided by
_FURTHEST = 6.0  # standard deviations a target may lie from the mean
# Least deviation a component is divided by, as a share of the widest component's: narrower ones
# are mostly noise, and are not scaled up to full size.
_LEAST_COMPONENT = 0.05


class Targets(NamedTuple):
    """The targets of a student for one segment of music."""

    musicnn: Floats  # float32[patches, components]
    musicnn_tags: Floats  # float32[patches, 50]
    fcn: Floats  # float32[64]
    fcn_tags: Floats  # float32[50]
    audioset: Floats  # float32[527], probabilities


class TargetBatch(NamedTuple):
    """The targets of a batch."""

    musicnn: Tensor  # float32[batch, components]
    musicnn_tags: Tensor  # float32[batch, 50]
    fcn: Tensor  # float32[batch, 64]
    fcn_tags: Tensor  # float32[batch, 50]
    audioset: Tensor  # float32[batch, 527], probabilities


@dataclass(frozen=True, eq=False)
class TargetSpace:
    """Standardise the teachers' outputs, and project musicnn's maps on their principal components.

    Attributes
    ----------
    mean, deviation
        Mean and standard deviation of musicnn's feature maps, float32[1506].
    components
        float32[1506, components], by which the standardised maps are multiplied; it also scales
        the components to a common spread.
    musicnn_tags, fcn, fcn_tags
        Means and standard deviations, float32[2, n].
    """

    mean: Floats
    deviation: Floats
    components: Floats
    musicnn_tags: Floats
    fcn: Floats
    fcn_tags: Floats

    @classmethod
    def fit(cls, segments: Sequence[TeacherOutputs], components: int) -> TargetSpace:
        """Fit the space to segments, with at most this many components.

        It is fitted to unlabelled music only, so that it contains no information about labelled
        clips, held out or not.
        """
        maps = np.concatenate([outputs.musicnn for outputs in segments])
        mean, deviation = maps.mean(axis=0), np.maximum(maps.std(axis=0), _LEAST_SPREAD)
        standard = (maps - mean) / deviation
        axes, spreads = _principal_axes(standard, components)
        scales = np.maximum(spreads, _LEAST_COMPONENT * spreads[0])
        return cls(
            mean,
            deviation,
            (axes / scales).astype(np.float32),
            _moments(np.concatenate([outputs.musicnn_tags for outputs in segments])),
            _moments(np.stack([outputs.fcn for outputs in segments])),
            _moments(np.stack([outputs.fcn_tags for outputs in segments])),
        )

    def __call__(self, outputs: TeacherOutputs) -> Targets:
        """Return the targets for the teachers' outputs on one segment of music."""
        maps: Floats = _within((outputs.musicnn - self.mean) / self.deviation)
        return Targets(
            musicnn=_within(maps @ self.components),
            musicnn_tags=_standard(outputs.musicnn_tags, self.musicnn_tags),
            fcn=_standard(outputs.fcn, self.fcn),
            fcn_tags=_standard(outputs.fcn_tags, self.fcn_tags),
            audioset=(1 / (1 + np.exp(-outputs.audioset))).astype(np.float32),
        )

    def to_state(self) -> dict[str, Tensor]:
        """Return the arrays as tensors, for storing them with a network."""
        return {name: torch.from_numpy(array) for name, array in asdict(self).items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> TargetSpace:
        """Return the space that `to_state` stored."""
        return cls(**{name: tensor.numpy() for name, tensor in state.items()})


def collate(
    targets: Sequence[Targets], patches: Sequence[int | None], device: torch.device
) -> TargetBatch:
    """Stack targets into a batch on a device.

    Parameters
    ----------
    patches
        For each of `targets`, the patch to take musicnn's targets from, or None for the mean over
        all patches.
    """

    def stacked(arrays: Iterable[Floats]) -> Tensor:
        return torch.from_numpy(np.stack(list(arrays))).to(device)

    def per_patch(patched: Iterable[Floats]) -> Tensor:
        return stacked(
            rows.mean(axis=0) if patch is None else rows[patch]
            for rows, patch in zip(patched, patches, strict=True)
        )

    return TargetBatch(
        per_patch(target.musicnn for target in targets),
        per_patch(target.musicnn_tags for target in targets),
        stacked(target.fcn for target in targets),
        stacked(target.fcn_tags for target in targets),
        stacked(target.audioset for target in targets),
    )


def _principal_axes(standard: Floats, components: int) -> tuple[Floats, Floats]:
    """Return the principal axes of float32[rows, n], at most as many as it has rows.

    Returns
    -------
    float32[n, components] and the standard deviations float32[components], the widest first.
    """
    rows, columns = standard.shape
    # For a table with more rows than columns, the columns' product matrix is cheaper to decompose.
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
    """Clip standardised values to `_FURTHEST` standard deviations.

    Most of musicnn's feature maps are constant, so the least change in one amounts to many
    standard deviations.
    """
    clipped: Floats = np.clip(x, -_FURTHEST, _FURTHEST)
    return clipped
