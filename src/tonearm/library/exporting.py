"""Export a store as a table for other programs: CSV, JSON Lines or Parquet."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, get_args

from tonearm.atomic import atomic_write
from tonearm.csvrows import csv_writer
from tonearm.errors import FileError, UsageError, reason_of
from tonearm.extras import needs
from tonearm.library.outputs import refuse_to_overwrite
from tonearm.library.rows import COMMON_COLUMNS, probability_column, to_row
from tonearm.library.store import Store

Format = Literal["csv", "jsonl", "parquet"]
STANDARD_OUTPUT = "-"
ROW_GROUP = 10_000  # rows held in memory for Parquet


class ExportError(FileError):
    """The table cannot be written."""


def export(
    store: Store,
    target: str | os.PathLike[str] = STANDARD_OUTPUT,
    format: Format | None = None,
    *,
    under: Sequence[str | os.PathLike[str]] = (),
    missing: bool = False,
    timeline: bool = False,
    embeddings: bool = False,
) -> int:
    """Write a row for every file of a store, and return the number of rows.

    A target file appears complete or not at all. One row is in memory at a time; for Parquet,
    `ROW_GROUP` rows are.

    Parameters
    ----------
    store
        The store of a scan.
    target
        A file, or ``"-"`` for standard output (not for Parquet).
    format
        By default, that of the target's suffix, or CSV on standard output. In CSV and Parquet,
        every genre has a column for its probability; in CSV, the genres of the tags are joined by
        semicolons.
    under
        Files, and folders of files, to select; by default, all.
    missing
        Whether to include missing files.
    timeline
        Whether to include the probabilities of each window; not in CSV.
    embeddings
        Whether to include the embeddings; not in CSV.

    Raises
    ------
    UsageError
        If the format is unknown or cannot hold what is requested, if the target is a recording or
        the store, or if `under` is a single path.
    StoreError
        If the store cannot be read.
    ExportError
        If the target cannot be written.
    MissingExtraError
        If pyarrow is not installed, for Parquet.
    """
    name = os.fspath(target)
    table_format = format or _format_of(name)
    if table_format not in _WRITERS:
        expected = ", ".join(get_args(Format))
        raise UsageError(f"unknown format {table_format!r}: expected one of {expected}")
    if table_format == "csv" and (timeline or embeddings):
        raise UsageError("a CSV table has no room for timelines and embeddings: use jsonl, parquet")
    if table_format == "parquet" and name == STANDARD_OUTPUT:
        raise UsageError("Parquet goes to a file, not to standard output")
    if name != STANDARD_OUTPUT:
        refuse_to_overwrite(name, store.path)
    row_count = 0

    def rows() -> Generator[dict[str, Any]]:
        nonlocal row_count
        # The consumer may stop early: end the query then, before the store is closed.
        details = timeline or embeddings
        with closing(store.entries(under, missing=missing, details=details)) as entries:
            for entry in entries:
                yield to_row(entry, timeline=timeline, embeddings=embeddings)
                row_count += 1

    with _open_target(name) as file, closing(rows()) as table:
        _WRITERS[table_format](file, table, store.labels())
    return row_count


def _format_of(name: str) -> str:
    if name == STANDARD_OUTPUT:
        return "csv"
    suffix = Path(name).suffix.lower().removeprefix(".")
    if suffix not in _WRITERS:
        raise UsageError(
            f"{name}: the suffix names no format: expected one of "
            f"{', '.join(get_args(Format))}, or --format"
        )
    return suffix


@contextmanager
def _open_target(name: str) -> Iterator[IO[bytes]]:
    """Yield standard output, or a file that replaces the target once it is complete."""
    if name == STANDARD_OUTPUT:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with atomic_write(name) as file:
            yield file
    except OSError as error:
        raise ExportError(name, reason_of(error)) from error


def _write_csv(file: IO[bytes], rows: Iterable[dict[str, Any]], labels: Sequence[str]) -> None:
    # Undecodable bytes in paths are written unchanged.
    text = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="")
    try:
        writer = csv_writer(text)
        writer.writerow((*COMMON_COLUMNS, "tagged", *map(probability_column, labels)))
        for row in rows:
            probabilities = row["probabilities"]
            writer.writerow(
                (
                    *(row[column] for column in COMMON_COLUMNS),
                    "; ".join(row["tagged"]),
                    *(probabilities.get(label) for label in labels),
                )
            )
    finally:
        text.detach()


def _write_jsonl(file: IO[bytes], rows: Iterable[dict[str, Any]], labels: Sequence[str]) -> None:
    for row in rows:
        # Undecodable bytes in paths are escaped as lone surrogates.
        file.write(json.dumps(row).encode("ascii") + b"\n")


def _write_parquet(file: IO[bytes], rows: Iterable[dict[str, Any]], labels: Sequence[str]) -> None:
    with needs("data"):
        import pyarrow.parquet

        from tonearm.library.parquet import schema, to_table
    remaining = iter(rows)
    with pyarrow.parquet.ParquetWriter(file, schema(labels)) as writer:
        while group := list(islice(remaining, ROW_GROUP)):
            writer.write_table(to_table(group, labels))


_WRITERS: dict[str, Callable[[IO[bytes], Iterable[dict[str, Any]], Sequence[str]], None]] = {
    "csv": _write_csv,
    "jsonl": _write_jsonl,
    "parquet": _write_parquet,
}
