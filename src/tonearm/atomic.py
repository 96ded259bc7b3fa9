"""Write files that appear complete or not at all."""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO

from tonearm.csvrows import csv_writer
from tonearm.errors import TonearmError, reason_of

_NO_FOLDER = "a file is where its folder should be"
# Draft names are hidden, so that nothing takes a draft for a file of its kind, and short, whatever
# the length of the name they replace.
_PREFIX, _SUFFIX = ".tonearm-", ".partial"
LONGEST_SUFFIX = 8  # bytes, with the dot
DRAFTS = f"{_PREFIX}*{_SUFFIX}"  # glob pattern for the files that `atomic_write` has not completed
# No file takes a day to write: the process of an older draft is dead. The clock of a network drive
# may be hours off.
LEFT_OVER_SECONDS = 24 * 3600.0
# Matches only drafts: a user may well call a store or a journal `.tonearm-library.db`.
_DRAFT = re.compile(
    rb"%b[0-9a-f]{16}(\.[^.]{1,%d})?" % (re.escape(_PREFIX.encode()), LONGEST_SUFFIX - 1), re.DOTALL
)


@contextmanager
def atomic_write(path: str | os.PathLike[str], *, replaces: bool = True) -> Iterator[IO[bytes]]:
    """Yield a file to write to, which replaces the one at `path` when the block succeeds.

    Until the new file is complete on disk, whatever was there before stays in place. The new file
    gets the old one's permissions and, if allowed, its owner. A pipe or a device is written to
    directly. Missing folders are created.

    Parameters
    ----------
    replaces
        Whether to replace an existing file. If not, the first of several concurrent writers wins,
        except on drives that do not support links, where the last one does.

    Raises
    ------
    FileExistsError
        If a file exists and is not to be replaced.
    OSError
        If it cannot be written.
    """
    state = _state(path)
    if state is not None and not stat.S_ISREG(state.st_mode):
        # As given: a pipe at /dev/stdout has no real path.
        with errors_naming(path), Path(path).open("wb") as file:
            yield file
        return
    target = Path(os.path.realpath(path))  # write through a link rather than replace it
    with _draft(target) as draft, errors_naming(path, draft):
        with draft.open("wb") as file:
            if state is not None:
                _copy_owner_and_mode(draft, state)
            yield file
            file.flush()
            os.fsync(file.fileno())
        if replaces or not _hard_link(draft, target):
            draft.replace(target)


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the path of a draft, which replaces the file at `path` when the block succeeds.

    Like `atomic_write`, but for libraries that write to a path. The draft can be read back and
    checked before it is put in place. It has no suffix, so that what a killed process leaves behind
    is never mistaken for the file. Missing folders are created. A pipe or a device is refused.

    Raises
    ------
    OSError
        If the folder cannot be made, or the draft cannot replace the file.
    """
    state = _state(path)
    if state is not None and not stat.S_ISREG(state.st_mode):
        raise OSError(errno.EEXIST, "not a file that can be replaced", os.fspath(path))
    target = Path(os.path.realpath(path))  # write through a link rather than replace it
    with _draft(target) as draft, errors_naming(path, draft):
        yield draft
        with draft.open("r+b") as file:
            if state is not None:
                _copy_owner_and_mode(draft, state)
            os.fsync(file.fileno())
        draft.replace(target)


def write_csv(path: str | os.PathLike[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a table, header first, with `write_text`; raise what that raises."""
    table = io.StringIO()
    csv_writer(table).writerows(rows)
    write_text(path, table.getvalue())


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a file of UTF-8, as `atomic_write` does.

    Raises
    ------
    TonearmError
        If it cannot be written, or a name in it is not UTF-8.
    """
    try:
        with atomic_write(path) as file:
            file.write(text.encode())
    except UnicodeEncodeError as error:
        around = text[max(0, error.start - 40) : error.end + 20]
        raise TonearmError(f"{os.fspath(path)}: not UTF-8: {around}") from error
    except OSError as error:
        reason = _NO_FOLDER if isinstance(error, NotADirectoryError) else reason_of(error)
        raise TonearmError(f"{os.fspath(path)}: {reason}") from error


def require_writable_folder(folder: str | os.PathLike[str]) -> None:
    """Refuse a folder that files cannot be written to, before work is done that would be lost.

    It need not be there, as it is made with the first file.

    Raises
    ------
    TonearmError
        If it cannot be made, or nothing can be written in it.
    """
    path = Path(os.path.realpath(folder))
    try:
        ancestor = next(filter(Path.exists, (path, *path.parents)), None)
    except OSError as error:  # before Python 3.14, as in a folder that may not be entered
        raise TonearmError(f"{os.fspath(folder)}: {reason_of(error)}") from error
    if ancestor is None:  # on Windows, the drive may be missing
        raise TonearmError(f"{os.fspath(folder)}: {os.strerror(errno.ENOENT)}")
    if not ancestor.is_dir():
        raise TonearmError(f"{os.fspath(folder)}: {_NO_FOLDER}")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise TonearmError(f"{os.fspath(folder)}: {os.strerror(errno.EACCES)}")


@contextmanager
def errors_naming(
    path: str | os.PathLike[str], draft: str | os.PathLike[str] | None = None
) -> Iterator[None]:
    """Make each OSError of the block that names a draft, or no file at all, name another file.

    An error in writing to an open file names none.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename not in (None, draft and os.fspath(draft)):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def copy_owner(path: Path, state: os.stat_result) -> None:
    """Set a file's owner and group to another's, or only the group, as far as that is allowed.

    This clears some permission bits, so the mode must be set afterwards.
    """
    now = path.stat()
    if (now.st_uid, now.st_gid) == (state.st_uid, state.st_gid):
        return
    try:
        os.chown(path, state.st_uid, state.st_gid)
    except PermissionError:  # only the superuser can change the owner
        with suppress(PermissionError):  # others can set the group to one of their own
            os.chown(path, -1, state.st_gid)


