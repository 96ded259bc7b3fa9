"""The chunks of WAV and AIFF files, and whether a tag can be added as another chunk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from tonearm.audio import RIFF_UNKNOWN

BYTE_ORDERS: dict[bytes, Literal["little", "big"]] = {b"RIFF": "little", b"FORM": "big"}
FIRST_CHUNK = 12  # bytes: it follows the outer chunk's name, its length and the file format
MAX_CHUNKS = 10_000  # a few are usual, but all of a damaged file may look like small chunks
FORMATS = {b"WAVE": "a WAV", b"AIFF": "an AIFF", b"AIFC": "an AIFF"}


def obstacle(path: str | os.PathLike[str]) -> str | None:
    """Return why a WAV or AIFF file cannot hold a tag; None if it can, or for any other format."""
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        header = file.read(12)
        if header[:4] in (b"RF64", b"BW64"):
            return "a kind of WAV (RF64) that tags cannot be written to"
        kind, order = FORMATS.get(header[8:]), BYTE_ORDERS.get(header[:4])
        if kind is None or order is None:
            return None
        declared = int.from_bytes(header[4:8], order)
        longest, end = 0, FIRST_CHUNK
        for _, offset, length in walk(file, min(size, 8 + declared), order):
            longest, end = max(longest, length), offset + length + length % 2
        if not declared or max(declared, longest) >= RIFF_UNKNOWN > size:
            return f"{kind} file that does not say where its sound ends, and a tag would begin"
        if max(8 + declared, end) > size + 1:  # the final byte of padding may be missing
            return f"{kind} file that breaks off, so that a tag would be taken for sound"
    return None


def walk(
    file: BinaryIO, stop: int, order: Literal["little", "big"], offset: int = FIRST_CHUNK
) -> Iterator[tuple[bytes, int, int]]:
    """Yield each chunk's name, the offset of its content (where the file is then), and its length.

    Stop where no printable chunk name follows (zeros at the end of a file, say): what
    follows cannot be distinguished from audio.
    """
    for _ in range(MAX_CHUNKS):
        file.seek(offset)
        header = file.read(8)
        if offset + 8 > stop or not all(0x20 <= byte < 0x7F for byte in header[:4]):
            return
        length = int.from_bytes(header[4:], order)
        yield header[:4], offset + 8, length
        offset += 8 + length + length % 2
