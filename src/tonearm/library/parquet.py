"""Entries as an Arrow table, so that they can be kept in Parquet files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from tonearm.library.store import Entry, Model


def schema(model: Model) -> pa.Schema:
    """Return the columns: those of an `Entry`, the probabilities by name of the genre.

    The embedding has the precision of 16 bits in a column of 32, which more programs read;
    compression makes up for it.
    """
    chances = pa.struct([(label, pa.float32()) for label in model.labels])
    window = pa.struct([("start", pa.float32()), ("end", pa.float32()), ("probabilities", chances)])
    return pa.schema(
        {
            "path": pa.string(),
            "size": pa.int64(),
            "mtime_ns": pa.int64(),
            "model": pa.string(),
            "scanned_at": pa.timestamp("ms", tz="UTC"),
            "audio": pa.string(),
            "duration": pa.float64(),
            "truncated": pa.bool_(),
            "genre": pa.string(),
            "confidence": pa.float32(),
            "music": pa.float32(),
            "verdict": pa.string(),
            "error": pa.string(),
            "tagged": pa.list_(pa.string()),
            "artist": pa.string(),
            "album": pa.string(),
            "title": pa.string(),
            "probabilities": chances,
            "segments": pa.list_(window),
            "embedding": pa.list_(pa.float32()),
        }
    )


def to_table(entries: Sequence[Entry], model: Model) -> pa.Table:
    """Return one row for each entry, all of them of one model.

    Bytes that are no text, in paths and tags, become escapes (``\\udcff``).
    """
    return pa.Table.from_pylist([_row(entry) for entry in entries], schema(model))


def _row(entry: Entry) -> dict[str, Any]:
    row: dict[str, Any] = {
        name: _text(getattr(entry, name))
        for name in (
            "path",
            "model",
            "audio",
            "genre",
            "verdict",
            "error",
            "artist",
            "album",
            "title",
        )
    }
    return row | {
        "size": _known(entry.size),
        "mtime_ns": _known(entry.mtime_ns),
        "scanned_at": datetime.fromtimestamp(entry.scanned_at, UTC),
        "duration": entry.duration,
        "truncated": entry.truncated,
        "confidence": entry.confidence,
        "music": entry.music,
        "tagged": [_text(genre) for genre in entry.tagged],
        "probabilities": _chances(entry.probabilities),
        "segments": [
            {"start": start, "end": end, "probabilities": _chances(chances)}
            for start, end, chances in entry.segments
        ],
        "embedding": None if entry.embedding is None else entry.embedding.astype(np.float16),
    }


def _chances(probabilities: Mapping[str, float]) -> dict[str, float] | None:
    return dict(probabilities) or None


def _known(number: int) -> int | None:
    return None if number < 0 else number


def _text(value: str | None) -> str | None:
    return value if value is None else value.encode("utf-8", "backslashreplace").decode()
