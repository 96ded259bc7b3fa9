"""Compare runs on the tracks they have in common: metrics, differences, significance."""

from __future__ import annotations

import io
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import median
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tonearm.csvrows import csv_writer
from tonearm.errors import TonearmError, UsageError
from tonearm.evaluation.grouping import Unit, resampling_unit, too_few
from tonearm.evaluation.metrics import (
    BLOCK_NUMBERS,
    Interval,
    Metrics,
    evaluate_with_replicates,
    intervals_of,
    sum_by_group,
)
from tonearm.evaluation.predictions import Predictions
from tonearm.text import printable

Reference = Literal["first", "previous"]

FLIPS = 9_999  # random draws of signs in `sign_flip`


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference between a run and a reference run on the same tracks.

    Attributes
    ----------
    other
        Name of the reference run.
    accuracy, f1
        This run's accuracy and macro F1 minus those of the reference.
    intervals
        95 % intervals of the two differences by the paired bootstrap, over artists where known;
        `intervals_of` states when there is none.
    gained, lost
        Number of tracks that only this run gets right, and that only the reference does, over all
        seeds.
    p_value
        Exact two-sided McNemar test. The same track under two seeds is not an independent
        observation, so with several seeds each is tested, and for either direction the median of
        the one-sided tests is taken. It treats tracks by the same artist as independent, which
        they are not.
    group_p_value
        Two-sided test that treats only artists as independent; see `sign_flip`.
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
    """One run of a comparison; the first run has no difference."""

    name: str
    metrics: Metrics
    difference: Difference | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs in the given order, evaluated on the same tracks.

    Attributes
    ----------
    rows
        One for each run.
    tracks
        Number of tracks that every run has predicted.
    left_out
        Per run, the number of its predictions that some other run lacks.
    unit
        What the groups are that intervals and tests are computed over.
    """

    rows: tuple[Row, ...]
    tracks: int
    left_out: dict[str, int]
    unit: Unit

    @property
    def resampling_unit(self) -> str:
        """What intervals and tests are computed over, as text to follow "over"."""
        return resampling_unit(self.rows[0].metrics.groups, self.unit)

    @property
    def warning(self) -> str | None:
        """Why the intervals are too narrow or absent, or `None`."""
        metrics = self.rows[0].metrics
        return too_few(metrics.groups, self.unit) if metrics.bootstrap else None

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return one flat dictionary per run, with the columns of the CSV file."""
        return [_flat(row) for row in self.rows]

    def to_json(self) -> str:
        """Return the runs as a JSON list."""
        return json.dumps(self.to_dicts(), indent=2) + "\n"

    def to_csv(self) -> str:
        """Return the runs as CSV; cells without a value are empty."""
        rows = self.to_dicts()
        text = io.StringIO()
        writer = csv_writer(text)
        writer.writerow(rows[0])
        for row in rows:
            writer.writerow(f"{v:.6g}" if isinstance(v, float) else v for v in row.values())
        return text.getvalue()

    def cells(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return the header and rows of the human-readable table, in per cent.

        The columns on differences are omitted if there is only one run.
        """
        others = {printable(row.difference.other) for row in self.rows if row.difference}
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
        """Return the table of `cells` as Markdown with aligned columns."""
        return markdown_table(*self.cells())


def markdown_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a Markdown table, with names left-aligned and numbers right-aligned."""
    lines = [[cell.replace("|", r"\|") for cell in line] for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def render(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return f"| {' | '.join(padded)} |"

    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([render(lines[0]), f"|{rule}|", *map(render, lines[1:])]) + "\n"


def p_text(p_value: float) -> str:
    """Format a p-value for people."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def compare(
    runs: Mapping[str, Predictions],
    against: Reference = "first",
    bootstrap: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare runs on the tracks that all of them have predicted.

    Parameters
    ----------
    runs
        Predictions by name. A track that was predicted under several seeds counts once for each.
        A run without seeds is given the seed of the others if they have only one.
    against
        Whether each run is compared with the first run or with the previous one.
    bootstrap, seed
        Number of bootstrap replicates behind the intervals, and their seed.

    Raises
    ------
    UsageError
        If there are no runs, `against` is neither of the two, or `bootstrap` or `seed` is below 0.
    TonearmError
        If they have no track in common (or not under the same seeds), disagree on a track's true
        label, or a run holds a track twice.
    """
    if not runs:
        raise UsageError("there is no run to compare")
    if against not in get_args(Reference):
        raise UsageError(f"against: expected 'first' or 'previous', got {against!r}")
    aligned, left_out = align(runs)
    with_artists = _with_known_artists(list(aligned.values()))
    rows: list[Row] = []
    replicates: dict[str, dict[str, Any]] = {}
    for name, predictions in aligned.items():
        scores = (predictions.truth_index, predictions.probabilities, predictions.labels)
        metrics, replicates[name] = evaluate_with_replicates(
            *scores, bootstrap, seed, with_artists.groups
        )
        reference = rows[0 if against == "first" else -1] if rows else None
        difference = None
        if reference is not None:
            reference_replicates = replicates[reference.name]
            reference_run = aligned[reference.name]
            gained, lost, p_value = _discordance(predictions, reference_run)
            difference = Difference(
                other=reference.name,
                accuracy=metrics.accuracy - reference.metrics.accuracy,
                f1=metrics.f1 - reference.metrics.f1,
                intervals=intervals_of(
                    {
                        figure: replicates[name][figure] - reference_replicates[figure]
                        for figure in ("accuracy", "f1")
                        if bootstrap
                    }
                ),
                gained=gained,
                lost=lost,
                p_value=p_value,
                group_p_value=sign_flip(
                    _by_group(predictions, reference_run, with_artists.groups), seed=seed
                ),
            )
        rows.append(Row(name, metrics, difference))
    return Comparison(tuple(rows), len(set(with_artists.tracks)), left_out, with_artists.unit)


def sign_flip(differences: ArrayLike, seed: int = 0) -> float:
    """Return the two-sided p-value of a paired sign-flip test.

    If both classifiers were equally good, the difference in each group could equally well have had
    the opposite sign. The p-value is the share of all combinations of signs whose sum is at least
    as far from 0 as the observed one. If there are too many, it is the share of random draws, of
    which the observed one counts as one (Phipson and Smyth 2010).

    Parameters
    ----------
    differences
        int[groups], how many more of a group's tracks one classifier gets right than the other;
        groups must be independent of each other, tracks within a group need not be.
    seed
        Seed of the random draws.
    """
    values = np.asarray(differences, np.float64)  # float64 sums whole numbers exactly
    values = values[values != 0]
    if 2 ** len(values) <= FLIPS:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(values))))
        return float((np.abs(signs @ values) >= abs(values.sum())).mean())
    random = np.random.default_rng(seed)
    as_extreme = 0
    block = max(1, BLOCK_NUMBERS // max(1, len(values)))
    for start in range(0, FLIPS, block):
        signs = random.choice((-1.0, 1.0), (min(block, FLIPS - start), len(values)))
        as_extreme += int((np.abs(signs @ values) >= abs(values.sum())).sum())
    return (1 + as_extreme) / (1 + FLIPS)


def align(runs: Mapping[str, Predictions]) -> tuple[dict[str, Predictions], dict[str, int]]:
    """Restrict every run to the common (track, seed) pairs, in the order of the first run.

    Returns
    -------
    aligned, left_out
        The runs by name, and how many predictions of each are not among them.

    Raises
    ------
    TonearmError
        If they have nothing in common, disagree on a track's true label, or a run holds a track
        twice.
    """
    positions: dict[str, dict[tuple[str, str], int]] = {}
    known_seeds = {seed for predictions in runs.values() for seed in predictions.seeds or ()}
    default_seed = known_seeds.pop() if len(known_seeds) == 1 else ""
    for name, predictions in runs.items():
        seeds = predictions.seeds or (default_seed,) * len(predictions)
        keys = list(zip(predictions.tracks, seeds, strict=True))
        positions[name] = {key: i for i, key in enumerate(keys)}
        if len(positions[name]) != len(keys):
            repeated = next(key for i, key in enumerate(keys) if positions[name][key] != i)
            raise TonearmError(f"{name} holds track {repeated[0]!r} more than once")
    first = next(iter(positions.values()))
    common = [key for key in first if all(key in other for other in positions.values())]
    if not common:
        raise TonearmError(_nothing_in_common(runs))
    aligned = {
        name: predictions.take([positions[name][key] for key in common])
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


def _with_known_artists(aligned: Sequence[Predictions]) -> Predictions:
    """Return the first of some runs, with the artist of each track that any of them knows."""
    first = aligned[0]
    columns = [run.artists or ("",) * len(run) for run in aligned]
    artists = tuple(next(filter(None, known), "") for known in zip(*columns, strict=True))
    return replace(first, artists=artists)


def _nothing_in_common(runs: Mapping[str, Predictions]) -> str:
    """Return an error message saying whether the tracks differ or only the seeds."""
    if not set.intersection(*(set(predictions.tracks) for predictions in runs.values())):
        return f"{', '.join(runs)} have no track in common"
    seeds = ", ".join(
        f"{name} has {' '.join(sorted(set(predictions.seeds or ()))) or 'none'}"
        for name, predictions in runs.items()
    )
    return f"the runs have no track in common under the same seed; of seeds, {seeds}"


def _discordance(run: Predictions, other: Predictions) -> tuple[int, int, float]:
    """Return how many tracks one alone gets right (gained), the other alone (lost), and p.

    p is the exact two-sided p-value of McNemar's test (1947): if both were equally good, each of
    these tracks would go to either with probability one half. Of several seeds it is the median.
    """
    gained = run.correct & ~other.correct
    lost = other.correct & ~run.correct
    seeds = np.asarray(run.seeds or ("",) * len(run))
    of_seeds = [
        (int(gained[seeds == seed].sum()), int(lost[seeds == seed].sum()))
        for seed in np.unique(seeds)
    ]
    # One-sided, so that seeds that speak for opposite sides do not add up to evidence for either.
    tails = (
        median(_binomial_tail(more, more + less) for more, less in of_seeds),
        median(_binomial_tail(less, more + less) for more, less in of_seeds),
    )
    return int(gained.sum()), int(lost.sum()), min(1.0, 2 * min(tails))


def _binomial_tail(most: int, pairs: int) -> float:
    """Return the probability that a fair coin shows heads at most so often in some tosses."""
    term = tail = 1
    for k in range(most):
        term = term * (pairs - k) // (k + 1)
        tail += term
    outcomes: int = 2**pairs
    return tail / outcomes  # correctly rounded at any size


def _by_group(
    run: Predictions, other: Predictions, groups: Sequence[Hashable]
) -> NDArray[np.float64]:
    """Return how many more tracks of each group `run` gets right than `other`, over all seeds."""
    differences = run.correct.astype(np.float64) - other.correct
    names, sums = sum_by_group(differences[:, None], groups)
    # Sorted by name, so that the signs drawn for a group do not depend on the track order.
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
    name, metrics, difference = printable(row.name), row.metrics, row.difference
    figures = tuple(
        with_interval(getattr(metrics, figure), metrics.intervals.get(figure))
        for figure in ("accuracy", "precision", "recall", "f1")
    )
    if difference is None:
        return (name, *figures, "", "", "")
    change = with_interval(difference.accuracy, difference.intervals.get("accuracy"), sign="+")
    tests = (difference.group_p_value, difference.p_value)
    return (name, *figures, change, *map(p_text, tests))


def with_interval(value: float, interval: Interval | None, sign: str = "") -> str:
    """Format a share for people in per cent, with its interval if it has one."""
    text = f"{100 * value:{sign}.1f}"
    if interval is None:
        return text
    return f"{text} ({100 * interval.low:{sign}.1f} to {100 * interval.high:{sign}.1f})"
