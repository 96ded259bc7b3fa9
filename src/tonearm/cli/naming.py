"""The default names of files that commands write."""

from __future__ import annotations

import os
from pathlib import Path

LONGEST_NAME = 255  # bytes, in nearly every file system


def named_after(file: str | os.PathLike[str], ending: str) -> Path:
    """Return the name of a file with its suffix replaced by an ending, in the current folder.

    A name that leaves no room for the ending is shortened at its end.
    """
    stem = Path(file).stem
    while len(os.fsencode(stem + ending)) > LONGEST_NAME:
        stem = stem[:-1]
    return Path(stem + ending)
