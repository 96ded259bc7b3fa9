"""Recordings wherever they lie: below local folders, or in any store that fsspec reaches."""

from __future__ import annotations

import posixpath
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tonearm.audio import printable
from tonearm.errors import MissingExtraError, UsageError
from tonearm.library.listener import Task
from tonearm.media import is_recording, recordings

ATTEMPTS = 3  # at anything that goes through a network
_PAUSE_SECONDS = 2.0  # before the second attempt; doubled before the third

Result = TypeVar("Result")


def is_remote(path: str) -> bool:
    """Whether a path is an address (``s3://bucket/music``), not a place in the file system."""
    return "://" in path


def absolute(path: str) -> str:
    """Return a path so that it means the same wherever a process is started."""
    return path if is_remote(path) else str(Path(path).absolute())


def tasks(
    sources: Iterable[str], unreadable: Callable[[OSError], object] | None = None
) -> Iterator[Task]:
    """Yield the recordings meant by some folders, files and addresses, sorted within each folder.

    What is found at an address follows the rules of `media.recordings`. Its time of modification
    is not asked for.

    Parameters
    ----------
    sources
        As a person names them.
    unreadable
        Is told of local folders that cannot be read; by default they count as empty.

    Raises
    ------
    UsageError
        If a source is not there, or nobody knows its protocol.
    """
    for source in sources:
        if is_remote(source):
            yield from _at(source)
        elif not Path(source).exists():
            raise UsageError(f"no such file or folder: {printable(source)}")
        else:
            yield from map(Task.of, recordings([absolute(source)], unreadable))


def open_folder(path: str) -> tuple[Any, str]:
    """Return the fsspec file system a folder or file lies in, and the path it has there.

    Raises
    ------
    MissingExtraError
        If fsspec is not installed.
    UsageError
        If it does not know the protocol, or lacks the package for it.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise MissingExtraError("fsspec", "cluster") from None
    try:
        system, place = url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{printable(path)}: {' '.join(str(error).split())}") from error
    return system, str(place)


@contextmanager
def at_hand(path: str) -> Iterator[str]:
    """Give a recording's local path; what lies elsewhere is fetched, and removed afterwards.

    Raises
    ------
    OSError
        If it cannot be fetched in three attempts.
    """
    if not is_remote(path):
        yield path
        return
    system, place = open_folder(path)
    with tempfile.TemporaryDirectory(prefix="tonearm-") as folder:
        copy = Path(folder, "recording").with_suffix(posixpath.splitext(place)[1])
        persistently(lambda: system.get_file(place, str(copy)))
        yield str(copy)


def persistently(call: Callable[[], Result]) -> Result:
    """Call something up to three times, as long as it raises OSError; the last one is raised."""
    for attempt in range(ATTEMPTS - 1):
        try:
            return call()
        except FileNotFoundError:
            raise
        except OSError:
            time.sleep(_PAUSE_SECONDS * 2**attempt)
    return call()


def _at(address: str) -> Iterator[Task]:
    system, root = open_folder(address)
    if not persistently(lambda: system.exists(root)):
        raise UsageError(f"nothing there: {printable(address)}")
    if persistently(lambda: system.isfile(root)):
        yield Task(address, int(system.size(root) or 0), -1)
        return
    # By default, what cannot be listed would be passed over in silence.
    for _, folders, files in system.walk(root, detail=True, on_error="raise"):
        for name in [name for name in folders if name.startswith(".")]:
            del folders[name]
        for name in sorted(filter(is_recording, files)):
            found = files[name]
            yield Task(system.unstrip_protocol(found["name"]), int(found["size"] or 0), -1)
