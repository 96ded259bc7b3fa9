"""Compare many systems on one dataset, and write the table and the plot."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from pathlib import Path

import numpy as np

from tonearm.atomic import atomic_write, write_text
from tonearm.benchmark.systems import BundleSystem, DistilledSystem
from tonearm.datasets.splits import Fold, GapWarning, Protocol, leak_warning, split
from tonearm.datasets.track import Dataset, labels_of
from tonearm.errors import UsageError
from tonearm.evaluation import plots
from tonearm.evaluation import predictions as files
from tonearm.evaluation.compare import Comparison, align, compare, markdown_table
from tonearm.evaluation.crossval import System, cross_validate, warn_of_copies
from tonearm.evaluation.predictions import Predictions
from tonearm.extras import needs

with needs("plot"):  # before hours of training, not after them
    import matplotlib  # noqa: F401

NOT_TRAINED_ANEW = (
    "a finished model, not trained anew: on tracks that it learned from, its figures say nothing, "
    "and of its genres it may answer only the dataset's"
)

OnFold = Callable[[System, int, Fold, bool], None]


@dataclass(frozen=True)
class Benchmark:
    """The predictions of every system under one protocol, in the order of the table.

    Attributes
    ----------
    dataset, protocol, folds, seeds
        As given to `run_benchmark`; protocols without folds have one.
    predictions
        The predictions with all seeds, by the system's name.
    labels
        The genres of the tracks that are in a fold.
    unused
        Number of validation tracks, which a split with a test part has and no system is given.
    warning
        Why the metrics come out too high under this protocol, or None if they do not.
    finished
        The systems that are finished models, which are not trained for the folds.
    unclassified
        Per system, the ids of the tracks that it could not classify, if there are any.
    """

    dataset: Dataset
    protocol: Protocol
    folds: int
    seeds: int
    predictions: Mapping[str, Predictions]
    labels: tuple[str, ...]
    unused: int
    warning: str | None
    finished: frozenset[str] = frozenset()
    unclassified: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def comparison(self) -> Comparison:
        """Compare each system with the one before it; the names of finished models are marked."""
        return compare(self.marked, against="previous")

    @property
    def marked(self) -> dict[str, Predictions]:
        """The predictions, by the names shown in tables."""
        return {
            f"{name} (finished model)" if name in self.finished else name: predictions
            for name, predictions in self.predictions.items()
        }


def run_benchmark(
    dataset: Dataset,
    systems: Sequence[System],
    work: str | PathLike[str],
    protocol: Protocol = "artist-kfold",
    folds: int = 5,
    seeds: int = 1,
    on_fold: OnFold = lambda system, seed, fold, stored: None,
) -> Benchmark:
    """Train and evaluate every system on every fold, for seeds 0 to `seeds` - 1.

    A seed determines both the folds and the training, except for the first stage of a distillation,
    which uses no labels. Finished folds are stored in `work` and not computed again.

    Parameters
    ----------
    dataset
        The dataset.
    systems
        The systems, in the order of the table: each is compared with the one before it.
    work
        Folder for predictions and checkpoints.
    protocol, folds
        How the dataset is split; see `tonearm.datasets.split`.
    seeds
        Number of repetitions.
    on_fold
        Called before each fold, with the system, the seed, the fold and whether its predictions
        are already stored.

    Raises
    ------
    UsageError
        If there is no system, two have the same name, `seeds` is below 1, `folds` below 2, or
        the protocol is unknown.
    DatasetError
        If the dataset cannot be divided in this way.
    TonearmError
        If a finished model cannot be loaded or does not know all labels, `work` cannot be written
        to, or a system cannot learn from a fold.
    """
    names = [system.name for system in systems]
    if not names or len(set(names)) < len(names):
        raise UsageError(f"a benchmark needs systems of different names, got {names or 'none'}")
    if seeds < 1:
        raise UsageError(f"seeds must be at least 1, got {seeds}")
    work = Path(work)
    divisions = _divisions(dataset, protocol, folds, seeds)
    labels = labels_of(tuple(track for fold in divisions[0] for track in fold.tracks))
    for system in systems:
        if isinstance(system, BundleSystem):  # before training the others in vain
            system.require_labels(labels)
        if isinstance(system, DistilledSystem):
            system.warn_of_heard([track for fold in divisions[0] for track in fold.held_out])
    parts: dict[str, list[Predictions]] = {name: [] for name in names}
    unclassified: dict[str, tuple[str, ...]] = {}
    for seed, fold_list in enumerate(divisions):
        if seed == 0:  # with others the count differs, not the cause
            warn_of_copies(fold_list, work)
        expected = [track.id for fold in fold_list for track in fold.held_out]
        for system in systems:
            announce = partial(on_fold, system, seed)
            predictions = cross_validate(system, fold_list, labels, work, seed, announce)
            parts[system.name].append(predictions)
            predicted = set(predictions.tracks)
            missing = [track for track in expected if track not in predicted]
            if missing:
                before = unclassified.get(system.name, ())
                unclassified[system.name] = tuple(dict.fromkeys([*before, *missing]))
    return Benchmark(
        dataset=dataset,
        protocol=protocol,
        folds=len(divisions[0]),
        seeds=seeds,
        predictions={name: files.join(seed_parts) for name, seed_parts in parts.items()},
        labels=labels,
        unused=sum(len(fold.valid) for fold in divisions[0] if fold.test),
        warning=leak_warning(dataset, protocol),
        finished=frozenset(s.name for s in systems if isinstance(s, BundleSystem)),
        unclassified=unclassified,
    )


def _divisions(dataset: Dataset, protocol: Protocol, folds: int, seeds: int) -> list[list[Fold]]:
    """Split with every seed, before anything is trained, and warn of each gap once."""
    divisions = []
    gaps: dict[str, list[str]] = {}
    for seed in range(seeds):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            divisions.append(split(dataset, protocol, folds, seed))
        for warning in caught:
            # Leaks are reported by `Benchmark.warning` instead, next to the metrics.
            if issubclass(warning.category, GapWarning):
                gaps.setdefault(str(warning.message), []).append(str(seed))
    for gap, seed_numbers in gaps.items():
        all_seeds = len(seed_numbers) == seeds
        message = gap if all_seeds else f"{gap} (with seed {', '.join(seed_numbers)})"
        warnings.warn(message, GapWarning, stacklevel=3)
    return divisions


def write_results(
    out: Path, name: str, benchmark: Benchmark, command: str, comparison: Comparison
) -> list[Path]:
    """Write `<name>.csv`, `.md`, `.svg` and `.png`, and the predictions of each system.

    Returns
    -------
    list of Path
        The files written, the Markdown page first.
    """
    title = f"{name}, {benchmark.protocol}, {comparison.tracks} tracks"
    page = out / f"{name}.md"
    table = out / f"{name}.csv"
    figure = plots.ladder(comparison, title)
    written = [page, table, out / f"{name}.svg", out / f"{name}.png"]
    for system, predictions in benchmark.predictions.items():
        path = out / "predictions" / name / f"{system}.csv"
        files.write(path, predictions)
        written.append(path)
    write_text(table, comparison.to_csv())
    write_text(out / f"{name}.svg", plots.to_svg(figure))
    with atomic_write(out / f"{name}.png") as file:
        file.write(plots.to_png(figure))
    write_text(page, render_page(name, benchmark, command, comparison))
    return written


def render_page(name: str, benchmark: Benchmark, command: str, comparison: Comparison) -> str:
    """Return the results as a Markdown page: table, plot, accuracy by kind and F1 by genre."""
    rounds = "" if benchmark.folds == 1 else f", {benchmark.folds} folds"
    seeds = "1 seed" if benchmark.seeds == 1 else f"{benchmark.seeds} seeds"
    lines = [
        f"# {name}: {benchmark.protocol}",
        "",
        f"{comparison.tracks} tracks, {len(benchmark.labels)} genres{rounds}, {seeds}. "
        f"Per cent, with 95 % bootstrap intervals over {comparison.resampling_unit}. Each system "
        "is compared with the row above it: the difference in accuracy, a sign-flip test over "
        f"those {'tracks' if comparison.unit == 'track' else 'groups'}, and McNemar's exact test"
        + (" (its one-sided medians over the seeds)" if benchmark.seeds > 1 else "")
        + ", which treats every track as independent.",
        "",
    ]
    if benchmark.unused:
        lines += [f"The {benchmark.unused} tracks of the validation part are not used.", ""]
    if benchmark.warning:
        lines += [f"> **Warning:** {benchmark.warning}.", ""]
    if comparison.warning:
        lines += [f"> **Warning:** {comparison.warning}.", ""]
    if benchmark.unclassified:
        lines += [
            "Left out, because they cannot be classified (undecodable, silent or too short):",
            "",
        ]
        unclassified = benchmark.unclassified.items()
        lines += [f"- {name}: {', '.join(ids)}" for name, ids in unclassified] + [""]
    if benchmark.finished:
        lines += [
            f"> **Warning:** {', '.join(sorted(benchmark.finished))}: {NOT_TRAINED_ANEW}.",
            "",
        ]
    lines += [comparison.to_markdown(), f"![accuracy and macro F1 of each system]({name}.svg)", ""]
    kinds = _accuracy_by_kind(benchmark)
    if kinds:
        lines += ["## Accuracy by kind of recording", "", *kinds]
    lines += ["## F1 by genre", "", _f1_by_genre(comparison)]
    lines += ["## Reproduce", "", "```", command, "```", ""]
    return "\n".join(lines)


def _accuracy_by_kind(benchmark: Benchmark) -> list[str]:
    """Return lines on the accuracy by kind of recording, over the genres that have all kinds.

    Kind and genre are correlated in a dataset, so a table over all genres would mostly show which
    genres are easy.
    """
    # As everywhere on the page, only the tracks that all systems have predicted.
    common, _ = align(benchmark.marked)
    kind_of = {track.id: track.kind or "" for track in benchmark.dataset}
    first = next(iter(common.values()))
    track_kinds = np.array([kind_of[track] for track in first.tracks])
    genres = np.array(first.truth)
    kinds = sorted(set(track_kinds) - {""})
    shared = [
        genre for genre in benchmark.labels if set(kinds) <= set(track_kinds[genres == genre])
    ]
    if len(kinds) < 2 or not shared:
        return []
    masks = {kind: np.isin(genres, shared) & (track_kinds == kind) for kind in kinds}
    rows = [
        (name, *(f"{100 * run.correct[mask].mean():.1f}" for mask in masks.values()))
        for name, run in common.items()
    ]
    tracks = np.array(first.tracks)
    counts = (f"{len(set(tracks[mask]))} {kind}" for kind, mask in masks.items())
    return [
        f"Only genres that have every kind: {', '.join(shared)} ({', '.join(counts)}).",
        "",
        markdown_table(("system", *kinds), rows),
    ]


def _f1_by_genre(comparison: Comparison) -> str:
    labels = comparison.rows[0].metrics.labels
    rows = [
        (row.name, *(f"{100 * genre.f1:.1f}" for genre in row.metrics.per_class))
        for row in comparison.rows
    ]
    return markdown_table(("system", *labels), rows)
