"""The chunks of WAV and AIFF files, and whether a tag can be added as another chunk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from tonearm.audio import RIFF_UNKNOWN

ORDERS: dict[bytes, Literal["little", "big"]] = {b"RIFF": "little", b"FORM": "big"}
FIRST_CHUNK = 12  # bytes: it follows the outer chunk's name, its length and the file format
MOST_CHUNKS = 10_000  # a few are usual, but all of a damaged file may look like small chunks
KINDS = {b"WAVE": "a WAV", b"AIFF": "an AIFF", b"AIFC": "an AIFF"}


def obstacle(path: str | os.PathLike[str]) -> str | None:
    """Say why a WAV or AIFF file cannot hold a tag; None if it can, or for any other format."""
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(12)
        if head[:4] in (b"RF64", b"BW64"):
            return "a kind of WAV (RF64) that tags cannot be written to"
        kind, order = KINDS.get(head[8:]), ORDERS.get(head[:4])
        if kind is None or order is None:
            return None
        announced = int.from_bytes(head[4:8], order)
        longest, end = 0, FIRST_CHUNK
        for _, place, length in walk(file, min(size, 8 + announced), order):
            longest, end = max(longest, length), place + length + length % 2
        if not announced or max(announced, longest) >= RIFF_UNKNOWN > size:
            return f"{kind} file that does not say where its sound ends, and a tag would begin"
        if max(8 + announced, end) > size + 1:  # the final byte of padding may be missing
            return f"{kind} file that breaks off, so that a tag would be taken for sound"
    return None


def walk(
    file: BinaryIO, stop: int, order: Literal["little", "big"], place: int = FIRST_CHUNK
) -> Iterator[tuple[bytes, int, int]]:
    """Yield each chunk's name, the offset of its content (where the file is then), and its length.

    Stop where no printable chunk name follows (zeros at the end of a file, say): whatever comes
    after that cannot be told from sound.
    """
    for _ in range(MOST_CHUNKS):
        file.seek(place)
        head = file.read(8)
        if place + 8 > stop or not all(0x20 <= sign < 0x7F for sign in head[:4]):
            return
        length = int.from_bytes(head[4:], order)
        yield head[:4], place + 8, length
        place += 8 + length + length % 2
