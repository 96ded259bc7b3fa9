"""The last layer of a classifier, fitted to somebody's own genres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tonearm.errors import MissingExtraError, UsageError

try:
    from sklearn.linear_model import LogisticRegression
except ImportError as error:
    raise MissingExtraError("scikit-learn", "learn") from error

# Inverse strength of the regularisation, chosen on networks that had not heard the recordings
# judged (benchmarks/learn.py); from 0.5 to 2 it hardly matters.
STRENGTH = 1.0
# A dimension that hardly moves among a hundred recordings may move among the next: no deviation
# counts as less than this share of the median one.
SMALLEST_DEVIATION = 0.05
UNHEARD = float(np.log(1e-6))  # the score of a genre of which there was no example

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Head:
    """A linear map from an embedding to a score for each genre.

    Attributes
    ----------
    weights
        float64[E, C]
    biases
        float64[C]
    """

    weights: Doubles
    biases: Doubles

    def logits(self, embeddings: Floats) -> Doubles:
        """Score float32[N, E]: float64[N, C]."""
        scores: Doubles = embeddings.astype(np.float64) @ self.weights + self.biases
        return scores


def fit_head(
    embeddings: Floats,
    truth: NDArray[np.int64],
    genres: int,
    parts: Sequence[int] = (),
    strength: float = STRENGTH,
) -> Head:
    """Fit a class-balanced logistic regression over standardised embeddings.

    Of an embedding of several parts each counts alike, however wide it is: with few recordings the
    wide one would otherwise drown what the narrow one has to say.

    The mean embedding of a recording's windows has the mean of the windows' scores, since the map
    is linear: what is fitted to recordings serves their windows as it is.

    Parameters
    ----------
    embeddings
        float32[N, E], one for each recording.
    truth
        int[N], each recording's genre.
    genres
        How many there are; those without an example score as next to impossible.
    parts
        Widths of the embedding's parts, in order; by default it is one.
    strength
        The inverse strength of the regularisation, C, for parts of mean square 1.

    Raises
    ------
    UsageError
        If all recordings are of one genre.
    """
    if len(np.unique(truth)) < 2:
        raise UsageError("a classifier needs examples of two genres at least")
    mean = embeddings.mean(axis=0, dtype=np.float64)
    scale = _deviation(embeddings)
    widths = parts or (embeddings.shape[1],)
    scale *= np.repeat(np.sqrt(widths), widths)
    fitted: Any = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000)
    fitted.fit((embeddings - mean) / scale, truth)
    weights, biases = layer_of(fitted, genres)
    weights /= scale  # the standardisation is folded into the layer
    return Head(weights.T, biases - weights @ mean)


def layer_of(fitted: Any, genres: int) -> tuple[Doubles, Doubles]:
    """Return a logistic regression of scikit-learn's as a linear layer.

    Parameters
    ----------
    fitted
        A `LogisticRegression`, its classes numbers of genres.
    genres
        How many there are; those it was not fitted to score as next to impossible.

    Returns
    -------
    weights : float64[genres, E]
    biases : float64[genres]
    """
    coefficients, intercepts = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:  # scikit-learn keeps only how the second differs
        coefficients = np.vstack([-coefficients, coefficients]) / 2
        intercepts = np.hstack([-intercepts, intercepts]) / 2
    weights = np.zeros((genres, coefficients.shape[1]))
    biases = np.full(genres, UNHEARD)
    weights[fitted.classes_] = coefficients
    biases[fitted.classes_] = intercepts
    return weights, biases


def _deviation(embeddings: Floats) -> Doubles:
    """Return each dimension's standard deviation, never next to nothing."""
    deviation = embeddings.std(axis=0, dtype=np.float64)
    floor: Doubles = np.maximum(deviation, max(SMALLEST_DEVIATION * np.median(deviation), 1e-6))
    return floor
