"""Files put in the place of others in one step: at any moment there is the old or the new one."""

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

from tonearm.library.tags import TagError
from tonearm.whole import give_owner

# Hidden, so nothing that walks a library takes one for music; and short, whatever it replaces.
PREFIX = ".tonearm-"
LONGEST_SUFFIX = 8  # bytes, with the dot: by its suffix a file's kind is recognised
LEFT_OVER_SECONDS = 3600.0  # no file takes an hour to write: its process is dead
# The names of drafts alone, also of those of `tonearm.whole`: a user may well call a store or a
# journal `.tonearm-library.db`.
_DRAFT = re.compile(
    rb"%b[0-9a-f]{16}(\.[^.]{1,%d})?" % (re.escape(PREFIX.encode()), LONGEST_SUFFIX - 1), re.DOTALL
)


def replaceable(path: str | os.PathLike[str]) -> tuple[Path, os.stat_result]:
    """Return the file itself, behind all links, and its state now.

    Raises
    ------
    TagError
        If it is not there, no regular file, read-only or in a folder that is, or has several hard
        links, which a replacement would part.
    """
    target = Path(os.path.realpath(path))
    try:
        state = target.stat()
    except OSError as error:
        raise TagError(path, error.strerror or str(error)) from error
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
    """Make an empty file beside another, to be filled and put in its place; else it goes away."""
    suffix = target.suffix if len(os.fsencode(target.suffix)) <= LONGEST_SUFFIX else ""
    path = target.with_name(PREFIX + token_hex(8) + suffix)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        yield path
    finally:
        path.unlink(missing_ok=True)


def prepare(path: Path, target: Path) -> None:
    """Give a finished draft the owner, permissions, times and attributes of its target, on disk."""
    give_owner(path, target.stat())
    # Windows brings to the disk only what is open for writing, which the target's mode may forbid.
    with path.open("r+b") as file:
        shutil.copystat(target, path)
        os.fsync(file.fileno())


def put_in_place(path: Path, target: Path, state: os.stat_result) -> None:
    """Replace a target by its prepared draft.

    Raises
    ------
    TagError
        If the target is no more in the state it was found in.
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
    """Get what was created or renamed in a folder onto the disk."""
    if os.name == "posix":  # elsewhere folders cannot be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def digest(path: str | os.PathLike[str]) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_leftovers(folder: Path) -> None:
    """Remove the drafts that a killed process left in a folder."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            is_draft = _DRAFT.fullmatch(os.fsencode(entry.name)) is not None
            if is_draft and _age(entry) > LEFT_OVER_SECONDS:
                Path(entry.path).unlink(missing_ok=True)


def _age(entry: os.DirEntry[str]) -> float:
    # The time of modification is the target's own in a prepared draft.
    return time.time() - entry.stat(follow_symlinks=False).st_ctime
