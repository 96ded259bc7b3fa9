"""The last layer of a classifier, fitted to a user's own genres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tonearm.errors import UsageError
from tonearm.extras import needs

with needs("learn"):
    from sklearn.linear_model import LogisticRegression

# Inverse regularisation strength, chosen with networks that were not trained on the tracks used for
# evaluation (benchmarks/learn.py); from 0.5 to 2 it hardly matters.
STRENGTH = 1.0
# A dimension that hardly varies over a hundred tracks may vary over the next: standard deviations
# are raised to at least this share of the median one.
SMALLEST_DEVIATION = 0.05
UNSEEN_LOGIT = float(np.log(1e-6))  # the score of a genre without examples

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
        """Return the scores, float64[N, C], of embeddings, float32[N, E]."""
        scores: Doubles = embeddings.astype(np.float64) @ self.weights + self.biases
        return scores


def fit_head(
    embeddings: Floats,
    truth: NDArray[np.int64],
    genres: int,
    parts: Sequence[int] = (),
    strength: float = STRENGTH,
) -> Head:
    """Fit a class-balanced logistic regression to standardised embeddings.

    If an embedding has several parts, each has equal weight, however wide it is: with few tracks, a
    wide part would otherwise drown out a narrow one.

    Since the map is linear, the score of a track's mean embedding is the mean of its windows'
    scores: a head fitted to tracks can be applied to their windows unchanged.

    Parameters
    ----------
    embeddings
        float32[N, E], one for each track.
    truth
        int[N], each track's genre.
    genres
        Number of genres; those without examples are scored as almost impossible.
    parts
        Widths of the embedding's parts, in order; by default a single part.
    strength
        Inverse regularisation strength, C, for parts scaled to a mean squared norm of 1.

    Raises
    ------
    UsageError
        If all tracks are of one genre.
    """
    if len(np.unique(truth)) < 2:
        raise UsageError("a classifier needs examples of two genres at least")
    mean = embeddings.mean(axis=0, dtype=np.float64)
    scale = _deviation(embeddings)
    widths = parts or (embeddings.shape[1],)
    scale *= np.repeat(np.sqrt(widths), widths)
    standardised = embeddings - mean
    standardised /= scale  # in place: this is gigabytes for a large library
    fitted: Any = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000)
    fitted.fit(standardised, truth)
    weights, biases = linear_layer(fitted, genres)
    weights /= scale  # fold the standardisation into the layer
    return Head(weights.T, biases - weights @ mean)


def linear_layer(fitted: Any, genres: int) -> tuple[Doubles, Doubles]:
    """Return a fitted scikit-learn logistic regression as a linear layer.

    Parameters
    ----------
    fitted
        A `LogisticRegression` whose classes are genre numbers.
    genres
        Number of genres; those it was not fitted to are scored as almost impossible.

    Returns
    -------
    weights : float64[genres, E]
    biases : float64[genres]
    """
    coefficients, intercepts = fitted.coef_, fitted.intercept_
    if len(fitted.classes_) == 2:  # scikit-learn stores only the second class minus the first
        coefficients = np.vstack([-coefficients, coefficients]) / 2
        intercepts = np.hstack([-intercepts, intercepts]) / 2
    weights = np.zeros((genres, coefficients.shape[1]))
    biases = np.full(genres, UNSEEN_LOGIT)
    weights[fitted.classes_] = coefficients
    biases[fitted.classes_] = intercepts
    return weights, biases


def _deviation(embeddings: Floats) -> Doubles:
    """Return each dimension's standard deviation, with a lower bound."""
    deviation = embeddings.std(axis=0, dtype=np.float64)
    floor: Doubles = np.maximum(deviation, max(SMALLEST_DEVIATION * np.median(deviation), 1e-6))
    return floor
