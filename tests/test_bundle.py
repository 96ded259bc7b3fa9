from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from bundles import FRONT_END, tiny_graph, tiny_metadata, write_bundle
from tonearm import bundle
from tonearm.bundle import Bundle, BundleError
from tonearm.errors import TonearmError, UsageError
from tonearm.features.logmel import FRONT_ENDS
from tonearm.metadata import BundleMetadata, MetadataError


def nested(levels: int) -> Any:
    """A list in a list in a list."""
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def test_metadata_survives_json() -> None:
    metadata = tiny_metadata(
        descriptors=("tempo",), training={"tracks": 3}, metrics={"gtzan": {"accuracy": 0.5}}
    )
    assert BundleMetadata.from_json(metadata.to_json()) == metadata


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"format_version": 2}, "newer than this Tonearm reads"),
        ({"format_version": "1"}, "format_version"),
        ({"format_version": 10**400}, r"bundle format 10{59}\.\.\. is newer"),
        ({"labels": []}, "at least one"),
        ({"labels": ["rock", "rock"]}, "rock, rock"),
        ({"labels": "rock"}, "expected a list of texts, got 'rock'"),
        ({"labels": ["rock", 1]}, "expected a list of texts"),
        ({"labels": ["rock", "jazz\n"]}, r"a line of text each, got 'jazz\\n'"),
        ({"labels": ["rock", "\x1b[31mjazz"]}, r"a line of text each, got '\\x1b"),
        ({"labels": ["rock", "\ud800"]}, r"a line of text each, got '\\ud800'"),
        ({"labels": ["rock", " "]}, "a line of text each, got ' '"),
        ({"window_seconds": 0}, "window_seconds: expected more than 0 and at most 3600, got 0"),
        ({"window_seconds": 10**400}, r"window_seconds: expected .* got 10{59}\.\.\.$"),
        ({"hop_seconds": float("inf")}, "hop_seconds: expected more than 0"),
        ({"hop_seconds": True}, "hop_seconds: expected a number"),
        ({"hop_seconds": 1e-4}, "hop_seconds: expected a frame or more, got 0.0001"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": 1e-310}, "temperature: expected from 0.001 to 1000, got 1e-310"),
        ({"metrics": {"gtzan": nested(30)}}, "at most 20 levels"),
        ({"music_threshold": 1.5}, "music_threshold: expected a probability from 0 to 1, got 1.5"),
        ({"unsure_threshold": "0"}, "unsure_threshold: expected a number"),
        ({"name": None}, "name: expected text"),
        ({"metrics": []}, "metrics: expected an object"),
        ({"attention": 1}, "unknown 'attention'"),
        ({"front_end": {**FRONT_END.to_dict(), "denoise": 1}}, "front end: .*denoise"),
        ({"front_end": {**FRONT_END.to_dict(), "scale": "bark"}}, "front end: .*bark"),
        ({"front_end": {**FRONT_END.to_dict(), "scale": 10**400}}, "scale 10{39}: expected"),
        ({"front_end": {}}, "front end"),
        *(
            ({"front_end": {**FRONT_END.to_dict(), name: value}}, f"front end {name}: expected")
            for name, value in [
                ("n_fft", 1024.5),
                ("n_fft", True),
                ("n_fft", 10**9),
                ("hop_length", 320.5),
                ("hop_length", 0),
                ("n_mels", 10**6),
                ("sample_rate", 100),
                ("sample_rate", 10**7),
                ("divisor", 0),
                ("offset", "x"),
                ("offset", 0.0),
                ("gain", float("nan")),
                ("shift", 1e300),
                ("f_max", None),
            ]
        ),
    ],
)
def test_metadata_that_is_not_understood_is_refused(
    changes: dict[str, Any], complaint: str
) -> None:
    text = json.dumps(json.loads(tiny_metadata().to_json()) | changes)
    with pytest.raises(MetadataError, match=complaint) as caught:
        BundleMetadata.from_json(text)
    assert "\n" not in str(caught.value)


def test_metadata_from_before_there_were_thresholds_gets_the_usual_ones() -> None:
    values = json.loads(tiny_metadata().to_json())
    del values["music_threshold"], values["unsure_threshold"]
    assert BundleMetadata.from_json(json.dumps(values)) == tiny_metadata()


@pytest.mark.parametrize("missing", ["labels", "front_end", "window_seconds", "format_version"])
def test_metadata_that_lacks_something_is_refused(missing: str) -> None:
    values = json.loads(tiny_metadata().to_json())
    del values[missing]
    with pytest.raises(MetadataError, match=missing):
        BundleMetadata.from_json(json.dumps(values))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000])
def test_metadata_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(MetadataError, match="JSON"):
        BundleMetadata.from_json(text)


