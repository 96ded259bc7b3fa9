"""Reads genres out of what frozen teachers say of a clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tonearm.models import audioset
from tonearm.training.teachers import Said

Floats = NDArray[np.float32]

_LEAST_SHARE = 1e-6
_LEAST_SPREAD = 1e-3  # of a feature: most of musicnn's are constant, and divided by this
_FURTHEST = 5.0  # standard deviations; what moves a near-constant feature must not decide alone

# The embedding of each teacher, float32[D], for a clip.
EMBEDDINGS: Mapping[str, Callable[[Said], Floats]] = {
    "mn04": lambda said: said.mn04,
    "musicnn": lambda said: said.musicnn.mean(axis=0),
    "fcn": lambda said: said.fcn,
}


def probe(
    known: Floats, truth: NDArray[np.int64], asked: Floats, classes: int, regularisation: float
) -> NDArray[np.float64]:
    """Fit a linear probe, a class-balanced logistic regression over standardised embeddings.

    No genre, not even one it never saw, is less likely than `_LEAST_SHARE`: two probes that are
    sure of different genres would otherwise leave none possible.

    Parameters
    ----------
    known : float32[N, D], embeddings of labelled clips.
    truth : int[N], their genres, below `classes`; two different ones at least.
    asked : float32[M, D], embeddings of others.
    regularisation : C, the inverse strength.

    Returns
    -------
    float64[M, classes], log-probabilities.
    """
    from sklearn.linear_model import LogisticRegression

    mean, deviation = known.mean(axis=0), np.maximum(known.std(axis=0), _LEAST_SPREAD)
    classifier: Any = LogisticRegression(
        C=regularisation, class_weight="balanced", max_iter=2000
    ).fit(_standard(known, mean, deviation), truth)
    shares = np.zeros((len(asked), classes))
    shares[:, classifier.classes_] = classifier.predict_proba(_standard(asked, mean, deviation))
    return np.log(np.maximum(shares, _LEAST_SHARE))


def audioset_opinion(logits: Floats, labels: Sequence[str]) -> NDArray[np.float64]:
    """Give the log-probability of the likeliest AudioSet class of each genre.

    Parameters
    ----------
    logits : float32[M, 527], what mn04 says.
    labels : genres that `tonearm.models.audioset` knows.

    Returns
    -------
    float64[M, labels], of which several or none may be near 0: AudioSet's classes do not exclude
    each other.
    """
    log_probabilities = -np.logaddexp(0.0, -logits.astype(np.float64))
    return np.stack(
        [log_probabilities[:, classes].max(axis=1) for classes in audioset.genre_classes(labels)],
        axis=1,
    )


def _standard(x: Floats, mean: Floats, deviation: Floats) -> Floats:
    standardised: Floats = np.clip((x - mean) / deviation, -_FURTHEST, _FURTHEST)
    return standardised
