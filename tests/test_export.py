from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from tonearm.bundle import Bundle
from tonearm.classifier import Classifier
from tonearm.features.descriptors import descriptor_names
from tonearm.features.logmel import FRONT_ENDS
from tonearm.metadata import BundleMetadata
from tonearm.models import create_model, model_names
from tonearm.synth import STYLES, render
from tonearm.training.export import ExportError, export, largest_difference

LABELS = ("blues", "disco", "jazz")

NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "cnn": ("mel16k", {"widths": (4, 8)}),
    "crnn": ("mel16k", {"widths": (4, 8, 8), "hidden": 8}),
    "hybrid": ("mel16k", {"cnn_widths": (4, 8), "crnn_widths": (4, 8, 8), "hidden": 8}),
    "hybrid-all": (
        "mel16k",
        {"cnn_widths": (4, 8), "crnn_widths": (4, 8, 8), "hidden": 8, "descriptors": True},
    ),
    "multimodal": ("mel16k", {"widths": (4, 8)}),
    "mobilenet": ("efficientat", {"width": 0.1, "pretrained": False}),
    "mobilenet-rnn": ("efficientat", {"width": 0.1, "pretrained": False, "rnn": True}),
    "mobilenet-all": (
        "efficientat",
        {"width": 0.1, "pretrained": False, "rnn": True, "descriptors": True},
    ),
}


def test_no_network_is_left_out() -> None:
    exported = {key.partition("-")[0] for key in NETWORKS}
    assert set(model_names()) - exported == {"student"}, "not in NETWORKS"  # see test_student.py


def make(key: str, tmp_path: Path) -> tuple[Any, BundleMetadata, Path]:
    front_end, settings = NETWORKS[key]
    torch.manual_seed(0)
    described = key == "multimodal" or key.endswith("-all")
    if described:
        settings = settings | {"n_descriptors": len(descriptor_names())}
    network = create_model(key.partition("-")[0], num_classes=len(LABELS), **settings)
    metadata = BundleMetadata(
        name=key,
        labels=LABELS,
        front_end=FRONT_ENDS[front_end],
        descriptors=descriptor_names() if described else (),
        window_seconds=2.0,
        hop_seconds=1.0,
    )
    return network, metadata, tmp_path / "run" / "model.onnx"


@pytest.mark.parametrize("key", list(NETWORKS))
def test_onnx_gives_the_numbers_of_torch_at_any_length(key: str, tmp_path: Path) -> None:
    network, metadata, path = make(key, tmp_path)

    export(network, metadata, path)

    bundle = Bundle.load(path)
    assert bundle.metadata == metadata
    assert largest_difference(network.eval(), bundle) < 1e-4
    assert [p.name for p in path.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("key", ["hybrid", "mobilenet-all"])
def test_the_classifier_takes_what_was_exported(key: str, tmp_path: Path) -> None:
    network, metadata, path = make(key, tmp_path)
    classifier = Classifier.load(export(network, metadata, path))

    prediction = classifier(render(STYLES[0], 2.5, 22050), 22050)

    assert set(prediction.probabilities) == set(LABELS)
    assert len(prediction.segments) == 2


def test_onnx_floors_the_variance_of_silent_bands_too(tmp_path: Path) -> None:
    network, metadata, path = make("cnn", tmp_path)
    network.norm.norm.running_var[60:] = 0.0

    export(network, metadata, path)  # raises if the numbers differ

    logmel = torch.randn(2, 100, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network.eval()(logmel).numpy()
    np.testing.assert_allclose(Bundle.load(path).run([logmel.numpy()]).logits, expected, atol=1e-4)


def test_exporting_does_not_touch_the_network(tmp_path: Path) -> None:
    network, metadata, path = make("cnn", tmp_path)
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}

    export(network, metadata, path)

    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_weights_too_small_to_matter_are_exported_as_zeros(tmp_path: Path) -> None:
    network, metadata, path = make("cnn", tmp_path)
    with torch.no_grad():
        for weights in network.parameters():
            weights.view(-1)[::3] = 1e-39

    export(network, metadata, path)

    exported = map(onnx.numpy_helper.to_array, onnx.load(path).graph.initializer)
    sizes = np.abs(np.concatenate([weights.ravel() for weights in exported]))
    assert sizes[sizes > 0].min() > 1e-20
    assert next(network.parameters()).view(-1)[0] > 0  # the network itself keeps them


def test_a_difference_that_is_no_number_is_not_taken_for_a_small_one(tmp_path: Path) -> None:
    network, metadata, path = make("cnn", tmp_path)
    bundle = Bundle.load(export(network, metadata, path))
    torch.nn.init.constant_(network.classifier[1].bias, math.nan)

    assert math.isnan(largest_difference(network.eval(), bundle))


def test_a_graph_that_computes_something_else_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, metadata, path = make("cnn", tmp_path)
    monkeypatch.setattr("tonearm.training.export.largest_difference", lambda *_: math.nan)

    with pytest.raises(ExportError, match=r"model\.onnx: ONNX Runtime differs from torch"):
        export(network, metadata, path)

    assert list(path.parent.iterdir()) == []
