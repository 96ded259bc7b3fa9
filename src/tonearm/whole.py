"""Write files that appear complete or not at all."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import IO

from tonearm.csvrows import csv_writer
from tonearm.errors import TonearmError
from tonearm.text import printable

_NO_FOLDER = "a file is where its folder should be"
DRAFTS = ".tonearm-*.partial"  # glob pattern for the names of files that are not yet complete


@contextmanager
def whole(path: str | os.PathLike[str], *, replaces: bool = True) -> Iterator[IO[bytes]]:
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
    target = Path(os.path.realpath(path))  # write through a link rather than replace it
    try:
        state = target.stat()
    except (FileNotFoundError, NotADirectoryError):  # making the draft says what is wrong
        state = None
    if state is not None and not stat.S_ISREG(state.st_mode):
        with target.open("wb") as file:
            yield file
        return
    draft = _draft_beside(target)
    try:
        with draft.open("wb") as file:
            if state is not None:
                _open_to_the_same(draft, state)
            yield file
            file.flush()
            os.fsync(file.fileno())
        if replaces or not _linked(draft, target):
            draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def drafted(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the path of a draft, which replaces the file at `path` when the block succeeds.

    As `whole` does it, for those who write to a name; before it is in place, the draft can be read
    back and checked. It has no suffix that anything goes by: whatever ends the process, nobody
    takes what is left of it for the file. Folders above it are made.

    Raises
    ------
    OSError
        If the draft cannot replace the file.
    """
    target = Path(os.path.realpath(path))  # write through a link rather than replace it
    draft = _draft_beside(target)
    try:
        yield draft
        with draft.open("r+b") as file:
            with suppress(FileNotFoundError):
                _open_to_the_same(draft, target.stat())
            os.fsync(file.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def give_owner(path: Path, state: os.stat_result) -> None:
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


def _open_to_the_same(draft: Path, state: os.stat_result) -> None:
    """Give a draft the owner and permissions of the file it replaces."""
    give_owner(draft, state)
    draft.chmod(stat.S_IMODE(state.st_mode))


def _linked(draft: Path, target: Path) -> bool:
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


def _draft_beside(target: Path) -> Path:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # which would sound as if the target were there already
        raise NotADirectoryError(errno.ENOTDIR, _NO_FOLDER, error.filename) from error
    # Not made of the target's name, which may be as long as names can be; and by chance, for on a
    # network drive another machine's process may have the same number.
    return target.with_name(DRAFTS.replace("*", token_hex(8)))


def write_csv(path: str | os.PathLike[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a table, header first, with `write_whole`; raise what that raises."""
    table = io.StringIO()
    csv_writer(table).writerows(rows)
    write_whole(path, table.getvalue())


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write a file of UTF-8, as `whole` does.

    Raises
    ------
    TonearmError
        If it cannot be written.
    """
    try:
        with whole(path) as file:
            file.write(text.encode())
    except OSError as error:
        reason = _NO_FOLDER if isinstance(error, NotADirectoryError) else error.strerror
        raise TonearmError(f"{printable(os.fspath(path))}: {reason or error}") from error


def require_room_for(folder: str | os.PathLike[str]) -> None:
    """Refuse a folder that files cannot be written to, before work is done that would be lost.

    It need not be there, as it is made with the first file.

    Raises
    ------
    TonearmError
        If it cannot be made, or nothing can be written in it.
    """
    place = Path(os.path.realpath(folder))
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise TonearmError(f"{printable(os.fspath(folder))}: {_NO_FOLDER}")
    if not os.access(place, os.W_OK | os.X_OK):
        raise TonearmError(f"{printable(os.fspath(folder))}: {os.strerror(errno.EACCES)}")
