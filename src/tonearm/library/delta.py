"""What it takes to restore an old file from a new one that differs only in its tags."""

from __future__ import annotations

import base64
import mmap
import os
import zlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

CELL = 64  # bytes: the unit of comparison
BLOCK = CELL << 14  # bytes compared at a time, 1 MiB
MIN_SEARCH_CELLS = 16  # shortest stretch, 1 KiB, to search for if it is at neither usual position
MAX_SEARCHES = 8  # most stretches searched for, each of which may have moved by its own distance

Bytes = npt.NDArray[np.uint8]

_UNMATCHED = 255  # marks a cell that only the old file has


@dataclass(frozen=True)
class Delta:
    """The old file in terms of the new one.

    Attributes
    ----------
    pieces
        In the order of the old file: where each piece begins in the new file, or None if it is in
        `own`, and its length in bytes.
    own
        The bytes that only the old file has, one piece after another.
    """

    pieces: tuple[tuple[int | None, int], ...]
    own: bytes

    def to_dict(self) -> dict[str, Any]:
        """Return the delta as JSON values."""
        return {
            "pieces": [list(piece) for piece in self.pieces],
            "own": base64.b64encode(zlib.compress(self.own)).decode("ascii"),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Delta:
        """Return the delta that `to_dict` described.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is damaged.
        """
        pieces = tuple((source, length) for source, length in values["pieces"])
        for source, length in pieces:
            if not isinstance(source, int | None) or not isinstance(length, int):
                raise TypeError("a piece is no pair of numbers")
        try:
            return cls(pieces, zlib.decompress(base64.b64decode(values["own"])))
        except zlib.error as error:
            raise ValueError(str(error)) from error


def difference(old: str | os.PathLike[str], new: str | os.PathLike[str]) -> Delta:
    """Return the delta between two files.

    The audio is the same in both. Its offset is either unchanged or shifted by as much as the file
    has grown, whatever comes before and after it. The cells of the old file are therefore looked
    for at these two offsets first, which takes no longer than reading both files. Pictures may also
    have moved, by the few bytes of the genre field before them: the longest remaining stretches
    are searched for.
    """
    before, after = np.frombuffer(_memory_map(old), np.uint8), _memory_map(new)
    after_bytes = np.frombuffer(after, np.uint8)
    shifts: list[int] = []
    matches = np.full(-(-len(before) // CELL), _UNMATCHED, np.uint8)  # index of each cell's shift

    def mark_matches(shift: int, start: int, stop: int) -> None:
        """Mark the unmarked cells from `start` to `stop` that the new file has at a new shift."""
        for first in range(start, stop, BLOCK // CELL):
            last = min(stop, first + BLOCK // CELL)
            block = before[first * CELL : last * CELL]
            equal = _equal_cells(block, after_bytes, first * CELL + shift)
            matches[first:last][equal & (matches[first:last] == _UNMATCHED)] = len(shifts)
        shifts.append(shift)

    for shift in (0, len(after) - len(before)):
        mark_matches(shift, 0, len(matches))
    for _ in range(MAX_SEARCHES):
        unmatched = [
            (stop - start, start, stop)
            for shift_index, start, stop in _runs(matches)
            if shift_index == _UNMATCHED
        ]
        length, start, stop = max(unmatched, default=(0, 0, 0))
        found = _find_shift(before, after, start, stop) if length >= MIN_SEARCH_CELLS else None
        if found is None:
            break
        mark_matches(found, start, stop)
    return _encode(matches, before, shifts)


def restore(delta: Delta, new: str | os.PathLike[str], output: BinaryIO) -> None:
    """Write the old file's bytes, given the new file."""
    after = memoryview(_memory_map(new))
    consumed = 0
    for source, length in delta.pieces:
        if source is None:
            output.write(delta.own[consumed : consumed + length])
            consumed += length
        else:
            output.write(after[source : source + length])


def _memory_map(path: str | os.PathLike[str]) -> mmap.mmap | bytes:
    """Return a file's bytes, read on access."""
    with Path(path).open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return b""  # an empty file cannot be mapped
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _equal_cells(block: Bytes, after: Bytes, start: int) -> npt.NDArray[np.bool_]:
    """Return bool[cells], the cells of a block that the other file has too, from `start` on."""
    equal = np.zeros(-(-len(block) // CELL) * CELL, np.bool_)
    equal[len(block) :] = True  # padding of the last cell counts as equal
    first, last = max(0, -start), min(len(block), len(after) - start)
    if first < last:
        equal[first:last] = block[first:last] == after[start + first : start + last]
    cells: npt.NDArray[np.bool_] = np.all(equal.reshape(-1, CELL), axis=1)
    return cells


def _find_shift(before: Bytes, after: mmap.mmap | bytes, start: int, stop: int) -> int | None:
    """Return how far the cells from `start` to `stop` moved, or None if they are not found."""
    for cell in (start + (stop - start) * part // 4 for part in (2, 1, 3)):
        sample = before[cell * CELL : (cell + 1) * CELL].tobytes()
        found = after.find(sample)
        if found >= 0:
            return found - cell * CELL
    return None


def _encode(matches: Bytes, before: Bytes, shifts: list[int]) -> Delta:
    pieces: list[tuple[int | None, int]] = []
    literals = bytearray()
    for shift_index, first, last in _runs(matches):
        start, stop = first * CELL, min(last * CELL, len(before))
        if shift_index == _UNMATCHED:
            pieces.append((None, stop - start))
            literals += before[start:stop].tobytes()
        else:
            pieces.append((start + shifts[shift_index], stop - start))
    return Delta(tuple(pieces), bytes(literals))


def _runs(matches: Bytes) -> list[tuple[int, int, int]]:
    """Return runs of equal neighbouring cells: (their value, first cell, cell after the last)."""
    edges = [0, *(np.flatnonzero(np.diff(matches)) + 1).tolist(), len(matches)]
    return [(int(matches[start]), start, stop) for start, stop in pairwise(edges) if start < stop]
