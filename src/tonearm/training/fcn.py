"""The fully convolutional music tagger of Won et al. as a teacher.

Architecture: Choi et al. 2016, "Automatic tagging using deep convolutional neural networks".
Weights: Won et al. 2020, "Evaluation of CNN-based automatic music tagging models" (MIT licence),
trained on the Million Song Dataset for 50 last.fm tags. Modules have the names used in the
published state dict, so that the weights load strictly, without a mapping.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from tonearm.errors import TonearmError, reason_of
from tonearm.features.logmel import FRONT_ENDS
from tonearm.paths import cache_folder, pretrained_weights
from tonearm.training.negligible import without_negligible_weights

FRONT_END = FRONT_ENDS["htk16k"]
# The network was trained on 29 s. It accepts less, but then takes its maxima over fewer time steps,
# and its logits shrink to a fifth. Shorter segments are therefore repeated to this length.
SHORTEST_FRAMES = 29 * 16_000 // 256 + 1
# The last.fm tags it was trained on, in the order of its outputs: the fifty most frequent ones in
# the Million Song Dataset (Choi et al. 2016).
TAGS = (
    *("rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s"),
    *("alternative rock", "jazz", "beautiful", "metal", "chillout", "male vocalists"),
    *("classic rock", "soul", "indie rock", "mellow", "electronica", "80s", "folk", "90s", "chill"),
    *("instrumental", "punk", "oldies", "blues", "hard rock", "ambient", "acoustic"),
    *("experimental", "female vocalist", "guitar", "hip-hop", "70s", "party", "country"),
    *("easy listening", "sexy", "catchy", "funk", "electro", "heavy metal", "progressive rock"),
    *("60s", "rnb", "indie pop", "sad", "house", "happy"),
)
EMBEDDING = 64
BENEATH = 2 * 128 + EMBEDDING

ATTRIBUTION = (
    "FCN (Minz Won, Andres Ferraro, Dmitry Bogdanov, Xavier Serra), MIT licence, "
    "https://github.com/minzwon/sota-music-tagging-models"
)

_FILE = "won_msd/fcn.pth"
STORED_FRONT_END = ("spec.", "to_db.")  # in the state dict, but replaced by tonearm.features


class FcnError(TonearmError):
    """The weights of the FCN are missing, or are not those of this network."""


class FcnOutputs(NamedTuple):
    """The outputs of the network for a batch."""

    embedding: Tensor  # float32[batch, 64]
    tags: Tensor  # float32[batch, 50], logits
    beneath: Tensor  # float32[batch, 320], the features beneath the embedding, see `Fcn`


class ConvolutionPool(nn.Module):
    """A convolution over bands and frames, followed by max pooling."""

    def __init__(self, channels_in: int, channels: int, pool: tuple[int, int] | None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.bn: nn.Module = nn.BatchNorm2d(channels)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Map float32[batch, channels_in, bands, frames]; without a pool the size stays."""
        x = functional.relu(self.bn(self.conv(x)))
        return x if self.pool is None else functional.max_pool2d(x, self.pool)


class Fcn(nn.Module):
    """The network, over log-mel spectrograms `FRONT_END` of `SHORTEST_FRAMES` frames or more.

    The published network takes 29 s, and its last pooling spans four of the five time steps that
    are left of them. Here it spans whatever is left, so that longer segments can be processed
    whole.

    The features beneath the embedding are returned too: maxima and means of the second-to-last
    layer, and means of the last, whose maxima are the embedding. With them, genres can be told
    apart better than from the embedding alone.
    """

    LAYERS = ("layer1", "layer2", "layer3", "layer4", "layer5")

    def __init__(self) -> None:
        super().__init__()
        self.spec_bn = nn.BatchNorm2d(1)
        self.layer1 = ConvolutionPool(1, 64, (2, 4))
        self.layer2 = ConvolutionPool(64, 128, (2, 4))
        self.layer3 = ConvolutionPool(128, 128, (2, 4))
        self.layer4 = ConvolutionPool(128, 128, (3, 5))
        self.layer5 = ConvolutionPool(128, EMBEDDING, None)
        self.dense = nn.Linear(EMBEDDING, len(TAGS))

    def forward(self, logmel: Tensor) -> FcnOutputs:
        """Tag float32[batch, frames, 96]."""
        embedding, beneath = read_maps(self.layer4, self.layer5, self.lower(logmel))
        return FcnOutputs(embedding, self.dense(embedding), beneath)

    def lower(self, logmel: Tensor) -> Tensor:
        """Return the maps of the first three layers: float32[batch, 128, 12, frames / 64]."""
        maps: Tensor = self.layer3(self.lowest(logmel))
        return maps

    def lowest(self, logmel: Tensor) -> Tensor:
        """Return the maps of the first two layers: float32[batch, 128, 24, frames / 16]."""
        x = self.spec_bn(logmel.transpose(1, 2).unsqueeze(1))
        maps: Tensor = self.layer2(self.layer1(x))
        return maps


def read_maps(layer4: nn.Module, layer5: nn.Module, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the embedding, and the features beneath it, from the maps of `Fcn.lower`."""
    x = layer4(maps)
    last = layer5(x)
    embedding = last.amax((2, 3))
    return embedding, torch.cat([x.amax((2, 3)), x.mean((2, 3)), last.mean((2, 3))], dim=1)


def load_fcn(path: Path | None = None) -> Fcn:
    """Load the FCN trained on the Million Song Dataset, in evaluation mode.

    Parameters
    ----------
    path
        The weight file; by default `won_msd/fcn.pth` in the folder `TONEARM_PRETRAINED` or in the
        cache folder.

    Raises
    ------
    FcnError
        If the file is missing or is not that network.
    """
    file = find_fcn() if path is None else path
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        network = Fcn()
        network.load_state_dict(
            {k: v for k, v in state.items() if not k.startswith(STORED_FRONT_END)}, strict=True
        )
    except OSError as error:
        raise FcnError(f"{file}: {reason_of(error)}") from error
    except Exception as error:  # a damaged file fails in many ways
        reason = reason_of(error).split(". ")[0]  # without torch's advice to trust the file
        raise FcnError(f"{file}: not the weights of the FCN ({reason})") from error
    return without_negligible_weights(network).eval()


def find_fcn() -> Path:
    """Return the path of the weight file.

    Raises
    ------
    FcnError
        If it is not found.
    """
    found = pretrained_weights(_FILE)
    if found is None:
        raise FcnError(
            "the teacher FCN is neither in the folder TONEARM_PRETRAINED names nor in "
            f"{cache_folder('pretrained')}: take the weights of the FCN for MSD from "
            f"https://github.com/minzwon/sota-music-tagging-models and put them there as {_FILE}"
        )
    return found
