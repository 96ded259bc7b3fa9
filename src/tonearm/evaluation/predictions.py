"""Predictions for a set of labelled tracks, and the CSV file that stores them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tonearm.atomic import write_csv
from tonearm.datasets.splits import artist_key
from tonearm.datasets.track import PREDICTION_COLUMNS, Track
from tonearm.errors import TonearmError, UsageError, reason_of
from tonearm.evaluation.grouping import Unit, group_of
from tonearm.evaluation.metrics import Metrics, evaluate, improper_row
from tonearm.text import enumerated

# Columns that every table begins with, and those that it may end with.
KEY_COLUMNS, OPTIONAL_COLUMNS = PREDICTION_COLUMNS[:2], PREDICTION_COLUMNS[2:]


class PredictionsError(TonearmError):
    """A file cannot be read as predictions."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """One probability distribution per track, with the true labels.

    Attributes
    ----------
    labels
        The C classes, in the order of the columns of `probabilities`.
    tracks
        N track ids. In repeated cross-validation a track occurs once per seed.
    truth
        N true labels, each one of `labels`.
    probabilities
        float64[N, C].
    folds, seeds, artists
        N entries each, or None if not applicable. An unknown artist is the empty string.

    Raises
    ------
    UsageError
        If the shapes or lengths do not fit, a true label is not among `labels`, or a class has the
        name of another column of the CSV file.
    """

    labels: tuple[str, ...]
    tracks: tuple[str, ...]
    truth: tuple[str, ...]
    probabilities: NDArray[np.float64]
    folds: tuple[str, ...] | None = None
    seeds: tuple[str, ...] | None = None
    artists: tuple[str, ...] | None = None

    @classmethod
    def of_tracks(
        cls,
        tracks: Sequence[Track],
        labels: Sequence[str],
        probabilities: NDArray[np.float64],
        truth: Sequence[str] | None = None,
    ) -> Predictions:
        """Return predictions for N tracks, float64[N, C]; `truth` is by default their labels."""
        return cls(
            labels=tuple(labels),
            tracks=tuple(track.id for track in tracks),
            truth=tuple(truth or (str(track.label) for track in tracks)),
            probabilities=probabilities,
            artists=tuple(track.artist or "" for track in tracks),
        )

    def __post_init__(self) -> None:
        reserved = set(PREDICTION_COLUMNS) & set(self.labels)
        if reserved:
            raise UsageError(f"a class may not be called {reserved.pop()!r}: it is a column's name")
        rows = len(self.tracks)
        if self.probabilities.shape != (rows, len(self.labels)):
            raise UsageError(
                f"probabilities of shape {self.probabilities.shape} do not fit {rows} tracks and "
                f"{len(self.labels)} labels"
            )
        columns = [
            self.truth,
            *(c for c in (self.folds, self.seeds, self.artists) if c is not None),
        ]
        if any(len(column) != rows for column in columns):
            raise UsageError(f"every column must have {rows} entries, one per track")
        unknown = set(self.truth) - set(self.labels)
        if unknown:
            raise UsageError(
                f"true label {min(unknown)!r} is not among the classes {enumerated(self.labels)}"
            )

    def __len__(self) -> int:
        return len(self.tracks)

    @property
    def truth_index(self) -> NDArray[np.int64]:
        """int64[N]: the true labels as indices into `labels`."""
        position = {label: i for i, label in enumerate(self.labels)}
        return np.array([position[label] for label in self.truth], dtype=np.int64)

    @property
    def predicted(self) -> tuple[str, ...]:
        """The most probable label of each track."""
        return tuple(self.labels[i] for i in self.probabilities.argmax(axis=1))

    @property
    def correct(self) -> NDArray[np.bool_]:
        """bool[N]: whether the most probable label is the true one."""
        return np.asarray(self.probabilities.argmax(axis=1) == self.truth_index)

    @property
    def groups(self) -> tuple[str, ...]:
        """The independent unit of each track: its artist, or itself if the artist is unknown."""
        artists = self.artists or ("",) * len(self)
        return tuple(map(group_of, artists, self.tracks))

    @property
    def unit(self) -> Unit:
        """What `groups` are: artists, tracks, or a mixture of both ("group")."""
        known = {bool(artist_key(artist)) for artist in self.artists or ("",)}
        return "group" if len(known) > 1 else "artist" if True in known else "track"

    def take(self, rows: Sequence[int]) -> Predictions:
        """Return the predictions of the given rows, in the given order."""

        def pick(column: tuple[str, ...] | None) -> tuple[str, ...] | None:
            return None if column is None else tuple(column[i] for i in rows)

        return Predictions(
            labels=self.labels,
            tracks=tuple(self.tracks[i] for i in rows),
            truth=tuple(self.truth[i] for i in rows),
            probabilities=self.probabilities[np.asarray(rows, dtype=np.int64)],
            folds=pick(self.folds),
            seeds=pick(self.seeds),
            artists=pick(self.artists),
        )

    def metrics(
        self, bootstrap: int = 1000, seed: int = 0, groups: Sequence[str] | None = None
    ) -> Metrics:
        """Evaluate the predictions, with intervals over `groups` (by default `self.groups`).

        Parameters and errors are those of `tonearm.evaluation.metrics.evaluate`.
        """
        return evaluate(
            self.truth_index,
            self.probabilities,
            self.labels,
            bootstrap,
            seed,
            groups or self.groups,
        )


def join(parts: Sequence[Predictions]) -> Predictions:
    """Concatenate predictions over the same classes, such as those of several folds or seeds.

    Raises
    ------
    UsageError
        If the classes differ.
    """
    first = parts[0]

    def column(name: str) -> tuple[str, ...] | None:
        columns = [getattr(part, name) for part in parts]
        if any(c is None for c in columns):
            return None
        return tuple(cell for c in columns for cell in c)

    if any(part.labels != first.labels for part in parts):
        raise UsageError("predictions over different classes cannot be joined")
    return Predictions(
        labels=first.labels,
        tracks=tuple(track for part in parts for track in part.tracks),
        truth=tuple(label for part in parts for label in part.truth),
        probabilities=np.concatenate([part.probabilities for part in parts]),
        folds=column("folds"),
        seeds=column("seeds"),
        artists=column("artists"),
    )


def write(path: str | PathLike[str], predictions: Predictions) -> None:
    """Write `track,label,<a column per class>[,fold][,seed][,artist]` atomically.

    Raises
    ------
    TonearmError
        If the file cannot be written.
    """
    extra = {
        name: column
        for name, column in zip(
            OPTIONAL_COLUMNS,
            (predictions.folds, predictions.seeds, predictions.artists),
            strict=True,
        )
        if column is not None
    }
    rows: list[list[str]] = [[*KEY_COLUMNS, *predictions.labels, *extra]]
    for i, track in enumerate(predictions.tracks):
        probabilities = (f"{p:.7g}" for p in predictions.probabilities[i])
        others = (column[i] for column in extra.values())
        rows.append([track, predictions.truth[i], *probabilities, *others])
    write_csv(path, rows)


def read(path: str | PathLike[str]) -> Predictions:
    """Read a file written by `write`, or the `predictions.csv` of a run directory.

    Raises
    ------
    PredictionsError
        If the file does not exist or is not a table of predictions.
    """
    path = Path(path)
    try:
        if path.is_dir():
            path = path / "predictions.csv"
        with path.open(newline="", encoding="utf-8-sig") as file:
            # Strict, or a quote that is never closed would take in all rows that follow.
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "not a CSV file"
        raise PredictionsError(f"{path}: {reason}") from error
    if tuple(header[:2]) != KEY_COLUMNS:
        raise PredictionsError(f"{path}: expected a header that begins with track,label")
    repeated = next((name for name, count in Counter(header).items() if count > 1), None)
    if repeated is not None:
        raise PredictionsError(f"{path}: has the column {repeated!r} twice")
    if not all(map(str.strip, header)):
        raise PredictionsError(f"{path}: has a column without a name")
    if not rows:
        raise PredictionsError(f"{path}: holds no predictions")
    ragged = next((line for line, row in rows if len(row) != len(header)), None)
    if ragged is not None:
        raise PredictionsError(f"{path}: line {ragged} does not have {len(header)} columns")
    columns = dict(zip(header, zip(*(row for _, row in rows), strict=True), strict=True))
    labels = tuple(name for name in header[2:] if name not in OPTIONAL_COLUMNS)
    try:
        probabilities = np.array([_numbers(label, columns[label]) for label in labels]).T
        predictions = Predictions(
            labels=labels,
            tracks=columns["track"],
            truth=columns["label"],
            probabilities=probabilities.reshape(len(rows), len(labels)),
            folds=columns.get("fold"),
            seeds=columns.get("seed"),
            artists=columns.get("artist"),
        )
    except (ValueError, UsageError) as error:
        raise PredictionsError(f"{path}: {error}") from error
    improper = improper_row(predictions.probabilities)
    if improper is not None:
        row, reason = improper
        raise PredictionsError(f"{path}: line {rows[row][0]}: the probabilities are {reason}")
    return predictions


def _numbers(label: str, cells: Sequence[str]) -> NDArray[np.float64]:
    """Return a genre's column as numbers; raise ValueError, which names the column."""
    try:
        return np.array(cells, dtype=np.float64)
    except ValueError as error:
        others = ", ".join(PREDICTION_COLUMNS)
        raise ValueError(
            f"the column {label!r} holds no probabilities, as all but {others} must: {error}"
        ) from None
