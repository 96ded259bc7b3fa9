"""What a store knows of a file, of a stretch of it and of who listened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Model:
    """Who listened, and to how much.

    Attributes
    ----------
    key
        Different for every bundle (by its bytes), name and excerpt.
    name
        The bundle's own.
    labels
        The genres it knows, in the bundle's order.
    excerpt
        Seconds that are heard of each file, or ``"all"``.
    """

    key: str
    name: str
    labels: tuple[str, ...]
    excerpt: str


class Window(NamedTuple):
    """What a stretch of a file sounds like.

    Attributes
    ----------
    start, end
        Seconds from the beginning of the file.
    probabilities
        Per genre, the most probable first, to four digits.
    """

    start: float
    end: float
    probabilities: Mapping[str, float]


class State(NamedTuple):
    """What the store knows of a file without its results: enough to tell whether it is up to date.

    Attributes
    ----------
    size, mtime_ns
        As they were when it was listened to: bytes, and nanoseconds since 1970.
    model
        The key of who listened.
    failed
        Whether there is an error instead of a genre.
    missing
        Whether it was gone at the last look.
    """

    size: int
    mtime_ns: int
    model: str
    failed: bool
    missing: bool


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file of the library.

    Attributes
    ----------
    path
        Absolute; bytes that are no text are surrogates, as `os.fsdecode` has them.
    size, mtime_ns
        Bytes, and nanoseconds since 1970, as they were when it was listened to.
    model
        `Model.key` of who listened.
    scanned_at
        When, in seconds since 1970.
    missing
        The file was gone at the last look.
    audio
        Hash of the sound alone: equal for copies and retagged files. None if it cannot be read.
    duration
        Seconds of the whole file, however much of it was heard; None if unknown.
    truncated
        The file breaks off, or is damaged in what was heard.
    genre, confidence
        The most probable genre and its probability; None after an error.
    music
        Probability that it is music at all; None if the model does not say.
    verdict
        Whether the genre stands: "music", "not music" or "unsure" (see `tonearm.Prediction`).
    error
        Why there is no genre, in one line.
    tagged
        The genres in the file's own tags.
    artist, album, title
        From its tags.
    probabilities
        Per genre, the most probable first; empty after an error.
    segments
        The stretches that were heard.
    embedding
        float32[E], precise to half a per mille (it is stored in 16 bits); None after an error.
    """

    path: str
    size: int
    mtime_ns: int
    model: str
    scanned_at: float
    missing: bool = False
    audio: str | None = None
    duration: float | None = None
    truncated: bool = False
    genre: str | None = None
    confidence: float | None = None
    music: float | None = None
    verdict: str | None = None
    error: str | None = None
    tagged: tuple[str, ...] = ()
    artist: str | None = None
    album: str | None = None
    title: str | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    segments: tuple[Window, ...] = ()
    embedding: npt.NDArray[np.float32] | None = field(default=None, compare=False, repr=False)


COLUMNS = tuple(column.name for column in fields(Entry))
