"""Finds full-length songs among whatever lies in some folders."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import av

from tonearm import media
from tonearm.audio.container import ANY_TAGS

SHORTEST, LONGEST = 120.0, 600.0  # seconds


def choose(paths: Sequence[Path], count: int) -> list[Path]:
    """Choose `count` full-length songs, evenly spaced among all below the folders."""
    found = [Path(file) for file in media.recordings(map(str, paths))]
    songs = [file for file in found if SHORTEST <= seconds(file) <= LONGEST]
    if len(songs) < count:
        sys.exit(f"expected {count} songs of {SHORTEST:.0f} to {LONGEST:.0f} s: {len(songs)}")
    return [songs[i * len(songs) // count] for i in range(count)]


def seconds(path: Path) -> float:
    """Return the length in a file's header, or 0 if it has none."""
    try:
        with av.open(str(path), **ANY_TAGS) as container:
            return (container.duration or 0) / av.time_base
    except (av.error.FFmpegError, UnicodeError):
        return 0.0
