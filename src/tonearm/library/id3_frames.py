"""The frames of an ID3v2 tag as raw bytes, whatever they mean.

mutagen keeps only what it can parse, and joins frames of the same name. Frames that must be carried
over unchanged must therefore bypass its parser.

Sources: ID3v2.3.0 (https://id3.org/id3v2.3.0), sections 3.1 to 3.3 and 5; ID3v2.4.0, main structure
(https://id3.org/id3v2.4.0-structure), sections 3, 4 and 6.1; ID3v2.2.0 (https://id3.org/id3v2-00).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import BinaryIO

from mutagen.id3 import BitPaddedInt

from tonearm.errors import TonearmError

HEADER_BYTES = 10
ID3V1_BYTES = 128  # at the very end of a file, from "TAG" to the genre number in the last byte
GENRE = (b"TCON", b"TCO")
UNSYNCHRONISED, EXTENDED, FOOTER = 0x80, 0x40, 0x10  # tag flags; the last since 2.4
FRAME_UNSYNCHRONISED = 0x02  # in the second byte of a frame's flags, since 2.4
# Some programs wrote 2.3 frames under their three-letter names from 2.2.
_NAME = re.compile(rb"[A-Z0-9]{3}[A-Z0-9 \0]?")


class DamagedTag(TonearmError):
    """A tag contains something that is not a frame, or that cannot be replaced."""


@dataclass(frozen=True)
class RawFrame:
    """A frame: its header (name, size and, since 2.3, flags) and its content."""

    header: bytes
    content: bytes

    @property
    def is_genre(self) -> bool:
        """Whether this is the genre frame."""
        return self.header[: 3 if len(self.header) == 6 else 4].rstrip(b" \0") in GENRE

    def __bytes__(self) -> bytes:
        return self.header + self.content


def read_frames(file: BinaryIO) -> tuple[RawFrame, ...]:
    """Return the frames of the tag that begins at a file's current position.

    The frames fit a tag of the same version that has neither an extended header nor the
    unsynchronisation flag: unsynchronisation is undone (before 2.4) or marked by each frame's own
    flag (in 2.4). In 2.4, sizes that a program wrote in the 2.3 encoding are corrected.

    Raises
    ------
    DamagedTag
        If the tag is not a gapless sequence of frames, optionally padded with zeros to its end, or
        a footer follows it.
    """
    header = file.read(HEADER_BYTES)
    version, flags = header[3], header[5]
    if flags & FOOTER and version == 4:
        # mutagen would leave it before the audio, where it hides the length and the gapless ends.
        raise DamagedTag("its ID3 tag has a footer, which writing would not replace")
    table = file.read(from_synchsafe(header[6:]))
    if flags & UNSYNCHRONISED and version < 4:
        table = _resynchronised(table)
    if flags & EXTENDED and version > 2:
        table = table[_extended_header_bytes(table, version) :]
    frames = _split(table, version, synchsafe=version == 4)
    if frames is None and version == 4:
        frames = _split(table, version, synchsafe=False)  # as iTunes once wrote them
    if frames is None:
        raise DamagedTag("damaged: something in its ID3 tag is no frame, and would be lost")
    if version == 4:
        frames = [
            _standalone(frame, unsynchronised=bool(flags & UNSYNCHRONISED)) for frame in frames
        ]
    return tuple(frames)


def _split(table: bytes, version: int, *, synchsafe: bool) -> list[RawFrame] | None:
    """Split a table into frames; return None if it is not one when sizes are read this way."""
    name_length, header_length = (3, 6) if version == 2 else (4, HEADER_BYTES)
    frames, position = [], 0
    while position + header_length <= len(table) and table[position]:
        header = table[position : position + header_length]
        size_bytes = header[name_length : 2 * name_length]
        if synchsafe and max(size_bytes) > 0x7F:
            return None
        size = from_synchsafe(size_bytes) if synchsafe else int.from_bytes(size_bytes, "big")
        position += header_length + size
        if position > len(table) or not _NAME.fullmatch(header[:name_length]):
            return None
        frames.append(RawFrame(header, table[position - size : position]))
    return None if table[position:].strip(b"\0") else frames


def _standalone(frame: RawFrame, *, unsynchronised: bool) -> RawFrame:
    """Return a 2.4 frame with the tag's unsynchronisation flag as its own and a synchsafe size."""
    name, (first, second) = frame.header[:4], frame.header[8:]
    if unsynchronised and b"\xff\x00" in frame.content:
        second |= FRAME_UNSYNCHRONISED
    size = BitPaddedInt.to_str(len(frame.content))
    return RawFrame(name + size + bytes([first, second]), frame.content)


def _resynchronised(table: bytes) -> bytes:
    """Undo unsynchronisation, unless the bytes show that only the flag was set."""
    if re.search(rb"\xff([\xe0-\xff]|$)", table, re.DOTALL):
        return table
    return table.replace(b"\xff\x00", b"\xff")


def _extended_header_bytes(table: bytes, version: int) -> int:
    """Return the extended header's length: 0 if a program announced one without writing it."""
    if _NAME.fullmatch(table[:4]):
        return 0
    return from_synchsafe(table[:4]) if version == 4 else 4 + int.from_bytes(table[:4], "big")


def from_synchsafe(digits: bytes) -> int:
    """Decode a number that is stored as seven bits per byte."""
    return int(BitPaddedInt(digits))  # type: ignore[no-untyped-call]
