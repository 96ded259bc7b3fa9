"""Where the bytes of a recording come from: a file by its path or open, for a limited time."""

from __future__ import annotations

import io
import os
import stat
import time
from typing import BinaryIO

import av
import numpy as np

from tonearm.audio.errors import NotAudio
from tonearm.errors import UsageError
from tonearm.text import printable

Source = str | os.PathLike[str] | BinaryIO


def size_of(path: str | os.PathLike[str]) -> int:
    """Return how many bytes a file has, if it is one that may be opened.

    Raises
    ------
    NotAudio
        If it is not there, empty, a folder, or a pipe or a device, which could go on for ever.
    """
    name = os.fsdecode(path)
    try:
        status = os.stat(name)  # noqa: PTH116 (a Path makes "" the current folder)
    except (OSError, ValueError) as error:
        raise NotAudio(name, reason_of(error)) from None
    if stat.S_ISDIR(status.st_mode):
        raise NotAudio(name, "is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise NotAudio(name, "is not a regular file")
    if not status.st_size:
        raise NotAudio(name, "is empty")
    return status.st_size


def size_within(file: BinaryIO) -> int:
    """Bytes of an open file; raises where it cannot be read from any place, as FFmpeg wants to."""
    try:
        file.seek(0)
        is_binary = isinstance(file.read(0), bytes)
        size = file.seek(0, os.SEEK_END)
    except (OSError, ValueError, AttributeError) as error:  # a pipe, a closed file, something else
        raise UsageError(
            f"{printable(name_of(file))}: expected a file that can be sought in (io.BytesIO holds "
            f"what cannot), got {reason_of(error)}"
        ) from None
    if not is_binary:
        raise UsageError(
            f"{printable(name_of(file))}: expected a file opened as binary, got a text"
        )
    if not size:
        raise NotAudio(name_of(file), "is empty")
    return size


def name_of(source: Source) -> str:
    """Return what errors call a file."""
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "<file>"


class Clock:
    """Counts the time spent inside its `with` blocks against a limit."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._left = limit
        self._deadline = np.inf

    def __enter__(self) -> Clock:
        self._deadline = time.monotonic() + self._left
        return self

    def __exit__(self, *_: object) -> None:
        self._left = self._deadline - time.monotonic()

    @property
    def passed(self) -> bool:
        """Whether it is over, as seen from inside a `with` block."""
        return time.monotonic() > self._deadline


class LimitedFile:
    """An open file that ends when its time is up, or where the disk fails.

    FFmpeg gets its bytes only from here. So any name will do (a path with a colon is no address),
    and a demuxer that reads round in circles meets an end. Nothing is raised into FFmpeg: PyAV
    would print what it cannot pass on.
    """

    def __init__(self, file: BinaryIO | io.FileIO, name: str, clock: Clock) -> None:
        self.name = name  # its suffix helps FFmpeg to tell formats apart
        self._file = file
        self._clock = clock
        self.failed = False

    def read(self, size: int = -1, /) -> bytes:
        """Read on, or nothing where it is over."""
        if self._clock.passed:
            return b""
        try:
            return self._file.read(size) or b""
        except Exception:  # of the disk, or whatever the file is made of
            self.failed = True
            return b""

    def seek(self, position: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place and return it; -1 where there is none."""
        try:
            return self._file.seek(position, whence)
        except Exception:
            return -1  # a damaged header led to a place before the file: FFmpeg takes this as no

    def tell(self) -> int:
        """Where it stands."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Whether there is a choice of places: always."""
        return True


def reason_of(error: BaseException) -> str:
    """Why, in a few words: what FFmpeg or the system said, without their numbers and names."""
    if isinstance(error, av.error.InvalidDataError):
        return "damaged data"
    if isinstance(error, av.error.UndefinedError):
        return "FFmpeg gives no reason"
    if isinstance(error, UnicodeError) or not isinstance(error, OSError | av.error.FFmpegError):
        text = str(error) or type(error).__name__
    else:
        text = error.strerror or type(error).__name__
    line = " ".join(text.split())
    return line[:1].lower() + line[1:]
