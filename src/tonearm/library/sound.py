"""Whether two files sound the same: all that tagging promises about what is not a tag."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tonearm import audio
from tonearm.audio import AudioError, AudioInfo

# FFmpeg takes a tag after the last frame for a part of it, so the decoded samples are compared.
TAGS_IN_PACKETS = frozenset({"ape"})
# In these formats the sound is whatever follows the tag, wherever it starts. Its bytes tell more
# than packets do, and are read in a tenth of the time. Other formats record where the sound is.
TAGS_BEFORE_SOUND = frozenset({"mp3", "tta", "flac"})

PIECE = 1 << 20  # bytes compared at a time
ID3_HEADER = 10  # bytes
ID3_FOOTER = 0x10  # flag: the tag also ends with a footer of the same length
ID3V1_BYTES = 128  # at the very end of the file, with a genre number in the last byte
STREAMINFO = 4 + 34  # bytes: FLAC's first block with its header, which says how to decode
LAST_BLOCK = 0x80  # flag
MOST_BLOCKS = 1000  # before the sound: a few are usual


def sounds_alike(old: str | os.PathLike[str], new: str | os.PathLike[str]) -> bool:
    """Check whether a file and its tagged copy sound the same; True if FFmpeg cannot read the file.

    MP3, TTA and FLAC files do if FFmpeg recognises both as the same format and all bytes after the
    tag are equal. For other formats, and where this check fails, `sound_of` decides.
    """
    try:
        before = audio.probe(old)
    except AudioError:
        return True
    if before.container in TAGS_BEFORE_SOUND and _differ_by_their_tags(old, new, before):
        return True
    sound = sound_of(old)
    return sound is None or sound_of(new) == sound


def sound_of(path: str | os.PathLike[str]) -> str | None:
    """Return a hash that identifies a file's sound, whatever its tags; None if it has no sound.

    It is computed from the packets FFmpeg passes to its decoder or, for Monkey's Audio, from the
    decoded samples.
    """
    try:
        info = audio.probe(path)
        if info.container not in TAGS_IN_PACKETS:
            return audio.identify(path).digest
        heard = hashlib.sha256()
        for samples in audio.blocks(path, info.sample_rate):
            heard.update(samples.tobytes())
        return heard.hexdigest()
    except AudioError:
        return None


class _Layout(NamedTuple):
    """How to decode a file (FLAC only), where its sound begins, and whether it ends in ID3v1."""

    decoding: bytes
    start: int
    has_id3v1: bool


def _differ_by_their_tags(
    old: str | os.PathLike[str], new: str | os.PathLike[str], before: AudioInfo
) -> bool:
    """Check whether two files certainly differ in nothing but their tags."""
    try:
        after = audio.probe(new)
    except AudioError:
        return False
    if _kind(before) != _kind(after):
        return False
    with Path(old).open("rb") as first, Path(new).open("rb") as second:
        one, other = _layout(first), _layout(second)
        if one is None or other is None or one._replace(start=0) != other._replace(start=0):
            return False
        stops = [os.fstat(file.fileno()).st_size - one.has_id3v1 for file in (first, second)]
        first.seek(one.start)
        second.seek(other.start)
        remaining = stops[0] - one.start
        if remaining != stops[1] - other.start:
            return False
        while remaining > 0:
            piece = first.read(min(PIECE, remaining))
            if not piece or piece != second.read(len(piece)):
                return False
            remaining -= len(piece)
    return True


def _kind(info: AudioInfo) -> tuple[object, ...]:
    return info.container, info.codec, info.sample_rate, info.channels


def _layout(file: BinaryIO) -> _Layout | None:
    """Find where a file's sound begins; return None if the layout is not what players expect."""
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - ID3V1_BYTES))
    has_id3v1 = size >= ID3V1_BYTES and file.read(3) == b"TAG"
    file.seek(0)
    head = file.read(ID3_HEADER)
    start = 0
    if head.startswith(b"ID3"):
        if len(head) < ID3_HEADER or head[5] & ID3_FOOTER or max(head[6:]) > 0x7F:
            return None
        start = ID3_HEADER + sum(
            byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)
        )
    file.seek(start)
    decoding = b""
    if file.read(4) == b"fLaC":
        decoding = file.read(STREAMINFO)[1:]  # without the byte that holds the last-block flag
        start += 4
        for _ in range(MOST_BLOCKS):
            file.seek(start)
            block = file.read(4)
            start += 4 + int.from_bytes(block[1:])
            if not block or block[0] & LAST_BLOCK:
                break
        else:
            return None
    return _Layout(decoding, start, has_id3v1) if start <= size else None
