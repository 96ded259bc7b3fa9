"""The result for a recording: its genre and whether to trust it, or why there is no result."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tonearm.audio import AudioError
from tonearm.errors import TonearmError, UsageError, unexpected

Verdict = Literal["music", "not music", "unsure"]

# Below, the network, which learned from ten seconds at a time, is often wrong and as confident.
SHORTEST_SURE_SECONDS = 1.0


@dataclass(frozen=True)
class Segment:
    """The prediction for one window of the recording.

    Attributes
    ----------
    start, end
        Seconds from the beginning of the recording.
    probabilities
        Probability of each genre, the most probable first.
    music
        Probability that the window is music at all; None if the model does not predict it.
    verdict
        Whether to trust the genre, as in `Prediction`.
    """

    start: float
    end: float
    probabilities: dict[str, float] = field(hash=False)
    music: float | None = None
    verdict: Verdict = "music"

    @property
    def genre(self) -> str:
        """The most probable genre of this window."""
        return next(iter(self.probabilities))


@dataclass(frozen=True)
class Prediction:
    """The prediction for a recording.

    Comparing predictions ignores the embedding, which comes from the same network anyway.

    Attributes
    ----------
    path
        The file; None for samples in memory, and for an open file without a name.
    genre, confidence
        The most probable genre and its probability.
    probabilities
        Probability of each genre, the most probable first; they sum to 1.
    segments
        The predictions for the windows in order of time: the timeline.
    duration
        Seconds of audio that were classified.
    truncated
        Whether the file breaks off before its end; what could be decoded was classified.
    embedding
        float32[E], the mean input of the network's last layer.
    music
        Probability that the recording is music at all; None if the model does not predict it.
    verdict
        "music" if the genre can be trusted, "not music", or "unsure": music of no particular genre.
    """

    path: Path | None
    genre: str
    confidence: float
    probabilities: dict[str, float] = field(hash=False)
    segments: tuple[Segment, ...]
    duration: float
    truncated: bool
    embedding: npt.NDArray[np.float32] = field(compare=False, repr=False)
    music: float | None = None
    verdict: Verdict = "music"

    def to_dict(self, *, top: int | None = None, timeline: bool = False) -> dict[str, Any]:
        """Return the prediction as plain JSON values, as ``tonearm classify --json`` prints them.

        Parameters
        ----------
        top
            How many genres to keep in the probabilities; None for all.
        timeline
            Whether to add the windows as "segments".

        Raises
        ------
        UsageError
            If `top` is below 0.
        """
        from tonearm.record import to_record

        path = None if self.path is None else str(self.path)
        return to_record(path, self, top=top, timeline=timeline)


@dataclass(frozen=True)
class Thresholds:
    """What a prediction must reach for its genre to be trusted; 0 lets everything pass.

    Attributes
    ----------
    music
        Lowest probability that the recording is music.
    unsure
        Lowest probability of the best genre.

    Raises
    ------
    UsageError
        If one is not from 0 to 1.
    """

    music: float
    unsure: float

    def __post_init__(self) -> None:
        for name in ("music", "unsure"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise UsageError(f"threshold {name}: expected from 0 to 1, got {value}")

    def verdict(self, music: float | None, confidence: float, seconds: float = math.inf) -> Verdict:
        """Return the verdict for the probabilities of music (or None) and of the best genre.

        Below `SHORTEST_SURE_SECONDS` of recording it is at most "unsure", unless that is turned off
        by a threshold of 0.
        """
        if music is not None and music < self.music:
            return "not music"
        is_short = self.unsure > 0 and seconds < SHORTEST_SURE_SECONDS
        return "unsure" if is_short or confidence < self.unsure else "music"


@dataclass(frozen=True)
class Failure:
    """Why a file got no prediction.

    Attributes
    ----------
    path
        The file.
    error
        The reason, in one line.
    """

    path: Path
    error: str

    @classmethod
    def of(cls, path: Path, error: Exception) -> Failure:
        """Make the failure of a file from an exception, reduced to one line."""
        if isinstance(error, AudioError):
            return cls(path, error.reason)
        if isinstance(error, TonearmError):
            return cls(path, str(error))
        return cls(path, unexpected(error))

    def to_dict(self, *, timeline: bool = False) -> dict[str, Any]:
        """Return the failure as plain JSON values, with the keys of `Prediction.to_dict`."""
        from tonearm.record import to_record

        return to_record(str(self.path), self, timeline=timeline)
