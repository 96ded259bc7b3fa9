"""Why a file could not be read as audio."""

from __future__ import annotations

from tonearm.errors import TonearmError
from tonearm.text import printable


class AudioError(TonearmError):
    """A file could not be read as audio; the message is one line, ``<path>: <reason>``.

    Attributes
    ----------
    path : str
        The path as given (undecodable bytes as surrogates, as from `os.fsdecode`); for an open
        file, its name or "<file>".
    reason : str
        The reason, in a few words.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)  # both, so that the error survives pickling
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{printable(self.path)}: {self.reason}"


class NotAudio(AudioError):
    """There is no audio: no such file, not a media file, or no audio stream in it."""


class Undecodable(AudioError):
    """There is an audio stream, but none of it can be decoded."""


class TooShort(AudioError):
    """The file can be decoded, but is too short, or ends before the requested part."""


class TimedOut(AudioError):
    """A file took longer than its time limit."""
