"""Check what can be classified: a file (path or open) or samples, neither too short nor silent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeGuard

import numpy as np
import numpy.typing as npt

from tonearm import audio
from tonearm.errors import UsageError
from tonearm.mono import checked_mono
from tonearm.prediction import Failure

SHORTEST_SECONDS = 0.25  # hardly a note or two: any genre would be a guess
SILENCE_PEAK = 1e-4  # 80 dB below full scale: three steps of 16 bits, the noise of lossy codecs


class SilentAudio(audio.AudioError):
    """The recording can be decoded, but is silent."""


def check_audible(seconds: float, peak: float, name: str) -> None:
    """Raise `audio.TooShort` or `SilentAudio` if a recording is too short or silent."""
    if seconds < SHORTEST_SECONDS:
        length = f"{seconds:.2f} s" if seconds >= 0.01 else f"{1000 * seconds:.2g} ms"
        raise audio.TooShort(name, f"only {length} of audio, {SHORTEST_SECONDS} s are needed")
    if peak < SILENCE_PEAK:
        raise SilentAudio(name, f"silent: {seconds:.1f} s without sound")


def path_of(source: object, rate: int | None = None) -> Path | None:
    """Return the path of a file; for an open file, its name as a path, or None if it has none.

    Parameters
    ----------
    rate
        The sample rate that the caller was given with it: expected for samples only.

    Raises
    ------
    UsageError
        If `source` is neither a path nor an open file, or there is a rate.
    """
    if hasattr(source, "read"):
        name = getattr(source, "name", None)
        path = Path(name) if isinstance(name, str) else None
    elif _names_a_file(source):
        path = Path(os.fsdecode(source))  # a `DirEntry` may name it as bytes
    else:
        raise UsageError(
            "expected a file's path, a file open as binary, or a NumPy array of samples and their "
            f"rate, got {_described(source)}"
        )
    if rate is not None:
        raise UsageError("rate is for samples; a file knows its own")
    return path


def as_path(name: object) -> Path:
    """Return a file's name as a path, or raise `UsageError` if it cannot name a file."""
    if _names_a_file(name):
        return Path(os.fsdecode(name))
    raise UsageError(f"expected a file's path, got {_described(name)}")


def path_or_failure(name: object) -> Path | Failure:
    """Return a file's name as a path, or the `Failure` that it causes if it cannot name a file."""
    try:
        return as_path(name)
    except UsageError as error:
        return Failure(Path(repr(name)), str(error))


def checked_samples(
    samples: npt.ArrayLike, rate: float | None
) -> tuple[npt.NDArray[np.float32], int]:
    """Return samples in memory as contiguous float32[n], and their rate in Hz.

    Raises
    ------
    UsageError
        If they are not finite one-dimensional floats, or louder than any sound could be, or the
        rate is missing or not a valid one.
    """
    if rate is None:
        raise UsageError("samples need their rate in Hz, got none")
    rate = audio.checked_rate("rate", rate)
    signal = checked_mono(samples)
    # A Python float, because half precision cannot represent the limit it is compared with.
    peak = float(max(signal.max(initial=0.0), -signal.min(initial=0.0)))
    if not np.isfinite(peak):
        raise UsageError("samples: expected finite numbers, got NaN or infinity")
    if peak > audio.LOUDEST:  # their squares could overflow float32
        raise UsageError(f"samples: expected numbers in [-1, 1], got up to {peak:g}")
    return np.ascontiguousarray(signal, np.float32), rate


def _names_a_file(source: object) -> TypeGuard[str | os.PathLike[str]]:
    return isinstance(source, str | os.PathLike) and bool(os.fspath(source))


def _described(source: object) -> str:
    return "an empty text" if source == "" else type(source).__name__
