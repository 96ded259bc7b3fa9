"""What to expect of a head on unseen tracks, by cross-validation with artists kept apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tonearm.datasets.splits import artist_key, balanced_folds
from tonearm.datasets.track import Track
from tonearm.evaluation.calibration import fit_temperature, probabilities_at
from tonearm.evaluation.grouping import Unit
from tonearm.evaluation.metrics import Metrics, evaluate
from tonearm.library.head import Floats, fit_head
from tonearm.library.related import related_groups

FOLDS = 5


@dataclass(frozen=True)
class GenreForecast:
    """What to expect of one genre.

    Attributes
    ----------
    files, groups
        Number of tracks to learn from, and of the groups that `tonearm.library.related` forms of
        them.
    unit
        What a group is: "artist"; or "group" for any of an artist, an album or a track.
    evaluated
        Number of tracks that could be evaluated; see `forecast` for those that cannot.
    precision, recall, f1
        Over all evaluated tracks; meaningless if none of this genre was evaluated.
    confused_with
        Other genres that evaluated tracks of this one were predicted as, and how many, most
        frequent first.
    """

    label: str
    files: int
    groups: int
    unit: Unit
    evaluated: int
    precision: float
    recall: float
    f1: float
    confused_with: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Forecast:
    """What to expect of a head.

    Attributes
    ----------
    genres
        In the order of the labels.
    metrics
        Over all evaluated tracks, with intervals from resampling groups; None if no track could be
        evaluated, because each genre is the music of a single artist.
    temperature
        Calibrates the head's confidence to its accuracy; 1 if no track could be evaluated.
    folds
        Number of folds.
    unknown
        Number of tracks for which neither artist nor album is known; a compilation is no album. If
        there are any, the figures are too optimistic to an unknown degree.
    """

    genres: tuple[GenreForecast, ...]
    metrics: Metrics | None
    temperature: float
    folds: int
    unknown: int


def forecast(
    embeddings: Floats,
    tracks: Sequence[Track],
    labels: Sequence[str],
    parts: Sequence[int] = (),
) -> Forecast:
    """Cross-validate a head, keeping each group of related tracks (`related_groups`) in one fold.

    Each track is thus evaluated by a head trained neither on it nor on tracks related to it. It
    cannot be evaluated if its genre has no example outside its fold, or if only one genre has.

    Parameters
    ----------
    embeddings
        float32[N, E]
    tracks
        N, each with a label.
    labels
        The genres, in the order of the head's scores.
    parts
        Widths of the embedding's parts, as in `fit_head`.
    """
    columns = {label: column for column, label in enumerate(labels)}
    truth = np.array([columns[str(track.label)] for track in tracks], dtype=np.int64)
    related = related_groups(tracks)
    folds = list(_folds(tracks, related.groups))
    scores = np.full((len(tracks), len(labels)), np.nan)
    for held_out in folds:
        training = np.setdiff1d(np.arange(len(tracks)), held_out)
        trained_classes = np.unique(truth[training])
        evaluated = held_out[np.isin(truth[held_out], trained_classes)]
        if len(trained_classes) > 1 and len(evaluated):
            head = fit_head(embeddings[training], truth[training], len(labels), parts)
            scores[evaluated] = head.logits(embeddings[evaluated])
    evaluated = np.flatnonzero(np.isfinite(scores).all(axis=1))
    groups = np.array(related.groups)
    temperature, metrics = 1.0, None
    if len(evaluated):
        temperature = fit_temperature(scores[evaluated], truth[evaluated])
        metrics = evaluate(
            truth[evaluated],
            probabilities_at(scores[evaluated], temperature),
            labels,
            groups=groups[evaluated].tolist(),
        )
    return Forecast(
        tuple(
            _genre_forecast(
                label,
                [track for track in tracks if track.label == label],
                groups[truth == column].tolist(),
                labels,
                metrics,
            )
            for column, label in enumerate(labels)
        ),
        metrics,
        temperature,
        len(folds),
        related.unknown,
    )


def _folds(tracks: Sequence[Track], groups: Sequence[int]) -> Iterator[NDArray[np.int64]]:
    """Yield the indices of each fold's held-out tracks; groups are never divided."""
    count = min(FOLDS, len(set(groups)))
    if count < 2:
        return
    # Numbers sorted as texts: the folds depend on the order, and published figures on the folds.
    order = sorted(range(len(tracks)), key=str)
    folds = np.empty(len(tracks), dtype=np.int64)
    folds[order] = balanced_folds(
        [tracks[i] for i in order], [groups[i] for i in order], count, seed=0
    )
    for number in range(count):
        yield np.flatnonzero(folds == number)


def _genre_forecast(
    label: str,
    tracks: Sequence[Track],
    groups: Sequence[int],
    labels: Sequence[str],
    metrics: Metrics | None,
) -> GenreForecast:
    """Return the forecast for a genre from its own tracks, their groups and the overall metrics."""
    group_count = len(set(groups))
    artists = {artist_key(track.artist) for track in tracks}
    unit: Unit = "artist" if "" not in artists and len(artists) == group_count else "group"
    if metrics is None:
        return GenreForecast(label, len(tracks), group_count, unit, 0, 0.0, 0.0, 0.0, ())
    column = labels.index(label)
    row, counts = metrics.per_class[column], metrics.confusion[column]
    confusions = sorted(
        ((labels[i], count) for i, count in enumerate(counts) if count and i != column),
        key=lambda other: -other[1],
    )
    return GenreForecast(
        label,
        len(tracks),
        group_count,
        unit,
        row.support,
        row.precision,
        row.recall,
        row.f1,
        tuple(confusions),
    )
