"""How long one file may take before it is given up."""

from __future__ import annotations

import math

from tonearm.errors import UsageError

# For all that is done with a file. Three hours of music take some 40 s on one core, a small file
# that unfolds into days of sound must not take the day. Reading and decoding have a limit of their
# own within this (`audio.LIMIT_SECONDS`).
PATIENCE_SECONDS, PATIENCE_SECONDS_PER_MEGABYTE = 120.0, 4.0

# A process that hangs where it cannot be asked is killed; this much later than it should have
# ended by itself, so that a slow file is ended politely.
GRACE_SECONDS = 10.0


def patience(size: int, time_limit: float | None) -> float:
    """Seconds a file of so many bytes may take: as many as are asked for, or by its size."""
    if time_limit is not None:
        return time_limit
    return PATIENCE_SECONDS + PATIENCE_SECONDS_PER_MEGABYTE * max(0, size) / 1_000_000


def check_time_limit(seconds: float | None) -> None:
    """Raise UsageError unless a time limit is None or a number of seconds above 0."""
    if seconds is not None and not 0 < seconds < math.inf:
        raise UsageError(f"time limit: expected seconds above 0, got {seconds}")
