"""How long one file may take before Tonearm gives up on it."""

from __future__ import annotations

import math
import os
from pathlib import Path

from tonearm import audio
from tonearm.errors import UsageError

# For everything done with a file. Three hours of music take some 40 s on one core, but a small file
# that decodes to days of sound must not block for a day. Within this, reading and decoding have a
# limit of their own (`audio.LIMIT_SECONDS`).
FILE_LIMIT_SECONDS, FILE_LIMIT_SECONDS_PER_MEGABYTE = 120.0, 4.0

# A process that hangs where it cannot check the time is killed this much later than it should have
# stopped by itself, so that a file that is merely slow times out cleanly.
GRACE_SECONDS = 10.0


def time_limit_for(size: int, time_limit: float | None) -> float:
    """Return the seconds a file of `size` bytes may take: the given limit, or one by its size."""
    if time_limit is not None:
        return time_limit
    return FILE_LIMIT_SECONDS + FILE_LIMIT_SECONDS_PER_MEGABYTE * size / 1_000_000


def known_size(source: audio.Source) -> int:
    """Return the size of a file in bytes; 0 if unknown, since reading it will raise the reason."""
    try:
        if isinstance(source, str | os.PathLike):
            return Path(os.fsdecode(source)).stat().st_size
        return source.seek(0, os.SEEK_END)
    except (OSError, ValueError, AttributeError):
        return 0


def check_time_limit(seconds: float | None) -> None:
    """Raise UsageError unless a time limit is None or a number of seconds above 0."""
    if seconds is not None and not 0 < seconds < math.inf:
        raise UsageError(f"time limit: expected seconds above 0, got {seconds}")
