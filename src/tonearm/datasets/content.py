"""Identify files by a hash of their content, stored so that no file is hashed twice."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import sqlite3
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tonearm.atomic import make_folder
from tonearm.errors import TonearmError, reason_of

_WAIT_SECONDS = 60.0  # for another process to finish its write
_WRITE_SECONDS = 1.0  # at least, between two writes
_QUERY_SIZE = 500  # paths in one query; SQLite allows 999 in its oldest versions
_HASH = re.compile("[0-9a-f]{32}")

# Paths are stored as the system's own bytes (`os.fsencode`), since names on Unix need not be UTF-8.
# Earlier versions stored them as text, in the table `content`.
_TABLE = "hashes"


class ContentIndexError(TonearmError):
    """The file of hashes cannot be read or written; deleting it costs only time."""


class Stamp(NamedTuple):
    """A file's identity and state: absolute path, size in bytes, and mtime in nanoseconds."""

    path: str
    size: int
    modified: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """Return the stamp of a file.

        Raises
        ------
        OSError
            If the file cannot be accessed, or is a pipe or the like, which would keep its reader
            waiting.
        """
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", os.fspath(path))
        return cls(os.fspath(path.resolve()), state.st_size, state.st_mtime_ns)


def content_hash(path: Path) -> str:
    """Return 32 hexadecimal digits that are equal only for files with equal content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def stamps(paths: Iterable[Path]) -> tuple[dict[Path, Stamp], dict[Path, str]]:
    """Return the stamp of each file, and a reason for each that cannot be accessed."""
    found: dict[Path, Stamp] = {}
    reasons: dict[Path, str] = {}
    for path in dict.fromkeys(paths):
        try:
            found[path] = Stamp.of(path)
        except OSError as error:
            reasons[path] = reason_of(error)
    return found, reasons


class ContentIndex:
    """The hashes computed so far, in a SQLite file that several processes may use at once.

    Raises
    ------
    OSError
        If its folder cannot be made.
    ContentIndexError
        Here or in any method, if the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        make_folder(path.parent)
        with self._transaction() as database:
            database.execute(
                f"CREATE TABLE IF NOT EXISTS {_TABLE} "
                "(path BLOB PRIMARY KEY, size INTEGER, modified INTEGER, hash TEXT)"
            )

    def known(self, requested: Iterable[Stamp]) -> dict[Stamp, str]:
        """Return the hash of each file that has not changed since it was recorded."""
        requested = list(requested)
        found: dict[Stamp, str] = {}
        with self._transaction() as database:
            for start in range(0, len(requested), _QUERY_SIZE):
                batch = [
                    os.fsencode(stamp.path) for stamp in requested[start : start + _QUERY_SIZE]
                ]
                marks = ", ".join("?" * len(batch))
                query = f"SELECT path, size, modified, hash FROM {_TABLE} WHERE path IN ({marks})"
                for path, size, modified, hash_ in database.execute(query, batch):
                    if isinstance(hash_, str) and _HASH.fullmatch(hash_):  # else it is damaged
                        found[Stamp(os.fsdecode(path), size, modified)] = hash_
        return {stamp: found[stamp] for stamp in requested if stamp in found}

    @contextmanager
    def recording(self) -> Iterator[Callable[[Stamp, str], None]]:
        """Yield a function that stores the content hash of a file as it was at a stamp.

        What it is given is written every second and at the end: to wait for the disk after each
        file could take longer than to read it.
        """
        pending: dict[Stamp, str] = {}
        written = time.monotonic()

        def record(stamp: Stamp, hash_: str) -> None:
            nonlocal written
            pending[stamp] = hash_
            if time.monotonic() - written >= _WRITE_SECONDS:
                self._write(pending)
                pending.clear()
                written = time.monotonic()

        try:
            yield record
        finally:
            if pending:
                self._write(pending)

    def hashes(self, paths: Iterable[Path]) -> dict[Path, str]:
        """Return the content hash of every readable file, computing only what is not known."""
        found, _ = stamps(paths)
        known = self.known(found.values())
        with self.recording() as record:
            for path, stamp in found.items():
                if stamp not in known:
                    with suppress(OSError):
                        known[stamp] = content_hash(path)
                        record(stamp, known[stamp])
        return {path: known[stamp] for path, stamp in found.items() if stamp in known}

    def _write(self, hashes: Mapping[Stamp, str]) -> None:
        rows = [
            (os.fsencode(stamp.path), stamp.size, stamp.modified, hash_)
            for stamp, hash_ in hashes.items()
        ]
        with self._transaction() as database:
            database.executemany(f"INSERT OR REPLACE INTO {_TABLE} VALUES (?, ?, ?, ?)", rows)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        # One connection per transaction: they cannot be shared by threads or processes.
        try:
            connection = sqlite3.connect(self._path, timeout=_WAIT_SECONDS)
            with closing(connection), connection:
                yield connection
        except sqlite3.Error as error:
            raise ContentIndexError(f"{self._path}: {error} (it may be deleted)") from error
