"""Writes small stores of tracks that were not analysed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from tonearm.library.entry import Entry, Model
from tonearm.library.store import Store

MODEL = Model("ours/30/00", "ours", ("blues", "jazz", "hiphop", "rock"), "30")


def at(path: str) -> str:
    """A made-up path as a store has it: on Windows, /m/a is on the drive of the current folder."""
    return path if os.name == "posix" else str(Path(path).absolute())


def track(path: str, genre: str = "jazz", confidence: float = 0.8, **changes: object) -> Entry:
    """A track; the other genres share the remaining probability."""
    rest = (1 - confidence) / (len(MODEL.labels) - 1)
    probabilities = {genre: confidence} | {label: rest for label in MODEL.labels if label != genre}
    known = Entry(
        path=path,
        size=1000,
        mtime_ns=1,
        model=MODEL.key,
        scanned_at=1.7e9,
        duration=61.5,
        genre=genre,
        confidence=confidence,
        verdict="music",
        probabilities=probabilities,
        embedding=np.eye(len(MODEL.labels), dtype=np.float32)[MODEL.labels.index(genre)],
    )
    return replace(known, **changes)  # type: ignore[arg-type]


def failure(path: str, error: str) -> Entry:
    """A file without a genre."""
    return Entry(path=path, size=1, mtime_ns=1, model=MODEL.key, scanned_at=1.7e9, error=error)


def open_store(path: Path, entries: Iterable[Entry], model: Model = MODEL) -> Store:
    """Make a store that holds these entries."""
    store = Store(path, create=True)
    store.add_model(model)
    store.save(entries)
    return store
