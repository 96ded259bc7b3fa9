"""The source of a recording's bytes: a path or an open file, read within a time limit."""

from __future__ import annotations

import errno
import io
import os
import stat
import time
from typing import BinaryIO

import av
import numpy as np

from tonearm.audio.errors import AudioError, NotAudio, ReadFailed
from tonearm.errors import UsageError, reason_of

# A bad disk, a lost network drive: the file may be fine.
_DRIVE_ERRNOS = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ENODEV)

Source = str | os.PathLike[str] | BinaryIO


def size_of(path: str | os.PathLike[str]) -> int:
    """Return the size in bytes of a regular file.

    Raises
    ------
    NotAudio
        If it does not exist, is empty, a folder, or a pipe or a device, which may be endless.
    """
    name = os.fsdecode(path)
    try:
        status = os.stat(name)  # noqa: PTH116 (a Path makes "" the current folder)
    except (OSError, ValueError) as error:
        raise unreadable(name, error) from None
    if stat.S_ISDIR(status.st_mode):
        raise NotAudio(name, "is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise NotAudio(name, "is not a regular file")
    if not status.st_size:
        raise NotAudio(name, "is empty")
    return status.st_size


def size_within(file: BinaryIO) -> int:
    """Return the size of an open file in bytes.

    Raises
    ------
    UsageError
        If it is not a binary file that can be sought in, as FFmpeg needs.
    NotAudio
        If it is empty.
    ReadFailed
        If the system failed to read it.
    """
    if not hasattr(file, "read"):
        raise UsageError(
            f"expected a file's path or a file open as binary, got {type(file).__name__}"
        )
    try:
        file.seek(0)
        is_binary = isinstance(file.read(0), bytes)
        size = file.seek(0, os.SEEK_END)
    except (OSError, ValueError, AttributeError) as error:  # a pipe, a closed file, something else
        if isinstance(failure := unreadable(name_of(file), error), ReadFailed):
            raise failure from None
        raise UsageError(
            f"{name_of(file)}: expected a file that can be sought in (io.BytesIO holds "
            f"what cannot), got {failure_reason(error)}"
        ) from None
    if not is_binary:
        raise UsageError(f"{name_of(file)}: expected a file opened as binary, got a text")
    if not size:
        raise NotAudio(name_of(file), "is empty")
    return size


def unreadable(name: str, error: Exception) -> AudioError:
    """Return the error of a file that cannot be opened: `ReadFailed` if its drive is at fault."""
    drive_failed = getattr(error, "errno", None) in _DRIVE_ERRNOS
    return (ReadFailed if drive_failed else NotAudio)(name, failure_reason(error))


def name_of(source: Source) -> str:
    """Return the name of a file as used in error messages."""
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "<file>"


class Clock:
    """Counts the time spent inside its `with` blocks against a limit."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._remaining = limit
        self._deadline = np.inf

    def __enter__(self) -> Clock:
        self._deadline = time.monotonic() + self._remaining
        return self

    def __exit__(self, *_: object) -> None:
        self._remaining = self._deadline - time.monotonic()

    @property
    def expired(self) -> bool:
        """Whether the limit has passed; meaningful inside a `with` block."""
        return time.monotonic() > self._deadline


class LimitedFile:
    """An open file that appears to end, for good, when its time is up or reading it fails.

    FFmpeg gets its bytes only from here. So any name is safe (a path with a colon is not taken for
    a URL), and a demuxer that reads in circles reaches an end. Nothing is raised into FFmpeg,
    because PyAV would print exceptions that it cannot pass on: `error` keeps them.
    """

    def __init__(self, file: BinaryIO | io.FileIO, name: str, clock: Clock) -> None:
        self.name = name  # the suffix helps FFmpeg recognise the format
        self._file = file
        self._clock = clock
        self.error: Exception | None = None  # why reading or seeking failed

    def read(self, size: int = -1, /) -> bytes:
        """Read the next bytes, or none once the time is up."""
        if self._clock.expired or self.error is not None:
            return b""  # for good: FFmpeg crashes on data after an end
        try:
            data = bytes(self._file.read(size) or b"")
        except Exception as error:  # from the disk, or whatever backs the file object
            self.error = error
            return b""
        if len(data) > size >= 0:  # more than FFmpeg has room for
            self.error = OSError(errno.EIO, f"read({size}) returned {len(data)} bytes")
            return b""
        return data

    def seek(self, position: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to a position and return it, or -1 if that fails, which FFmpeg expects."""
        if self.error is not None:
            return -1
        try:
            return self._file.seek(position, whence)
        except Exception as error:
            # A damaged header may point before the file; anything else is a failure.
            if not isinstance(error, ValueError) and getattr(error, "errno", None) != errno.EINVAL:
                self.error = error
            return -1

    def tell(self) -> int:
        """Return the current position."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Return True: the file is always seekable."""
        return True


def failure_reason(error: BaseException) -> str:
    """Return FFmpeg's or the system's reason in a few words, without error numbers and names."""
    if isinstance(error, av.error.InvalidDataError):
        return "damaged data"
    if isinstance(error, av.error.UndefinedError):
        return "FFmpeg gives no reason"
    reason = reason_of(error)
    return reason[:1].lower() + reason[1:]
