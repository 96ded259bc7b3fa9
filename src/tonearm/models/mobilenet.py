"""MobileNetV3 on the spectrogram, with or without the AudioSet weights of EfficientAT.

Architecture: Howard et al. 2019, "Searching for MobileNetV3", the large variant at any width.
Weights: Schmid, Koutini and Widmer 2023, "Efficient Large-Scale Audio Tagging via
Transformer-to-CNN Knowledge Distillation" (EfficientAT, MIT licence), network `mn04_as`. Modules
are named as in the published state dict, so that the weights load strictly, without a mapping.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tonearm.errors import UsageError
from tonearm.models import audioset
from tonearm.models.layers import (
    DenseBlock,
    DescriptorNet,
    GatedFusion,
    RecurrentPool,
    fill_missing,
    required,
)
from tonearm.models.network import GenreNetwork
from tonearm.models.pretrained import read_pretrained
from tonearm.models.registry import register

PRETRAINED_WIDTH = 0.4
ATTRIBUTION = (
    "Starts from EfficientAT mn04_as (Florian Schmid, Khaled Koutini, Gerhard Widmer), "
    "MIT licence, https://github.com/fschmid56/EfficientAT"
)


class _Stage(NamedTuple):
    """One inverted residual block at width 1: a row of a table in the paper."""

    kernel: int
    expanded: int
    channels: int
    excite: bool
    hardswish: bool
    stride: int


# Table 1 of the paper (MobileNetV3-Large), between the first and the last convolution.
_STAGES = (
    _Stage(3, 16, 16, False, False, 1),
    _Stage(3, 64, 24, False, False, 2),
    _Stage(3, 72, 24, False, False, 1),
    _Stage(5, 72, 40, True, False, 2),
    _Stage(5, 120, 40, True, False, 1),
    _Stage(5, 120, 40, True, False, 1),
    _Stage(3, 240, 80, False, True, 2),
    _Stage(3, 200, 80, False, True, 1),
    _Stage(3, 184, 80, False, True, 1),
    _Stage(3, 184, 80, False, True, 1),
    _Stage(3, 480, 112, True, True, 1),
    _Stage(3, 672, 112, True, True, 1),
    _Stage(5, 672, 160, True, True, 2),
    _Stage(5, 960, 160, True, True, 1),
    _Stage(5, 960, 160, True, True, 1),
)
_FIRST_CHANNELS = 16
_HIDDEN_UNITS = 1280  # of the AudioSet classifier


class ConvNormActivation(nn.Sequential):
    """Convolution, batch normalisation and an optional activation."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        activation: type[nn.Module] | None = None,
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(
                channels_in,
                channels_out,
                kernel,
                stride,
                padding=kernel // 2,
                groups=groups,
                bias=False,
            ),
            nn.BatchNorm2d(channels_out, eps=1e-3, momentum=0.01),
        ]
        if activation is not None:
            layers.append(activation())
        super().__init__(*layers)


class ChannelGate(nn.Module):
    """Weights channels by their means over the plane (squeeze and excitation, Hu et al. 2018)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, squeezed)
        self.fc2 = nn.Linear(squeezed, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Weight the channels of float32[batch, channels, bands, frames]."""
        weights = torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3))))))
        return x * weights[:, :, None, None]


class SqueezeExcitation(nn.Module):
    """The gates of a block: a list in EfficientAT, of which mn04 uses only the channel gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conc_se_layers = nn.ModuleList([ChannelGate(channels, _round_to_8(channels / 4))])

    def forward(self, x: Tensor) -> Tensor:
        """Weight the channels of float32[batch, channels, bands, frames]."""
        for gate in self.conc_se_layers:
            x = gate(x)
        return x


class InvertedResidual(nn.Module):
    """Expand, convolve each channel on its own, weight the channels, project; with a shortcut."""

    def __init__(self, channels_in: int, stage: _Stage, width: float) -> None:
        super().__init__()
        expanded = _round_to_8(stage.expanded * width)
        channels = _round_to_8(stage.channels * width)
        activation = nn.Hardswish if stage.hardswish else nn.ReLU
        layers: list[nn.Module] = []
        if expanded != channels_in:
            layers.append(ConvNormActivation(channels_in, expanded, 1, activation=activation))
        layers.append(
            ConvNormActivation(expanded, expanded, stage.kernel, stage.stride, expanded, activation)
        )
        if stage.excite:
            layers.append(SqueezeExcitation(expanded))
        layers.append(ConvNormActivation(expanded, channels, 1))
        self.block = nn.Sequential(*layers)
        self.residual = stage.stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        """Map float32[batch, channels_in, bands, frames] to the block's channels and stride."""
        y: Tensor = self.block(x)
        return x + y if self.residual else y


