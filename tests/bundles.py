"""Writes tiny bundles whose outputs a test can foresee."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tonearm.bundle import Outputs, write_metadata
from tonearm.classifier import Classifier
from tonearm.features.logmel import FRONT_ENDS
from tonearm.metadata import BundleMetadata

FRONT_END = FRONT_ENDS["mel16k"]


def tiny_metadata(**changes: Any) -> BundleMetadata:
    """Metadata of a model that tells high sounds from low ones."""
    settings: dict[str, Any] = {
        "name": "tiny",
        "labels": ("low", "high"),
        "front_end": FRONT_END,
        "window_seconds": 2.0,
        "hop_seconds": 1.0,
    }
    return BundleMetadata(**{**settings, **changes})


def write_bundle(path: Path, metadata: BundleMetadata, **graph: Any) -> Path:
    """Write `tiny_graph` with the metadata."""
    second = metadata.second_front_end
    onnx.save(
        tiny_graph(len(metadata.descriptors), second_mels=second.n_mels if second else 0, **graph),
        str(path),
    )
    write_metadata(path, metadata, path)
    return path


def tiny_graph(
    descriptors: int = 0,
    *,
    second_mels: int = 0,
    mels: int = FRONT_END.n_mels,
    labels: int = 2,
    outputs: tuple[str, ...] = ("logits", "embedding"),
) -> onnx.ModelProto:
    """An untrained network of one layer: the mean frame, then a fixed linear map.

    The first label's logit is the energy in the lower half of the bands, the second's in the upper
    half. With descriptors, a first column that is there (not NaN) adds 100 to the first logit.
    By the output "music", low sounds are music and high ones are not; a second front end adds the
    number of its frames to it.
    """
    half = mels // 2
    weights = np.zeros((mels, labels), np.float32)
    weights[:half, 0] = weights[half:, 1] = 1.0
    inputs = [_floats("logmel", ["batch", "frames", mels])]
    nodes = [
        helper.make_node("Transpose", ["logmel"], ["bands"], perm=[0, 2, 1]),
        helper.make_node("GlobalAveragePool", ["bands"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "weights"], ["scores"]),
    ]
    constants = [numpy_helper.from_array(weights, "weights")]
    if descriptors:
        bonus = np.zeros((descriptors, labels), np.float32)
        bonus[0, 0] = 100.0
        constants.append(numpy_helper.from_array(bonus, "bonus"))
        inputs.append(_floats("descriptors", ["batch", descriptors]))
        nodes += [
            helper.make_node("IsNaN", ["descriptors"], ["missing"]),
            helper.make_node("Not", ["missing"], ["there"]),
            helper.make_node("Cast", ["there"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Gemm", ["mask", "bonus", "scores"], ["logits"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["scores"], ["logits"]))
    nodes.append(helper.make_node("ReduceMax", ["logmel"], ["loudest"], keepdims=0))
    constants.append(numpy_helper.from_array(weights[:, :1] - weights[:, 1:2], "musical"))
    nodes.append(helper.make_node("Gemm", ["embedding", "musical"], ["lowness"]))
    if second_mels:
        inputs.append(_floats("second_logmel", ["batch", "second_frames", second_mels]))
        nodes += [
            helper.make_node("Shape", ["second_logmel"], ["shape"], start=1, end=2),
            helper.make_node("Cast", ["shape"], ["second_count"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["lowness", "second_count"], ["music"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["lowness"], ["music"]))
    widths: dict[str, list[str | int]] = {
        "logits": ["batch", labels],
        "embedding": ["batch", mels],
        "loudest": [],
        "music": ["batch", 1],
    }
    graph = helper.make_graph(
        nodes, "tiny", inputs, [_floats(name, widths[name]) for name in outputs], constants
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def noted_descriptors(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list that gets the first descriptor of every run of a classifier's bundle."""
    described: list[float] = []
    run = classifier.bundle.run

    def noting_run(frames: list[np.ndarray], descriptors: np.ndarray) -> Outputs:
        described.append(float(descriptors[0, 0]))
        return run(frames, descriptors)

    monkeypatch.setattr(classifier.bundle, "run", noting_run)
    return described


def tone(hertz: float, seconds: float, rate: int = FRONT_END.sample_rate) -> np.ndarray:
    """A sine, float32[n]."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def _floats(name: str, shape: list[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
