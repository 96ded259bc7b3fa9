"""What a file is called that a command writes if it is not told."""

from __future__ import annotations

import os
from pathlib import Path

LONGEST_NAME = 255  # bytes, in nearly every file system


def named_after(file: str | os.PathLike[str], ending: str) -> Path:
    """Return the name of a file without its suffix, and with an ending, in the current folder.

    Of a name that leaves no room for the ending, the end gives way.
    """
    stem = Path(file).stem
    while len(os.fsencode(stem + ending)) > LONGEST_NAME:
        stem = stem[:-1]
    return Path(stem + ending)
