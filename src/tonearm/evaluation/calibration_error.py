"""The expected calibration error, and how much of it is due to chance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 15
DRAWS = 1000

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def calibration_error(confidence: FloatArray, hits: BoolArray) -> float:
    """Return the mean over 15 bins of |accuracy - confidence|, weighted by the bins' counts.

    Guo et al., "On calibration of modern neural networks", ICML 2017.

    Parameters
    ----------
    confidence
        float64[N], the probability of each predicted class.
    hits
        bool[N], whether each prediction is correct.
    """
    gaps = np.bincount(bins_of(confidence), confidence - hits, BINS)
    return float(np.abs(gaps).sum() / len(hits))


def bins_of(confidence: FloatArray) -> NDArray[np.int64]:
    """Return the bin of each confidence, numbered from 0, where bin i is (i, i + 1] / 15."""
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def errors_by_chance(
    confidence: FloatArray, error: Callable[[FloatArray, BoolArray], ArrayLike] = calibration_error
) -> FloatArray:
    """Return the errors of a perfectly calibrated model, float64[1000, ...], one per draw.

    In each draw, every prediction is right with a probability equal to its confidence. With few
    predictions, the accuracy in a bin differs from their confidence even then.

    Parameters
    ----------
    confidence
        float64[N]
    error
        The error measure, which returns one number or several.
    """
    random = np.random.default_rng(0)
    draws = (random.random(len(confidence)) < confidence for _ in range(DRAWS))
    return np.array([error(confidence, hits) for hits in draws])
