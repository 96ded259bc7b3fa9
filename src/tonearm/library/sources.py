"""Recordings in local folders, or in any file system or object store that fsspec supports."""

from __future__ import annotations

import os
import posixpath
import tempfile
import time
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tonearm.errors import TonearmError, UsageError
from tonearm.extras import needs
from tonearm.library.analysis import Task
from tonearm.library.path_conditions import stored_path
from tonearm.media import is_hidden_folder, is_recording, recordings

ATTEMPTS = 3  # of any operation over a network
_PAUSE_SECONDS = 2.0  # before the second attempt; doubled before the third

Result = TypeVar("Result")


def is_remote(path: str) -> bool:
    """Check whether a path is a URL (``s3://bucket/music``), not a local path."""
    return "://" in path


def absolute_or_url(path: str) -> str:
    """Return a URL unchanged, and another path as a store has it."""
    return path if is_remote(path) else stored_path(path)


def deduplicate_paths(paths: Iterable[str]) -> tuple[str, ...]:
    """Return local paths, absolute, each once and without those that a walk of another reaches.

    Raises
    ------
    TonearmError
        If one does not exist.
    UsageError
        If one is a URL.
    """
    absolute_paths: dict[str, None] = {}
    for path in paths:
        if not os.path.exists(path):  # noqa: PTH110
            if is_remote(path):
                raise UsageError(f"{path}: addresses need --engine ray")
            raise TonearmError(f"no such file or folder: {path}")
        absolute_paths[stored_path(path)] = None
    return tuple(path for path in absolute_paths if not _is_covered(path, absolute_paths))


def _is_covered(path: str, named: Container[str]) -> bool:
    """Check whether `media.recordings` of one of the folders above a path reaches it."""
    while _is_walked(path):
        folder = os.path.dirname(path)  # noqa: PTH120
        if folder == path:  # the root
            return False
        if folder in named:
            return True
        path = folder
    return False


def _is_walked(path: str) -> bool:
    """Check whether a walk of the folder of a path yields it as a recording, or enters it."""
    name = os.path.basename(path)  # noqa: PTH119
    if os.path.isdir(path):  # noqa: PTH112
        return not is_hidden_folder(name) and not os.path.islink(path)  # noqa: PTH114
    return is_recording(name)


def tasks(
    sources: Iterable[str], unreadable: Callable[[OSError], object] | None = None
) -> Iterator[Task]:
    """Yield the recordings in some folders, files and URLs, sorted within each folder.

    Local ones come first, each only once, even if several sources contain it. Remote ones are
    selected by the rules of `media.recordings`; their modification time is not requested.

    Parameters
    ----------
    sources
        As a user enters them.
    unreadable
        Called with the error for each local folder that cannot be read; by default such folders
        count as empty.

    Raises
    ------
    TonearmError
        If a source does not exist.
    UsageError
        If the protocol of a URL is unknown.
    """
    named = dict.fromkeys(sources)
    local = deduplicate_paths(source for source in named if not is_remote(source))
    yield from map(Task.of, recordings(local, unreadable))
    for address in filter(is_remote, named):
        yield from _tasks_at(address)


def open_folder(path: str) -> tuple[Any, str]:
    """Return the fsspec file system of a folder or file, and its path in that file system.

    Raises
    ------
    MissingExtraError
        If fsspec is not installed.
    UsageError
        If fsspec does not know the protocol, or the package for it is not installed.
    """
    with needs("cluster"):
        from fsspec.core import url_to_fs
    try:
        filesystem, root = url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())}") from error
    return filesystem, str(root)


@contextmanager
def local_copy(path: str) -> Iterator[str]:
    """Yield a recording's local path; a remote one is downloaded, and removed afterwards.

    Raises
    ------
    OSError
        If it cannot be fetched in three attempts.
    """
    if not is_remote(path):
        yield path
        return
    filesystem, remote_path = open_folder(path)
    with tempfile.TemporaryDirectory(prefix="tonearm-") as folder:
        copy = Path(folder, "recording").with_suffix(posixpath.splitext(remote_path)[1])
        with_retries(lambda: filesystem.get_file(remote_path, str(copy)))
        yield str(copy)


def with_retries(call: Callable[[], Result]) -> Result:
    """Call a function up to three times if it raises OSError; the last error is raised."""
    for attempt in range(ATTEMPTS - 1):
        try:
            return call()
        except FileNotFoundError:
            raise
        except OSError:
            time.sleep(_PAUSE_SECONDS * 2**attempt)
    return call()


def _tasks_at(address: str) -> Iterator[Task]:
    filesystem, root = open_folder(address)
    if not with_retries(lambda: filesystem.exists(root)):
        raise TonearmError(f"nothing there: {address}")
    if with_retries(lambda: filesystem.isfile(root)):
        yield Task(address, int(filesystem.size(root) or 0), -1)
        return
    # By default, folders that cannot be listed would be silently skipped.
    for _, folders, files in filesystem.walk(root, detail=True, on_error="raise"):
        for name in list(filter(is_hidden_folder, folders)):
            del folders[name]
        for name in sorted(filter(is_recording, files)):
            found = files[name]
            yield Task(filesystem.unstrip_protocol(found["name"]), int(found["size"] or 0), -1)
