"""How much of a long recording is analysed, and which stretches of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from tonearm import audio
from tonearm.classifier import Classifier
from tonearm.errors import UsageError
from tonearm.inputs import SilentAudio
from tonearm.prediction import Prediction
from tonearm.windows import LENGTH_TOLERANCE_SECONDS

DEFAULT_SECONDS = 30.0
STRETCH_SECONDS = 10.0
WHOLE = "all"


@dataclass(frozen=True)
class Excerpt:
    """A number of seconds, in stretches spread evenly over a recording, or all of it.

    Attributes
    ----------
    seconds
        The total length, 1 or more; None for the whole recording.

    Raises
    ------
    UsageError
        If the length is below 1, infinite or NaN.
    """

    seconds: float | None = DEFAULT_SECONDS

    def __post_init__(self) -> None:
        if self.seconds is not None and not 1 <= self.seconds < math.inf:
            raise UsageError(f"excerpt: expected 1 second or more, got {self.seconds:g}")

    @classmethod
    def parse(cls, text: str) -> Excerpt:
        """Parse what a user enters: a number of seconds, or ``all``.

        Raises
        ------
        UsageError
            If the text is neither, or the number is below 1.
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
        """Return which stretches of a recording to analyse.

        Each lies in the middle of an equal share of the recording: three are centred at 1/6, 1/2
        and 5/6. This leaves out the beginning and the end, where songs are least typical.

        Parameters
        ----------
        duration
            Length of the recording in seconds; None if unknown.
        window
            Length of the model's window in seconds: no stretch is shorter, unless the whole
            excerpt is.

        Returns
        -------
        list of (start, length) or None
            In seconds; None to analyse the whole recording, because that was requested, it is
            not longer than the excerpt by a second or more, or its length is unknown.
        """
        if self.seconds is None or duration is None:
            return None
        if duration < self.seconds + LENGTH_TOLERANCE_SECONDS:
            return None
        count = max(1, math.floor(self.seconds / max(window, STRETCH_SECONDS)))
        length = self.seconds / count
        return [((part + 0.5) * duration / count - length / 2, length) for part in range(count)]


def classify_excerpt(
    classifier: Classifier, path: str | Path, duration: float | None, excerpt: Excerpt
) -> Prediction:
    """Classify a file by an excerpt, or by all of it if the excerpt is silent.

    Parameters
    ----------
    duration
        Length of the file in seconds; None if unknown.

    Raises
    ------
    audio.AudioError
        As when classifying a whole file.
    """
    stretches = excerpt.stretches(duration, classifier.bundle.metadata.window_seconds)
    if stretches is None:
        return classifier(path)
    try:
        return classifier.classify_stretches(path, stretches)
    except (SilentAudio, audio.TooShort):  # there may be sound elsewhere
        return classifier(path)
