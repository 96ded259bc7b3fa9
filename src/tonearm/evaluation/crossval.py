"""Cross-validate a system: train it for each fold, and store its out-of-fold predictions."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tonearm.datasets.content import ContentIndex
from tonearm.datasets.splits import Fold, LeakWarning, artist_key
from tonearm.datasets.track import Track
from tonearm.errors import TonearmError, UsageError, reason_of
from tonearm.evaluation import predictions as files
from tonearm.evaluation.predictions import Predictions, PredictionsError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Round:
    """One fold as a system receives it.

    Attributes
    ----------
    train, test
        The training tracks, and the held-out tracks to predict; the labels of the latter must not
        influence any choice.
    labels
        Class names, in the order of the prediction columns.
    run_dir
        The system's own folder for checkpoints and logs; when the same round is run again after an
        interruption, the system may resume from there.
    seed
        Seed of everything that is drawn at random.
    """

    train: Sequence[Track]
    test: Sequence[Track]
    labels: tuple[str, ...]
    run_dir: Path
    seed: int


class System(Protocol):
    """Anything that can be trained on some tracks and predict others."""

    @property
    def name(self) -> str:
        """Its name in tables and folders."""

    @property
    def fingerprint(self) -> str:
        """A string that changes with any setting that may change the predictions."""

    def fit_predict(self, given: Round) -> FloatArray:
        """Train, and return float64[len(test), len(labels)]; NaN rows for undecodable tracks."""


def cross_validate(
    system: System,
    folds: Sequence[Fold],
    labels: tuple[str, ...],
    work: str | PathLike[str],
    seed: int = 0,
    on_fold: Callable[[Fold, bool], None] = lambda fold, stored: None,
) -> Predictions:
    """Return a system's predictions for the held-out part of every fold.

    The held-out part is the fold's `test`, or its `valid` if `test` is empty. The predictions of a
    fold are stored under `work` as soon as they are made, under a name derived from the system's
    fingerprint, the labels, the seed and the tracks of both parts, with their artists and file
    contents. An interrupted cross-validation therefore resumes where it stopped, and a changed
    setting or dataset is computed afresh.

    Parameters
    ----------
    system
        What is trained and predicts.
    folds
        The folds, at least one.
    labels
        Class names, in the order of the columns of predictions.
    work
        Folder for the predictions, and for what the system keeps while it trains.
    seed
        Seed of the training; the folds are given.
    on_fold
        Called before each fold, with the fold and whether its predictions are already stored.

    Raises
    ------
    UsageError
        If there are no folds.
    TonearmError
        If no track of a fold could be decoded, `work` cannot be written to, or the stored
        predictions of a fold are damaged.
    """
    if not folds:
        raise UsageError("there is no fold to train and predict on")
    work = Path(work)
    parts = []
    contents = _contents(folds, work)
    for fold in folds:
        key = _key(system, fold, labels, seed, contents)
        folder = work / system.name / f"seed-{seed}" / f"{fold.name}-{key}"
        stored = folder / "predictions.csv"
        on_fold(fold, stored.exists())
        if not stored.exists():
            _compute(system, fold, labels, folder, seed)
        parts.append(_read(stored, fold))
    return files.join(parts)


def warn_of_copies(folds: Sequence[Fold], work: Path) -> None:
    """Warn with `LeakWarning` if files to evaluate are trained on under other names.

    The hashes of their contents are kept in `work`, where `cross_validate` finds them.

    Raises
    ------
    TonearmError
        If `work` cannot be written to.
    """
    contents = _contents(folds, work)

    def hashes(tracks: Sequence[Track]) -> list[str]:
        return [contents[t.path] for t in tracks if t.path is not None and t.path in contents]

    copies = 0
    for fold in folds:
        trained_on = set(hashes(fold.train))
        copies += sum(content in trained_on for content in hashes(fold.held_out))
    if copies:
        warnings.warn(
            f"{copies} of the files to evaluate are copies of files to train on: scores come out "
            "too high",
            LeakWarning,
            stacklevel=2,
        )


def _compute(system: System, fold: Fold, labels: tuple[str, ...], folder: Path, seed: int) -> None:
    test = fold.held_out
    probabilities = system.fit_predict(Round(fold.train, test, labels, folder / "run", seed))
    decoded = np.flatnonzero(np.isfinite(probabilities).all(axis=1))
    if not len(decoded):
        raise TonearmError(f"{system.name}, {fold.name}: none of its tracks could be decoded")
    found = Predictions.of_tracks([test[i] for i in decoded], labels, probabilities[decoded])
    folds, seeds = (fold.name,) * len(found), (str(seed),) * len(found)
    files.write(folder / "predictions.csv", replace(found, folds=folds, seeds=seeds))


def _read(stored: Path, fold: Fold) -> Predictions:
    """Read the predictions of a fold, which something else than `_compute` may have altered."""
    try:
        found = files.read(stored)
        if strange := set(found.tracks) - {track.id for track in fold.held_out}:
            raise PredictionsError(f"{stored}: {min(strange)} is no track of this fold")
    except PredictionsError as error:
        raise PredictionsError(f"{error}; remove it to compute it again") from error
    return found


def _contents(folds: Sequence[Fold], work: Path) -> dict[Path, str]:
    """Return the content hash of each readable recording and picture that is used.

    Hashes are stored in `work`, so that no file is hashed twice.
    """
    try:
        index = ContentIndex(work / "content.sqlite")
    except OSError as error:
        raise TonearmError(f"{work}: {reason_of(error)}") from error
    tracks = (track for fold in folds for track in (*fold.train, *fold.held_out))
    return index.hashes(path for track in tracks for path in (track.path, track.picture) if path)


def _key(
    system: System,
    fold: Fold,
    labels: tuple[str, ...],
    seed: int,
    contents: Mapping[Path, str],
) -> str:
    def description(track: Track) -> str:
        hashes = [contents.get(path, "") for path in (track.path, track.picture) if path]
        return f"{track.id}={track.label} {artist_key(track.artist)} {' '.join(hashes)}"

    train, test = sorted(map(description, fold.train)), sorted(map(description, fold.held_out))
    parts = [system.fingerprint, str(seed), *labels, "train", *train, "test", *test]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]
