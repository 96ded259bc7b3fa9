"""Entries as an Arrow table, to be stored in Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from tonearm.library.rows import COMMON_COLUMNS, probability_column


def schema(labels: Sequence[str]) -> pa.Schema:
    """Return the columns, which are the same for results from a store and from a cluster."""
    text, number = pa.string(), pa.float64()
    segment = pa.struct(
        [("start", number), ("end", number), ("probabilities", pa.map_(text, number))]
    )
    return pa.schema(
        [
            *((column, getattr(pa, kind)()) for column, kind in COMMON_COLUMNS.items()),
            ("tagged", pa.list_(text)),
            *((probability_column(label), number) for label in labels),
            ("segments", pa.list_(segment)),
            ("embedding", pa.list_(pa.float32())),
        ]
    )


def to_table(rows: Iterable[dict[str, Any]], labels: Sequence[str]) -> pa.Table:
    """Return a table of rows, given as `rows.to_row` returns them."""
    return pa.Table.from_pylist([_flattened(row) for row in rows], schema(labels))


def _flattened(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with a column for each probability, and with text that Parquet can store."""
    texts = {name: _text(value) for name, value in row.items() if isinstance(value, str)}
    probabilities = {probability_column(label): p for label, p in row["probabilities"].items()}
    return row | texts | {"tagged": [_text(genre) for genre in row["tagged"]]} | probabilities


def _text(value: str) -> str:
    r"""Return text with lone surrogates (undecodable bytes) as escapes (``\udcff``)."""
    return value.encode("utf-8", "backslashreplace").decode()
