"""The model bundle: one ONNX file that describes its own inputs and outputs.

A bundle is an ordinary ONNX graph whose ``metadata_props`` contain, under the key ``tonearm``, one
JSON object: the labels, the front end's settings, window and hop, temperature, where the weights
came from and how good they are. Nothing else is needed to classify with it.

=============  =========  =======================  ============================================
name           direction   shape                    meaning
=============  =========  =======================  ============================================
logmel         input       float32[batch, T, mels]  front-end frames; batch and T are dynamic
second_logmel  input       float32[batch, U, mels]  optional: the same window, second front end
descriptors    input       float32[batch, D]        optional: clip statistics; NaN row = missing
logits         output      float32[batch, labels]   scores before temperature and softmax
embedding      output      float32[batch, E]        input of the last layer
music          output      float32[batch, 1]        optional: logit that the window is music at all
=============  =========  =======================  ============================================
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tonearm.atomic import atomic_write
from tonearm.errors import FileError, UsageError, reason_of
from tonearm.extras import needs
from tonearm.interrupts import interrupts_deferred
from tonearm.metadata import BundleMetadata, MetadataError
from tonearm.text import is_path, listed

if TYPE_CHECKING:
    import onnxruntime

METADATA_KEY = "tonearm"
DEFAULT_NAME = "default"
MODELS_VARIABLE = "TONEARM_MODELS"  # names a folder of further bundles, which go by their stems
RUN_BUNDLE = "model.onnx"  # what a training run calls the bundle it writes

_FRAMES = ("logmel", "second_logmel")  # the graph's input for each front end
_OUTPUTS = ("logits", "embedding", "music")  # all that are used; a graph may lack the last

Floats = npt.NDArray[np.float32]


class BundleError(FileError):
    """A model file cannot be used."""


@dataclass(frozen=True, eq=False)
class Outputs:
    """A bundle's outputs for a batch.

    Attributes
    ----------
    logits
        float32[batch, labels]
    embedding
        float32[batch, E]
    music
        float32[batch, 1], or None if the graph does not say whether something is music.
    """

    logits: Floats
    embedding: Floats
    music: Floats | None


class Bundle:
    """A loaded model: its metadata and a function from log-mel windows to scores.

    Use `Bundle.load`; the constructor expects arguments that it has checked. Copying or unpickling
    a bundle, also in another process, loads it again from the same path.
    """

    def __init__(
        self,
        path: Path,
        metadata: BundleMetadata,
        session: onnxruntime.InferenceSession,
        threads: int,
        digest: str,
    ) -> None:
        self.path = path
        self.metadata = metadata
        self.threads = threads
        self.digest = digest  # SHA-256 of the file, in hexadecimal
        self._session = session
        present = {output.name for output in session.get_outputs()}
        self._output_names = [name for name in _OUTPUTS if name in present]

    @classmethod
    def load(cls, path: str | os.PathLike[str], threads: int = 1) -> Bundle:
        """Open a bundle and check that its graph and its metadata agree.

        Parameters
        ----------
        path
            An ONNX file with Tonearm metadata.
        threads
            How many threads one `run` may use.

        Raises
        ------
        UsageError
            If `threads` is below 1.
        BundleError
            If the file cannot be read, is not an ONNX model, has no Tonearm metadata, needs a
            newer Tonearm, or has a graph that does not match its metadata.
        """
        if threads < 1:
            raise UsageError(f"threads: expected 1 or more, got {threads}")
        path = Path(path)
        digest = _digest(path)  # before it is loaded: a change in between is noticed later
        session = _open_session(path, threads)
        try:
            text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
            if text is None:
                raise MetadataError("an ONNX model without Tonearm metadata, so not a bundle")
            metadata = BundleMetadata.from_json(text)
            _check_graph(session, metadata)
        except UnicodeDecodeError as error:  # ONNX Runtime does not check encodings
            raise BundleError(path, f"its metadata or names are no text: {error}") from error
        except MetadataError as error:
            raise BundleError(path, str(error)) from error
        # Absolute, so that the file can be reloaded after a change of the working directory.
        return cls(path.absolute(), metadata, session, threads, digest)

    def require_unchanged(self, digest: str) -> None:
        """Raise `BundleError` if the file is not the one that was loaded elsewhere before."""
        if self.digest != digest:
            raise BundleError(self.path, "the model has changed since the start")

    def __reduce__(self) -> tuple[Callable[[Path, int], Bundle], tuple[Path, int]]:
        return Bundle.load, (self.path, self.threads)

    def run(self, frames: Sequence[Floats], descriptors: Floats | None = None) -> Outputs:
        """Score a batch of windows of equal length.

        Parameters
        ----------
        frames
            float32[batch, frames, mels] of each of the front ends.
        descriptors
            float32[batch, D], for a bundle that takes them; None, or a row of NaN, where they are
            unknown.

        Raises
        ------
        BundleError
            If the graph rejects its inputs, or returns anything but a row of finite numbers for
            each window.
        """
        inputs = dict(zip(_FRAMES, frames, strict=False))
        if width := len(self.metadata.descriptors):
            if descriptors is None:
                descriptors = np.full((len(frames[0]), width), np.nan, np.float32)
            inputs["descriptors"] = descriptors
        try:
            arrays = self._session.run(self._output_names, inputs)
        except Exception as error:  # ONNX Runtime's error classes share no base below Exception
            raise BundleError(self.path, f"its graph fails: {reason_of(error)}") from error
        outputs = dict(zip(self._output_names, arrays, strict=True))
        columns = {"logits": len(self.metadata.labels), "music": 1}
        for name, values in outputs.items():
            expected = (len(frames[0]), columns.get(name, values.shape[-1] if values.ndim else 1))
            if values.shape != expected or not values.size:
                shape = "x".join(map(str, values.shape)) or "a single number"
                raise BundleError(
                    self.path, f"its graph returns {name!r} as {shape} for {expected[0]} windows"
                )
            if not np.isfinite(values).all():
                raise BundleError(self.path, f"its graph returns NaN or infinity as {name!r}")
        return Outputs(outputs["logits"], outputs["embedding"], outputs.get("music"))


def builtin() -> dict[str, Path]:
    """Return the paths of the bundles inside the package, by name."""
    return _bundles_in(Path(__file__).parent / "weights")


def available() -> dict[str, Path]:
    """Return the paths of all bundles by name: built-in ones, then those in $TONEARM_MODELS.

    A file in that folder with the name of a built-in bundle overrides it.
    """
    folder = os.environ.get(MODELS_VARIABLE)
    return builtin() | (_bundles_in(Path(folder)) if folder else {})


def find(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the path of the bundle that a name or path refers to.

    Parameters
    ----------
    name_or_path
        A name listed by `available`, a bundle's path, or a training run's folder.

    Raises
    ------
    UsageError
        If there is no model of that name.
    BundleError
        If it is a path (it has a separator or a suffix), and there is no model, or the system
        refuses to look.
    """
    bundles = available()
    if (bundle_path := bundles.get(os.fspath(name_or_path))) is not None:
        return bundle_path
    path = Path(name_or_path)
    try:
        if path.is_dir():
            path = path / RUN_BUNDLE
            if not path.is_file():
                reason = f"a folder without {RUN_BUNDLE}, so not that of a finished run"
                raise BundleError(path.parent, reason)
        if path.is_file():
            return path
    except OSError as error:  # before Python 3.14, as for a folder that may not be entered
        raise BundleError(path, reason_of(error)) from error
    if is_path(os.fspath(name_or_path)):
        raise BundleError(path, "no such file")
    known = ", ".join(bundles) or "none"
    raise UsageError(
        f"no model named {os.fspath(name_or_path)!r} and no such file (by name: {known})"
    )


