"""Predict genres from the outputs of frozen teachers, by linear probes and AudioSet's classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tonearm.models import audioset
from tonearm.training.teachers import TeacherOutputs

Floats = NDArray[np.float32]

_LEAST_SHARE = 1e-6
LEAST_SPREAD = 1e-3  # least deviation a feature is divided by; most of musicnn's are constant
FURTHEST = 5.0  # standard deviations, so that no near-constant feature can decide alone

# The embedding of each teacher, float32[D], for a clip.
EMBEDDINGS: Mapping[str, Callable[[TeacherOutputs], Floats]] = {
    "mn04": lambda outputs: outputs.mn04,
    "musicnn": lambda outputs: outputs.musicnn.mean(axis=0),
    "fcn": lambda outputs: outputs.fcn,
}


def probe(
    known: Floats, truth: NDArray[np.int64], test: Floats, classes: int, regularisation: float
) -> NDArray[np.float64]:
    """Return the predictions of a linear probe fitted to labelled clips.

    The probe is a class-balanced logistic regression over standardised embeddings. No genre, not
    even one without clips, is less likely than `_LEAST_SHARE`: otherwise, two probes that are sure
    of different genres would together rule out all of them.

    Parameters
    ----------
    known
        float32[N, D], embeddings of labelled clips.
    truth
        int[N], their genres, below `classes`; at least two different ones.
    test
        float32[M, D], embeddings to predict genres for.
    regularisation
        C, the inverse strength of the regularisation.

    Returns
    -------
    float64[M, classes], log-probabilities.
    """
    fitted = fit(known, truth, regularisation)
    shares = np.zeros((len(test), classes))
    shares[:, fitted.classifier.classes_] = fitted.classifier.predict_proba(fitted.standard(test))
    return np.log(np.maximum(shares, _LEAST_SHARE))


class Fitted(NamedTuple):
    """A logistic regression, and the moments that standardise its input."""

    mean: Floats  # float32[D]
    deviation: Floats  # float32[D]
    classifier: Any  # of scikit-learn

    def standard(self, x: Floats) -> Floats:
        """Standardise float32[N, D], clipped to `FURTHEST` standard deviations."""
        standardised: Floats = np.clip((x - self.mean) / self.deviation, -FURTHEST, FURTHEST)
        return standardised


def fit(known: Floats, truth: NDArray[np.int64], regularisation: float) -> Fitted:
    """Fit the class-balanced logistic regression of `probe`, which has the same parameters."""
    from sklearn.linear_model import LogisticRegression

    classifier: Any = LogisticRegression(C=regularisation, class_weight="balanced", max_iter=2000)
    deviation = np.maximum(known.std(axis=0), LEAST_SPREAD)
    fitted = Fitted(known.mean(axis=0), deviation, classifier)
    classifier.fit(fitted.standard(known), truth)
    return fitted


def audioset_head(logits: Floats, labels: Sequence[str]) -> NDArray[np.float64]:
    """Return the log-probability of the likeliest AudioSet class of each genre.

    Parameters
    ----------
    logits
        float32[M, 527], the outputs of mn04.
    labels
        Genres that `tonearm.models.audioset` knows.

    Returns
    -------
    float64[M, labels]; several of a row or none may be near 0, as AudioSet's classes are not
    mutually exclusive.
    """
    log_probabilities = -np.logaddexp(0.0, -logits.astype(np.float64))
    return np.stack(
        [log_probabilities[:, classes].max(axis=1) for classes in audioset.genre_classes(labels)],
        axis=1,
    )
