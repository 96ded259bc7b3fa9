"""Why a file could not be heard."""

from __future__ import annotations

from tonearm.errors import TonearmError
from tonearm.text import printable


class AudioError(TonearmError):
    """A file could not be heard; the text is ``<path>: <reason>``, one line.

    Attributes
    ----------
    path : str
        The path as given (undecodable bytes as surrogates, as `os.fsdecode` has them); of an open
        file its name, or "<file>".
    reason : str
        Why, in a few words.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)  # both, so that the error survives pickling
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{printable(self.path)}: {self.reason}"


class NotAudio(AudioError):
    """There is no audio: no such file, no media file, or none with an audio stream."""


class Undecodable(AudioError):
    """There is an audio stream, but nothing of it can be decoded."""


class TooShort(AudioError):
    """The file decodes, but ends before the part that was asked for."""


class TimedOut(AudioError):
    """The time limit for one file passed."""
