"""What to expect of a head on recordings it has not heard: cross-validation, artists kept apart."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tonearm.datasets.splits import SplitWarning, artist_key, split
from tonearm.datasets.track import Dataset, Track, labels_of
from tonearm.evaluation.calibration import fit_temperature, probabilities_at
from tonearm.evaluation.grouping import Unit
from tonearm.evaluation.metrics import Metrics, evaluate
from tonearm.library.head import Floats, fit_head
from tonearm.library.kinship import kinship

FOLDS = 5


@dataclass(frozen=True)
class GenreForecast:
    """What to expect of one genre.

    Attributes
    ----------
    files, groups
        To learn from: recordings, and what `tonearm.library.kinship` puts together of them.
    unit
        What each of the groups is: an artist; or an artist, an album or a recording ("group").
    judged
        How many recordings could be judged: the others are the only examples their fold would
        have had.
    precision, recall, f1
        Over all judged recordings; of no meaning where none of the genre was judged.
    taken_for
        Other genres and how many of the judged were taken for each, the most frequent first.
    """

    label: str
    files: int
    groups: int
    unit: Unit
    judged: int
    precision: float
    recall: float
    f1: float
    taken_for: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Forecast:
    """What to expect of a head.

    Attributes
    ----------
    genres
        In the order of the labels.
    metrics
        Over all judged recordings, with intervals drawn over groups; None where not one could be
        judged, because every genre is the music of one artist.
    temperature
        Makes the head as sure as it is right; 1 where nothing could be judged.
    folds
        How many there were.
    unknown
        Of how many recordings neither artist nor album is known. Where there are any, the figures
        are too good to an unknown degree.
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
    seed: int = 0,
) -> Forecast:
    """Cross-validate a head; no artist and no album is on both sides.

    A recording is judged by a head that has heard neither it nor its kin. One whose genre is not
    among what that head has heard cannot be judged.

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
    kin = kinship(tracks)
    folds = list(_folds(tracks, kin.groups, seed))
    scores = np.full((len(tracks), len(labels)), np.nan)
    for held_out in folds:
        rest = np.setdiff1d(np.arange(len(tracks)), held_out)
        heard = np.unique(truth[rest])
        judged = held_out[np.isin(truth[held_out], heard)]
        if len(heard) > 1 and len(judged):
            head = fit_head(embeddings[rest], truth[rest], len(labels), parts)
            scores[judged] = head.logits(embeddings[judged])
    judged = np.flatnonzero(np.isfinite(scores).all(axis=1))
    groups = np.array(kin.groups)
    temperature, metrics = 1.0, None
    if len(judged):
        temperature = fit_temperature(scores[judged], truth[judged])
        metrics = evaluate(
            truth[judged],
            probabilities_at(scores[judged], temperature),
            labels,
            seed=seed,
            groups=groups[judged].tolist(),
        )
    return Forecast(
        tuple(
            _genre(
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
        kin.unknown,
    )


def _folds(
    tracks: Sequence[Track], groups: Sequence[int], seed: int
) -> Iterator[NDArray[np.int64]]:
    """Yield the places of the tracks that are held out together; groups stay whole."""
    count = min(FOLDS, len(set(groups)))
    if count < 2:
        return
    # A group stands for an artist: those folds keep it on one side, and spread every genre.
    members = tuple(
        replace(track, id=str(place), artist=f"group {group}", split=None)
        for place, (track, group) in enumerate(zip(tracks, groups, strict=True))
    )
    dataset = Dataset("examples", Path(), members, labels_of(members))
    with warnings.catch_warnings():
        # A forecast says itself what it could not judge, and whose artist is not known.
        warnings.simplefilter("ignore", SplitWarning)
        folds = split(dataset, "artist-kfold", count, seed)
    for fold in folds:
        yield np.array(sorted(int(track.id) for track in fold.valid), dtype=np.int64)


def _genre(
    label: str,
    tracks: Sequence[Track],
    groups: Sequence[int],
    labels: Sequence[str],
    metrics: Metrics | None,
) -> GenreForecast:
    """Say what to expect of a genre by its own tracks, their groups and the metrics of all."""
    kin = len(set(groups))
    artists = {artist_key(track.artist or "") for track in tracks}
    unit: Unit = "artist" if "" not in artists and len(artists) == kin else "group"
    if metrics is None:
        return GenreForecast(label, len(tracks), kin, unit, 0, 0.0, 0.0, 0.0, ())
    column = labels.index(label)
    row, counts = metrics.per_class[column], metrics.confusion[column]
    others = sorted(
        ((labels[i], count) for i, count in enumerate(counts) if count and i != column),
        key=lambda other: -other[1],
    )
    return GenreForecast(
        label,
        len(tracks),
        kin,
        unit,
        row.support,
        row.precision,
        row.recall,
        row.f1,
        tuple(others),
    )