def write_metadata(
    graph: str | os.PathLike[str], metadata: BundleMetadata, target: str | os.PathLike[str]
) -> None:
    """Make a bundle from a plain ONNX graph.

    Parameters
    ----------
    graph
        An ONNX file, whose weights may be in a file beside it. Whether it fits the metadata is
        checked when the bundle is loaded.
    metadata
        The description to store in it; it takes the place of an earlier one.
    target
        The file to write, with all weights in it. It is written completely or not at all, and may
        be the graph's own path.

    Raises
    ------
    BundleError
        If the graph cannot be read, or is no ONNX model.
    OSError
        If the target cannot be written.
    MissingExtraError
        If the ``onnx`` package is not installed.
    """
    with needs("learn"):
        import onnx
    try:
        model = onnx.load(os.fspath(graph))
    except OSError as error:
        raise BundleError(graph, reason_of(error).lower()) from error
    except Exception as error:  # the parsers of ONNX's formats share no error below Exception
        raise BundleError(graph, f"not an ONNX model ({reason_of(error)})") from error
    properties = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, properties | {METADATA_KEY: metadata.to_json()})
    with atomic_write(target) as file:
        file.write(model.SerializeToString())


def _digest(path: Path) -> str:
    try:
        if not path.is_file():
            raise BundleError(path, "no such file")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(path, reason_of(error).lower()) from error


