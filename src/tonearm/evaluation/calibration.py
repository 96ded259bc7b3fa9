"""Temperature: the one number that makes a classifier as sure as it is right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def fit_temperature(log_probabilities: NDArray[np.floating], truth: NDArray[np.integer]) -> float:
    """Find the temperature at which clips' distributions fit the truth best (Guo et al. 2017).

    Parameters
    ----------
    log_probabilities
        float[N, C], mean log-probabilities of each clip, up to a constant a clip.
    truth
        int[N].

    Returns
    -------
    float
        Between 0.2 and 5, the minimum of the negative log-likelihood.
    """
    rows = np.arange(len(truth))

    def loss(temperature: float) -> float:
        probabilities = probabilities_at(log_probabilities, temperature)[rows, truth]
        return float(-np.log(np.maximum(probabilities, 1e-12)).mean())

    return float(min(np.geomspace(0.2, 5.0, 200), key=loss))


def probabilities_at(
    log_probabilities: NDArray[np.floating], temperature: float = 1.0
) -> NDArray[np.float64]:
    """Turn log-probabilities float[N, C], up to a constant a row, into shares float64[N, C]."""
    scaled = log_probabilities.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities
