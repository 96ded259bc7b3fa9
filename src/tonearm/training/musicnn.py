"""MSD_musicnn, a music tagger with musically motivated filter shapes, as a teacher.

Architecture and weights: Pons and Serra 2019, "musicnn: Pre-trained convolutional neural networks
for music audio tagging" (ISC licence), trained on the Million Song Dataset for 50 last.fm tags.
The weights are read from the installed PyPI package `musicnn`, which is not imported, as it
requires TensorFlow 1.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tonearm.errors import TonearmError, reason_of
from tonearm.features.logmel import FRONT_ENDS
from tonearm.training.tfcheckpoint import read_checkpoint

FRONT_END = FRONT_ENDS["mel16k"]
PATCH_FRAMES = 187  # 3 s, the length that the network was trained on
TAGS = 50

ATTRIBUTION = (
    "MSD_musicnn (Jordi Pons, Xavier Serra), ISC licence, https://github.com/jordipons/musicnn"
)

_PACKAGE = "musicnn"
_CHECKPOINT = "MSD_musicnn"
EPSILON = 1e-3  # of TensorFlow's batch normalisation
_MIDDLE_CHANNELS = 64
_PENULTIMATE_UNITS = 200

# Channels and kernel (frames, bands). Timbral filters span much of the spectrum for a moment;
# temporal ones, for rhythms and envelopes, span time in one band.
_TIMBRAL = ((204, (7, 38)), (204, (7, 67)))
_TEMPORAL = ((51, (128, 1)), (51, (64, 1)), (51, (32, 1)))
_FRONT_CHANNELS = sum(channels for channels, _ in _TIMBRAL + _TEMPORAL)
POOLED = 2 * (_FRONT_CHANNELS + 3 * _MIDDLE_CHANNELS)  # 1506: means and maxima in time


class MusicnnError(TonearmError):
    """The weights of MSD_musicnn are missing, or are not those of this network."""


class MusicnnOutputs(NamedTuple):
    """The outputs of the network for a batch of patches."""

    pooled: Tensor  # float32[batch, 1506], means in time and then maxima of all feature maps
    tags: Tensor  # float32[batch, 50], logits


class MusicallyShapedBranch(nn.Module):
    """A convolution over time and bands, followed by the maximum over the bands."""

    def __init__(self, channels: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, channels, kernel)
        self.norm = nn.BatchNorm2d(channels, eps=EPSILON)
        frames = kernel[0]
        # TensorFlow's "same" padding in time: for an even kernel, the extra zero is at the end.
        self.padding = (0, 0, (frames - 1) // 2, frames // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32[batch, 1, frames, bands] to float32[batch, channels, frames]."""
        activated = functional.relu(self.convolution(functional.pad(x, self.padding)))
        strongest: Tensor = self.norm(activated).amax(3)
        return strongest


