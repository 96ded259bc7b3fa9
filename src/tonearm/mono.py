"""Check samples passed in memory: mono, and floating point rather than integers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tonearm.errors import UsageError


def checked_mono(samples: ArrayLike) -> NDArray[np.floating]:
    """Return samples as float[n] in their own precision.

    Raises
    ------
    UsageError
        If they are not one-dimensional, or are integers, whose full scale would be ambiguous.
    """
    signal = np.asarray(samples)
    if signal.ndim != 1 or not np.issubdtype(signal.dtype, np.floating):
        raise UsageError(
            f"samples: expected mono float[n] in [-1, 1], got {signal.dtype} {signal.shape}"
        )
    return signal


def as_mono(samples: ArrayLike) -> NDArray[np.float32]:
    """Return samples as float32[n]; errors as in `checked_mono`."""
    return np.asarray(checked_mono(samples), dtype=np.float32)
