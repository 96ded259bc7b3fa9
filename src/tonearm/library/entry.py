"""What a store records about a file, the windows of it and the model that analysed it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

# All values of `Entry.verdict` but None; the page of a library has indices into this.
VERDICTS = ("music", "unsure", "not music")


@dataclass(frozen=True)
class Model:
    """A model, and how much of each file it analyses.

    Attributes
    ----------
    key
        Different for every bundle (by its bytes), name and excerpt.
    name
        The bundle's name.
    labels
        The genres the model knows, in the bundle's order.
    excerpt
        Seconds analysed of each file, or ``"all"``.
    """

    key: str
    name: str
    labels: tuple[str, ...]
    excerpt: str


class Window(NamedTuple):
    """The prediction for one window of a file.

    Attributes
    ----------
    start, end
        Seconds from the beginning of the file.
    probabilities
        Per genre, the most probable first; stored to four decimal places.
    """

    start: float
    end: float
    probabilities: Mapping[str, float]


class State(NamedTuple):
    """What the store knows of a file without its results: enough to check whether it is up to date.

    Attributes
    ----------
    size, mtime_ns
        Size in bytes and modification time in nanoseconds since 1970, as of the analysis.
    model
        The key of the model that analysed it.
    failed
        Whether there is an error instead of a genre.
    missing
        Whether the file was missing at the last scan.
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
        Absolute path; undecodable bytes are surrogates, as with `os.fsdecode`.
    size, mtime_ns
        Size in bytes and modification time in nanoseconds since 1970, as of the analysis.
    model
        `Model.key` of the model that analysed it.
    scanned_at
        Time of the analysis, in seconds since 1970.
    missing
        Whether the file was missing at the last scan.
    audio
        Hash of the audio alone, equal for copies and retagged files; None if it cannot be read.
    duration
        Seconds of the whole file, however much of it was analysed; None if unknown.
    truncated
        Whether the file breaks off, or is damaged in the part that was analysed.
    genre, confidence
        The most probable genre and its probability; None after an error.
    music
        Probability that it is music at all; None if the model does not predict it.
    verdict
        "music" if the genre is accepted, else "not music" or "unsure" (see `tonearm.Prediction`).
    error
        Why there is no genre, in one line.
    tagged
        The genres in the file's own tags.
    artist, album, title
        From the file's tags.
    probabilities
        Per genre, the most probable first; empty after an error.
    segments
        The windows that were analysed.
    embedding
        float32[E], accurate to half a per mille (it is stored in 16 bits); None after an error.
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
