"""The metrics of a genre classifier, each with its uncertainty."""

from __future__ import annotations

import json
import operator
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tonearm.errors import UsageError
from tonearm.evaluation.calibration_error import (
    BINS,
    bins_of,
    calibration_error,
    errors_by_chance,
)

COVERAGE = 0.95
# Unweighted means over classes.
MACRO = ("precision", "recall", "f1")
# `top3` counts a hit if the true class is among this many most probable ones.
TOP = 3
# Probabilities are floored here before the logarithm: one confident error costs 27.6 nats, not
# infinity.
SMALLEST_PROBABILITY = 1e-12
# Replicates within this range count as equal: summation order changes the last digits.
ROUNDING = 1e-9
# Bootstrap weights are drawn in blocks of at most this many numbers (64 MB).
BLOCK_NUMBERS = 8_000_000

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Interval(NamedTuple):
    """A 95 % bootstrap percentile interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """Metrics of one class; `support` is the number of tracks whose true class it is."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """The predictions whose confidence lies in (low, high]."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Metrics:
    """Evaluation results for a set of tracks; created by `evaluate`.

    Attributes
    ----------
    labels
        The classes, in the order of the probability columns and of `confusion`.
    count
        Number of tracks (rows) evaluated.
    groups
        Number of groups the bootstrap draws from; equals `count` unless groups were given.
    accuracy
        Share of tracks whose most probable class is the true one.
    precision, recall, f1
        Macro averages over the classes that occur in the truth. A class that is never predicted
        has precision 0.
    top3
        Share of tracks whose true class is among the three most probable.
    ece
        Expected calibration error: the mean over 15 bins of equal width on the confidence of
        |accuracy - confidence|, weighted by the bins' counts (Guo et al. 2017). It has no interval:
        resampling adds to its bias, so that replicates lie above the true value.
    ece_by_chance
        The mean `ece` that a perfectly calibrated model would show on tracks with these
        confidences.
    nll
        Mean negative log-likelihood of the true class, in nats.
    per_class
        One entry per label, including classes that do not occur in the truth (support 0).
    confusion
        Counts; rows are true classes, columns predicted ones.
    calibration
        The 15 bins behind `ece`.
    intervals
        95 % intervals of accuracy, precision, recall, f1, top3 and nll; empty if `bootstrap` is 0
        or there is only one group. A metric that is the same in all replicates has none, nor do
        the three macro averages if a class has only one group or most replicates lack a class.
    bootstrap, seed
        Number of bootstrap replicates, and their seed.
    """

    labels: tuple[str, ...]
    count: int
    groups: int
    accuracy: float
    precision: float
    recall: float
    f1: float
    top3: float
    ece: float
    ece_by_chance: float
    nll: float
    per_class: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]
    calibration: tuple[CalibrationBin, ...]
    intervals: dict[str, Interval]
    bootstrap: int
    seed: int

    def headline(self, evaluated_on: str) -> dict[str, Any]:
        """Return the main figures as a bundle's `metrics` states them.

        Parameters
        ----------
        evaluated_on
            What the tracks are.
        """
        return {
            "evaluated_on": evaluated_on,
            "tracks": self.count,
            "accuracy": round(self.accuracy, 4),
            "macro_f1": round(self.f1, 4),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics as plain numbers, lists and dictionaries, ready for JSON."""
        plain = asdict(self)
        plain["intervals"] = {name: list(interval) for name, interval in self.intervals.items()}
        return plain

    def to_json(self) -> str:
        """Return the metrics as indented JSON, which `from_json` reads back unchanged."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Metrics:
        """Rebuild the metrics from the result of `to_dict`."""
        fields = dict(plain)
        fields["labels"] = tuple(plain["labels"])
        fields["per_class"] = tuple(ClassMetrics(**row) for row in plain["per_class"])
        fields["confusion"] = tuple(tuple(row) for row in plain["confusion"])
        fields["calibration"] = tuple(CalibrationBin(**row) for row in plain["calibration"])
        fields["intervals"] = {name: Interval(*ends) for name, ends in plain["intervals"].items()}
        return cls(**fields)

    @classmethod
    def from_json(cls, text: str) -> Metrics:
        """Rebuild the metrics from the result of `to_json`."""
        return cls.from_dict(json.loads(text))


def evaluate(
    truth: ArrayLike,
    probabilities: ArrayLike,
    labels: Sequence[str],
    bootstrap: int = 1000,
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
) -> Metrics:
    """Evaluate predictions against the truth.

    Parameters
    ----------
    truth
        int[N], the index of each track's true class in `labels`.
    probabilities
        float[N, C], one distribution over the classes per track.
    labels
        The C class names.
    bootstrap
        Number of bootstrap replicates behind the intervals; 0 for none.
    seed
        Seed of the bootstrap.
    groups
        One key per track, such as its artist. If given, the bootstrap draws whole groups instead
        of single tracks (cluster bootstrap): tracks by one artist are not independent, and
        intervals that treat them as independent are too narrow.

    Raises
    ------
    UsageError
        If the shapes or the number of groups do not match, there are no tracks, the truth is not
        integers or is out of range, a row of probabilities is not a distribution, or `bootstrap`
        or `seed` is below 0.

    Notes
    -----
    Every metric with an interval is a function of sums over tracks (hits, true and predicted
    counts of each class, log-likelihood), so a bootstrap replicate is a reweighting of those sums,
    and all replicates take only a few matrix products.
    """
    return evaluate_with_replicates(truth, probabilities, labels, bootstrap, seed, groups)[0]


def evaluate_with_replicates(
    truth: ArrayLike,
    probabilities: ArrayLike,
    labels: Sequence[str],
    bootstrap: int = 1000,
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
) -> tuple[Metrics, dict[str, FloatArray]]:
    """Return the result of `evaluate` and the replicates of each metric, float64[bootstrap].

    Parameters and errors are those of `evaluate`.

    A macro average is NaN in replicates that lack a class of the truth. Equal numbers of tracks,
    equal groups and equal seeds draw the same tracks, so the difference between two classifiers'
    replicates over the same tracks is a paired bootstrap.
    """
    bootstrap, seed = map(operator.index, (bootstrap, seed))  # JSON takes no NumPy numbers
    if min(bootstrap, seed) < 0:
        raise UsageError(f"bootstrap and seed must be 0 or more, got {bootstrap} and {seed}")
    labels = tuple(labels)
    true, scores = _checked(truth, probabilities, labels)
    predicted, confidence = scores.argmax(axis=1), scores.max(axis=1)
    terms = _track_terms(true, predicted, scores)
    sums = terms if groups is None else sum_by_group(terms, groups)[1]
    totals = _Sums(sums.sum(axis=0, keepdims=True), len(labels))
    precision, recall, f1 = (values[0] for values in totals.per_class())
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(confusion, (true, predicted), 1)
    replicates = _replicates(sums, len(labels), bootstrap, seed)
    metrics = Metrics(
        labels=labels,
        count=len(true),
        groups=len(sums),
        ece=calibration_error(confidence, predicted == true),
        ece_by_chance=float(errors_by_chance(confidence).mean()),
        per_class=tuple(
            ClassMetrics(
                label,
                float(precision[i]),
                float(recall[i]),
                float(f1[i]),
                int(confusion[i].sum()),
            )
            for i, label in enumerate(labels)
        ),
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
        calibration=_calibration(confidence, predicted == true),
        intervals=intervals_of(replicates),
        bootstrap=bootstrap,
        seed=seed,
        **{name: float(values[0]) for name, values in totals.figures().items()},
    )
    return metrics, replicates


def sum_by_group(
    terms: FloatArray, groups: Sequence[Hashable]
) -> tuple[list[Hashable], FloatArray]:
    """Sum the rows of each group.

    Parameters
    ----------
    terms
        float64[N, K]
    groups
        One key per row.

    Returns
    -------
    keys, sums
        The groups in order of first appearance, and float64[groups, K].

    Raises
    ------
    UsageError
        If there is not one key per row.
    """
    if len(groups) != len(terms):
        raise UsageError(f"{len(groups)} groups were given for {len(terms)} tracks")
    numbers: dict[Hashable, int] = {}
    index = [numbers.setdefault(group, len(numbers)) for group in groups]
    sums = np.zeros((len(numbers), terms.shape[1]))
    np.add.at(sums, index, terms)
    return list(numbers), sums


def intervals_of(replicates: Mapping[str, FloatArray]) -> dict[str, Interval]:
    """Return the central 95 % of the bootstrap replicates of each metric.

    NaN replicates are ignored; if they are more than half, there is no interval. Nor is there one
    if all replicates are equal (one group, or no errors among the tracks): its two ends would
    coincide, as though nothing were uncertain.
    """
    tails = (100 * (1 - COVERAGE) / 2, 100 * (1 + COVERAGE) / 2)
    intervals = {}
    for name, values in replicates.items():
        known = values[~np.isnan(values)]
        if 2 * len(known) >= len(values) and np.ptp(known) > ROUNDING:
            low, high = np.percentile(known, tails)
            intervals[name] = Interval(float(low), float(high))
    return intervals


def improper_row(scores: FloatArray) -> tuple[int, str] | None:
    """Return the first row that is no probability distribution, and why, or `None`.

    Probabilities may have been rounded to three digits, so that they do not add up to 1 exactly.

    Parameters
    ----------
    scores
        float64[N, C], with at least one class
    """
    with np.errstate(over="ignore", invalid="ignore"):  # of what is infinite, or nearly
        sums = scores.sum(axis=1)
    # Each is then off by 0.0005 at most.
    rounded = np.abs(sums - 1) < 0.0005 * scores.shape[1] + ROUNDING
    wrong = ~(np.isfinite(sums) & (scores.min(axis=1) >= 0) & rounded)
    if not wrong.any():
        return None
    row = int(np.flatnonzero(wrong)[0])
    return row, f"no distribution (sum {sums[row]:.4g}, smallest {scores[row].min():.4g})"


def _replicates(sums: FloatArray, classes: int, bootstrap: int, seed: int) -> dict[str, FloatArray]:
    occurring = _Sums(sums.sum(axis=0, keepdims=True), classes).occurs()
    # How much the groups of a class differ cannot be known from one.
    has_lone = (np.count_nonzero(sums[:, classes : 2 * classes], axis=0) == 1).any()
    blocks = []
    for weights in _bootstrap_weights(len(sums), bootstrap, seed):
        resampled = _Sums(weights @ sums, classes)
        figures = resampled.figures()
        # A mean over only the classes resampled would cover different classes in each replicate.
        incomplete = (resampled.occurs() != occurring).any(axis=1)
        for name in MACRO:
            figures[name][incomplete | has_lone] = np.nan
        blocks.append(figures)
    names = blocks[0] if blocks else ()
    return {name: np.concatenate([block[name] for block in blocks]) for name in names}


def _checked(
    truth: ArrayLike, probabilities: ArrayLike, labels: tuple[str, ...]
) -> tuple[IntArray, FloatArray]:
    true = np.asarray(truth)
    scores = np.asarray(probabilities, dtype=np.float64)
    if true.ndim != 1 or scores.shape != (len(true), len(labels)):
        raise UsageError(
            f"truth of shape {true.shape} and probabilities of shape {scores.shape} do not fit "
            f"{len(labels)} labels: expected (N,) and (N, {len(labels)})"
        )
    if not len(true):
        raise UsageError("there are no tracks to evaluate")
    if not np.issubdtype(true.dtype, np.integer):
        raise UsageError(f"the truth must be class indices (integers), not {true.dtype}")
    if true.min() < 0 or true.max() >= len(labels):
        raise UsageError(
            f"the truth holds class {true.min() if true.min() < 0 else true.max()}, "
            f"but there are {len(labels)} labels"
        )
    improper = improper_row(scores)
    if improper is not None:
        row, reason = improper
        raise UsageError(f"row {row} of the probabilities is {reason}")
    return true.astype(np.int64), scores


def _track_terms(true: IntArray, predicted: IntArray, scores: FloatArray) -> FloatArray:
    """Return each track's contribution to every sum, float64[N, 3 * C + 2].

    The columns are hits, true counts and predicted counts of each class, then the hit among the top
    three and the negative log-likelihood. Whole confusion matrices would take C * C columns, and no
    metric needs more than these.
    """
    tracks, classes = scores.shape
    rows = np.arange(tracks)
    target = scores[rows, true]
    # Rank of the true class; ties are broken by column order, as in argmax.
    earlier = np.arange(classes) < true[:, None]
    rank = ((scores > target[:, None]) | ((scores == target[:, None]) & earlier)).sum(axis=1)
    terms = np.zeros((tracks, 3 * classes + 2))
    terms[rows, true] = predicted == true
    terms[rows, classes + true] = 1
    terms[rows, 2 * classes + predicted] = 1
    terms[:, -2] = rank < TOP
    terms[:, -1] = -np.log(np.maximum(target, SMALLEST_PROBABILITY))
    return terms


def _bootstrap_weights(units: int, replicates: int, seed: int) -> Iterator[FloatArray]:
    """Yield blocks of float64[b, units], how often each unit is drawn with replacement."""
    random = np.random.default_rng(seed)
    block = max(1, BLOCK_NUMBERS // units)
    for start in range(0, replicates, block):
        rows = min(block, replicates - start)
        indices = random.integers(0, units, size=(rows, units))
        indices += units * np.arange(rows)[:, None]
        counts = np.bincount(indices.ravel(), minlength=rows * units)
        yield counts.reshape(rows, units).astype(np.float64)


class _Sums:
    """Sums over tracks under R weightings at once, and the metrics derived from them."""

    def __init__(self, sums: FloatArray, classes: int) -> None:
        """Split float64[R, 3 * C + 2], the summed columns of `_track_terms`."""
        self.hits = sums[:, :classes]
        self.support = sums[:, classes : 2 * classes]
        self.predicted = sums[:, 2 * classes : 3 * classes]
        self.top_hits = sums[:, -2]
        self.loss = sums[:, -1]
        self.count = self.support.sum(axis=1)

    def per_class(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return precision, recall and F1, each float64[R, C]; 0 where undefined."""
        return (
            _ratio(self.hits, self.predicted),
            _ratio(self.hits, self.support),
            _ratio(2 * self.hits, self.support + self.predicted),
        )

    def occurs(self) -> NDArray[np.bool_]:
        """Return which classes occur in the truth, bool[R, C]."""
        return self.support > 0

    def figures(self) -> dict[str, FloatArray]:
        """Return each metric except the calibration error, float64[R], by its name in `Metrics`."""
        occurs = self.occurs()
        precision, recall, f1 = (
            (values * occurs).sum(axis=1) / occurs.sum(axis=1) for values in self.per_class()
        )
        return {
            "accuracy": self.hits.sum(axis=1) / self.count,
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "top3": self.top_hits / self.count,
            "nll": self.loss / self.count,
        }


def _calibration(confidence: FloatArray, hits: NDArray[np.bool_]) -> tuple[CalibrationBin, ...]:
    """Return the bins behind the calibration error."""
    terms = np.stack([np.ones(len(hits)), confidence, hits], axis=1)
    sums = np.zeros((BINS, 3))
    np.add.at(sums, bins_of(confidence), terms)
    count = sums[:, 0]
    mean_confidence, accuracy = _ratio(sums[:, 1], count), _ratio(sums[:, 2], count)
    return tuple(
        CalibrationBin(
            low=i / BINS,
            high=(i + 1) / BINS,
            count=int(count[i]),
            confidence=float(mean_confidence[i]),
            accuracy=float(accuracy[i]),
        )
        for i in range(BINS)
    )


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    return np.divide(part, whole, out=np.zeros_like(part, dtype=np.float64), where=whole > 0)
