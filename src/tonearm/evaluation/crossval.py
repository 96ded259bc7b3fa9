"""Cross-validates one system: trains it anew for each fold and keeps what it said of the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tonearm.datasets.splits import Fold
from tonearm.datasets.track import Track
from tonearm.errors import TonearmError
from tonearm.evaluation import predictions as files
from tonearm.evaluation.predictions import Predictions

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Round:
    """One fold as a system meets it.

    Attributes
    ----------
    train, test
        The tracks to learn from, and those to be asked about: nothing may be chosen by looking at
        the labels of these.
    labels
        In the order of the columns of an answer.
    run_dir
        The system's own, for checkpoints and logs; asked the same again after an interruption, it
        may go on from there.
    seed
        Of all that is drawn at random.
    """

    train: Sequence[Track]
    test: Sequence[Track]
    labels: tuple[str, ...]
    run_dir: Path
    seed: int


class System(Protocol):
    """Anything that can be trained on tracks and asked about others."""

    @property
    def name(self) -> str:
        """Its name in tables and folders."""

    @property
    def fingerprint(self) -> str:
        """A text that changes with any setting that may change its answers."""

    def fit_predict(self, given: Round) -> FloatArray:
        """Learn, and give float64[len(test), len(labels)]; a row of NaN if it was not decoded."""


def cross_validate(
    system: System,
    folds: Sequence[Fold],
    labels: tuple[str, ...],
    work: Path,
    seed: int = 0,
    on_fold: Callable[[Fold, bool], None] = lambda fold, stored: None,
) -> Predictions:
    """Give a system's predictions for the held-out part of every fold.

    The held-out part is the fold's `test`, and its `valid` where it has none. The predictions of
    a fold are stored under `work` as soon as they are there, under a name that is made of the
    system's fingerprint, the labels, the seed and the tracks on both sides: an interrupted
    cross-validation goes on where it was, and a changed setting or dataset is computed anew.

    Parameters
    ----------
    on_fold
        Called before each fold, with the fold and whether its predictions are stored already.

    Raises
    ------
    TonearmError
        If no track of a fold could be decoded.
    """
    parts = []
    for fold in folds:
        key = _key(system, fold, labels, seed)
        folder = work / system.name / f"seed-{seed}" / f"{fold.name}-{key}"
        stored = folder / "predictions.csv"
        on_fold(fold, stored.exists())
        if not stored.exists():
            _compute(system, fold, labels, folder, seed)
        parts.append(files.read(stored))
    return files.join(parts)


def held_out(fold: Fold) -> tuple[Track, ...]:
    """Give the tracks of a fold that are judged."""
    return fold.test or fold.valid


def _compute(system: System, fold: Fold, labels: tuple[str, ...], folder: Path, seed: int) -> None:
    test = held_out(fold)
    shares = system.fit_predict(Round(fold.train, test, labels, folder / "run", seed))
    decoded = np.flatnonzero(np.isfinite(shares).all(axis=1))
    if not len(decoded):
        raise TonearmError(f"{system.name}, {fold.name}: none of its tracks could be decoded")
    tracks = [test[i] for i in decoded]
    files.write(
        folder / "predictions.csv",
        Predictions(
            labels=labels,
            tracks=tuple(track.id for track in tracks),
            truth=tuple(str(track.label) for track in tracks),
            probabilities=shares[decoded],
            folds=(fold.name,) * len(tracks),
            seeds=(str(seed),) * len(tracks),
            artists=tuple(track.artist or "" for track in tracks),
        ),
    )


def _key(system: System, fold: Fold, labels: tuple[str, ...], seed: int) -> str:
    train = sorted(f"{track.id}={track.label}" for track in fold.train)
    test = sorted(f"{track.id}={track.label}" for track in held_out(fold))
    parts = [system.fingerprint, str(seed), *labels, "train", *train, "test", *test]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:10]
