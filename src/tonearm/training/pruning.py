"""Leaves out the filters of the FCN that are silent whatever it hears.

Weight decay has let more than a third of the filters of its first two layers vanish: their kernels
are zero but for some millionths, and the constant that is left does not pass the rectifier. Without
them the network says the same in two thirds of the time (`benchmarks/pruning.py`).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from tonearm.training.fcn import ConvolutionPool, Fcn

# Norm of a kernel, times what normalisation makes of it. Of the published kernels that have
# vanished none is a third of this; nearly all others are four hundred times it and more.
VANISHED = 1e-3
# ONNX Runtime's quick convolutions take channels by so many: a layer that is left with 81 would be
# slower than one with 96, so some of the silent stay.
BLOCK = 16


def pruned(network: Fcn) -> Fcn:
    """Copy a network without its silent filters, its normalisation folded into the convolutions.

    Parameters
    ----------
    network
        In evaluation mode.

    Returns
    -------
    A network that says the same. The last two layers, whose maps are asked for as they are, keep
    all their filters, and the others a multiple of `BLOCK` if they can.
    """
    network = copy.deepcopy(network)
    kept = torch.ones(1, dtype=torch.bool)
    for name in network.LAYERS:
        layer, kept = _pruned_layer(getattr(network, name), kept, name in network.LAYERS[-2:])
        setattr(network, name, layer)
    return network


def _pruned_layer(
    layer: ConvolutionPool, inputs: Tensor, whole: bool
) -> tuple[ConvolutionPool, Tensor]:
    """Fold and prune a layer that is left with some of its inputs, bool[channels_in].

    Returns
    -------
    The layer, and which of its channels it kept, bool[channels].
    """
    convolution, norm = layer.conv, layer.bn
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
    assert norm.running_var is not None and convolution.bias is not None
    with torch.no_grad():
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        kernels = convolution.weight[:, inputs] * scale[:, None, None, None]
        biases = norm.bias + scale * (convolution.bias - norm.running_mean)
    silent = (kernels.flatten(1).norm(dim=1) < VANISHED) & (biases <= 0)
    kept = torch.ones_like(silent) if whole else ~silent
    spare = -int(kept.sum()) % BLOCK
    kept[(~kept).nonzero()[:spare]] = True
    smaller = ConvolutionPool(int(inputs.sum()), int(kept.sum()), layer.pool)
    smaller.conv.weight = nn.Parameter(kernels[kept])
    smaller.conv.bias = nn.Parameter(biases[kept])
    smaller.bn = nn.Identity()
    return smaller.eval(), kept
