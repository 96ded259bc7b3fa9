"""Labels music that nobody labelled, by classifiers over the teachers' embeddings.

A student that sees only a few hundred labelled clips learns them by heart. What the teachers make
of many hours of other music, seen through the same few clips, shows it how to go on from them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tonearm.models import audioset
from tonearm.training.teachers import Said

Floats = NDArray[np.float32]

_LEAST_SHARE = 1e-6
_LEAST_SPREAD = 1e-3  # of a feature: most of musicnn's are constant, and divided by this
_FURTHEST = 5.0  # standard deviations; what moves a near-constant feature must not decide alone

# The views of a stretch of music that a classifier each is fitted to: one teacher's embedding.
_VIEWS: tuple[Callable[[Said], Floats], ...] = (
    lambda said: said.mn04,
    lambda said: said.musicnn.mean(axis=0),
    lambda said: said.fcn,
)


def soft_labels(
    clips: Sequence[Said],
    truth: NDArray[np.int64],
    music: Sequence[Said],
    labels: Sequence[str],
    *,
    regularisation: float,
    audioset_weight: float,
) -> Floats:
    """Give the shares of the genres in unlabelled music.

    Class-balanced logistic regressions over each teacher's embedding, fitted to the labelled
    clips, are averaged in the log domain. AudioSet's opinion is added, relative to its mean over
    the music: it has other ideas of how frequent a genre is.

    Parameters
    ----------
    clips : what was said of the labelled clips.
    truth : int[clips], places in `labels`.
    music : what was said of M stretches of unlabelled music.
    regularisation : C of the logistic regressions.
    audioset_weight : what the log-probability AudioSet gives to a genre weighs; it counts as 0
        where AudioSet does not know the genres.

    Returns
    -------
    float32[M, labels], every row a distribution.
    """
    scores = np.zeros((len(music), len(labels)))
    for view in _VIEWS:
        known = np.stack([view(said) for said in clips])
        asked = np.stack([view(said) for said in music])
        scores += _log_probabilities(known, truth, asked, len(labels), regularisation) / len(_VIEWS)
    if audioset_weight and audioset.knows(labels):
        opinion = _audioset_opinion(np.stack([said.audioset for said in music]), labels)
        scores += audioset_weight * (opinion - opinion.mean(axis=0))
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    normalised: Floats = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    return normalised


def _log_probabilities(
    known: Floats, truth: NDArray[np.int64], asked: Floats, classes: int, regularisation: float
) -> NDArray[np.float64]:
    """Fit a classifier and give float64[asked, classes].

    No genre, not even one it never saw, is less likely than `_LEAST_SHARE`: two classifiers that
    are sure of different genres would otherwise leave none possible.
    """
    from sklearn.linear_model import LogisticRegression

    mean, deviation = known.mean(axis=0), np.maximum(known.std(axis=0), _LEAST_SPREAD)
    classifier: Any = LogisticRegression(
        C=regularisation, class_weight="balanced", max_iter=2000
    ).fit(_standard(known, mean, deviation), truth)
    shares = np.zeros((len(asked), classes))
    shares[:, classifier.classes_] = classifier.predict_proba(_standard(asked, mean, deviation))
    return np.log(np.maximum(shares, _LEAST_SHARE))


def _standard(x: Floats, mean: Floats, deviation: Floats) -> Floats:
    standardised: Floats = np.clip((x - mean) / deviation, -_FURTHEST, _FURTHEST)
    return standardised


def _audioset_opinion(logits: Floats, labels: Sequence[str]) -> NDArray[np.float64]:
    """Give the log-probability of the likeliest of each genre's classes, float64[M, labels]."""
    log_probabilities = -np.logaddexp(0.0, -logits.astype(np.float64))
    return np.stack(
        [log_probabilities[:, classes].max(axis=1) for classes in audioset.genre_classes(labels)],
        axis=1,
    )