def test_a_bundle_predicts_its_labels(tmp_path: Path) -> None:
    loaded = Bundle.load(write_bundle(tmp_path / "tiny.onnx", tiny_metadata()))
    frames = np.zeros((3, 50, FRONT_END.n_mels), np.float32)
    frames[0, :, :10] = 1
    frames[1, :, -10:] = 1
    outputs = loaded.run([frames])
    assert loaded.metadata == tiny_metadata()
    assert outputs.logits.shape == (3, 2)
    assert outputs.logits[:2].argmax(axis=1).tolist() == [0, 1]
    np.testing.assert_allclose(outputs.embedding, frames.mean(axis=1), atol=1e-6)
    assert outputs.music is None


def test_outputs_are_found_by_name_and_others_left_alone(tmp_path: Path) -> None:
    names = ("music", "embedding", "loudest", "logits")
    path = write_bundle(tmp_path / "tiny.onnx", tiny_metadata(), outputs=names)
    outputs = Bundle.load(path).run([np.full((1, 5, FRONT_END.n_mels), 7, np.float32)])
    assert outputs.logits.shape == (1, 2)
    assert outputs.embedding.tolist() == [[7] * FRONT_END.n_mels]
    assert outputs.music is not None
    assert outputs.music.tolist() == [[0]]


def test_unknown_descriptors_reach_the_graph_as_nan(tmp_path: Path) -> None:
    metadata = tiny_metadata(descriptors=("tempo", "loudness"))
    loaded = Bundle.load(write_bundle(tmp_path / "tiny.onnx", metadata))
    frames = np.zeros((1, 5, FRONT_END.n_mels), np.float32)
    assert loaded.run([frames]).logits.tolist() == [[0, 0]]
    assert loaded.run([frames], np.ones((1, 2), np.float32)).logits.tolist() == [[100, 0]]


def test_what_a_graph_cannot_compute_is_an_error_of_the_bundle(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "tiny.onnx", tiny_metadata())
    loaded = Bundle.load(path)
    with pytest.raises(BundleError, match=r"tiny\.onnx: its graph fails: .*logmel") as caught:
        loaded.run([np.zeros((1, 5, FRONT_END.n_mels + 1), np.float32)])
    assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match=r"returns NaN or infinity as '(logits|embedding)'"):
        loaded.run([np.full((1, 5, FRONT_END.n_mels), np.nan, np.float32)])


@pytest.mark.parametrize(
    ("operator", "settings", "shape"),
    [
        ("Transpose", {}, f"{FRONT_END.n_mels}x2"),
        ("ReduceSum", {"keepdims": 0}, "a single number"),
    ],
)
def test_an_output_of_another_shape_is_an_error_of_the_bundle(
    tmp_path: Path, operator: str, settings: dict[str, int], shape: str
) -> None:
    path = write_bundle(tmp_path / "tiny.onnx", tiny_metadata())
    model = onnx.load(path)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["flat" if name == "embedding" else name for name in names]
    model.graph.node.append(onnx.helper.make_node(operator, ["flat"], ["embedding"], **settings))
    [output] = [value for value in model.graph.output if value.name == "embedding"]
    output.type.tensor_type.ClearField("shape")
    onnx.save(model, path)
    frames = np.ones((2, 5, FRONT_END.n_mels), np.float32)
    expected = rf"tiny\.onnx: its graph returns 'embedding' as {shape} for 2 windows"
    with pytest.raises(BundleError, match=expected):
        Bundle.load(path).run([frames])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_model_can_be_copied_and_sent(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, copied: Callable[[Bundle], Bundle]
) -> None:
    monkeypatch.chdir(tiny_bundle.parent)
    model = Bundle.load(tiny_bundle.name, threads=2)
    monkeypatch.chdir("/")
    twin = copied(model)
    assert (twin.path, twin.threads, twin.metadata) == (tiny_bundle, 2, model.metadata)
    frames = np.ones((1, 20, FRONT_END.n_mels), np.float32)
    np.testing.assert_array_equal(twin.run([frames]).logits, model.run([frames]).logits)


def test_a_model_runs_on_the_threads_given(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def opened(path: str, options: Any, **others: Any) -> onnxruntime.InferenceSession:
        given.append(options.intra_op_num_threads)
        return session(path, options, **others)

    session = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    Bundle.load(tiny_bundle)
    copy.deepcopy(Bundle.load(tiny_bundle, threads=3))
    assert given == [1, 3, 3]


def test_a_model_needs_a_thread(tiny_bundle: Path) -> None:
    with pytest.raises(UsageError, match="threads: expected 1 or more, got 0"):
        Bundle.load(tiny_bundle, threads=0)


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(BundleError(Path("a.onnx"), "no such file")))
    assert (str(error), error.reason) == ("a.onnx: no such file", "no such file")


def _nothing(path: Path) -> None:
    """The file is not there."""


def _text(path: Path) -> None:
    path.write_text("no model")


