"""The values that a store keeps of an entry, in the columns of its table of files."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from tonearm.library.entry import COLUMNS, VERDICTS, Entry, Model, Window

HALF = np.dtype("<f2")
DETAILS = ("segments", "embedding")  # columns that few readers need, and the slowest to read
_LARGEST_HALF = float(np.finfo(np.float16).max)
_NUMBERS = ("size", "mtime_ns", "scanned_at", "duration", "confidence", "music")  # columns
_SHARES = ("confidence", "music")
_TEXTS = ("audio", "genre", "verdict", "error", "artist", "album", "title")
_LATEST = 253402300799  # seconds since 1970: the end of the year 9999, the last that dates have


def to_values(entry: Entry, model: int, labels: Sequence[str]) -> tuple[Any, ...]:
    """Return the values of an entry to store, in the order of `COLUMNS`."""
    values = {name: getattr(entry, name) for name in COLUMNS}
    values["path"] = os.fsencode(entry.path)
    values["model"] = model
    values["tagged"] = _json([_encodable(genre) for genre in entry.tagged])
    for name in ("artist", "album", "title", "error"):
        values[name] = _encodable(values[name])
    for name in ("probabilities", "segments", "embedding"):
        values[name] = None
    if entry.genre is not None:
        values["probabilities"] = _json({k: round(p, 6) for k, p in entry.probabilities.items()})
        values["segments"] = _json(
            [
                (
                    round(start, 2),
                    round(end, 2),
                    [round(probabilities[label], 4) for label in labels],
                )
                for start, end, probabilities in entry.segments
            ]
        )
    if entry.embedding is not None:
        in_range = np.clip(entry.embedding, -_LARGEST_HALF, _LARGEST_HALF)
        values["embedding"] = in_range.astype(HALF).tobytes()
    return tuple(values.values())


def to_entry(values: dict[str, Any], model: Model) -> Entry:
    """Return the entry whose values, from the store, `to_values` wrote.

    `DETAILS` may be left out of them.

    Raises
    ------
    ValueError, TypeError
        If `to_values` would not have written them.
    """
    blob = values.get("embedding")
    entry = Entry(
        **values
        | {
            "path": os.fsdecode(values["path"]),
            "model": model.key,
            "missing": bool(values["missing"]),
            "truncated": bool(values["truncated"]),
            "tagged": parse_texts(values["tagged"]),
            "probabilities": _probabilities(values["probabilities"]),
            "segments": _windows(values.get("segments"), model.labels),
            "embedding": None if blob is None else np.frombuffer(blob, HALF).astype("f4"),
        }
    )
    # SQLite stores text in a column of numbers, and bytes anywhere.
    if not all(values[name] is None or math.isfinite(values[name]) for name in _NUMBERS):
        raise ValueError
    if not all(values[name] is None or 0 <= values[name] <= 1 for name in _SHARES):
        raise ValueError
    if entry.embedding is not None and not np.isfinite(entry.embedding).all():
        raise ValueError
    if not all(isinstance(values[name], str | None) for name in _TEXTS):
        raise TypeError
    agree = blob is None if entry.genre is None else entry.genre in entry.probabilities
    if not agree or entry.verdict not in (None, *VERDICTS) or entry.scanned_at > _LATEST:
        raise ValueError
    return entry


def parse_texts(text: str) -> tuple[str, ...]:
    """Parse a JSON list of texts."""
    texts = json.loads(text)
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise TypeError
    return tuple(texts)


def _probabilities(text: str | None) -> dict[str, float]:
    """Parse a JSON object of numbers."""
    probabilities = dict(json.loads(text or "{}"))
    if not all(map(math.isfinite, probabilities.values())):
        raise ValueError
    return probabilities


def _windows(text: str | None, labels: Sequence[str]) -> tuple[Window, ...]:
    windows = []
    for start, end, probabilities in json.loads(text or "[]"):
        if not all(map(math.isfinite, (start, end, *probabilities))):
            raise ValueError
        ranked = sorted(zip(labels, probabilities, strict=True), key=lambda pair: -pair[1])
        windows.append(Window(start, end, dict(ranked)))
    return tuple(windows)


def _encodable(value: str | None) -> str | None:
    """Return text that SQLite can store: lone surrogates are replaced."""
    return value if value is None else value.encode("utf-8", "replace").decode()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
