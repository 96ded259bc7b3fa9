"""Read the variables of a TensorFlow 1 checkpoint ("tensor bundle") without TensorFlow.

A checkpoint `prefix` consists of two files. `prefix.index` is a sorted string table in LevelDB's
format: blocks of entries, whose keys omit the prefix shared with the previous key; an index block
that lists those blocks; and a footer that locates the index block. Each key is the name of a
variable, and its value a protocol buffer with the variable's type, its shape, and the position of
its numbers in `prefix.data-00000-of-00001`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tonearm.errors import TonearmError, reason_of

_FOOTER_BYTES = 48
_TABLE_MAGIC = 0xDB4775248B80FB57  # the last eight bytes of every table, little-endian
_FLOAT32 = 1  # DT_FLOAT of TensorFlow's types.proto

# Field numbers of BundleEntryProto, and of the messages nested in its shape.
_DTYPE, _SHAPE, _OFFSET, _SIZE = 1, 2, 4, 5
_SHAPE_DIMENSION = 2
_DIMENSION_SIZE = 1

# Wire types of a protocol buffer's fields: the lowest three bits of a field's key.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class CheckpointError(TonearmError):
    """A checkpoint file is missing or invalid; the text names the file and the reason."""


def read_checkpoint(prefix: Path) -> dict[str, NDArray[np.float32]]:
    """Read the float32 variables of a checkpoint; those of other types are skipped.

    Parameters
    ----------
    prefix
        Path of the checkpoint without `.index`. A folder stands for a checkpoint with an empty name
        in it, whose files are the hidden `.index` and `.data-00000-of-00001` (as in musicnn).

    Raises
    ------
    CheckpointError
        If a file is missing or is not of this format.
    """
    index_file, data_file = checkpoint_files(prefix)
    try:
        index, data = index_file.read_bytes(), data_file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{error.filename}: {reason_of(error)}") from error
    variables: dict[str, NDArray[np.float32]] = {}
    try:
        for key, value in _table(index):
            if key and (variable := _variable(value, data)) is not None:
                variables[key.decode()] = variable
    except (IndexError, ValueError, struct.error) as error:
        raise CheckpointError(f"{index_file}: not a whole checkpoint index ({error})") from error
    return variables


def checkpoint_files(prefix: Path) -> tuple[Path, Path]:
    """Return the paths of a checkpoint's index and data; `prefix` as in `read_checkpoint`."""
    base = f"{prefix}/" if prefix.is_dir() else f"{prefix}"
    return Path(f"{base}.index"), Path(f"{base}.data-00000-of-00001")


def _table(index: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a sorted string table."""
    footer = index[-_FOOTER_BYTES:]
    if len(footer) < _FOOTER_BYTES or struct.unpack("<Q", footer[-8:])[0] != _TABLE_MAGIC:
        raise ValueError("no table footer")
    position = 0
    for _ in range(2):  # skip the position and length of the metadata block
        _, position = _varint(footer, position)
    start, position = _varint(footer, position)
    size, _ = _varint(footer, position)
    for _, place in _block(index, start, size):
        block_start, position = _varint(place, 0)
        block_size, _ = _varint(place, position)
        yield from _block(index, block_start, block_size)


def _block(index: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if index[start + size] != 0:  # the byte after a block states its compression
        raise ValueError("compressed blocks are not supported")
    block = index[start : start + size]
    (restarts,) = struct.unpack("<I", block[-4:])
    end = size - 4 * (restarts + 1)
    position, key = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        added, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + added]
        position += added
        yield key, block[position : position + length]
        position += length


def _variable(entry: bytes, data: bytes) -> NDArray[np.float32] | None:
    """Return the numbers that a BundleEntryProto points to, or None if they are not float32."""
    fields = dict(_fields(entry))
    if fields.get(_DTYPE) != _FLOAT32:
        return None
    shape = [
        dict(_fields(dimension)).get(_DIMENSION_SIZE, 0)
        for number, dimension in _fields(_as_bytes(fields.get(_SHAPE, b"")))
        if number == _SHAPE_DIMENSION and isinstance(dimension, bytes)
    ]
    # Protocol buffers omit fields that are zero, such as the first variable's offset.
    offset, size = fields.get(_OFFSET, 0), fields.get(_SIZE, 0)
    if not isinstance(offset, int) or not isinstance(size, int) or offset + size > len(data):
        raise ValueError("a variable lies outside the data file")
    numbers = np.frombuffer(data[offset : offset + size], dtype="<f4")
    return numbers.astype(np.float32).reshape([n for n in shape if isinstance(n, int)])


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the number and value of each field of a protocol buffer."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, encoding = key >> 3, key & 7
        if encoding == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if encoding == _BYTES:
            length, position = _varint(message, position)
        elif encoding in (_FIXED32, _FIXED64):
            length = 4 if encoding == _FIXED32 else 8
        else:
            raise ValueError(f"unknown encoding {encoding} of a field")
        yield number, message[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Read a varint (seven bits per byte, lowest first); return it and the position after it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


def _as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where a message should be")
    return value
