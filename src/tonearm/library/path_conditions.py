"""SQL that selects the files of a store by their paths."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

from tonearm.media import require_several

QUERY_SIZE = 500  # paths in one query; the oldest versions of SQLite allow 999


def path_conditions(
    paths: Sequence[str | os.PathLike[str]],
) -> Iterator[tuple[str, list[Any]]]:
    """Yield SQL conditions, and their values, for paths that are one of `paths` or below one.

    Many paths need several conditions, since SQLite limits the size of a query. No file meets two
    of them, and files that meet an earlier one sort before those that meet a later one.

    Raises
    ------
    UsageError
        If a single path is given.
    """
    require_several("under", paths)
    if not paths:
        yield "1", []
    ranges = iter(_path_ranges(paths))
    while batch := list(islice(ranges, QUERY_SIZE // 2)):
        # A join in this order finds each range by index; many ORs would be tested on every file.
        found = (
            f"WITH ranges (first, past) AS (VALUES {', '.join(['(?, ?)'] * len(batch))}) "
            "SELECT f.rowid FROM ranges CROSS JOIN files AS f ON f.path >= first AND f.path < past"
        )
        yield f"files.rowid IN ({found})", list(chain.from_iterable(batch))


def _path_ranges(paths: Sequence[str | os.PathLike[str]]) -> list[tuple[bytes, bytes]]:
    """Return the ranges of bytes that contain all paths that are one of `paths` or below one.

    The ranges are half-open and sorted, and no two overlap.
    """
    ranges = set()
    for path in map(stored_path, paths):
        encoded = os.fsencode(path)
        below = os.fsencode(os.path.join(path, ""))  # noqa: PTH118 (ends in a separator)
        # All paths below a folder sort between its path (ending in a separator) and the same path
        # with the last byte incremented.
        ranges |= {(encoded, encoded + b"\0"), (below, below[:-1] + bytes([below[-1] + 1]))}
    merged: list[tuple[bytes, bytes]] = []
    for first, end in sorted(ranges):
        if merged and first < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((first, end))
    return merged


def stored_path(path: str | os.PathLike[str]) -> str:
    """Return a path as the store has it: absolute, through the symbolic links that were given."""
    absolute = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 (keeps symbolic links)
    drive, rest = os.path.splitdrive(absolute)
    # On Windows, some terminals start in c:\, others in C:\.
    return (drive.upper() if drive.endswith(":") else drive) + rest
