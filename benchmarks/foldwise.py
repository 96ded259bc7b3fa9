"""Clips of a dataset, each classified by the bundle of the fold that held it out."""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np

from tonearm import datasets
from tonearm.atomic import write_csv, write_text
from tonearm.bundle import Bundle
from tonearm.classifier import Classifier
from tonearm.datasets.content import content_hash
from tonearm.datasets.splits import split
from tonearm.datasets.track import Track
from tonearm.errors import UsageError
from tonearm.evaluation import predictions
from tonearm.evaluation.predictions import Predictions
from tonearm.prediction import Failure, Prediction
from tonearm.progress import with_progress
from tonearm.workers import Crash

FOLDS = 5  # of artist-kfold, as the bundles were trained
# Out-of-fold predictions of the default model's fold bundles.
PUBLISHED = Path(__file__).parents[1] / "docs/results/predictions/gtzan/default.csv"


@dataclass(frozen=True)
class Clip:
    """A track and the number of the fold that held it out."""

    track: Track
    fold: int

    @property
    def path(self) -> Path:
        """The track's file."""
        assert self.track.path is not None  # all tracks in folds have a path
        return self.track.path


@dataclass(frozen=True)
class Round:
    """One division of a dataset into folds, and the bundles that classify them.

    Attributes
    ----------
    seed
        Seed of the folds, and of the bundles' training.
    models
        Bundle of each fold.
    clips
        Clips, each once.
    work
        Folder for results of exactly these bundles on exactly these clips.
    """

    seed: int
    models: list[Path]
    clips: list[Clip]
    work: Path


def published(path: Path) -> list[Predictions]:
    """Read out-of-fold predictions as one table per seed, in which each track occurs once."""
    table = predictions.read(path)
    if table.folds is None:
        raise UsageError(f"{path}: expected a column of folds")
    seeds = np.array(table.seeds or ("",) * len(table))
    return [table.take(np.flatnonzero(seeds == seed).tolist()) for seed in dict.fromkeys(seeds)]


def add_arguments(parser: argparse.ArgumentParser, work: str) -> None:
    """Add the arguments that choose the clips, the bundles and the output folders."""
    parser.add_argument(
        "--models", required=True, metavar="PATTERN", help="bundles, {fold} counting from 0"
    )
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="from 0 on, for {seed} in --models"
    )
    parser.add_argument("--data", required=True, type=Path, help="the dataset of the folds")
    parser.add_argument("--limit", type=int, help="so many clips, of all genres alike")
    parser.add_argument("--work", type=Path, default=Path(work), help="what is finished is kept")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="of the table")


def rounds(args: argparse.Namespace) -> list[Round]:
    """Return the clips and bundles that the arguments name, for each seed."""
    found = []
    for seed in range(args.seeds):
        models = bundles(args.models, seed)
        if any(models == other.models for other in found):
            raise UsageError(f"--models {args.models}: expected a {{seed}} in it")
        round_clips = clips(args.data, args.limit, seed=seed)
        found.append(Round(seed, models, round_clips, args.work / fingerprint(round_clips, models)))
    return found


def over_seeds(rounds: Sequence[Round], predict: Callable[[Round], Predictions]) -> Predictions:
    """Join the predictions of each seed's bundles."""
    parts = []
    for round_ in rounds:
        part = predict(round_)
        parts.append(replace(part, seeds=(str(round_.seed),) * len(part)))
    return predictions.join(parts)


def clips(data: Path, limit: int | None, *, seed: int, without: int | None = None) -> list[Clip]:
    """List the held-out clips of the folds, except `without`; a limit samples all genres alike."""
    folds = split(datasets.load(data), "artist-kfold", FOLDS, seed)
    everything = [
        Clip(track, number)
        for number, fold in enumerate(folds)
        if number != without
        for track in fold.valid
    ]
    if limit is None:
        return everything
    by_genre: dict[str | None, list[Clip]] = defaultdict(list)
    for clip in random.Random(0).sample(everything, len(everything)):
        by_genre[clip.track.label].append(clip)
    in_turn = chain.from_iterable(zip_longest(*by_genre.values()))
    return [clip for clip in in_turn if clip is not None][:limit]


