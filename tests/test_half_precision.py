"""A halved bundle is half as large, says what it said, and keeps its metadata."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from bundles import FRONT_END, tiny_graph
from host import IS_A_FOLDER
from tonearm.bundle import Bundle, BundleError, builtin
from tonearm.errors import TonearmError
from tonearm.half_precision import halve, halve_file


def test_the_shipped_model_halved_answers_alike(tmp_path: Path) -> None:
    whole = Bundle.load(builtin()["default"])
    halve_file(whole.path, tmp_path / "half.onnx")
    half = Bundle.load(tmp_path / "half.onnx")
    assert half.metadata == whole.metadata
    types = {weights.data_type for weights in onnx.load(whole.path).graph.initializer}
    if TensorProto.FLOAT16 not in types:
        assert half.path.stat().st_size < 0.52 * whole.path.stat().st_size
    random = np.random.default_rng(0)
    feeds = [
        random.normal(size=(1, 300, end.n_mels)).astype(np.float32)
        for end in whole.metadata.front_ends
    ]
    answers = [bundle.run(feeds).logits for bundle in (whole, half)]
    assert answers[1] == pytest.approx(answers[0], abs=0.05)


@pytest.mark.parametrize("content", [None, b"no model"])
def test_what_is_no_bundle_is_refused(tmp_path: Path, content: bytes | None) -> None:
    source, target = tmp_path / "source.onnx", tmp_path / "half.onnx"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(BundleError, match=r"source\.onnx: ") as error:
        halve_file(source, target)
    assert "\n" not in str(error.value)
    assert not target.exists()


def test_what_cannot_be_written_is_told_in_one_line(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for target, reason in ((tmp_path, IS_A_FOLDER), (tmp_path / "file" / "a.onnx", "folder")):
        with pytest.raises(TonearmError, match=f"{target.name}: .*{reason}"):
            halve_file(tiny_bundle, target)


def test_small_weights_and_whole_numbers_are_left(tmp_path: Path) -> None:
    model = tiny_graph()
    model.graph.initializer.extend(
        [
            onnx.numpy_helper.from_array(np.ones(8, np.float32), "few"),
            onnx.numpy_helper.from_array(np.ones(800, np.int64), "whole"),
        ]
    )
    halved = halve(model)
    onnx.checker.check_model(halved)  # not every reader sorts the nodes as ONNX Runtime does
    types = {w.name: w.data_type for w in halved.graph.initializer}
    assert types["few"] == TensorProto.FLOAT
    assert types["whole"] == TensorProto.INT64
    assert types["weights_half"] == TensorProto.FLOAT16
    assert model.graph.initializer[0].data_type == TensorProto.FLOAT  # the argument is as it was


def test_a_weight_that_half_precision_cannot_hold_is_refused() -> None:
    model = tiny_graph()
    weights = np.zeros((FRONT_END.n_mels, 2), np.float32)
    weights[0] = -1e6, 1  # a single one is enough
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "weights"))
    with pytest.raises(TonearmError, match=r"weights: 1e\+06 is beyond half precision"):
        halve(model)
