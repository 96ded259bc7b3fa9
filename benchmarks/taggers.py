"""Two more published taggers, beside the three that Tonearm is taught by.

MSD_vgg: Pons and Serra 2019, "musicnn: Pre-trained convolutional neural networks for music audio
tagging" (ISC licence). The CRNN: Choi et al. 2017, "Convolutional recurrent neural networks for
music classification", with the weights of Won et al. 2020, "Evaluation of CNN-based automatic music
tagging models" (MIT licence). Both were trained on the Million Song Dataset for 50 last.fm tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tonearm.errors import TonearmError
from tonearm.paths import pretrained_weights
from tonearm.training import fcn, musicnn
from tonearm.training.fcn import ConvolutionPool
from tonearm.training.tfcheckpoint import checkpoint_files, read_checkpoint

_CRNN_FILE = "won_msd/crnn.pth"
_CHANNELS = 128  # of every layer of the VGG


class Vgg(nn.Module):
    """Five convolutions with pooling, over patches of `musicnn.PATCH_FRAMES` frames."""

    # The kernel and the stride of each layer's max pooling, over frames and bands.
    POOLS = (((4, 1), (2, 2)), *[((2, 2), (2, 2))] * 3, ((4, 4), (4, 4)))

    def __init__(self) -> None:
        super().__init__()
        self.input_norm = nn.BatchNorm2d(1, eps=musicnn.EPSILON)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(_CHANNELS if number else 1, _CHANNELS, 3, padding=1)
            for number in range(len(self.POOLS))
        )
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(_CHANNELS, eps=musicnn.EPSILON) for _ in self.POOLS
        )

    def forward(self, logmel: Tensor) -> Tensor:
        """Map float32[batch, frames, 96] of musicnn's front end to float32[batch, 256]."""
        x = self.input_norm(logmel.unsqueeze(1))
        layers = zip(self.convolutions, self.norms, self.POOLS, strict=True)
        for convolution, norm, (kernel, stride) in layers:
            x = functional.max_pool2d(norm(functional.relu(convolution(x))), kernel, stride)
        embedding: Tensor = x.permute(0, 2, 3, 1).flatten(1)  # in the order of the tags' weights
        return embedding


class Crnn(nn.Module):
    """Four convolutions and two recurrent layers; modules have the names of the state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.spec_bn = nn.BatchNorm2d(1)
        self.layer1 = ConvolutionPool(1, 64, (2, 2))
        self.layer2 = ConvolutionPool(64, 128, (3, 3))
        self.layer3 = ConvolutionPool(128, 128, (4, 4))
        self.layer4 = ConvolutionPool(128, 128, (4, 4))
        self.layer5 = nn.GRU(128, 32, 2, batch_first=True)
        self.dense = nn.Linear(32, len(fcn.TAGS))

    def forward(self, logmel: Tensor) -> Tensor:
        """Map float32[batch, frames, 96] of the FCN's front end to float32[batch, 32].

        The published network takes 29 s; longer segments are processed whole here.
        """
        x = self.spec_bn(logmel.transpose(1, 2).unsqueeze(1))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        states: Tensor = self.layer5(x.squeeze(2).transpose(1, 2))[0]
        return states[:, -1]


def load_vgg() -> Vgg:
    """Load MSD_vgg from the installed package `musicnn`, in evaluation mode."""
    variables = read_checkpoint(_vgg_folder())
    network = Vgg()
    _put(network.input_norm, musicnn.norm_parameters(variables, "batch_normalization"))
    pairs = zip(network.convolutions, network.norms, strict=True)
    for number, (convolution, norm) in enumerate(pairs, start=1):
        kernel = variables[f"{number}CNN/kernel"].transpose(3, 2, 0, 1)  # out, in, frames, bands
        _put(convolution, {"weight": kernel, "bias": variables[f"{number}CNN/bias"]})
        _put(norm, musicnn.norm_parameters(variables, f"batch_normalization_{number}"))
    return network.eval()


def load_crnn() -> Crnn:
    """Load the CRNN from beside the FCN's weights, in evaluation mode."""
    state = torch.load(_crnn_file(), map_location="cpu", weights_only=True)
    network = Crnn()
    network.load_state_dict(
        {name: value for name, value in state.items() if not name.startswith(fcn.STORED_FRONT_END)}
    )
    return network.eval()


def weight_files() -> list[Path]:
    """List the files that the two networks' numbers come from."""
    return [*checkpoint_files(_vgg_folder()), _crnn_file()]


def _vgg_folder() -> Path:
    return musicnn.find_musicnn().with_name("MSD_vgg")


def _crnn_file() -> Path:
    file = pretrained_weights(_CRNN_FILE)
    if file is None:
        raise TonearmError(f"no {_CRNN_FILE} beside the weights of the FCN ({fcn.find_fcn()})")
    return file


def _put(module: nn.Module, parameters: Mapping[str, NDArray[np.float32]]) -> None:
    state = {name: torch.from_numpy(value.copy()) for name, value in parameters.items()}
    module.load_state_dict(state, strict=False)  # TensorFlow has no counters of batches
