"""How many threads and processes are worth starting."""

from __future__ import annotations

import os

_MOST_WAITED_FOR = 60  # processes: Windows waits for 64 objects at once, and Python needs a few


def keep_blas_single() -> None:
    """Make NumPy compute matrix products in one thread; call this before NumPy is loaded.

    The front end's products are so small that starting threads costs more than it saves.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def processors() -> int:
    """Return the number of processors this process may use, perhaps fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return min(os.cpu_count() or 1, _MOST_WAITED_FOR)