def _plain_graph(path: Path) -> None:
    onnx.save(tiny_graph(), str(path))


def _foreign_metadata(path: Path) -> None:
    model = tiny_graph()
    onnx.helper.set_model_props(model, {"tonearm": '{"format_version": 99}'})
    onnx.save(model, str(path))


def _other_label_count(path: Path) -> None:
    write_bundle(path, tiny_metadata(), labels=3)


def _other_band_count(path: Path) -> None:
    write_bundle(path, tiny_metadata(), mels=64)


def _other_descriptor_count(path: Path) -> None:
    onnx.save(tiny_graph(descriptors=2), str(path))
    bundle.write_metadata(path, tiny_metadata(descriptors=("tempo",)), path)


def _whole_numbers(path: Path) -> None:
    write_bundle(path, tiny_metadata())
    model = onnx.load(str(path))
    # The graph goes on with a copy of its input as floats.
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    for node in model.graph.node:
        node.input[:] = ["cast" if name == "logmel" else name for name in node.input]
    cast = onnx.helper.make_node("Cast", ["logmel"], ["cast"], to=onnx.TensorProto.FLOAT)
    model.graph.node.insert(0, cast)
    onnx.save(model, str(path))


def _two_logits_of_music(path: Path) -> None:
    model = tiny_graph(outputs=("logits", "embedding", "music"))
    (node,) = (node for node in model.graph.node if "music" in node.output)
    node.CopyFrom(onnx.helper.make_node("Concat", ["lowness", "lowness"], ["music"], axis=1))
    model.graph.output[2].type.tensor_type.shape.dim[1].dim_value = 2
    onnx.save(model, str(path))
    bundle.write_metadata(path, tiny_metadata(), path)


def _no_text(path: Path) -> None:
    write_bundle(path, tiny_metadata(licence="ABCD"))
    path.write_bytes(path.read_bytes().replace(b"ABCD", b"A\xff\xfeD"))


def _no_embedding(path: Path) -> None:
    write_bundle(path, tiny_metadata(), outputs=("logits",))


def _descriptors_only_promised(path: Path) -> None:
    onnx.save(tiny_graph(), str(path))
    bundle.write_metadata(path, tiny_metadata(descriptors=("tempo",)), path)


@pytest.mark.parametrize(
    ("write", "complaint"),
    [
        (_nothing, "no such file"),
        (_text, "not a model"),
        (_plain_graph, "without Tonearm metadata"),
        (_foreign_metadata, "newer"),
        (_other_label_count, "graph has 3 columns in 'logits', metadata 2 labels"),
        (_other_band_count, "graph has 64 columns in 'logmel', metadata 96 mel bands"),
        (_other_descriptor_count, "graph has 2 columns in 'descriptors', metadata 1 descriptors"),
        (_two_logits_of_music, "graph has 2 columns in 'music', metadata 1 logit"),
        (_no_embedding, "'embedding' missing"),
        (_no_text, "metadata or names are no text"),
        (_whole_numbers, r"'logmel' as tensor\(int64\), expected tensor\(float\)"),
        (_descriptors_only_promised, "expected 'descriptors', 'logmel', got 'logmel'"),
    ],
)
def test_a_file_that_is_no_usable_bundle_is_refused_with_the_reason(
    tmp_path: Path, write: Any, complaint: str
) -> None:
    path = tmp_path / "model.onnx"
    write(path)
    with pytest.raises(BundleError, match=complaint) as caught:
        Bundle.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, TonearmError)


def test_a_graph_may_leave_its_widths_open(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "open.onnx", tiny_metadata())
    model = onnx.load(str(path))
    for values in (model.graph.input[0], model.graph.output[0]):
        values.type.tensor_type.shape.dim[-1].dim_param = "any"
    onnx.save(model, str(path))
    frames = np.ones((1, 5, FRONT_END.n_mels), np.float32)
    assert Bundle.load(path).run([frames]).logits.shape == (1, 2)