def _open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    with interrupts_deferred():
        import onnxruntime  # slow to import, and not needed just to list models

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Let waiting threads sleep: a spinning one burns a core while the next file is being decoded.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # errors are raised; the log would only repeat them
    try:
        return onnxruntime.InferenceSession(
            os.fspath(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's error classes share no base below Exception
        # Its text reads "[ONNXRuntimeError] : 7 : CODE : Load model from PATH failed:REASON".
        reason = reason_of(error).rpartition("failed:")[2]
        raise BundleError(path, f"not a model ONNX Runtime can load ({reason})") from error


def _check_graph(session: onnxruntime.InferenceSession, metadata: BundleMetadata) -> None:
    """Raise MetadataError if the graph's inputs and outputs do not match the metadata."""
    nodes = (*session.get_inputs(), *session.get_outputs())
    inputs = {node.name: node.shape for node in session.get_inputs()}
    outputs = {node.name: node.shape for node in session.get_outputs()}
    front_ends = dict(zip(_FRAMES, metadata.front_ends, strict=False))
    expected_inputs = {*front_ends}
    if metadata.descriptors:
        expected_inputs.add("descriptors")
    if set(inputs) != expected_inputs:
        raise MetadataError(
            f"graph inputs: expected {listed(expected_inputs)}, got {listed(inputs)}"
        )
    if missing := {"logits", "embedding"} - set(outputs):
        raise MetadataError(f"graph outputs: {listed(missing)} missing, got {listed(outputs)}")
    for node in nodes:
        if (node.name in inputs or node.name in _OUTPUTS) and node.type != "tensor(float)":
            raise MetadataError(f"graph has {node.name!r} as {node.type}, expected tensor(float)")
    _check_width("logits", outputs["logits"], len(metadata.labels), "labels")
    if "music" in outputs:
        _check_width("music", outputs["music"], 1, "logit that it is music")
    for name, front_end in front_ends.items():
        _check_width(name, inputs[name], front_end.n_mels, "mel bands")
    if metadata.descriptors:
        _check_width("descriptors", inputs["descriptors"], len(metadata.descriptors), "descriptors")


def _check_width(name: str, shape: list[int | str | None], expected: int, unit: str) -> None:
    # A symbolic (string) or unknown (None) width cannot contradict the metadata.
    width = shape[-1] if shape else 0
    if isinstance(width, int) and width != expected:
        raise MetadataError(f"graph has {width} columns in {name!r}, metadata {expected} {unit}")


def _bundles_in(folder: Path) -> dict[str, Path]:
    # Hidden files are unfinished drafts, or what macOS leaves beside files on foreign disks.
    found = sorted(folder.glob("*.onnx"))
    return {path.stem: path for path in found if not path.name.startswith(".")}
