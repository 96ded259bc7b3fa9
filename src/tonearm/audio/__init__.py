"""Decode audio files of any format into mono samples at a requested rate.

FFmpeg (through PyAV, which includes it) opens and decodes; the channels are averaged; FFmpeg's
libswresample changes the rate. Everything is streamed: a three-hour file needs no more memory than
a song, unless `read` reads all of it.

`source` provides the bytes, `container` the frames in them, `samples` turns those into mono
samples, and `reading` delivers the requested part.
"""

from tonearm.audio.container import LIMIT_SECONDS, RIFF_UNKNOWN, AudioInfo
from tonearm.audio.errors import (
    INCONCLUSIVE,
    AudioError,
    NotAudio,
    ReadFailed,
    TimedOut,
    TooShort,
    Undecodable,
)
from tonearm.audio.identity import Identity, identify, probe
from tonearm.audio.reading import (
    AudioStream,
    Recording,
    blocks,
    checked_rate,
    read,
    resample,
    stream,
)
from tonearm.audio.samples import LOUDEST, Samples
from tonearm.audio.source import Source, name_of, size_of

__all__ = [
    "INCONCLUSIVE",
    "LIMIT_SECONDS",
    "LOUDEST",
    "RIFF_UNKNOWN",
    "AudioError",
    "AudioInfo",
    "AudioStream",
    "Identity",
    "NotAudio",
    "ReadFailed",
    "Recording",
    "Samples",
    "Source",
    "TimedOut",
    "TooShort",
    "Undecodable",
    "blocks",
    "checked_rate",
    "identify",
    "name_of",
    "probe",
    "read",
    "resample",
    "size_of",
    "stream",
]
