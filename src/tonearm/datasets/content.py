"""Identifies files by their content, and remembers it so that no file is read for it twice."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from tonearm.errors import TonearmError

_WAIT_SECONDS = 60.0  # for another process to finish its write
_QUERY_SIZE = 500  # paths in one query; SQLite allows 999 in its oldest versions

# Paths are the system's own bytes (`os.fsencode`), since names on Unix need not be UTF-8. The table
# `content` of earlier versions had them as text.
_TABLE = "hashes"


class ContentIndexError(TonearmError):
    """The file of hashes cannot be read or written; it may be deleted at no loss but time."""


class Stamp(NamedTuple):
    """What changes when a file does: its absolute path, size in bytes and time in nanoseconds."""

    path: str
    size: int
    modified: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """Look at a file.

        Raises
        ------
        OSError
            It is not there.
        """
        state = path.stat()
        return cls(os.fspath(path.resolve()), state.st_size, state.st_mtime_ns)


def content_hash(path: Path) -> str:
    """Give 32 hexadecimal digits that are equal for files of equal content alone."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


class ContentIndex:
    """The hashes found so far, in a SQLite file that several processes may use at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._transaction() as database:
            database.execute(
                f"CREATE TABLE IF NOT EXISTS {_TABLE} "
                "(path BLOB PRIMARY KEY, size INTEGER, modified INTEGER, hash TEXT)"
            )

    def known(self, stamps: Iterable[Stamp]) -> dict[Stamp, str]:
        """Give the hash of each file that has not changed since it was recorded."""
        wanted = list(stamps)
        found: dict[Stamp, str] = {}
        with self._transaction() as database:
            for first in range(0, len(wanted), _QUERY_SIZE):
                part = [os.fsencode(stamp.path) for stamp in wanted[first : first + _QUERY_SIZE]]
                places = ", ".join("?" * len(part))
                query = f"SELECT path, size, modified, hash FROM {_TABLE} WHERE path IN ({places})"
                for path, size, modified, hash_ in database.execute(query, part):
                    found[Stamp(os.fsdecode(path), size, modified)] = hash_
        return {stamp: found[stamp] for stamp in wanted if stamp in found}

    def record(self, stamp: Stamp, hash_: str) -> None:
        """Remember the content of a file as it was at `stamp`."""
        with self._transaction() as database:
            row = (os.fsencode(stamp.path), stamp.size, stamp.modified, hash_)
            database.execute(f"INSERT OR REPLACE INTO {_TABLE} VALUES (?, ?, ?, ?)", row)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        # A connection for each transaction: one may not cross into another thread or process.
        try:
            connection = sqlite3.connect(self._path, timeout=_WAIT_SECONDS)
            with closing(connection), connection:
                yield connection
        except sqlite3.Error as error:
            raise ContentIndexError(f"{self._path}: {error} (it may be deleted)") from error