def _state(path: str | os.PathLike[str]) -> os.stat_result | None:
    """Return the state of what is at a path, or None if nothing is there."""
    try:
        return Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):  # making the draft says what is wrong
        return None


def _copy_owner_and_mode(draft: Path, state: os.stat_result) -> None:
    """Give a draft the owner and permissions of the file it replaces."""
    copy_owner(draft, state)
    draft.chmod(stat.S_IMODE(state.st_mode))


def _hard_link(draft: Path, target: Path) -> bool:
    """Hard-link a draft to its final name, and return whether the drive supports that.

    Raises
    ------
    FileExistsError
        If the name is taken.
    """
    try:
        os.link(draft, target)
    except FileExistsError:
        raise
    except OSError:
        return False
    return True


@contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """Yield a path for a draft, which is removed at the end unless moved into place."""
    make_folder(target.parent)
    _tidy(target.parent)
    draft = draft_path(target, _SUFFIX)
    try:
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder that a file is to be written to, and those above it, unless it is there.

    Raises
    ------
    OSError
        If it cannot be made; a NotADirectoryError that says so if a file is in its place.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # which would sound as if the file itself were there already
        raise NotADirectoryError(errno.ENOTDIR, _NO_FOLDER, error.filename) from error


def draft_path(target: Path, suffix: str) -> Path:
    """Return an unused path beside a target.

    Parameters
    ----------
    suffix
        At most `LONGEST_SUFFIX` bytes.
    """
    # By chance: on a network drive another machine's process may have the same number.
    return target.with_name(f"{_PREFIX}{os.urandom(8).hex()}{suffix}")


@cache
def _tidy(folder: Path) -> None:
    """Do `remove_leftovers`, once in each process: some folders get thousands of files."""
    remove_leftovers(folder)


def remove_leftovers(folder: Path) -> None:
    """Remove the drafts that killed processes left in a folder."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            is_draft = _DRAFT.fullmatch(os.fsencode(entry.name)) is not None
            if is_draft and _age(entry) > LEFT_OVER_SECONDS:
                Path(entry.path).unlink(missing_ok=True)


def _age(entry: os.DirEntry[str]) -> float:
    # Not the modification time: a draft that is about to replace a file may have that file's.
    return time.time() - entry.stat(follow_symlinks=False).st_ctime
