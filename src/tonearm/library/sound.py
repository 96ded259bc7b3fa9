"""Check that two files have the same audio, which tagging must not change."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tonearm import audio
from tonearm.audio import INCONCLUSIVE, AudioError, AudioInfo
from tonearm.errors import UsageError
from tonearm.library.id3_frames import FOOTER, HEADER_BYTES, ID3V1_BYTES, from_synchsafe

# FFmpeg treats a tag after the last frame as part of it, so the decoded samples are compared.
TAGS_IN_PACKETS = frozenset({"ape"})
# In these formats the audio is whatever follows the tag, wherever it starts. Comparing its bytes is
# stricter than comparing packets, and takes a tenth of the time. Other formats record where it is.
TAGS_BEFORE_AUDIO = frozenset({"mp3", "tta", "flac"})

BLOCK_BYTES = 1 << 20  # bytes compared at a time
STREAMINFO = 4 + 34  # bytes: FLAC's first block with its header: how to decode the audio
LAST_BLOCK = 0x80  # flag
MAX_BLOCKS = 1000  # before the audio: a few are usual


def same_audio(old: str | os.PathLike[str], new: str | os.PathLike[str]) -> bool:
    """Check whether a file and its tagged copy have the same audio; True if FFmpeg cannot read it.

    MP3, TTA and FLAC files do if FFmpeg recognises both as the same format and all bytes after the
    tag are equal. For other formats, and where this check fails, `audio_digest` decides.

    Raises
    ------
    ReadFailed, TimedOut
        If the file cannot be read now, so the answer is unknown.
    """
    try:
        before = audio.probe(old)
    except INCONCLUSIVE:
        raise
    except AudioError:
        return True
    if before.container in TAGS_BEFORE_AUDIO and _differ_only_in_tags(old, new, before):
        return True
    digest = audio_digest(old)
    return digest is None or audio_digest(new) == digest


def audio_digest(path: str | os.PathLike[str]) -> str | None:
    """Return a hash that identifies a file's audio, whatever its tags; None if it has no audio.

    It is computed from the packets FFmpeg passes to its decoder or, for Monkey's Audio, from the
    decoded samples.

    Raises
    ------
    ReadFailed, TimedOut
        If the file cannot be read now, so the answer is unknown.
    """
    try:
        info = audio.probe(path)
        if info.container not in TAGS_IN_PACKETS:
            return audio.identify(path).digest
        digest = hashlib.sha256()
        for samples in audio.blocks(path, info.sample_rate):
            digest.update(samples.tobytes())
        return digest.hexdigest()
    except INCONCLUSIVE:
        raise
    except (AudioError, UsageError):  # the latter if its header gives a rate that none has
        return None


class _Layout(NamedTuple):
    """How to decode a file (FLAC only), where its audio begins, and whether it ends in ID3v1."""

    decoding: bytes
    start: int
    has_id3v1: bool


def _differ_only_in_tags(
    old: str | os.PathLike[str], new: str | os.PathLike[str], before: AudioInfo
) -> bool:
    """Check whether two files certainly differ in nothing but their tags."""
    try:
        after = audio.probe(new)
    except AudioError:
        return False
    if _stream_format(before) != _stream_format(after):
        return False
    with Path(old).open("rb") as first, Path(new).open("rb") as second:
        one, other = _layout(first), _layout(second)
        if one is None or other is None or one._replace(start=0) != other._replace(start=0):
            return False
        # The last byte of an ID3v1 tag is the genre.
        stops = [os.fstat(file.fileno()).st_size - one.has_id3v1 for file in (first, second)]
        first.seek(one.start)
        second.seek(other.start)
        remaining = stops[0] - one.start
        if remaining != stops[1] - other.start:
            return False
        while remaining > 0:
            block = first.read(min(BLOCK_BYTES, remaining))
            if not block or block != second.read(len(block)):
                return False
            remaining -= len(block)
    return True


def _stream_format(info: AudioInfo) -> tuple[object, ...]:
    return info.container, info.codec, info.sample_rate, info.channels


def _layout(file: BinaryIO) -> _Layout | None:
    """Find where a file's audio begins; return None if the layout is not what players expect."""
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - ID3V1_BYTES))
    has_id3v1 = size >= ID3V1_BYTES and file.read(3) == b"TAG"
    file.seek(0)
    header = file.read(HEADER_BYTES)
    start = 0
    if header.startswith(b"ID3"):
        if len(header) < HEADER_BYTES or header[5] & FOOTER or max(header[6:]) > 0x7F:
            return None
        start = HEADER_BYTES + from_synchsafe(header[6:])
    file.seek(start)
    decoding = b""
    if file.read(4) == b"fLaC":
        decoding = file.read(STREAMINFO)[1:]  # without the byte that holds the last-block flag
        start += 4
        for _ in range(MAX_BLOCKS):
            file.seek(start)
            block = file.read(4)
            start += 4 + int.from_bytes(block[1:])
            if not block or block[0] & LAST_BLOCK:
                break
        else:
            return None
    return _Layout(decoding, start, has_id3v1) if start <= size else None
