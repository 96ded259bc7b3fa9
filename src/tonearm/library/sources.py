"""Recordings wherever they lie: below local folders, or in any store that fsspec reaches."""

from __future__ import annotations

import os
import posixpath
import tempfile
import time
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tonearm.errors import MissingExtraError, TonearmError, UsageError
from tonearm.library.analysis import Task
from tonearm.media import is_recording, recordings
from tonearm.text import printable

ATTEMPTS = 3  # at anything that goes through a network
_PAUSE_SECONDS = 2.0  # before the second attempt; doubled before the third

Result = TypeVar("Result")


def is_remote(path: str) -> bool:
    """Whether a path is an address (``s3://bucket/music``), not a place in the file system."""
    return "://" in path


def absolute(path: str) -> str:
    """Return a path so that it means the same wherever a process is started."""
    return path if is_remote(path) else os.path.abspath(path)  # noqa: PTH100 (keeps links)


def outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """Return local paths, absolute, each once and without those that are met in another's walk.

    Raises
    ------
    TonearmError
        If one is not there.
    UsageError
        If one is an address.
    """
    named: dict[str, None] = {}
    for path in paths:
        if not os.path.exists(path):  # noqa: PTH110
            if is_remote(path):
                raise UsageError(f"{printable(path)}: addresses need --engine ray")
            raise TonearmError(f"no such file or folder: {printable(path)}")
        named[os.path.abspath(path)] = None  # noqa: PTH100 (keeps links)
    return tuple(path for path in named if not _is_met(path, named))


def _is_met(path: str, named: Container[str]) -> bool:
    """Whether `media.recordings` of a named folder above a path leads to it."""
    while _is_walked(path):
        folder = os.path.dirname(path)  # noqa: PTH120
        if folder == path:  # the root
            return False
        if folder in named:
            return True
        path = folder
    return False


def _is_walked(path: str) -> bool:
    """Whether a walk through the folder of a path takes it for a recording, or goes into it."""
    name = os.path.basename(path)  # noqa: PTH119
    if os.path.isdir(path):  # noqa: PTH112
        return not name.startswith(".") and not os.path.islink(path)  # noqa: PTH114
    return is_recording(name)


def tasks(
    sources: Iterable[str], unreadable: Callable[[OSError], object] | None = None
) -> Iterator[Task]:
    """Yield the recordings meant by some folders, files and addresses, sorted within each folder.

    Local ones come first, and each once, however many of the sources it is in.
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
    TonearmError
        If a source is not there.
    UsageError
        If nobody knows its protocol.
    """
    named = dict.fromkeys(sources)
    local = outermost(source for source in named if not is_remote(source))
    yield from map(Task.of, recordings(local, unreadable))
    for address in filter(is_remote, named):
        yield from _at(address)


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
        raise TonearmError(f"nothing there: {printable(address)}")
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