class TimeConvolution(nn.Module):
    """A convolution of feature maps over time."""

    def __init__(self, channels_in: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(channels_in, _MIDDLE_CHANNELS, 7, padding=3)
        self.norm = nn.BatchNorm1d(_MIDDLE_CHANNELS, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32[batch, channels_in, frames] to float32[batch, 64, frames]."""
        mapped: Tensor = self.norm(functional.relu(self.convolution(x)))
        return mapped


class Musicnn(nn.Module):
    """The network, over patches of the log-mel spectrogram `FRONT_END`."""

    def __init__(self) -> None:
        super().__init__()
        self.input_norm = nn.BatchNorm2d(1, eps=EPSILON)
        self.front = nn.ModuleList(
            MusicallyShapedBranch(channels, kernel) for channels, kernel in _TIMBRAL + _TEMPORAL
        )
        self.middle = nn.ModuleList(
            TimeConvolution(channels)
            for channels in (_FRONT_CHANNELS, _MIDDLE_CHANNELS, _MIDDLE_CHANNELS)
        )
        self.pooled_norm = nn.BatchNorm1d(POOLED, eps=EPSILON)
        self.dense = nn.Linear(POOLED, _PENULTIMATE_UNITS)
        self.dense_norm = nn.BatchNorm1d(_PENULTIMATE_UNITS, eps=EPSILON)
        self.tags = nn.Linear(_PENULTIMATE_UNITS, TAGS)

    def forward(self, logmel: Tensor) -> MusicnnOutputs:
        """Tag float32[batch, frames, 96]; the published weights expect `PATCH_FRAMES` frames."""
        x = self.input_norm(logmel.unsqueeze(1))
        front = torch.cat([branch(x) for branch in self.front], dim=1)
        first, second, third = self.middle
        one = first(front)
        two = second(one) + one
        three = third(two) + two
        maps = torch.cat([front, one, two, three], dim=1)
        strongest, mean = maps.amax(2), maps.mean(2)
        # The dense layer expects each map's maximum and mean next to each other.
        pairs = torch.stack([strongest, mean], dim=2).flatten(1)
        dense = functional.relu(self.dense(self.pooled_norm(pairs)))
        return MusicnnOutputs(
            torch.cat([mean, strongest], dim=1), self.tags(self.dense_norm(dense))
        )


def load_musicnn(folder: Path | None = None) -> Musicnn:
    """Load MSD_musicnn, in evaluation mode.

    Parameters
    ----------
    folder
        Folder of the checkpoint; by default that of the installed package `musicnn`.

    Raises
    ------
    MusicnnError
        If the package is not installed, or the checkpoint is of another network.
    CheckpointError
        If the checkpoint cannot be read.
    """
    folder = find_musicnn() if folder is None else folder
    variables = read_checkpoint(folder)
    network = Musicnn()
    try:
        _take_over(network, variables)
    except (KeyError, RuntimeError, ValueError) as error:
        reason = reason_of(error)
        raise MusicnnError(f"{folder}: not the checkpoint of MSD_musicnn ({reason})") from error
    return network.eval()


def find_musicnn() -> Path:
    """Return the folder of the checkpoint in the installed package, without importing it.

    Raises
    ------
    MusicnnError
        If it does not exist.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    for place in (spec.submodule_search_locations if spec else None) or ():
        folder = Path(place) / _CHECKPOINT
        if folder.is_dir():
            return folder
    raise MusicnnError(
        "the teacher MSD_musicnn is not installed: pip install --no-deps musicnn==0.1.0"
    )


def norm_parameters(
    variables: Mapping[str, NDArray[np.float32]], scope: str
) -> dict[str, NDArray[np.float32]]:
    """Return what TensorFlow knows of a batch normalisation, under PyTorch's names."""
    return {
        "weight": variables[f"{scope}/gamma"],
        "bias": variables[f"{scope}/beta"],
        "running_mean": variables[f"{scope}/moving_mean"],
        "running_var": variables[f"{scope}/moving_variance"],
    }


def _take_over(network: Musicnn, variables: Mapping[str, NDArray[np.float32]]) -> None:
    """Copy TensorFlow's variables, which are numbered in the order the layers were created."""
    branches = [*network.front, *network.middle]
    norms = [
        network.input_norm,
        *(branch.norm for branch in branches),
        network.pooled_norm,
        network.dense_norm,
    ]
    state: dict[str, Tensor] = {}
    names = {module: name for name, module in network.named_modules()}

    def put(module: nn.Module, parameter: str, value: NDArray[np.float32]) -> None:
        state[f"{names[module]}.{parameter}"] = torch.from_numpy(np.ascontiguousarray(value))

    for number, branch in enumerate(branches):
        scope = _numbered("conv2d", number)
        kernel = variables[f"{scope}/kernel"].transpose(3, 2, 0, 1)  # out, in, frames, bands
        if isinstance(branch, TimeConvolution):
            # Stored as a two-dimensional kernel over frames and channels.
            kernel = kernel[:, 0].transpose(0, 2, 1)
        put(branch.convolution, "weight", kernel)
        put(branch.convolution, "bias", variables[f"{scope}/bias"])
    for number, norm in enumerate(norms):
        scope = _numbered("batch_normalization", number)
        for parameter, value in norm_parameters(variables, scope).items():
            put(norm, parameter, value)
    for number, dense in enumerate((network.dense, network.tags)):
        scope = _numbered("dense", number)
        put(dense, "weight", variables[f"{scope}/kernel"].T)
        put(dense, "bias", variables[f"{scope}/bias"])
    # TensorFlow has no counters of batches, so they are kept as they are.
    counters = {k: v for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")}
    network.load_state_dict(state | counters, strict=True)


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name
