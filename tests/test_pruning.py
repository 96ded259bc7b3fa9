from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tonearm.training.fcn import Fcn, load_fcn
from tonearm.training.pruning import BLOCK, pruned


def frames() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(1, 1000, 96) * 15 - 25


def test_silent_filters_are_left_out_and_nothing_changes() -> None:
    torch.manual_seed(0)
    network = Fcn().eval()
    layer = network.layer2
    with torch.no_grad():
        for norm in (network.layer1.bn, network.layer2.bn, network.layer3.bn):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            norm.weight.uniform_(0.5, 2)
            norm.bias.normal_()
        layer.conv.weight[:50] *= 1e-9
        # What is left of a vanished kernel is a constant: it counts unless the rectifier stops it.
        constant = layer.bn.bias + layer.bn.weight * (
            layer.conv.bias - layer.bn.running_mean
        ) / torch.sqrt(layer.bn.running_var + layer.bn.eps)
    silent = int((constant[:50] <= 0).sum())
    assert 16 < silent < 50

    smaller = pruned(network)
    left = smaller.layer2.conv.out_channels
    assert left % BLOCK == 0
    assert 128 - silent <= left < 128 - silent + BLOCK
    assert smaller.layer3.conv.in_channels == left
    with torch.inference_mode():
        for got, expected in zip(smaller(frames()), network(frames()), strict=True):
            torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_a_network_without_silent_filters_keeps_them_all() -> None:
    torch.manual_seed(0)
    network = Fcn().eval()
    smaller = pruned(network)
    for name in Fcn.LAYERS:
        assert getattr(smaller, name).conv.weight.shape == getattr(network, name).conv.weight.shape
    assert isinstance(network.layer1.bn, torch.nn.BatchNorm2d)  # the given network is not changed


@pytest.mark.shared
def test_the_published_weights_say_the_same_with_fewer_filters(shared: Path) -> None:
    network = load_fcn(shared / "data" / "pretrained" / "won_msd" / "fcn.pth")
    smaller = pruned(network)
    with torch.inference_mode():
        for got, expected in zip(smaller(frames()), network(frames()), strict=True):
            torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    channels = [getattr(smaller, name).conv.out_channels for name in Fcn.LAYERS]
    assert channels == [48, 96, 128, 128, 64]
