"""Replace files atomically: at any moment either the old or the new file is there, in full."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from tonearm.atomic import copy_owner
from tonearm.errors import reason_of
from tonearm.library.tags import TagError

# Draft names are hidden, so that nothing walking a library takes a draft for music, and short,
# whatever the length of the name they replace.
PREFIX = ".tonearm-"
LONGEST_SUFFIX = 8  # bytes, with the dot: drafts keep the suffix, which identifies the format
LEFT_OVER_SECONDS = 3600.0  # no file takes an hour to write: the process of an older draft is dead
# Matches only drafts, including those of `tonearm.atomic`: a user may well call a store or a
# journal `.tonearm-library.db`.
_DRAFT = re.compile(
    rb"%b[0-9a-f]{16}(\.[^.]{1,%d})?" % (re.escape(PREFIX.encode()), LONGEST_SUFFIX - 1), re.DOTALL
)


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
    suffix = target.suffix if len(os.fsencode(target.suffix)) <= LONGEST_SUFFIX else ""
    path = target.with_name(PREFIX + token_hex(8) + suffix)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        yield path
    finally:
        path.unlink(missing_ok=True)


def prepare(path: Path, target: Path) -> None:
    """Copy the target's owner, permissions, times and attributes to a finished draft, and sync."""
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


def remove_leftovers(folder: Path) -> None:
    """Remove the drafts that killed processes left in a folder."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            is_draft = _DRAFT.fullmatch(os.fsencode(entry.name)) is not None
            if is_draft and _age(entry) > LEFT_OVER_SECONDS:
                Path(entry.path).unlink(missing_ok=True)


def _age(entry: os.DirEntry[str]) -> float:
    # Not the modification time: a prepared draft has its target's.
    return time.time() - entry.stat(follow_symlinks=False).st_ctime
