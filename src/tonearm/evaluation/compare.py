"""Compares runs on the tracks they have in common: figures, differences, significance."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tonearm.errors import TonearmError, UsageError
from tonearm.evaluation.grouping import Unit, drawn_over, too_few
from tonearm.evaluation.metrics import (
    BLOCK_NUMBERS,
    Interval,
    Metrics,
    intervals_of,
    judge,
    sum_by_group,
)
from tonearm.evaluation.predictions import Predictions

Reference = Literal["first", "previous"]


@dataclass(frozen=True, slots=True)
class Difference:
    """How a run differs from another on the same tracks.

    Attributes
    ----------
    other
        Name of the run it is held against.
    accuracy, f1
        This run's accuracy and macro F1 minus the other's.
    intervals
        95 % intervals of the two differences by the paired bootstrap, over artists where known;
        none where `evaluate` gives none, or all replicates are equal.
    gained, lost
        Tracks that only this run gets right, and that only the other does (over all seeds).
    p_value
        Exact two-sided McNemar test; with several seeds the median of the tests of each, as
        the same track under two seeds is no independent observation. It takes the tracks of an
        artist as independent, which they are not.
    group_p_value
        Two-sided test that takes only artists as independent, see `sign_flip`.
    """

    other: str
    accuracy: float
    f1: float
    intervals: dict[str, Interval]
    gained: int
    lost: int
    p_value: float
    group_p_value: float


@dataclass(frozen=True, slots=True)
class Row:
    """One run of a comparison; the reference itself has no difference."""

    name: str
    metrics: Metrics
    difference: Difference | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs in the order given, judged on the same tracks.

    Attributes
    ----------
    tracks
        Number of tracks that every run has predicted.
    left_out
        Per run, how many of its predictions are of tracks that some other run lacks.
    unit
        What the groups are over which intervals and tests are drawn.
    """

    rows: tuple[Row, ...]
    tracks: int
    left_out: dict[str, int]
    unit: Unit

    @property
    def drawn_over(self) -> str:
        """What intervals and tests are drawn over, in words that follow "over"."""
        return drawn_over(self.rows[0].metrics.groups, self.unit)

    @property
    def careful(self) -> str | None:
        """Why the intervals are too narrow or absent, or `None`."""
        metrics = self.rows[0].metrics
        return too_few(metrics.groups, self.unit) if metrics.bootstrap else None

    def to_dicts(self) -> list[dict[str, Any]]:
        """Give one flat dictionary per run, the columns of the CSV file."""
        return [_flat(row) for row in self.rows]

    def to_json(self) -> str:
        """Write the runs as a JSON list."""
        return json.dumps(self.to_dicts(), indent=2) + "\n"

    def to_csv(self) -> str:
        """Write the runs as CSV; cells without a value are empty."""
        rows = self.to_dicts()
        text = io.StringIO()
        writer = csv.DictWriter(text, rows[0], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
        return text.getvalue()

    def cells(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Give the header and the rows of the table for people, in per cent.

        One run alone has no columns for how it differs from another.
        """
        others = {row.difference.other for row in self.rows if row.difference}
        against = others.pop() if len(others) == 1 else "the row above"
        by = "track" if self.unit == "track" else "artist"
        header = (
            *("run", "accuracy", "macro precision", "macro recall", "macro F1"),
            *(f"accuracy against {against}", f"p by {by}", "McNemar p"),
        )
        rows = [_cells(row) for row in self.rows]
        if len(rows) == 1:
            return header[:-3], [rows[0][:-3]]
        return header, rows

    def to_markdown(self) -> str:
        """Write the table of `cells` as Markdown, its columns aligned."""
        return markdown_table(*self.cells())


def markdown_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Write a Markdown table, names to the left and numbers to the right."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]

    def render(cells: tuple[str, ...]) -> str:
        padded = [cells[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return f"| {' | '.join(padded)} |"

    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([render(header), f"|{rule}|", *map(render, rows)]) + "\n"


def p_text(p_value: float) -> str:
    """Write a p-value for people."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def compare(
    runs: Mapping[str, Predictions],
    against: Reference = "first",
    bootstrap: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Judge runs on the tracks that all of them have predicted.

    Parameters
    ----------
    runs
        Predictions by name. A track that was predicted under several seeds counts once for each.
        A run that names no seed is taken for one of the others' seed, where they have only one.
    against
        Whether each run is held against the first one or against the one before it.
    bootstrap, seed
        Replicates and seed of the intervals.

    Raises
    ------
    UsageError
        If there are no runs.
    TonearmError
        If they have no track in common (or not under the same seeds), disagree
        on a track's true label, or a run holds a track twice.
    """
    if not runs:
        raise UsageError("there is no run to compare")
    aligned, left_out = align(runs)
    first = next(iter(aligned.values()))
    grouped = next((run for run in aligned.values() if run.unit != "track"), first)
    rows: list[Row] = []
    replicates: dict[str, dict[str, Any]] = {}
    for name, predictions in aligned.items():
        scores = (predictions.truth_index, predictions.probabilities, predictions.labels)
        metrics, replicates[name] = judge(*scores, bootstrap, seed, grouped.groups)
        reference = rows[0 if against == "first" else -1] if rows else None
        difference = None
        if reference is not None:
            before = replicates[reference.name]
            reference_run = aligned[reference.name]
            gained, lost, p_value = _discordance(predictions, reference_run)
            difference = Difference(
                other=reference.name,
                accuracy=metrics.accuracy - reference.metrics.accuracy,
                f1=metrics.f1 - reference.metrics.f1,
                intervals=intervals_of(
                    {
                        figure: replicates[name][figure] - before[figure]
                        for figure in ("accuracy", "f1")
                        if bootstrap
                    }
                ),
                gained=gained,
                lost=lost,
                p_value=p_value,
                group_p_value=sign_flip(
                    _by_group(predictions, reference_run, grouped.groups), seed=seed
                ),
            )
        rows.append(Row(name, metrics, difference))
    return Comparison(tuple(rows), len(set(first.tracks)), left_out, grouped.unit)


def mcnemar(gained: int, lost: int) -> float:
    """Give the exact two-sided p-value of McNemar's test from the discordant pairs.

    Were both classifiers equally good, each track that only one of them gets right would fall
    to either with probability one half: the tail of a binomial distribution, doubled. Integers
    keep it exact at any size.
    """
    pairs = gained + lost
    term = tail = 1
    for k in range(min(gained, lost)):
        term = term * (pairs - k) // (k + 1)
        tail += term
    # Python divides integers of any size exactly. Where gained == lost, the two tails share
    # their middle term, hence the ceiling of 1.
    outcomes: int = 2**pairs
    return min(1.0, 2 * tail / outcomes)


def sign_flip(differences: ArrayLike, flips: int = 9_999, seed: int = 0) -> float:
    """Give the two-sided p-value of a paired sign-flip test.

    Were both classifiers equally good, the difference in each group could as well have been the
    other way round. The p-value is how often random signs give a sum as far from 0 as the real
    one, which itself counts as one of the draws (Phipson and Smyth 2010).

    Parameters
    ----------
    differences
        int[groups], how many more of a group's tracks one classifier gets right than the other;
        groups are independent of each other, the tracks in one need not be.
    flips
        How many times signs are drawn.
    """
    values = np.asarray(differences, np.float64)  # in which sums of whole numbers are exact
    values = values[values != 0]
    random = np.random.default_rng(seed)
    as_far = 0
    block = max(1, BLOCK_NUMBERS // max(1, len(values)))
    for start in range(0, flips, block):
        signs = random.choice((-1.0, 1.0), (min(block, flips - start), len(values)))
        as_far += int((np.abs(signs @ values) >= abs(values.sum())).sum())
    return (1 + as_far) / (1 + flips)


def align(runs: Mapping[str, Predictions]) -> tuple[dict[str, Predictions], dict[str, int]]:
    """Cut every run down to the common (track, seed) pairs, in the order of the first run."""
    places: dict[str, dict[tuple[str, str], int]] = {}
    named = {seed for predictions in runs.values() for seed in predictions.seeds or ()}
    unnamed = named.pop() if len(named) == 1 else ""
    for name, predictions in runs.items():
        seeds = predictions.seeds or (unnamed,) * len(predictions)
        keys = list(zip(predictions.tracks, seeds, strict=True))
        places[name] = {key: i for i, key in enumerate(keys)}
        if len(places[name]) != len(keys):
            repeated = next(key for i, key in enumerate(keys) if places[name][key] != i)
            raise TonearmError(f"{name} holds track {repeated[0]!r} more than once")
    first = next(iter(places.values()))
    common = [key for key in first if all(key in other for other in places.values())]
    if not common:
        raise TonearmError(_nothing_in_common(runs))
    aligned = {
        name: predictions.take([places[name][key] for key in common])
        for name, predictions in runs.items()
    }
    truth = next(iter(aligned.values())).truth
    for name, predictions in aligned.items():
        for (track, _), one, other in zip(common, truth, predictions.truth, strict=True):
            if one != other:
                raise TonearmError(
                    f"the runs disagree on the true label of {track!r}: {one!r} in "
                    f"{next(iter(runs))}, {other!r} in {name}"
                )
    return aligned, {name: len(runs[name]) - len(common) for name in runs}


def _nothing_in_common(runs: Mapping[str, Predictions]) -> str:
    """Say whether it is the tracks that differ, or the seeds alone."""
    if not set.intersection(*(set(predictions.tracks) for predictions in runs.values())):
        return f"{', '.join(runs)} have no track in common"
    seeds = ", ".join(
        f"{name} has {' '.join(sorted(set(predictions.seeds or ()))) or 'none'}"
        for name, predictions in runs.items()
    )
    return f"the runs have no track in common under the same seed; of seeds, {seeds}"


def _discordance(run: Predictions, other: Predictions) -> tuple[int, int, float]:
    gained = run.correct & ~other.correct
    lost = other.correct & ~run.correct
    seeds = np.asarray(run.seeds or ("",) * len(run))
    tests = [
        mcnemar(int(gained[seeds == seed].sum()), int(lost[seeds == seed].sum()))
        for seed in np.unique(seeds)
    ]
    return int(gained.sum()), int(lost.sum()), median(tests)


def _by_group(
    run: Predictions, other: Predictions, groups: Sequence[Hashable]
) -> NDArray[np.float64]:
    """Count how many more tracks of each group a run gets right than another, over all seeds."""
    ahead = run.correct.astype(np.float64) - other.correct
    names, sums = sum_by_group(ahead[:, None], groups)
    # By name, so that the order of the tracks does not decide which signs a group is given.
    by_name = np.argsort([str(name) for name in names])
    return np.asarray(sums[by_name, 0])


def _flat(row: Row) -> dict[str, Any]:
    metrics, difference = row.metrics, row.difference
    flat: dict[str, Any] = {
        "run": row.name,
        "predictions": metrics.count,
        "groups": metrics.groups,
    }
    for figure in ("accuracy", "precision", "recall", "f1", "top3", "ece", "nll"):
        flat[figure] = getattr(metrics, figure)
        if figure != "ece":  # which has no interval
            low, high = metrics.intervals.get(figure, (None, None))
            flat |= {f"{figure}_low": low, f"{figure}_high": high}
    flat["against"] = difference.other if difference else None
    for figure in ("accuracy", "f1"):
        low, high = difference.intervals.get(figure, (None, None)) if difference else (None, None)
        flat |= {
            f"{figure}_difference": getattr(difference, figure) if difference else None,
            f"{figure}_difference_low": low,
            f"{figure}_difference_high": high,
        }
    flat |= {
        "gained": difference.gained if difference else None,
        "lost": difference.lost if difference else None,
        "mcnemar_p": difference.p_value if difference else None,
        "artist_p": difference.group_p_value if difference else None,
    }
    return flat


def _cells(row: Row) -> tuple[str, ...]:
    metrics, difference = row.metrics, row.difference
    figures = tuple(
        with_interval(getattr(metrics, figure), metrics.intervals.get(figure))
        for figure in ("accuracy", "precision", "recall", "f1")
    )
    if difference is None:
        return (row.name, *figures, "", "", "")
    change = with_interval(difference.accuracy, difference.intervals.get("accuracy"), sign="+")
    tests = (difference.group_p_value, difference.p_value)
    return (row.name, *figures, change, *map(p_text, tests))


def with_interval(value: float, interval: Interval | None, sign: str = "") -> str:
    """Write a share for people in per cent, with its interval where it has one."""
    text = f"{100 * value:{sign}.1f}"
    if interval is None:
        return text
    return f"{text} ({100 * interval.low:{sign}.1f} to {100 * interval.high:{sign}.1f})"
