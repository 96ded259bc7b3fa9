"""How well `tonearm learn` does with few files: GTZAN's genres as somebody's own.

    python benchmarks/learn.py DATA
    python benchmarks/learn.py DATA --models "fold{fold}.onnx" --partition predictions.csv

For each fold of an artist-grouped cross-validation, ten files of each genre are drawn, several
times, from the training part, and the head learned from them is tested on the fold. The accuracy
that `learn` itself forecasts from the drawn files is shown for comparison.

The shipped model was trained on these very recordings, so its figures are optimistic. With
--models, fold k (from 0) is tested with a model that was not trained on it; --partition is a table
with the columns track and fold, for models whose folds are not those of `artist-kfold`. Such a
model was still trained on the files that are drawn, which makes the forecast too good, while a
user's own files are new to the model on both sides. So there is a third figure, for heads trained
and tested inside the fold that the model left out, by grouped cross-validation, with fewer than
ten files of a genre.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the program itself does

import numpy as np
from numpy.typing import NDArray

from tonearm import bundle, datasets
from tonearm.bundle import Bundle
from tonearm.datasets import Dataset
from tonearm.datasets.cache import FeatureCache
from tonearm.datasets.manifest import read_rows
from tonearm.evaluation.calibration import probabilities_at
from tonearm.evaluation.metrics import Metrics, evaluate
from tonearm.library.embedding_layout import embedding_parts
from tonearm.library.embeddings import Embeddings, embed
from tonearm.library.examples import from_dataset
from tonearm.library.forecast import forecast
from tonearm.library.head import fit_head

REQUIRED_ACCURACY = 0.8


@dataclass(frozen=True)
class HeadResult:
    """One head's predictions for its fold, and the accuracy forecast for it."""

    truth: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    forecast: float
    seconds: float  # CPU time of fitting and cross-validating


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--models", default=bundle.DEFAULT_NAME, help="with {fold} for its number")
    parser.add_argument("--partition", type=Path, help="table with the columns track and fold")
    parser.add_argument("--files", type=int, default=10, help="of each genre")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--cache", type=Path, help="folder of the feature cache")
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    dataset = datasets.load(args.data)
    folds = read_folds(args.partition) if args.partition else artist_folds(dataset)
    results: list[list[HeadResult]] = [[] for _ in range(args.draws)]
    inside_metrics: list[Metrics] = []
    for fold in sorted(set(folds.values())):
        model = Bundle.load(bundle.find(args.models.format(fold=fold)))
        embeddings = embed(
            from_dataset(dataset).tracks,
            model,
            FeatureCache(args.cache),
            workers=args.workers,
            progress=True,
        )
        parts = embedding_parts(model.path, embeddings.values.shape[1])
        in_fold = np.array([folds.get(track.id) == fold for track in embeddings.tracks])
        for draw, draw_results in enumerate(results):
            draw_results.append(
                evaluate_draw(embeddings, in_fold, parts, dataset.labels, args.files, draw)
            )
        inside_metrics.append(evaluate_inside(embeddings, in_fold, parts, dataset.labels))
    report(results, inside_metrics, dataset.labels, args.files)


def artist_folds(dataset: Dataset) -> dict[str, int]:
    folds = datasets.split(dataset, "artist-kfold")
    return {track.id: number for number, fold in enumerate(folds) for track in fold.valid}


def read_folds(table: Path) -> dict[str, int]:
    rows = read_rows(table)
    names = sorted({row["fold"] for row in rows})
    return {row["track"]: names.index(row["fold"]) for row in rows}


def evaluate_draw(
    embeddings: Embeddings,
    in_fold: NDArray[np.bool_],
    parts: tuple[int, ...],
    labels: Sequence[str],
    files: int,
    draw: int,
) -> HeadResult:
    """Learn from `files` files of each genre outside the fold, and test on the fold."""
    truth = truth_of(embeddings, labels)
    rng = np.random.default_rng(draw)
    indices = np.concatenate(
        [
            rng.permutation(np.flatnonzero(~in_fold & (truth == genre)))[:files]
            for genre in range(len(labels))
        ]
    )
    start = time.process_time()
    expected = forecast(
        embeddings.values[indices], [embeddings.tracks[i] for i in indices], labels, parts
    )
    head = fit_head(embeddings.values[indices], truth[indices], len(labels), parts)
    seconds = time.process_time() - start
    assert expected.metrics is not None
    scores = head.logits(embeddings.values[in_fold])
    return HeadResult(
        truth[in_fold],
        probabilities_at(scores, expected.temperature),
        expected.metrics.accuracy,
        seconds,
    )


def evaluate_inside(
    embeddings: Embeddings,
    in_fold: NDArray[np.bool_],
    parts: tuple[int, ...],
    labels: Sequence[str],
) -> Metrics:
    """Learn and test inside the fold, by grouped cross-validation."""
    tracks = [track for track, inside in zip(embeddings.tracks, in_fold, strict=True) if inside]
    metrics = forecast(embeddings.values[in_fold], tracks, labels, parts).metrics
    assert metrics is not None
    return metrics


def truth_of(embeddings: Embeddings, labels: Sequence[str]) -> NDArray[np.int64]:
    return np.array([labels.index(str(track.label)) for track in embeddings.tracks], dtype=np.int64)


def report(
    results: Sequence[Sequence[HeadResult]],
    inside_metrics: Sequence[Metrics],
    labels: Sequence[str],
    files: int,
) -> None:
    draws = [
        evaluate(
            np.concatenate([result.truth for result in draw_results]),
            np.concatenate([result.probabilities for result in draw_results]),
            labels,
            bootstrap=0,
        )
        for draw_results in results
    ]
    all_results = [result for draw_results in results for result in draw_results]
    accuracies = [metrics.accuracy for metrics in draws]
    count = sum(metrics.count for metrics in inside_metrics)
    inside = sum(metrics.accuracy * metrics.count for metrics in inside_metrics) / count
    print(f"{len(draws)} draws of {files} files of each genre, {draws[0].count} tracks judged")
    print(
        f"accuracy            {np.mean(accuracies):6.1%}   "
        f"({min(accuracies):.1%} to {max(accuracies):.1%}; at least {REQUIRED_ACCURACY:.0%})"
    )
    print(f"macro F1            {np.mean([m.f1 for m in draws]):6.1%}")
    print(f"calibration error   {np.mean([m.ece for m in draws]):6.1%}")
    print(f"forecast accuracy   {np.mean([result.forecast for result in all_results]):6.1%}")
    print(f"inside left-out fold{inside:6.1%}   ({count} tracks, fewer than {files} of each genre)")
    print(
        f"CPU to learn        {np.mean([result.seconds for result in all_results]):6.2f} s a head"
    )
    for column, label in enumerate(labels):
        recall = np.mean([metrics.per_class[column].recall for metrics in draws])
        print(f"  recall {label:<12} {recall:6.1%}")


if __name__ == "__main__":
    main()
