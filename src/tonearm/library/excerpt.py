"""How much of a long recording is heard, and which stretches of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from tonearm import audio
from tonearm.audible import SilentAudio
from tonearm.classifier import Classifier
from tonearm.errors import UsageError
from tonearm.prediction import Prediction

DEFAULT_SECONDS = 30.0
STRETCH_SECONDS = 10.0
WHOLE = "all"


@dataclass(frozen=True)
class Excerpt:
    """So many seconds in stretches spread evenly over a recording, or all of it.

    Attributes
    ----------
    seconds
        None for the whole recording.
    """

    seconds: float | None = DEFAULT_SECONDS

    def __post_init__(self) -> None:
        if self.seconds is not None and not 1 <= self.seconds < math.inf:
            raise UsageError(f"excerpt: expected 1 second or more, got {self.seconds:g}")

    @classmethod
    def parse(cls, text: str) -> Excerpt:
        """Read what a person writes: a number of seconds, or ``all``.

        Raises
        ------
        UsageError
            If it is neither.
        """
        try:
            return cls(None if text == WHOLE else float(text))
        except ValueError:
            raise UsageError(f"excerpt: expected seconds or {WHOLE!r}, got {text!r}") from None

    def __str__(self) -> str:
        return WHOLE if self.seconds is None else f"{self.seconds:g}"

    def stretches(
        self, duration: float | None, window: float = STRETCH_SECONDS
    ) -> list[tuple[float, float]] | None:
        """Say which stretches of a recording are heard.

        Each lies in the middle of its share of the recording: of three, at 1/6, 1/2 and 5/6. So the
        beginning and the end, where songs are least themselves, are left out.

        Parameters
        ----------
        duration
            Of the recording, in seconds; None if unknown.
        window
            Seconds the model hears at once: no stretch is shorter, unless the whole excerpt is.

        Returns
        -------
        list of (start, length) or None
            In seconds; None if the recording is to be heard as a whole: that was asked for, it is
            not longer than the excerpt, or nobody knows its length.
        """
        if self.seconds is None or duration is None or duration <= self.seconds:
            return None
        count = max(1, math.floor(self.seconds / max(window, STRETCH_SECONDS)))
        length = self.seconds / count
        return [((part + 0.5) * duration / count - length / 2, length) for part in range(count)]


def hear(
    classifier: Classifier, path: str | Path, duration: float | None, excerpt: Excerpt
) -> Prediction:
    """Classify a file by an excerpt, or by all of it where there is nothing in that.

    Parameters
    ----------
    duration
        Of the file, in seconds; None if unknown.

    Raises
    ------
    audio.AudioError
        As for a whole file.
    """
    stretches = excerpt.stretches(duration, classifier.bundle.metadata.window_seconds)
    if stretches is None:
        return classifier(path)
    try:
        return classifier.hear(path, stretches)
    except (SilentAudio, audio.TooShort):  # there may be something elsewhere
        return classifier(path)
