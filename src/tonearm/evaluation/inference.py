"""Run a classifier on the labelled tracks of a dataset and collect its predictions."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from tonearm.datasets.track import Dataset, Track
from tonearm.errors import TonearmError, UsageError
from tonearm.evaluation.predictions import Predictions
from tonearm.prediction import Failure, Prediction
from tonearm.progress import with_progress
from tonearm.text import composed, enumerated


class NothingClassified(TonearmError):
    """None of the tracks could be evaluated."""


class FileClassifier(Protocol):
    """What `run_inference` needs from a classifier, such as `tonearm.classifier.Classifier`."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The genres it can predict."""

    def classify_files(
        self, paths: Iterable[Path], workers: int = 1
    ) -> Iterator[Prediction | Failure]:
        """Yield one prediction or failure per file, in order."""


@dataclass(frozen=True)
class Inference:
    """The result of `run_inference`: the predictions, the failed files, and the time it took."""

    predictions: Predictions
    failures: tuple[Failure, ...]
    seconds: float


def run_inference(
    classifier: FileClassifier,
    tracks: Sequence[Track],
    rename: Mapping[str, str] | None = None,
    workers: int = 1,
    progress: bool = False,
) -> Inference:
    """Classify tracks and pair the predictions with the true labels.

    Parameters
    ----------
    classifier
        What classifies them, such as a `tonearm.Classifier`.
    tracks
        Tracks that have a path and a label, as `evaluable_tracks` selects them.
    rename
        Maps labels of the data to the model's names for them (`{"Hip-Hop": "hiphop"}`).
    workers
        Number of processes that share the work.
    progress
        Show a progress bar on standard error.

    Raises
    ------
    UsageError
        If `rename` names a label that does not occur, a track has no path, or `workers` is below 1.
    TonearmError
        If the data has labels that the model does not know.
    NothingClassified
        If there are no tracks, or none of them could be decoded.
    StartError
        As in `tonearm.Classifier.classify_files`.
    """
    truth = _to_model_labels(tracks, classifier.labels, rename or {})
    paths = audio_paths(tracks)
    classified: list[int] = []
    rows: list[list[float]] = []
    failures: list[Failure] = []
    start = time.perf_counter()
    results = classifier.classify_files(paths, workers)
    results = with_progress(results, len(paths), "listening", show=progress)
    for i, result in zip(range(len(paths)), results, strict=True):
        if isinstance(result, Failure):
            failures.append(result)
        else:
            classified.append(i)
            rows.append([result.probabilities[label] for label in classifier.labels])
    seconds = time.perf_counter() - start
    if not rows:
        first = f", {failures[0].path}: {failures[0].error}" if failures else ""
        raise NothingClassified(f"none of {len(tracks)} tracks could be classified{first}")
    predictions = Predictions.of_tracks(
        [tracks[i] for i in classified],
        classifier.labels,
        np.array(rows, dtype=np.float64),
        [truth[i] for i in classified],
    )
    if predictions.unit == "track":  # no artist is known
        predictions = replace(predictions, artists=None)
    return Inference(predictions, tuple(failures), seconds)


def evaluable_tracks(
    dataset: Dataset,
    split: str | None = None,
    kind: str | None = None,
    labels: Collection[str] | None = None,
) -> tuple[Track, ...]:
    """Return the tracks of a dataset that can be evaluated: those with audio and a label.

    If `split` is None and the dataset has a partition, tracks outside it are left out (see
    `tonearm.datasets.gtzan_facts` for those of GTZAN).

    Parameters
    ----------
    dataset
        The dataset.
    split, kind
        Only tracks of this part, and of this kind; by default any.
    labels
        Only tracks with one of these labels; by default any.

    Raises
    ------
    UsageError
        If one of `labels` does not occur in the dataset.
    TonearmError
        If nothing is left.
    """
    unknown = set(labels or ()) - set(dataset.labels)
    if unknown:
        raise UsageError(
            f"{dataset.name} has no label {min(unknown)!r}; it has {enumerated(dataset.labels)}"
        )
    tracks = tuple(
        track
        for track in dataset.select(split=split, kind=kind)
        if track.path is not None
        and track.label is not None
        and (labels is None or track.label in labels)
        and (track.split is not None or not dataset.is_partitioned)
    )
    if not tracks:
        filters = {"split": split, "kind": kind, "labels": labels and ", ".join(sorted(labels))}
        described = ", ".join(f"{name} {value!r}" for name, value in filters.items() if value)
        parts = {track.split for track in dataset if track.split is not None}
        known = f"; its parts are {enumerated(sorted(parts))}" if split and parts else ""
        raise TonearmError(
            f"{dataset.name} has no labelled track with audio ({described or 'at all'}){known}"
        )
    return tracks


def audio_paths(tracks: Sequence[Track]) -> list[Path]:
    """Return every track's path, or raise `UsageError`.

    Skipping a track without one would shift the predictions of those after it.
    """
    paths = []
    for track in tracks:
        if track.path is None:
            raise UsageError(f"{track.id}: no audio file is known, so it cannot be classified")
        paths.append(track.path)
    return paths


def _to_model_labels(
    tracks: Sequence[Track], known: tuple[str, ...], rename: Mapping[str, str]
) -> list[str]:
    present = {track.label for track in tracks if track.label is not None}
    unused = set(rename) - present
    if unused:
        raise UsageError(
            f"cannot rename {min(unused)!r}: the tracks are labelled {enumerated(sorted(present))}"
        )
    model_labels = {composed(label): label for label in known}
    renamed = (rename.get(track.label or "", track.label or "") for track in tracks)
    truth = [model_labels.get(composed(label), label) for label in renamed]
    unknown = set(truth) - set(known)
    if unknown:
        raise TonearmError(
            f"the model does not know the label{'s' if len(unknown) > 1 else ''} "
            f"{enumerated(sorted(unknown))} (it knows {enumerated(known)}): "
            "rename with --map data=model, or leave them out with --labels"
        )
    return truth
