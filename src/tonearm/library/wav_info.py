"""The INFO list of a WAV file: tags in a format older than ID3, and often the only ones.

Source: Multimedia Programming Interface and Data Specifications 1.0 (IBM and Microsoft, 1991),
"INFO List Chunk".
"""

from __future__ import annotations

import io
import os
from pathlib import Path

from mutagen._riff import RiffFile

from tonearm.library.chunks import walk

GENRE = b"IGNR"

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


def write_genre(path: str | os.PathLike[str], genre: str) -> None:
    """Set the genre in a WAV file's INFO list, in UTF-8; no list is added.

    A list that contains something other than fields stays as it is.
    """
    text = genre.encode() + b"\0"
    field = GENRE + len(text).to_bytes(4, "little") + _padded(text)
    with Path(path).open("r+b") as file:
        for chunk in RiffFile(file).root.subchunks():  # type: ignore[no-untyped-call]
            if chunk.id != "LIST" or chunk.name != "INFO":
                continue
            content = chunk.read()
            table, end = content[:4], 4
            for name, offset, length in walk(io.BytesIO(content), len(content), "little", end):
                end = offset + length + length % 2
                if name != GENRE:
                    table += _padded(content[offset - 8 : end])
            if not content[end:].strip(b"\0"):
                table += field
                chunk.resize(len(table))
                chunk.write(table)


def _padded(content: bytes) -> bytes:
    """Return content of even length, as chunks and fields are padded."""
    return content + bytes(len(content) % 2)


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")
