"""Store one array in one `.npy` file, written in blocks of rows and read in slices."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import DTypeLike, NDArray

from tonearm.atomic import atomic_write


class StoredArray:
    """An array on disk that is read like one in memory: `array[a:b]`, `len(array)`.

    Each slice is memory-mapped when taken, and unmapped when released. A `numpy.memmap` for every
    track would hold one file descriptor each, and 1,024 is a common limit; it would also be copied
    whole to a data loader's process, whereas this sends only its path.

    Raises
    ------
    ValueError
        If the file is not a complete array of that type and width.
    OSError
        If the file cannot be read.
    """

    __slots__ = ("_offset", "dtype", "path", "shape")

    def __init__(self, path: Path, dtype: DTypeLike, row_shape: tuple[int, ...]) -> None:
        self.path: Path = path
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        with path.open("rb") as file:
            self.shape: tuple[int, ...] = _read_header(file, self.dtype)
            self._offset = file.tell()
            n_bytes = file.seek(0, os.SEEK_END) - self._offset
        if self.shape[1:] != row_shape:
            raise ValueError(f"{path}: rows of shape {self.shape[1:]}, expected {row_shape}")
        # A file cut short by a full disk or a power failure still has an intact header.
        if n_bytes != int(np.prod(self.shape)) * self.dtype.itemsize:
            raise ValueError(f"{path}: cut short")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        part: NDArray[Any] = self._map()[rows]
        return part

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self._map(), dtype=dtype, copy=copy)

    def _map(self) -> NDArray[Any]:
        if 0 in self.shape:  # nothing to map
            return np.empty(self.shape, self.dtype)
        return np.memmap(self.path, self.dtype, "r", self._offset, self.shape)


def write_array(
    path: Path, blocks: Iterable[NDArray[Any]], dtype: DTypeLike, row_shape: tuple[int, ...]
) -> None:
    """Write blocks of rows as one array, atomically.

    A killed process leaves at most a draft of `tonearm.atomic.atomic_write`, and if two processes
    write the same array, the last one wins.

    Raises
    ------
    OSError
        If the disk is full, or the folder cannot be written to.
    """
    with atomic_write(path) as file:
        _write_header(file, (0, *row_shape), dtype)
        start, rows = file.tell(), 0
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype=dtype).data)
            rows += len(block)
        # NumPy pads its header so that the number of rows can grow in place.
        file.seek(0)
        _write_header(file, (rows, *row_shape), dtype)
        assert file.tell() == start


def _write_header(file: IO[bytes], shape: tuple[int, ...], dtype: DTypeLike) -> None:
    npy.write_array_header_1_0(
        file,
        {"descr": npy.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape},
    )


def _read_header(file: IO[bytes], expected: np.dtype[Any]) -> tuple[int, ...]:
    if npy.read_magic(file) != (1, 0):
        raise ValueError("not the version of .npy that is written here")
    try:
        with warnings.catch_warnings(action="ignore"):
            shape, fortran_order, dtype = npy.read_array_header_1_0(file)
    except Exception as error:  # it is read as Python, so damage to it fails in any of many ways
        raise ValueError("not a header of .npy") from error
    if fortran_order or dtype != expected:
        raise ValueError(f"an array of {dtype}, expected {expected}")
    return tuple(shape)