def test_metadata_is_written_beside_what_others_wrote(tmp_path: Path) -> None:
    model = tiny_graph()
    onnx.helper.set_model_props(model, {"author": "somebody", "tonearm": "old"})
    onnx.save(model, str(tmp_path / "plain.onnx"))
    bundle.write_metadata(tmp_path / "plain.onnx", tiny_metadata(), tmp_path / "whole.onnx")
    written = {p.key: p.value for p in onnx.load(str(tmp_path / "whole.onnx")).metadata_props}
    assert written == {"author": "somebody", "tonearm": tiny_metadata().to_json()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain.onnx", "whole.onnx"]


def test_a_graph_with_its_weights_in_another_file_becomes_one_file(tmp_path: Path) -> None:
    graph, whole = tmp_path / "split.onnx", tmp_path / "whole.onnx"
    external = {"save_as_external_data": True, "location": "weights", "size_threshold": 0}
    onnx.save(tiny_graph(), str(graph), **external)
    bundle.write_metadata(graph, tiny_metadata(), whole)
    (tmp_path / "weights").unlink()
    assert Bundle.load(whole).metadata == tiny_metadata()
    with pytest.raises(BundleError, match=r"split\.onnx: not an ONNX model \(.*weights"):
        bundle.write_metadata(graph, tiny_metadata(), whole)


def test_what_is_no_graph_becomes_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "song.onnx").write_bytes(b"no graph")
    for name, reason in (("song.onnx", "not an ONNX model"), ("gone.onnx", "no such file")):
        with pytest.raises(BundleError, match=rf"{name}: {reason}"):
            bundle.write_metadata(tmp_path / name, tiny_metadata(), tmp_path / "whole.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["song.onnx"]


def test_a_model_is_found_by_name_by_path_and_by_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TONEARM_MODELS", str(tmp_path))
    bundle_path = write_bundle(tmp_path / "mine.onnx", tiny_metadata())
    run = tmp_path / "run"
    run.mkdir()
    assert bundle.find("mine") == bundle_path
    assert bundle.find(bundle_path) == bundle_path
    assert bundle.available()["mine"] == bundle_path
    (tmp_path / "._mine.onnx").write_bytes(b"what macOS leaves on foreign disks")
    assert "._mine" not in bundle.available()
    with pytest.raises(BundleError, match=r"run: a folder without model\.onnx"):
        bundle.find(run)
    for path in (tmp_path / "other", "./mine", "other.onnx"):
        with pytest.raises(BundleError, match="no such file"):
            bundle.find(path)
    with pytest.raises(UsageError, match=r"no model named 'other' .*by name: .*mine"):
        bundle.find("other")
    for look in (bundle.find, Bundle.load):
        with pytest.raises(TonearmError, match=r"x{300}"):  # a longer name than any file's
            look("x" * 300)
    trained = write_bundle(run / "model.onnx", tiny_metadata())
    assert bundle.find(run) == trained


def test_built_in_bundles_can_be_replaced_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replacement = write_bundle(tmp_path / "default.onnx", tiny_metadata())
    monkeypatch.setenv("TONEARM_MODELS", str(tmp_path))
    assert bundle.find("default") == replacement
    monkeypatch.delenv("TONEARM_MODELS")
    assert replacement not in bundle.available().values()


@pytest.mark.parametrize("builtin", bundle.builtin().items(), ids=lambda item: item[0])
def test_every_built_in_bundle_loads(builtin: tuple[str, Path]) -> None:
    _, path = builtin
    metadata = Bundle.load(path).metadata
    assert metadata.licence
    assert metadata.attribution
    assert metadata.metrics
    assert path.stat().st_size <= 8_000_000
    smallest = np.finfo(np.float32).smallest_normal
    for weights in map(onnx.numpy_helper.to_array, onnx.load(path).graph.initializer):
        # Intel's processors multiply subnormal numbers many times as slowly.
        assert not ((weights != 0) & (np.abs(weights) < smallest)).any()


def test_a_second_front_end_is_carried_and_fed(tmp_path: Path) -> None:
    metadata = tiny_metadata(second_front_end=FRONT_ENDS["htk16k"])
    assert BundleMetadata.from_json(metadata.to_json()) == metadata
    names = ("logits", "embedding", "music")
    model = Bundle.load(write_bundle(tmp_path / "two.onnx", metadata, outputs=names))
    frames = np.zeros((1, 50, FRONT_END.n_mels), np.float32)
    outputs = model.run([frames, np.zeros((1, 31, 96), np.float32)])
    assert outputs.music is not None
    assert outputs.music.tolist() == [[31]]


def test_front_ends_of_two_sample_rates_are_refused() -> None:
    with pytest.raises(MetadataError, match=r"second_front_end: .* 16000 and 32000 Hz"):
        tiny_metadata(second_front_end=FRONT_ENDS["htk32k"])


def test_a_hop_is_a_frame_or_more_of_either_front_end() -> None:
    twice_as_fine = replace(FRONT_ENDS["htk16k"], hop_length=128)
    tiny_metadata(front_end=twice_as_fine, hop_seconds=0.006)
    with pytest.raises(MetadataError, match=r"hop_seconds: expected a frame or more, got 0\.006"):
        tiny_metadata(second_front_end=twice_as_fine, hop_seconds=0.006)


def test_a_graph_without_the_promised_second_input_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.onnx"
    onnx.save(tiny_graph(), str(path))
    bundle.write_metadata(path, tiny_metadata(second_front_end=FRONT_ENDS["htk16k"]), path)
    with pytest.raises(BundleError, match="expected 'logmel', 'second_logmel', got 'logmel'"):
        Bundle.load(path)