def bundles(pattern: str, seed: int) -> list[Path]:
    """Return the bundle of each fold."""
    paths = [Path(pattern.format(fold=number, seed=seed)) for number in range(FOLDS)]
    if len(set(paths)) < FOLDS:
        raise UsageError(f"--models {pattern}: expected a {{fold}} in it")
    for path in paths:
        Bundle.load(path)  # reports a broken bundle before the work begins
    return paths


def fingerprint(clips: Sequence[Clip], models: Sequence[Path]) -> str:
    """Return a name that changes with the clips, the contents of their files, or the bundles."""
    digest = hashlib.sha256()
    for clip in clips:
        line = f"{clip.track.id} {clip.track.label} {clip.fold} {content_hash(clip.path)}\n"
        digest.update(line.encode())
    for model in models:
        digest.update(model.read_bytes())
    return digest.hexdigest()[:10]


def fold_predictions(
    name: str,
    models: Sequence[Path],
    clips: Sequence[Clip],
    path: Path,
    kind: type[Bundle] = Bundle,
) -> Predictions:
    """Return the fold bundles' predictions for their held-out clips, computed unless stored."""
    if not path.exists():
        classifiers = [Classifier(kind.load(model)) for model in models]
        results = [
            classifiers[clip.fold].attempt(clip.path)
            for clip in with_progress(clips, len(clips), name)
        ]
        save_predictions(path, name, clips, results, classifiers[0].labels)
    return predictions.read(path)


def save_predictions(
    path: Path,
    name: str,
    clips: Sequence[Clip],
    results: Sequence[Prediction | Failure | Crash[Clip]],
    labels: tuple[str, ...],
) -> None:
    """Write the predictions to a file, and report clips without one on standard error."""
    classified, rows = [], []
    for clip, result in zip(clips, results, strict=True):
        if isinstance(result, Prediction):
            classified.append(clip)
            rows.append([result.probabilities[label] for label in labels])
        else:
            reason = result.error if isinstance(result, Failure) else "the process died"
            print(f"{name}: {clip.path}: {reason}", file=sys.stderr)
    if not rows:  # an empty table would pass for a finished one
        raise UsageError(f"{name}: no clip could be heard")
    table = Predictions.of_tracks([clip.track for clip in classified], labels, np.array(rows))
    predictions.write(path, replace(table, folds=tuple(str(clip.fold) for clip in classified)))


def write_predicted_genres(path: Path, runs: Mapping[str, Predictions]) -> None:
    """Write the genres that each run predicted, one column per run; the first has all tracks."""
    reference = next(iter(runs.values()))
    predicted = {
        name: dict(zip(_keys(run), run.predicted, strict=True)) for name, run in runs.items()
    }
    rows = (
        [*key, label, *(genres.get(key, "") for genres in predicted.values())]
        for key, label in zip(_keys(reference), reference.truth, strict=True)
    )
    write_csv(path, [["track", "seed", "label", *runs], *rows])


def write_page(path: Path, text: str) -> None:
    """Write a page of results, and print it."""
    write_text(path, text)
    print(text)


def changed_share(run: Predictions, reference: Predictions) -> float:
    """Return the share of a run's tracks whose predicted genre differs from the reference."""
    reference_genres = dict(zip(_keys(reference), reference.predicted, strict=True))
    pairs = zip(_keys(run), run.predicted, strict=True)
    return float(np.mean([genre != reference_genres[key] for key, genre in pairs]))


def _keys(run: Predictions) -> list[tuple[str, str]]:
    return list(zip(run.tracks, run.seeds, strict=True))
