"""The way from a folder to a file, as playlists and people read it."""

from __future__ import annotations

import os


def relative(path: str, folder: str = os.curdir) -> str:
    """Return a path as seen from a folder, or as it is if that is on another drive."""
    try:
        return os.path.relpath(path, folder)
    except ValueError:  # on Windows no way leads from drive to drive
        return path
