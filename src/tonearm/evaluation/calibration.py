"""Temperature scaling: one number that matches a classifier's confidence to its accuracy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tonearm.evaluation.metrics import SMALLEST_PROBABILITY


def fit_temperature(log_probabilities: NDArray[np.floating], truth: NDArray[np.integer]) -> float:
    """Return the temperature at which the clips' distributions best fit the truth.

    Method: Guo et al. 2017.

    Parameters
    ----------
    log_probabilities
        float[N, C], mean log-probabilities of each clip, up to an additive constant per clip.
    truth
        int[N].

    Returns
    -------
    float
        The value between 0.2 and 5 that minimises the negative log-likelihood.
    """
    rows = np.arange(len(truth))

    def loss(temperature: float) -> float:
        probabilities = probabilities_at(log_probabilities, temperature)[rows, truth]
        return float(-np.log(np.maximum(probabilities, SMALLEST_PROBABILITY)).mean())

    return float(min(np.geomspace(0.2, 5.0, 200), key=loss))


def probabilities_at(
    log_probabilities: NDArray[np.floating], temperature: float = 1.0
) -> NDArray[np.float64]:
    """Return probabilities float64[N, C] of log-probabilities float[N, C], up to a row constant."""
    scaled = log_probabilities.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities
