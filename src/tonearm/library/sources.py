"""Recordings in local folders, or in any file system or object store that fsspec supports."""

from __future__ import annotations

import errno
import os
import posixpath
import tempfile
import time
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tonearm.errors import TonearmError, UsageError, reason_of
from tonearm.extras import needs
from tonearm.library.analysis import Task
from tonearm.library.path_conditions import stored_path
from tonearm.media import is_hidden_folder, is_recording, recordings

ATTEMPTS = 3  # of any operation over a network
_PAUSE_SECONDS = 2.0  # before the second attempt; doubled before the third

# Answers that do not change by waiting. Clients of stores raise them without number or name.
_LASTING = {
    FileNotFoundError: errno.ENOENT,
    FileExistsError: errno.EEXIST,
    PermissionError: errno.EACCES,
}

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
        Called with the error, which names the folder, for each local folder that cannot be read,
        and each remote one that is not found or only in part; by default they count as empty.

    Raises
    ------
    TonearmError
        If a source does not exist.
    UsageError
        If the protocol of a URL is unknown.
    OSError
        If a remote folder cannot be listed in three attempts.
    """
    unreadable = unreadable or (lambda error: None)
    named = dict.fromkeys(sources)
    local = deduplicate_paths(source for source in named if not is_remote(source))
    yield from map(Task.of, recordings(local, unreadable))
    for address in filter(is_remote, named):
        yield from _tasks_at(address, unreadable)


def open_folder(path: str) -> tuple[Any, str]:
    """Return the fsspec file system of a folder or file, and its path in that file system.

    Raises
    ------
    MissingExtraError
        If fsspec is not installed.
    UsageError
        If fsspec does not know the protocol, or the package for it is not installed.
    OSError
        If there is no connection.
    """
    with needs("cluster"):
        from fsspec import get_filesystem_class
    try:
        # Not fsspec's `url_to_fs`, which takes a name with "::" in it for several addresses.
        kind = get_filesystem_class(path.partition("://")[0] if is_remote(path) else "file")
        return kind(**kind._get_kwargs_from_urls(path)), str(kind._strip_protocol(path))
    except (ImportError, ValueError) as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())}") from error
    except Exception as error:
        raise _named(error, path) from error


@contextmanager
def download_folder(path: str) -> Iterator[Path | None]:
    """Yield a temporary folder for the copy of a recording if it is remote, and None if not."""
    if not is_remote(path):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="tonearm-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def local_copy(path: str, folder: Path | None) -> str:
    """Return a recording's local path; a remote one is downloaded to its `download_folder`.

    Raises
    ------
    OSError
        If it cannot be fetched in three attempts.
    """
    if folder is None:
        return path
    filesystem, remote_path = open_folder(path)
    copy = (folder / "recording").with_suffix(posixpath.splitext(remote_path)[1])
    with_retries(lambda: filesystem.get_file(remote_path, str(copy)), path)
    return str(copy)


def with_retries(call: Callable[[], Result], path: str) -> Result:
    """Call a function of a file system up to three times, until it succeeds.

    Raises
    ------
    OSError
        The last error, of whatever kind it was; it names the path, or the file that it named where
        the path is local. That something is missing, exists already or is forbidden is raised at
        once.
    """
    attempt = 1
    while True:
        try:
            return call()
        except Exception as error:  # clients of stores raise errors of many kinds
            if attempt == ATTEMPTS or isinstance(error, tuple(_LASTING)):
                raise _named(error, path) from error
        time.sleep(_PAUSE_SECONDS * 2 ** (attempt - 1))
        attempt += 1


def _named(error: Exception, path: str) -> OSError:
    number = getattr(error, "errno", None) or next(
        (number for kind, number in _LASTING.items() if isinstance(error, kind)), errno.EIO
    )
    # All that fsspec itself says is often the path.
    reason = os.strerror(number) if error.args and str(error) in path else reason_of(error)
    # Clients name files in their own ways, if at all.
    named = None if is_remote(path) else getattr(error, "filename", None)
    return OSError(number, reason, named or path)


def _tasks_at(address: str, unreadable: Callable[[OSError], object]) -> Iterator[Task]:
    filesystem, root = open_folder(address)
    try:
        found = with_retries(lambda: filesystem.info(root), address)
    except FileNotFoundError:
        raise TonearmError(f"nothing there: {address}") from None
    if found["type"] == "file":
        yield Task(address, int(found["size"] or 0), -1)
        return
    folders = [root]
    while folders:
        files, subfolders = _listed(filesystem, folders.pop(), unreadable)
        for file in files:
            yield Task(filesystem.unstrip_protocol(file["name"]), int(file["size"] or 0), -1)
        folders += reversed(subfolders)


def _listed(
    filesystem: Any, folder: str, unreadable: Callable[[OSError], object]
) -> tuple[list[Any], list[str]]:
    """Return the recordings in a remote folder, and its folders that are not hidden, both sorted.

    fsspec's `walk` tries only once, and with most stores it remembers everything that it listed.
    """
    address = filesystem.unstrip_protocol(folder)
    try:
        found = with_retries(lambda: filesystem.ls(folder, detail=True), address)
    except FileNotFoundError as error:  # removed meanwhile, or a name that the client misreads
        unreadable(error)
        return [], []
    filesystem.invalidate_cache(folder)
    files: dict[str, Any] = {}
    subfolders: dict[str, Any] = {}
    for item in found:
        path = item["name"].rstrip("/")
        is_folder = item["type"] == "directory"
        if path != folder.rstrip("/"):
            (subfolders if is_folder else files)[posixpath.basename(path)] = item
        elif is_folder:  # in an object store, where a name between slashes may be empty
            reason = "what follows // in it cannot be listed"
            unreadable(OSError(errno.EINVAL, reason, address))
    visible = sorted(name for name in subfolders if not is_hidden_folder(name))
    return (
        [files[name] for name in sorted(filter(is_recording, files))],
        [subfolders[name]["name"].rstrip("/") for name in visible],
    )
