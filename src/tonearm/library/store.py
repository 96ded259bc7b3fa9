"""The store: everything known about the files of a library, in one SQLite file."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from tonearm.atomic import make_folder
from tonearm.errors import FileError, UsageError, reason_of
from tonearm.library.entry import COLUMNS, Entry, Model, State
from tonearm.library.path_conditions import QUERY_SIZE, path_conditions, stored_path
from tonearm.library.stored_rows import DETAILS, HALF, parse_texts, to_entry, to_values

SCHEMA_VERSION = 1
APPLICATION_ID = 0x746E726D  # "tnrm", in the header of the file: `file library.db` shows it

# Paths are stored as the system's bytes (`os.fsencode`), since Unix file names need not be UTF-8;
# in SQL, `CAST(path AS TEXT)` shows them. Large columns come last, so that queries for the others
# need not read them.
SCHEMA = (
    """
CREATE TABLE models (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,      -- name, excerpt and hash of the bundle's bytes
    name TEXT NOT NULL,
    labels TEXT NOT NULL,          -- JSON: the order of the numbers in files.segments
    excerpt TEXT NOT NULL          -- seconds analysed of each file, or "all"
)""",
    """
CREATE TABLE files (
    path BLOB PRIMARY KEY,         -- absolute
    size INTEGER NOT NULL,         -- bytes
    mtime_ns INTEGER NOT NULL,
    missing INTEGER NOT NULL,      -- 1: not there when last scanned
    scanned_at REAL NOT NULL,      -- seconds since 1970, when it was analysed
    model INTEGER NOT NULL REFERENCES models (id),
    audio TEXT,                    -- hash of the audio without tags
    duration REAL,                 -- seconds, of the whole file
    truncated INTEGER NOT NULL,
    genre TEXT,
    confidence REAL,
    music REAL,                    -- probability that it is music; NULL: no such output
    verdict TEXT,                  -- "music", "not music" or "unsure"
    error TEXT,                    -- why there is no genre
    tagged TEXT NOT NULL,          -- JSON: the genres in the file's tags
    artist TEXT,
    album TEXT,
    title TEXT,
    probabilities TEXT,            -- JSON: by genre, the most probable first
    segments TEXT,                 -- JSON: of each window [start, end, [each probability]]
    embedding BLOB                 -- float16, little-endian
)""",
    "CREATE INDEX files_by_audio ON files (audio)",
)

_WAIT_SECONDS = 60.0  # for another process to finish its write
_RETRY_SECONDS = 0.01
# SQLite's names of errors where its side files find no room, and where they cannot be made.
_NO_ROOM = ("SQLITE_IOERR_SHMOPEN", "SQLITE_IOERR_SHMSIZE")
_NO_SIDE_FILES = (*_NO_ROOM, "SQLITE_CANTOPEN")
_PRESENT, _ANY = "NOT missing", "1"  # SQL conditions
_SAME_AUDIO = "files AS o WHERE o.audio = files.audio AND NOT o.missing AND o.genre NOTNULL"
_NO_TIME = -1  # nanoseconds since 1970: not the modification time of any file
_DAMAGE = (ValueError, TypeError, OverflowError, RecursionError)  # raised by damaged values

Floats = npt.NDArray[np.float32]


class StoreError(FileError):
    """A store cannot be read or written."""


class Store:
    """An open store.

    Several processes may read it while one writes. Once a method that writes has returned, its
    changes survive the death of the process.

    Parameters
    ----------
    path
        The SQLite file.
    create
        Whether to create the file, and the folders above it, if it does not exist.

    Raises
    ------
    StoreError
        If the file does not exist, cannot be created, is not a store, or was made by a newer
        Tonearm. Every method raises it too, if the file turns out to be damaged or cannot be read
        or written.
    UsageError
        From methods with the parameter `under`, if that is a single path.

    Examples
    --------
    >>> with Store("library.db") as store:  # doctest: +SKIP
    ...     for entry in store.entries():
    ...         print(entry.path, entry.genre)
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool = False) -> None:
        self.path: Path = Path(path)
        try:
            self._find_file(create=create)
        except OSError as error:
            raise StoreError(self.path, reason_of(error)) from error
        self._models: dict[int, Model] = {}
        # SQLite needs side files for a file that may change, and cannot create them on, say, a
        # read-only drive.
        is_read_only = not create and not _is_writable(self.path)
        with self._store_errors():
            try:
                self._open(create=create, is_read_only=is_read_only)
            except sqlite3.Error as error:
                if create or is_read_only or _name(error) not in _NO_SIDE_FILES:
                    raise
                self._open(create=False, is_read_only=True)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; SQLite removes its side files (``-wal``, ``-shm``)."""
        self._database.close()

    def __len__(self) -> int:
        """Return the number of known files, including missing ones."""
        return int(self._scalar("SELECT count(*) FROM files"))

    # Reading

    def models(self) -> dict[Model, int]:
        """Return each model with the number of present files it analysed, the busiest first."""
        counts = self._query(
            "SELECT models.id, count(path) FROM models "
            "LEFT JOIN files ON files.model = models.id AND NOT missing "
            "GROUP BY models.id ORDER BY 2 DESC, 1"
        )
        known = self._known_models()
        return {known[model_id]: count for model_id, count in counts}

    def labels(self) -> tuple[str, ...]:
        """Return the genres of all models, each once, in the order of `models`."""
        return tuple(dict.fromkeys(label for model in self.models() for label in model.labels))

    def entries(
        self,
        under: Sequence[str | os.PathLike[str]] = (),
        *,
        missing: bool = False,
        details: bool = True,
    ) -> Generator[Entry]:
        """Yield the entries in the byte order of their paths, with one in memory at a time.

        Parameters
        ----------
        under
            Files, and folders of files, to select; by default, all.
        missing
            Whether to include missing files.
        details
            Whether to read the windows and the embedding, which takes half of the time; otherwise
            they are empty and None.
        """
        columns = COLUMNS if details else tuple(name for name in COLUMNS if name not in DETAILS)
        for row in self._rows(", ".join(columns), under, _ANY if missing else _PRESENT):
            yield self._entry(row, columns)

    def entry(self, path: str | os.PathLike[str]) -> Entry | None:
        """Return the entry of one file, present or missing; None if it is unknown."""
        rows = self._query(
            f"SELECT {', '.join(COLUMNS)} FROM files WHERE path = ?",
            [os.fsencode(stored_path(path))],
        )
        return next((self._entry(row) for row in rows), None)

    def embeddings(
        self, model: str | None = None, *, under: Sequence[str | os.PathLike[str]] = ()
    ) -> tuple[list[str], Floats]:
        """Return the paths and embeddings of the present files that have an embedding.

        Parameters
        ----------
        model
            The key of the model whose embeddings to return, as those of different models cannot
            be compared. By default, the model that analysed the most files.
        under
            Files, and folders of files, to select; by default, all.

        Returns
        -------
        paths : list of N str
        embeddings : float32[N, E]
            float32[0, 0] if there are none.

        Raises
        ------
        UsageError
            If the store does not know the model.
        """
        if model is None:
            busiest = next(iter(self.models()), None)
            if busiest is None:
                return [], np.empty((0, 0), np.float32)
            model = busiest.key
        where, values = self._with_embedding(model)
        sizes = self._counts("length(embedding)", under, where, values)
        count = sizes.total()
        if not count:
            return [], np.empty((0, 0), np.float32)
        size = next(iter(sizes))  # bytes of most
        paths: list[str] = []
        matrix = np.empty((count, size // HALF.itemsize), np.float32)
        # A scan may be adding rows meanwhile: keep no more than were counted.
        for some, rows in self.embedding_blocks(model, matrix.shape[1], under=under):
            first = len(paths)
            paths += some[: count - first]
            matrix[first : len(paths)] = rows[: len(paths) - first]
        return paths, matrix[: len(paths)]

    def embedding_blocks(
        self, model: str, width: int, *, under: Sequence[str | os.PathLike[str]] = ()
    ) -> Iterator[tuple[list[str], Floats]]:
        """Yield what `embeddings` returns in blocks, of which one is in memory at a time.

        Parameters
        ----------
        model
            The key of the model whose embeddings to return.
        width
            E, the numbers in each of them.
        under
            Files, and folders of files, to select; by default, all.

        Yields
        ------
        paths : list of N str
        embeddings : float32[N, E]

        Raises
        ------
        UsageError
            If the store does not know the model.
        """
        where, values = self._with_embedding(model)
        rows = self._rows("path, embedding", under, where, values)
        size = width * HALF.itemsize
        while batch := list(islice(rows, QUERY_SIZE)):
            for path, blob in batch:
                if not isinstance(blob, bytes) or len(blob) != size:
                    raise self._damaged(path)
            halves = np.frombuffer(b"".join(blob for _, blob in batch), HALF)
            matrix = halves.reshape(len(batch), width).astype(np.float32)
            is_damaged = ~np.isfinite(matrix).all(axis=1)
            if is_damaged.any():
                raise self._damaged(batch[is_damaged.argmax()][0])
            yield [os.fsdecode(path) for path, _ in batch], matrix

    def states(self, paths: Sequence[str]) -> dict[str, State]:
        """Return the state of each file; unknown files are left out."""
        found: dict[str, State] = {}
        for first in range(0, len(paths), QUERY_SIZE):
            batch = [os.fsencode(path) for path in paths[first : first + QUERY_SIZE]]
            placeholders = ", ".join("?" * len(batch))
            for path, size, mtime_ns, model, failed, missing in self._query(
                "SELECT path, size, mtime_ns, model, error IS NOT NULL, missing "
                f"FROM files WHERE path IN ({placeholders})",
                batch,
            ):
                key = self._model(model, path).key
                found[os.fsdecode(path)] = State(size, mtime_ns, key, bool(failed), bool(missing))
        return found

    def find_by_audio(self, audio: str, model: str) -> Entry | None:
        """Return an entry with this audio and a genre from this model, or None.

        Parameters
        ----------
        audio
            The hash, as in `Entry.audio`.
        model
            The key, as in `Model.key`.
        """
        rows = self._query(
            f"SELECT {', '.join('files.' + column for column in COLUMNS)} FROM files "
            "JOIN models ON models.id = files.model "
            "WHERE audio = ? AND models.key = ? AND genre IS NOT NULL LIMIT 1",
            [audio, model],
        )
        return next((self._entry(row) for row in rows), None)

    def paths(
        self, under: Sequence[str | os.PathLike[str]] = (), *, missing: bool = False
    ) -> Iterator[str]:
        """Yield the paths of the entries that `entries` would yield, at a fraction of the cost."""
        for (path,) in self._rows("path", under, _ANY if missing else _PRESENT):
            yield os.fsdecode(path)

    def missing(self, under: Sequence[str | os.PathLike[str]] = ()) -> Iterator[str]:
        """Yield the paths of the files that were missing at the last scan."""
        for (path,) in self._rows("path", under, "missing"):
            yield os.fsdecode(path)

    def copied_since(self, time: float) -> Iterator[str]:
        """Yield the present files whose audio was scanned, under another path, at a time or later.

        Parameters
        ----------
        time
            Seconds since 1970.
        """
        others = f"{_SAME_AUDIO} AND o.path <> files.path AND o.scanned_at >= ?"
        where = f"{_PRESENT} AND scanned_at < ? AND EXISTS (SELECT 1 FROM {others})"
        for (path,) in self._rows("path", (), where, [time, time]):
            yield os.fsdecode(path)

    def count_incomparable(self, model: str, under: Sequence[str | os.PathLike[str]] = ()) -> int:
        """Return how many present files have an embedding, but by another model than this key."""
        if all(known.key == model for known in self._known_models().values()):
            return 0  # without reading the whole store
        of_model = "SELECT id FROM models WHERE key = ?"
        where = f"{_PRESENT} AND embedding IS NOT NULL AND model NOT IN ({of_model})"
        return self._counts("1", under, where, [model]).total()

    def found_elsewhere(
        self, under: Sequence[str | os.PathLike[str]] = ()
    ) -> Iterator[tuple[str, float]]:
        """Yield the missing files whose audio is present, classified, under another path.

        Yields
        ------
        path, scanned_at
            The missing file; when the other, or the last of several, was scanned.
        """
        columns = f"path, (SELECT max(scanned_at) FROM {_SAME_AUDIO}) AS elsewhere"
        for path, scanned_at in self._rows(columns, under, "missing AND elsewhere NOTNULL"):
            yield os.fsdecode(path), scanned_at

    def count_missing(self, under: Sequence[str | os.PathLike[str]] = ()) -> int:
        """Return how many files were missing at the last scan."""
        return self._counts("1", under, "missing").total()

    def genres(self, under: Sequence[str | os.PathLike[str]] = ()) -> Counter[str]:
        """Count the present files of each genre, the most frequent first.

        Files whose verdict is "not music" or "unsure" are counted under the verdict instead.
        """
        return self._counts("CASE WHEN verdict <> 'music' THEN verdict ELSE genre END", under)

    def errors(self, under: Sequence[str | os.PathLike[str]] = ()) -> Counter[str]:
        """Count the present files with each error, the most frequent first."""
        return self._counts("error", under)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all reads in the block see one state, whatever other processes write meanwhile."""
        with self._transaction("DEFERRED"):
            yield

    # Writing

    def add_model(self, model: Model) -> None:
        """Register a model, so that entries can refer to it."""
        with self._transaction():
            self._database.execute(
                "INSERT OR IGNORE INTO models (key, name, labels, excerpt) VALUES (?, ?, ?, ?)",
                (model.key, model.name, json.dumps(model.labels), model.excerpt),
            )

    def save(self, entries: Iterable[Entry]) -> None:
        """Write all of the entries or none, replacing what was known about their paths.

        Raises
        ------
        KeyError
            If the model of an entry was not added.
        """
        models = {
            known.key: (model_id, known.labels) for model_id, known in self._known_models().items()
        }
        rows = [to_values(entry, *models[entry.model]) for entry in entries]
        placeholders = ", ".join("?" * len(COLUMNS))
        with self._transaction():
            self._database.executemany(
                f"INSERT OR REPLACE INTO files ({', '.join(COLUMNS)}) VALUES ({placeholders})", rows
            )

    def mark(self, paths: Iterable[str], *, missing: bool) -> None:
        """Mark files as missing, or as present again."""
        with self._transaction():
            self._database.executemany(
                "UPDATE files SET missing = ? WHERE path = ?",
                ((missing, os.fsencode(path)) for path in paths),
            )

    def outdate(self, paths: Iterable[str]) -> None:
        """Make the next scan read files again, even if their size and modification time stay."""
        with self._transaction():
            self._database.executemany(
                "UPDATE files SET mtime_ns = ? WHERE path = ?",
                ((_NO_TIME, os.fsencode(path)) for path in paths),
            )

    def forget_missing(self, paths: Iterable[str]) -> int:
        """Forget those of the files that are missing; return how many."""
        with self._transaction():
            return self._database.executemany(
                "DELETE FROM files WHERE path = ? AND missing",
                ((os.fsencode(path),) for path in paths),
            ).rowcount

    # Inside

    def _find_file(self, *, create: bool) -> None:
        """Make the file if `create` is set; raise the errors that SQLite would not explain."""
        if self.path.is_dir():
            raise StoreError(self.path, "is a folder: expected the file of a store")
        if create:
            make_folder(self.path.parent)
            if not self.path.exists():
                self.path.touch()
            if not _is_writable(self.path):
                raise StoreError(self.path, "it or its folder is read-only: a scan writes to both")
        elif not self.path.is_file():
            raise StoreError(self.path, "no such store: `tonearm scan FOLDER --store` makes one")

    def _open(self, *, create: bool, is_read_only: bool) -> None:
        mode = "rw"  # only a URI can say that no file is to be created
        if is_read_only:
            self._refuse_unfinished()
            mode = "ro&immutable=1"
        # No slash is left, as two at the beginning would be followed by the name of a host.
        uri = f"file:{quote(os.fsencode(self.path.absolute()), safe='')}?mode={mode}"
        self._database = sqlite3.connect(uri, uri=True, timeout=_WAIT_SECONDS, isolation_level=None)
        try:
            self._database.execute("PRAGMA schema_version")  # fails here if there is no room
            self._prepare(create=create, is_read_only=is_read_only)
        except BaseException:
            self._database.close()
            raise

    def _refuse_unfinished(self) -> None:
        """Refuse a read-only store whose last writes are still in its write-ahead log."""
        wal = Path(f"{self.path}-wal")
        if wal.exists() and wal.stat().st_size:
            raise StoreError(
                self.path, f"cannot be written to, and the end of a scan is in {wal.name} still"
            )

    def _prepare(self, *, create: bool, is_read_only: bool) -> None:
        """Check that the file is a store, or turn an empty file into one if `create` is set.

        Nothing is written to any other file.
        """
        with self.snapshot():
            is_store = self._is_store()
        if not is_store and not create:
            raise StoreError(self.path, "not a store of tonearm scan, but an empty file")
        if is_read_only:
            return
        self._enable_wal()
        self._database.execute("PRAGMA synchronous = NORMAL")  # in WAL safe but for a power cut
        if is_store:
            return
        with self._transaction():
            if self._is_store():  # another process was faster
                return
            for statement in SCHEMA:
                self._database.execute(statement)
            self._database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _is_store(self) -> bool:
        """Return True for a store and False for an empty file; refuse anything else."""
        version = self._scalar("PRAGMA user_version")
        application = self._scalar("PRAGMA application_id")
        if application not in (0, APPLICATION_ID) or (version and not application):
            raise StoreError(self.path, "not a store of tonearm scan, but another program's file")
        if not version and self._scalar("SELECT count(*) FROM sqlite_master"):
            raise StoreError(self.path, "not a store of tonearm scan")
        if version > SCHEMA_VERSION:
            raise StoreError(
                self.path,
                f"a store of version {version}, newer than this Tonearm reads ({SCHEMA_VERSION}): "
                "install a newer Tonearm",
            )
        return bool(version)

    def _enable_wal(self) -> None:
        """Switch to WAL, where readers and the writer do not block each other.

        SQLite's own timeout does not apply to the switch.
        """
        deadline = time.monotonic() + _WAIT_SECONDS
        while True:
            try:
                self._database.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_SECONDS)
            else:
                return

    def _known_models(self) -> dict[int, Model]:
        """Return the models by id, reading them again only if there are more than before."""
        if self._scalar("SELECT count(*) FROM models") != len(self._models):
            models = {}
            for model_id, key, name, labels, excerpt in self._query(
                "SELECT id, key, name, labels, excerpt FROM models"
            ):
                try:
                    models[model_id] = Model(key, name, parse_texts(labels), excerpt)
                except _DAMAGE as error:
                    raise self._damaged(f"model {key}") from error
            self._models = models
        return self._models

    def _model(self, model_id: int, path: bytes) -> Model:
        """Return the model that analysed a file."""
        model = self._models.get(model_id) or self._known_models().get(model_id)
        if model is None:
            raise self._damaged(path)
        return model

    def _with_embedding(self, model: str) -> tuple[str, list[Any]]:
        """Return the condition, and its values, of present files with an embedding by a model.

        Raises
        ------
        UsageError
            If the store does not know the model.
        """
        model_ids = {known.key: model_id for model_id, known in self._known_models().items()}
        if model not in model_ids:
            raise UsageError(f"no model {model!r} in {self.path} (there: {', '.join(model_ids)})")
        return f"{_PRESENT} AND model = ? AND embedding IS NOT NULL", [model_ids[model]]

    def _entry(self, row: Sequence[Any], columns: Sequence[str] = COLUMNS) -> Entry:
        values = dict(zip(columns, row, strict=True))
        model = self._model(values["model"], values["path"])
        try:
            return to_entry(values, model)
        except _DAMAGE as error:
            raise self._damaged(values["path"]) from error

    def _damaged(self, what: str | bytes) -> StoreError:
        """Return the error for values of a file or model that no scan has written."""
        return StoreError(
            self.path,
            f"damaged: wrong values for {os.fsdecode(what)} (scan into a new store)",
        )

    def _rows(
        self,
        columns: str,
        under: Sequence[str | os.PathLike[str]],
        where: str,
        values: Sequence[Any] = (),
        end: str = "ORDER BY path",
    ) -> Iterator[Any]:
        """Yield columns of the files below paths that meet a condition, by default in order."""
        for paths, ends in path_conditions(under):
            query = f"SELECT {columns} FROM files WHERE {paths} AND {where} {end}"
            yield from self._query(query, [*ends, *values])

    def _counts(
        self,
        expression: str,
        under: Sequence[str | os.PathLike[str]],
        where: str = _PRESENT,
        values: Sequence[Any] = (),
    ) -> Counter[Any]:
        """Count the files that meet a condition by the value of an expression, except NULL."""
        columns, where = f"{expression} AS value, count(*)", f"{where} AND value IS NOT NULL"
        counts: Counter[Any] = Counter()
        for value, count in self._rows(columns, under, where, values, "GROUP BY value"):
            counts[value] += count
        # As text, because a damaged store may mix kinds of values.
        return Counter(dict(sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))))

    def _query(self, sql: str, values: Sequence[Any] = ()) -> Iterator[Any]:
        with self._store_errors():
            rows = self._database.execute(sql, values)
            try:
                for row in rows:  # noqa: UP028 (`yield from` would close the rows itself)
                    yield row
            finally:
                # An error may keep an unfinished query alive until after the store is closed.
                with suppress(sqlite3.ProgrammingError):
                    rows.close()

    def _scalar(self, sql: str) -> Any:
        with self._store_errors():
            return self._database.execute(sql).fetchone()[0]

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        with self._store_errors():
            self._database.execute(f"BEGIN {kind}")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:  # SQLite itself rolls back if the disk is full
                    self._database.execute("ROLLBACK")
                raise

    @contextmanager
    def _store_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            reason = " ".join(str(error).split())
            if _name(error) in _NO_ROOM:  # which SQLite calls an error of the disk
                reason = "no room beside it on its disk"
            raise StoreError(self.path, reason) from error


def _name(error: sqlite3.Error) -> str:
    """Return SQLite's name of an error; "" if it is of Python's module."""
    return str(getattr(error, "sqlite_errorname", ""))


def _is_writable(path: Path) -> bool:
    return os.access(path, os.W_OK) and os.access(path.absolute().parent, os.W_OK)
