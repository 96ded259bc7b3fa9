"""Replace files atomically: at any moment either the old or the new file is there, in full."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tonearm.atomic import LONGEST_SUFFIX, copy_owner, draft_path
from tonearm.errors import reason_of
from tonearm.library.tags import TagError


def replaceable(path: str | os.PathLike[str]) -> tuple[Path, os.stat_result]:
    """Return the file that a path resolves to through all links, and its current state.

    Raises
    ------
    TagError
        If it is missing, not a regular file, read-only, in a read-only folder, or has several hard
        links, which a replacement would separate.
    """
    target = Path(os.path.realpath(path))
    try:
        state = target.stat()
    except OSError as error:
        raise TagError(path, reason_of(error)) from error
    if not stat.S_ISREG(state.st_mode):
        raise TagError(path, "not a file")
    if not state.st_mode & 0o222 or not os.access(target, os.W_OK):
        raise TagError(path, "read-only")
    if not os.access(target.parent, os.W_OK | os.X_OK):  # where the draft is made and renamed
        raise TagError(path, "its folder is read-only")
    if state.st_nlink > 1:
        raise TagError(path, f"has {state.st_nlink} hard links, and writing would part them")
    return target, state


@contextmanager
def draft(target: Path) -> Iterator[Path]:
    """Yield a new empty file beside the target, removed at the end unless moved into place."""
    # The suffix identifies the format.
    suffix = target.suffix if len(os.fsencode(target.suffix)) <= LONGEST_SUFFIX else ""
    path = draft_path(target, suffix)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        yield path
    finally:
        path.unlink(missing_ok=True)


def prepare(path: Path, target: Path) -> None:
    """Copy the target's owner, permissions, times and attributes to a finished draft, and sync.

    Extended attributes are copied on Linux only.
    """
    copy_owner(path, target.stat())
    # Opened before the mode is copied, which may forbid writing: Windows only syncs files that are
    # open for writing.
    with path.open("r+b") as file:
        shutil.copystat(target, path)
        os.fsync(file.fileno())


def put_in_place(path: Path, target: Path, state: os.stat_result) -> None:
    """Replace a target with its prepared draft.

    Raises
    ------
    TagError
        If the target has changed since `state` was read.
    """
    now = target.stat()
    if (now.st_ino, now.st_size, now.st_mtime_ns) != (
        state.st_ino,
        state.st_size,
        state.st_mtime_ns,
    ):
        raise TagError(target, "changed by another program meanwhile")
    path.replace(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Sync a folder to disk, so that files created or renamed in it survive a crash.

    Failure is ignored: the files themselves are already in place.
    """
    if os.name == "posix":  # folders cannot be opened elsewhere
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def digest(path: str | os.PathLike[str]) -> str:
    """Return a file's SHA-256 digest in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
