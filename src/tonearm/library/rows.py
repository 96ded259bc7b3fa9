"""An entry as a row of plain values, the same in every table format."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tonearm.library.entry import Entry

# The columns that every format has, in order, with their types in Parquet.
COMMON_COLUMNS = {
    "path": "string",
    "genre": "string",
    "confidence": "float64",
    "music": "float64",
    "verdict": "string",
    "error": "string",
    "duration": "float64",
    "truncated": "bool_",
    "artist": "string",
    "album": "string",
    "title": "string",
    "size": "int64",
    "mtime_ns": "int64",
    "audio": "string",
    "model": "string",
    "scanned_at": "string",
    "missing": "bool_",
}


def to_row(entry: Entry, *, timeline: bool, embeddings: bool) -> dict[str, Any]:
    """Return an entry as values of `COMMON_COLUMNS`, "tagged", "probabilities" and optional ones.

    Parameters
    ----------
    timeline, embeddings
        Whether to add "segments" and "embedding", respectively.
    """
    row = {column: getattr(entry, column) for column in COMMON_COLUMNS}
    row["scanned_at"] = datetime.fromtimestamp(entry.scanned_at, UTC).isoformat(timespec="seconds")
    row["tagged"] = list(entry.tagged)
    row["probabilities"] = dict(entry.probabilities)
    if timeline:
        row["segments"] = [segment._asdict() for segment in entry.segments]
    if embeddings:
        row["embedding"] = None if entry.embedding is None else entry.embedding.tolist()
    return row


def probability_column(label: str) -> str:
    """Return the column name for a genre's probability; a genre may be named like a column."""
    return f"p_{label}"