class AudioSetMobileNet(nn.Module):
    """The published tagger: MobileNetV3 features and a classifier for the 527 AudioSet classes.

    Parameters
    ----------
    width
        Multiplier for the number of channels; 0.4 for mn04.
    """

    def __init__(self, width: float = PRETRAINED_WIDTH) -> None:
        super().__init__()
        channels = _round_to_8(_FIRST_CHANNELS * width)
        layers: list[nn.Module] = [
            ConvNormActivation(1, channels, 3, stride=2, activation=nn.Hardswish)
        ]
        for stage in _STAGES:
            layers.append(InvertedResidual(channels, stage, width))
            channels = _round_to_8(stage.channels * width)
        self.embedding_size = 6 * channels
        layers.append(ConvNormActivation(channels, self.embedding_size, 1, activation=nn.Hardswish))
        self.features = nn.Sequential(*layers)
        hidden = _round_to_8(_HIDDEN_UNITS * width)
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(self.embedding_size, hidden),
            nn.Hardswish(),
            nn.Dropout(0.2),
            nn.Linear(hidden, audioset.CLASSES),
        )

    def forward(self, logmel: Tensor) -> tuple[Tensor, Tensor]:
        """Tag float32[batch, frames, mels] of the front end "efficientat".

        Returns
        -------
        logits : float32[batch, 527], in AudioSet's order of classes.
        embedding : float32[batch, embedding_size], the mean of the features over the plane.
        """
        plane = self.features(logmel.transpose(1, 2).unsqueeze(1))  # bands, frames, as in the paper
        return self.classifier(plane), plane.mean((2, 3))


