"""Samples in memory, as they are handed in: one number each, and no integers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tonearm.errors import UsageError


def checked_mono(samples: ArrayLike) -> NDArray[np.floating]:
    """Return samples as float[n], as precise as they come.

    Raises
    ------
    UsageError
        If they have more than one dimension, or are integers: what is full scale there is not said.
    """
    signal = np.asarray(samples)
    if signal.ndim != 1 or not np.issubdtype(signal.dtype, np.floating):
        raise UsageError(
            f"samples: expected mono float[n] in [-1, 1], got {signal.dtype} {signal.shape}"
        )
    return signal


def as_mono(samples: ArrayLike) -> NDArray[np.float32]:
    """Return samples as float32[n]; raises what `checked_mono` does."""
    return np.asarray(checked_mono(samples), dtype=np.float32)
