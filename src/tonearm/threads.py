"""How many threads the libraries beneath may start."""

from __future__ import annotations

import os


def keep_blas_single() -> None:
    """Let NumPy's matrix products run in one thread, before NumPy is loaded.

    The front end's are small: starting threads costs more than they save.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
