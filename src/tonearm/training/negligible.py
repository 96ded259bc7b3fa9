"""Zero the weights of a network that are too small to matter but slow it down.

Weight decay leaves weights of silent filters at 1e-38 and below, where float32 is subnormal, and
Intel's processors multiply such numbers up to a hundred times as slowly as others.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

# Times an activation, such a weight is lost when it is added to anything that can be heard, and
# the products of several layers do not become subnormal either.
NEGLIGIBLE = 1e-20

Network = TypeVar("Network", bound=nn.Module)


def without_negligible_weights(network: Network) -> Network:
    """Set all weights whose absolute value is below `NEGLIGIBLE` to zero, in place; return it."""
    with torch.no_grad():
        for weights in network.parameters():
            weights[weights.abs() < NEGLIGIBLE] = 0.0
    return network
