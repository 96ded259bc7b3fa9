"""Read the INFO list of a WAV file: tags in a format older than ID3, and often the only ones.

Source: Multimedia Programming Interface and Data Specifications 1.0 (IBM and Microsoft, 1991),
"INFO List Chunk".
"""

from __future__ import annotations

import os
from pathlib import Path

from tonearm.library.chunks import walk

MAX_FIELD_BYTES = 1 << 16  # bytes read of a field: more than any name needs


class WavInfo(dict[str, list[str]]):
    """The fields of an INFO list, such as ``IGNR``, and their values."""


def read_info(path: str | os.PathLike[str]) -> WavInfo:
    """Return the fields of a WAV file's INFO list; none if there is no list.

    No standard defines the text encoding: UTF-8 is assumed if the bytes are valid, else Latin-1.
    """
    info = WavInfo()
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        for name, offset, length in walk(file, size, "little"):
            if name != b"LIST" or file.read(4) != b"INFO":
                continue
            stop = min(size, offset + length)
            for field, _, field_length in walk(file, stop, "little", offset + 4):
                content = file.read(min(field_length, MAX_FIELD_BYTES)).partition(b"\0")[0]
                info.setdefault(field.decode("ascii"), []).append(_text(content))
    return info


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")
