"""Why a file could not be read as audio."""

from __future__ import annotations

from tonearm.errors import FileError


class AudioError(FileError):
    """A file could not be read as audio; the path of an open file is its name or "<file>"."""


class NotAudio(AudioError):
    """There is no audio: no such file, not a media file, or no audio stream in it."""


class Undecodable(AudioError):
    """There is an audio stream, but none of it can be decoded."""


class TooShort(AudioError):
    """The file can be decoded, but is too short, or ends before the requested part."""


class ReadFailed(AudioError):
    """The system failed to read the file (a bad disk, a lost network drive): worth a retry."""


class TimedOut(AudioError):
    """A file took longer than its time limit."""


INCONCLUSIVE = (ReadFailed, TimedOut)  # errors that say nothing about the audio in a file
