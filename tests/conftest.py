"""What all tests share: the `shared` material, and a writer of audio files in any format."""

from __future__ import annotations

import importlib.util
import ntpath
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

# Before NumPy and torch are imported: small signals are slower, not faster, on many threads, and
# xdist workers would fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import numpy as np
import pytest

SHARED = Path(os.environ.get("TONEARM_SHARED", Path(__file__).resolve().parents[2] / "shared"))

# The encoder FFmpeg would not choose by itself, by suffix.
CODECS = {".ogg": "vorbis", ".oga": "flac", ".opus": "libopus", ".mp3": "libmp3lame"}

LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs the shared material where there is none."""
    if SHARED.is_dir():
        return
    skip = pytest.mark.skip(reason=f"no shared material at {SHARED} (set TONEARM_SHARED)")
    for item in items:
        if item.get_closest_marker("shared"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with GTZAN, reference code and odd files; use with `pytest.mark.shared`."""
    if not SHARED.is_dir():
        pytest.skip(f"no shared material at {SHARED} (set TONEARM_SHARED)")
    return SHARED


@pytest.fixture
def reference(shared: Path) -> Iterator[ModuleType]:
    """Readers of the published networks that are not Tonearm's; use with `pytest.mark.shared`."""
    spec = importlib.util.spec_from_file_location(
        "frontends", shared / "reference" / "frontends.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["frontends"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["frontends"]


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the labels "low" and "high" that tells which a tone is."""
    from bundles import tiny_metadata, write_bundle

    return write_bundle(tmp_path_factory.mktemp("bundle") / "tiny.onnx", tiny_metadata())


@pytest.fixture(scope="session")
def musical_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, its windows side by side, which predicts music for low tones, not for high ones."""
    from bundles import tiny_metadata, write_bundle

    path = tmp_path_factory.mktemp("bundle") / "musical.onnx"
    outputs = ("logits", "embedding", "music")
    return write_bundle(path, tiny_metadata(hop_seconds=2.0), outputs=outputs)


@pytest.fixture
def program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """`program("classify", ...) -> (exit code, output, errors)`, run in this process."""
    from tonearm.cli import app

    def program(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tonearm", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            app.main()
        code = exit_info.value.code
        assert code is None or isinstance(code, int)
        return code or 0, *capsys.readouterr()

    return program


@pytest.fixture(scope="session")
def write_audio() -> Callable[..., Path]:
    """`write_audio(path, samples, rate, codec=None, bitrate=None) -> path`, see `encode`."""
    return encode


def encode(
    path: str | Path,
    samples: np.ndarray,
    rate: int,
    codec: str | None = None,
    bitrate: int | None = None,
    *,
    layout: str | None = None,
    container: str | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Encode samples to a file; the suffix of `path` names the container and the usual codec.

    Parameters
    ----------
    samples : float[n] or float[channels, n]
        In [-1, 1]. Mono given to the Vorbis encoder, which is stereo only, becomes two channels.
    codec : str, optional
        An FFmpeg encoder: ``pcm_f32le``, ``pcm_u8``, ``libmp3lame``, ``vorbis``, ``libopus``,
        ``aac``, ``flac``, ``alac``, ``wavpack``, ``ac3``, ``wmav2``, ...
    bitrate : int, optional
        Bits a second, for lossy codecs (WMA refuses to go without).
    layout : str, optional
        FFmpeg's name of the channel layout, by default the usual one for the channel count.
    container : str, optional
        FFmpeg's name of the container where the suffix does not determine it.
    """
    path = Path(path)
    signal = np.atleast_2d(np.asarray(samples, dtype=np.float32))
    options: dict[str, Any] = {}
    with av.open(str(path), "w", format=container) as output:
        codec = codec or CODECS.get(path.suffix) or output.default_audio_codec
        if codec == "vorbis":
            options["strict"] = "experimental"
            signal = np.repeat(signal, 2, axis=0) if len(signal) == 1 else signal
        output.metadata.update(metadata or {})
        layout = layout or LAYOUTS[len(signal)]
        stream = output.add_stream(codec, rate=rate, layout=layout, options=options)
        # Lossless encoders take their first format by default, and that may be 8 bit.
        formats = [form for form in stream.codec.audio_formats or () if form.bytes > 1]
        if formats:
            stream.format = formats[0]
        if bitrate is not None:
            stream.bit_rate = bitrate
        block = 65536  # samples: small enough for every encoder's own queue
        for start in range(0, signal.shape[1], block):
            part = np.ascontiguousarray(signal[:, start : start + block].T)
            frame = av.AudioFrame.from_ndarray(part.reshape(1, -1), format="flt", layout=layout)
            frame.sample_rate = rate
            frame.pts = start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """Ctrl-C is heard, also where the tests run in the background, whose shell has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def on_another_drive(monkeypatch: pytest.MonkeyPatch) -> None:
    """No relative path leads anywhere, as on Windows from drive to drive."""

    refused = partial(ntpath.relpath, "E:\\music", "D:\\")  # before it is os.path's own, replaced

    def relpath(path: str, start: str = os.curdir) -> str:
        return refused()

    monkeypatch.setattr(os.path, "relpath", relpath)


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """`lock(folder)`: from now on nobody may list or enter it, not even root."""

    def lock(folder: Path) -> None:
        scandir, stat = os.scandir, os.stat

        def guarded_scandir(path: str | Path) -> object:
            if str(path).rstrip(os.sep) == str(folder):
                raise PermissionError(13, "Permission denied", path)
            return scandir(path)

        def guarded_stat(path: object, **options: Any) -> os.stat_result:
            if str(path).startswith(f"{folder}{os.sep}"):
                raise PermissionError(13, "Permission denied", path)
            return stat(path, **options)  # type: ignore[call-overload]

        monkeypatch.setattr(os, "scandir", guarded_scandir)
        monkeypatch.setattr(os, "stat", guarded_stat)
        if sys.version_info[:2] == (3, 13):  # whose glob keeps a reference of its own
            monkeypatch.setattr("glob._StringGlobber.scandir", staticmethod(guarded_scandir))

    return lock
