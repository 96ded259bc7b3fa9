"""How many threads and processes are worth starting."""

from __future__ import annotations

import os


def keep_blas_single() -> None:
    """Let NumPy's matrix products run in one thread, before NumPy is loaded.

    The front end's are small: starting threads costs more than they save.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def processors() -> int:
    """How many processors this process may use, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