@register("mobilenet")
class MobileNet(GenreNetwork):
    """A genre network on MobileNetV3 features, optionally with a GRU and with descriptors.

    The plain network classifies the mean of the features. With `rnn`, a bidirectional GRU also
    reads the sequence of features: the pretrained form of the hybrid. With `descriptors`, the
    result is joined with the descriptor network by a gate that handles missing rows.

    Parameters
    ----------
    num_classes
        Number of logits.
    n_mels
        Mel bands of the front end; the published weights are for 128 ("efficientat").
    n_descriptors
        Number of clip descriptors, required with `descriptors`.
    width
        Multiplier for the number of channels; the published weights are for 0.4.
    pretrained
        Whether to start from the published AudioSet weights.
    rnn
        Whether to add a bidirectional GRU over the sequence of features.
    descriptors
        Whether to use clip descriptors.
    hidden
        Size of the GRU in each direction.
    dropout
        Probability of dropping a feature before each dense layer.
    modality_dropout
        Probability of withholding either modality from an example in training.
    """

    def __init__(
        self,
        num_classes: int,
        n_mels: int = 128,
        n_descriptors: int = 0,
        width: float = PRETRAINED_WIDTH,
        pretrained: bool = True,
        rnn: bool = False,
        descriptors: bool = False,
        hidden: int = 64,
        dropout: float = 0.3,
        modality_dropout: float = 0.2,
    ) -> None:
        if descriptors and n_descriptors < 1:
            raise UsageError("model 'mobilenet' with descriptors needs their number, n_descriptors")
        tagger = make_tagger("mobilenet", width, n_mels, pretrained=pretrained)
        size = tagger.embedding_size
        super().__init__(size, num_classes, dropout)
        self.uses_descriptors = descriptors
        self.needs_logmel = not descriptors
        self.pretrained = pretrained
        self.attribution = ATTRIBUTION if pretrained else ""
        self.n_mels = n_mels
        self.features = tagger.features
        self.recurrent = RecurrentPool(size, hidden) if rnn else None
        self.join = DenseBlock(size + 2 * hidden, size, dropout) if rnn else None
        self.numbers = DescriptorNet(n_descriptors, hidden, dropout) if descriptors else None
        self.fusion = GatedFusion(size, hidden, size, modality_dropout) if descriptors else None

    def embed(self, logmel: Tensor | None, descriptors: Tensor | None = None) -> Tensor:
        """Embed float32[batch, frames, mels] and, if the network uses them, descriptors.

        With `descriptors`, an example with NaN in one input is classified by the other alone, and
        either may be None; without, frames are required and descriptors are ignored.
        """
        if self.numbers is None or self.fusion is None:
            return self._embed_frames(required(logmel))
        logmel, has_logmel, descriptors, has_descriptors = fill_missing(
            logmel, descriptors, self.n_mels, len(self.numbers.mean)
        )
        embedding: Tensor = self.fusion(
            self._embed_frames(logmel), self.numbers(descriptors), has_logmel, has_descriptors
        )
        return embedding

    def train(self, mode: bool = True) -> MobileNet:
        """Switch between training and evaluation, except for pretrained batch normalisation."""
        super().train(mode)
        if self.pretrained:
            keep_statistics(self.features)
        return self

    def pretrained_parameters(self) -> Iterable[nn.Parameter]:
        """Return the parameters of the features if they came from the published weights."""
        return self.features.parameters() if self.pretrained else ()

    def standardise_descriptors(self, descriptors: Tensor) -> None:
        """Store the training set's mean and spread, if the network uses descriptors."""
        if self.numbers is not None:
            self.numbers.standardise(descriptors)

    def _embed_frames(self, logmel: Tensor) -> Tensor:
        plane = self.features(logmel.transpose(1, 2).unsqueeze(1))  # batch, size, bands, steps
        embedding: Tensor = plane.mean((2, 3))
        if self.recurrent is not None and self.join is not None:
            read = self.recurrent(plane.mean(2).transpose(1, 2))
            embedding = self.join(torch.cat([embedding, read], dim=1))
        return embedding


def keep_statistics(features: nn.Module) -> None:
    """Put the batch normalisation of pretrained features into evaluation mode.

    It keeps its statistics from AudioSet: batches in training are small and randomly filtered, and
    their statistics would shift the features away from those the network was trained on.
    """
    for module in features.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def load_pretrained(path: Path | str | None = None) -> AudioSetMobileNet:
    """Load the published mn04 tagger in evaluation mode.

    Parameters
    ----------
    path
        The weight file, or None to look for it in the folder `TONEARM_PRETRAINED`, then in the
        cache folder, and to download it into the cache folder if it is in neither.

    Raises
    ------
    PretrainedError
        If the file is missing and cannot be downloaded, or is not the published one.
    """
    network = AudioSetMobileNet()
    network.load_state_dict(read_pretrained(path), strict=True)
    return network.eval()


def make_tagger(model: str, width: float, n_mels: int, *, pretrained: bool) -> AudioSetMobileNet:
    """Return, in training mode, the tagger that a model starts from, published or yet untrained.

    Parameters
    ----------
    model
        The model's name, for the error.
    width
        Multiplier of the channels.
    n_mels
        Number of mel bands of the model's front end.
    pretrained
        Whether it has the published weights.

    Raises
    ------
    UsageError
        If there are no published weights for that width or that number of bands.
    PretrainedError
        If there are, but they cannot be loaded.
    """
    if not pretrained:
        return AudioSetMobileNet(width)
    if (width, n_mels) != (PRETRAINED_WIDTH, 128):
        raise UsageError(
            f"model {model!r} has published weights for width {PRETRAINED_WIDTH} and 128 mel "
            f"bands only, not for width {width} and {n_mels} bands: set pretrained: false"
        )
    tagger = load_pretrained().train()
    keep_statistics(tagger.features)
    return tagger


def _round_to_8(channels: float) -> int:
    """Round to the nearest multiple of 8 that is at least 90 % of the value, as MobileNets do."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
