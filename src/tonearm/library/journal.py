"""The journal of changes to files, from which every one of them can be restored."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import IO, Any

from tonearm import paths
from tonearm.atomic import make_folder
from tonearm.errors import FileError, TonearmError, reason_of
from tonearm.library.delta import Delta
from tonearm.library.replacement import sync_folder

FORMAT = 1
_NAME = re.compile(r"(\d{8})-(\d{6})-(\d{9})-\d+\.jsonl")  # date, time, nanoseconds, process
LATEST = "latest"
NANOSECONDS = 10**9  # in a second


class JournalError(FileError):
    """A journal cannot be read or written."""


@dataclass(frozen=True)
class JournalEntry:
    """One file that was about to be replaced.

    Attributes
    ----------
    path
        The file, absolute and with links resolved.
    before, after
        SHA-256 of its bytes before and after.
    mtime_ns
        Its modification time before, in nanoseconds since 1970.
    old, new
        The genres in its tags before and after.
    delta
        The bytes before, in terms of the bytes after.
    """

    path: str
    before: str
    after: str
    mtime_ns: int
    old: tuple[str, ...]
    new: tuple[str, ...]
    delta: Delta

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as JSON values."""
        return {**vars(self), "delta": self.delta.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> JournalEntry:
        """Return the entry that `to_dict` described.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is damaged.
        """
        for name in ("path", "before", "after"):
            if not isinstance(values[name], str):
                raise TypeError(f"{name} is no text")
        if b"\0" in os.fsencode(values["path"]):
            raise ValueError("path names no file")
        seconds = values["mtime_ns"] // NANOSECONDS
        if not isinstance(seconds, int) or not -(2**63) <= seconds < 2**63:
            raise ValueError("mtime_ns is no time")
        for name in ("old", "new"):
            genres = values[name]
            if not isinstance(genres, list) or not all(isinstance(each, str) for each in genres):
                raise TypeError(f"{name} is no list of texts")
        return cls(
            path=values["path"],
            before=values["before"],
            after=values["after"],
            mtime_ns=values["mtime_ns"],
            old=tuple(values["old"]),
            new=tuple(values["new"]),
            delta=Delta.from_dict(values["delta"]),
        )


class Journal:
    """A JSON Lines file to which an entry is added before each file is replaced.

    It is created with the first entry. Its first line identifies the format; a truncated last line
    belongs to a file that was not replaced.

    Parameters
    ----------
    path
        Path of the journal; an existing one is continued. By default a new one in `folder`.

    Raises
    ------
    TonearmError
        If no path is given, and the user has no home folder.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path: Path = Path(path) if path is not None else _new_path()
        self._file: IO[bytes] | None = None
        self._is_empty = False  # created by this object, with nothing recorded yet

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def append(self, entry: JournalEntry) -> None:
        """Add an entry and sync it to disk.

        Raises
        ------
        JournalError
            If it cannot be written, or the path holds something other than a journal.
        """
        self._append(entry.to_dict())

    def withdraw(self, entry: JournalEntry) -> None:
        """Note that the last entry's file was not replaced after all; errors as in `append`."""
        self._append({"withdrawn": entry.path})

    def mark_undone(self) -> None:
        """Note that all changes were undone; errors as in `append`."""
        self._append({"undone": _now()})

    def _append(self, record: dict[str, Any]) -> None:
        try:
            if self._file is None:
                self._file = self._open()
            self._file.write(json.dumps(record).encode("ascii") + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self._is_empty = False
        except OSError as error:
            self._discard()
            raise JournalError(self.path, f"no journal: {reason_of(error)}") from error

    def _discard(self) -> None:
        """Close the file, and remove it if nothing was recorded in it."""
        with suppress(OSError):  # writing out the buffer fails once more
            if self._file is not None:
                self._file.close()
        self._file = None
        if self._is_empty:
            self.path.unlink(missing_ok=True)

    def _open(self) -> IO[bytes]:
        make_folder(self.path.parent)
        if self.path.exists() and self.path.stat().st_size:
            next(_records(self.path), None)  # raises if this is not a journal
            file = self.path.open("ab")
            file.write(b"\n\n")  # keeps a truncated last line apart from the next one
            return file
        self._is_empty = not self.path.exists()
        file = self.path.open("ab")
        file.write(json.dumps({"tonearm_journal": FORMAT, "created": _now()}).encode() + b"\n")
        sync_folder(self.path.parent)
        return file


def folder() -> Path:
    """Return the folder of journals that were not given a path."""
    return paths.state_folder("journals")


def find(name: str | os.PathLike[str] = LATEST) -> Path:
    """Return the path of a given journal, or of the latest in `folder` that is not yet undone.

    Raises
    ------
    TonearmError
        If there is none, or the system refuses to look.
    """
    if os.fspath(name) != LATEST:
        path = Path(name)
        try:
            if path.is_file():
                return path
        except OSError as error:  # the system refuses to look
            raise JournalError(path, reason_of(error)) from error
        raise TonearmError(f"no journal {os.fspath(name)}")
    location = folder()
    undone = 0
    for path in sorted(location.glob("*.jsonl"), reverse=True):
        records = _readable_records(path)
        if not any(_not_withdrawn(records)):
            continue
        if not _is_undone(records):
            return path
        undone += 1
    if undone:
        raise TonearmError(f"nothing to undo: every journal in {location} is undone")
    raise TonearmError(f"nothing to undo: no journal in {location}")


def locate(path: Path) -> tuple[list[tuple[str, int]], int]:
    """Return where a journal has its entries, oldest first, without those withdrawn.

    The entries of a large library need not fit in memory together.

    Returns
    -------
    places : list of (str, int)
        The file of each entry, and the entry's position for `entries_at`.
    damaged : int
        The number of entries that cannot be read.

    Raises
    ------
    JournalError
        If the file cannot be read, is not a journal or has another format version.
    """
    records: list[dict[str, Any]] = []
    damaged = 0
    for position, record in _records(path):
        if record is None:
            damaged += 1
        elif "path" in record:
            place = position if _is_whole(record) else None
            records.append({"path": record["path"], "place": place})
        else:
            records.append(record)
    found = [(record["path"], record["place"]) for record in _not_withdrawn(records)]
    places = [(file, place) for file, place in found if place is not None]
    return places, damaged + len(found) - len(places)


def entries_at(path: Path, positions: Iterable[int]) -> list[JournalEntry]:
    """Return the entries of a journal at the given positions, in their order.

    Raises
    ------
    JournalError
        If the file cannot be read any more, or was changed after `locate` read it.
    """
    try:
        with path.open("rb") as file:
            return [_entry_at(file, position) for position in positions]
    except OSError as error:
        raise JournalError(path, reason_of(error)) from error
    except (KeyError, TypeError, ValueError):
        raise JournalError(path, "changed while it was read") from None


def _entry_at(file: IO[bytes], position: int) -> JournalEntry:
    file.seek(position)
    return JournalEntry.from_dict(json.loads(file.readline()))


def _is_whole(record: dict[str, Any]) -> bool:
    try:
        JournalEntry.from_dict(record)
    except (KeyError, TypeError, ValueError):
        return False
    return True


def genre_changes() -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Yield every change in the journals of `folder` that are not undone, the oldest first.

    What cannot be read is left out: it is needed to undo a run, not to know what was written.

    Yields
    ------
    path, old, new
        The file, and the genres in its tags before and after.
    """
    try:
        location = folder()
    except TonearmError:  # without a home folder, none could be written there either
        return
    for path in sorted(location.glob("*.jsonl")):
        records = _readable_records(path)
        if not _is_undone(records):
            for record in _not_withdrawn(records):
                with suppress(KeyError, TypeError):
                    yield record["path"], tuple(record["old"]), tuple(record["new"])


def _is_undone(records: Sequence[dict[str, Any]]) -> bool:
    return bool(records) and "undone" in records[-1]


def _not_withdrawn(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records of files that were replaced, or were about to be."""
    remaining: list[dict[str, Any]] = []
    for record in records:
        if "path" in record:
            remaining.append(record)
        elif "withdrawn" in record and remaining and remaining[-1]["path"] == record["withdrawn"]:
            remaining.pop()
    return remaining


def _readable_records(path: Path) -> list[dict[str, Any]]:
    """Return a journal's records without what it takes to undo them, which is the bulk.

    There are none in what a process left that was killed before its first.
    """
    try:
        return [
            {name: value for name, value in record.items() if name != "delta"}
            for _, record in _records(path)
            if record is not None
        ]
    except JournalError:
        return []


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield the position and the record of each line after the first, None if it is damaged.

    A line that ends the file, or comes before a blank one, was truncated when a process was killed,
    before it replaced the file in question: it is left out.
    """
    try:
        with path.open("rb") as lines:
            first_line = lines.readline()
            _check_first_line(path, first_line)
            position = len(first_line)
            for line, following in pairwise(chain(lines, [b""])):
                record = _record(line)
                if record is not None or (line.strip() and following.strip()):
                    yield position, record
                position += len(line)
    except OSError as error:
        raise JournalError(path, reason_of(error)) from error


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _check_first_line(path: Path, line: bytes) -> None:
    try:
        version = json.loads(line)["tonearm_journal"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise JournalError(path, "not a journal of tonearm tag") from None
    if version != FORMAT:
        raise JournalError(path, f"a journal of format {version}, this version reads {FORMAT}")


def _new_path() -> Path:
    """Return a unique path; sorted by name, such paths are in chronological order.

    The clock may have been set back since the last one: a new path comes after it all the same.
    """
    now = time.time_ns()
    seconds = time.strftime("%Y%m%d%H%M%S", time.gmtime(now // NANOSECONDS))
    names = (_NAME.fullmatch(path.name) for path in folder().glob("*.jsonl"))
    taken = (int("".join(name.groups())) for name in names if name)
    stamp = str(max([int(f"{seconds}{now % NANOSECONDS:09d}"), *(number + 1 for number in taken)]))
    return folder() / f"{stamp[:8]}-{stamp[8:14]}-{stamp[14:]}-{os.getpid()}.jsonl"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
