"""What may be listened to: a file by its path or open, or samples in memory, and not silence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeGuard

import numpy as np
import numpy.typing as npt

from tonearm import audio
from tonearm.errors import UsageError
from tonearm.mono import checked_mono

SHORTEST_SECONDS = 0.25  # less than a note or two: any genre would be a guess
SILENCE_PEAK = 1e-4  # -80 dB below full scale: three steps of 16 bit, the noise of lossy codecs


class SilentAudio(audio.AudioError):
    """The recording decodes, and there is nothing to hear in it."""


def refuse_inaudible(seconds: float, peak: float, name: str) -> None:
    """Raise `audio.TooShort` or `SilentAudio` for a recording in which there is nothing to hear."""
    if seconds < SHORTEST_SECONDS:
        heard = f"{seconds:.2f} s" if seconds >= 0.01 else f"{1000 * seconds:.2g} ms"
        raise audio.TooShort(name, f"only {heard} of audio, {SHORTEST_SECONDS} s are needed")
    if peak < SILENCE_PEAK:
        raise SilentAudio(name, f"silent: {seconds:.1f} s with nothing to hear")


def path_of(source: object) -> Path | None:
    """Return the path of a file, or of an open one if it has a name.

    Raises
    ------
    UsageError
        If it is neither.
    """
    if hasattr(source, "read"):
        name = getattr(source, "name", None)
        return Path(name) if isinstance(name, str) else None
    if _names_a_file(source):
        return Path(source)
    raise UsageError(
        "expected a file's path, a file open as binary, or a NumPy array of samples and their "
        f"rate, got {_what(source)}"
    )


def as_path(named: object) -> Path:
    """Return what names a file as a path; raises `UsageError` if it cannot name one."""
    if _names_a_file(named):
        return Path(named)
    raise UsageError(f"expected a file's path, got {_what(named)}")


def _names_a_file(source: object) -> TypeGuard[str | os.PathLike[str]]:
    return isinstance(source, str | os.PathLike) and bool(os.fspath(source))


def _what(source: object) -> str:
    return "an empty text" if source == "" else type(source).__name__


def checked_samples(samples: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return samples in memory as float32[n], in one piece of memory.

    Raises
    ------
    UsageError
        If they are no finite numbers in one dimension, or beyond what any sound could be.
    """
    signal = checked_mono(samples)
    # A Python float: half precision ends below the limit it is held against.
    peak = float(max(signal.max(initial=0.0), -signal.min(initial=0.0)))
    if not np.isfinite(peak):
        raise UsageError("samples: expected finite numbers, got NaN or infinity")
    if peak > audio.LOUDEST:  # squared, they would be beyond float32
        raise UsageError(f"samples: expected numbers in [-1, 1], got up to {peak:g}")
    return np.ascontiguousarray(signal, np.float32)
