"""Prune the filters of the FCN that are silent for any input.

Weight decay has made more than a third of the filters in its first two layers vanish: their kernels
are zero except for some millionths, and the remaining constant does not pass the ReLU. Without them
the network gives the same outputs in two thirds of the time (`benchmarks/pruning.py`).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from tonearm.training.fcn import ConvolutionPool, Fcn

# Threshold of a kernel's norm after folding in the normalisation. Of the published kernels, the
# vanished ones are below a third of it; nearly all others are at least four hundred times it.
VANISHED = 1e-3
# ONNX Runtime's fast convolutions process channels in blocks of this size: a layer pruned to 81
# would be slower than one with 96, so some silent filters are kept.
BLOCK = 16


def pruned(network: Fcn) -> Fcn:
    """Return a copy without silent filters, with normalisation folded into the convolutions.

    Parameters
    ----------
    network
        The network, in evaluation mode.

    Returns
    -------
    A network with the same outputs. The last two layers, whose maps are read directly, keep all
    their filters; the others keep a multiple of `BLOCK` if possible.
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
    """Fold and prune a layer, of whose inputs only those in bool[channels_in] remain.

    Returns
    -------
    The layer, and which of its channels were kept, bool[channels].
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
