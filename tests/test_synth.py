"""The synthesiser: deterministic, quick, varied, and a WAV any program reads."""

from __future__ import annotations

import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from tonearm.errors import UsageError
from tonearm.synth import STYLES, render, write_wav


@pytest.mark.parametrize("style", STYLES)
def test_piece(style: str) -> None:
    piece = render(style, seconds=4.0, rate=16000, seed=3)
    assert piece.dtype == np.float32
    assert piece.shape == (64000,)
    assert np.isfinite(piece).all()
    assert np.abs(piece).max() == pytest.approx(0.8, abs=1e-3)
    loudness = np.sqrt(np.mean(piece.reshape(8, -1) ** 2, axis=1))
    assert (loudness > 0.01).all(), "the music pauses for half a second"


@pytest.mark.parametrize("style", STYLES)
def test_same_seed_same_piece(style: str) -> None:
    first = render(style, seconds=2.0, rate=8000, seed=5)
    np.testing.assert_array_equal(first, render(style, seconds=2.0, rate=8000, seed=5))
    assert not np.array_equal(first, render(style, seconds=2.0, rate=8000, seed=6))


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
@pytest.mark.parametrize("seconds", [0.01, 0.5])
def test_any_rate_and_length(rate: int, seconds: float) -> None:
    for style in STYLES:
        assert len(render(style, seconds, rate)) == round(seconds * rate)


def test_unknown_style() -> None:
    with pytest.raises(UsageError, match="unknown style 'polka': expected one of orchestral"):
        render("polka")


def test_wav_holds_the_samples(tmp_path: Path) -> None:
    samples = np.array([0.0, 0.5, -0.5, 1.0, -1.0, 2.0], dtype=np.float32)
    write_wav(tmp_path / "a.wav", samples, 8000)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 1, 2)
        pcm = np.frombuffer(file.readframes(100), dtype="<i2")
    np.testing.assert_array_equal(pcm, [0, 16384, -16384, 32767, -32767, 32767])


def test_program_writes_every_style(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tonearm.synth", str(tmp_path / "new" / "folder")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    paths = [Path(line) for line in printed.splitlines()]
    assert [path.name for path in paths] == [f"synthetic-{style}.wav" for style in STYLES]
    assert all(path.stat().st_size > 100_000 for path in paths)


def test_program_names_what_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "tonearm.synth", str(tmp_path / "file")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{tmp_path / 'file'}: ")
    assert len(done.stderr.splitlines()) == 1
