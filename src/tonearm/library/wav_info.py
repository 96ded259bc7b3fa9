"""Read the INFO list of a WAV file: a place for tags older than ID3, and often the only one.

Source: Multimedia Programming Interface and Data Specifications 1.0 (IBM and Microsoft, 1991),
"INFO List Chunk".
"""

from __future__ import annotations

import os
from pathlib import Path

from tonearm.library.chunks import walk

LONGEST = 1 << 16  # bytes read of a field: more than any name needs


class WavInfo(dict[str, list[str]]):
    """The fields of an INFO list, such as ``IGNR``, and their values."""


def read_info(path: str | os.PathLike[str]) -> WavInfo:
    """Return the fields of a WAV file's INFO list; none if there is no list.

    No standard defines the text encoding: UTF-8 is assumed if the bytes are valid, else Latin-1.
    """
    info = WavInfo()
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        for name, place, length in walk(file, size, "little"):
            if name != b"LIST" or file.read(4) != b"INFO":
                continue
            stop = min(size, place + length)
            for field, _, extent in walk(file, stop, "little", place + 4):
                content = file.read(min(extent, LONGEST)).partition(b"\0")[0]
                info.setdefault(field.decode("ascii"), []).append(_text(content))
    return info


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")
