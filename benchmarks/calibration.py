"""How well out-of-fold confidence is calibrated, what would better it, and where to be unsure.

    python benchmarks/calibration.py [docs/results/predictions/gtzan/default.csv]

Takes cross-validated predictions with their folds (artist-grouped). Every calibration method is
fitted on all folds but one and applied to that one, so none is evaluated on what it was fitted to.
Prints, for each seed:

- for each method, accuracy, log-loss and the calibration error, over 15 bins of equal width and
  over 10 bins of equally many tracks. With so few tracks, even perfectly calibrated predictions
  show an error: "by chance" is the error if the truth is drawn from the evaluated probabilities
  themselves, as the mean and as the level that 5 % exceed;
- the reliability of the predictions as they are, bin by bin;
- for each threshold of "unsure", the share of tracks that keep a genre, how many of those are
  right, and how many of the others would have been.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from foldwise import PUBLISHED, published
from tonearm.evaluation.calibration import fit_temperature, probabilities_at
from tonearm.evaluation.calibration_error import calibration_error, errors_by_chance
from tonearm.evaluation.predictions import Predictions

Doubles = NDArray[np.float64]
Truth = NDArray[np.int64]
# Fits to log-probabilities [N, C] and truth; returns a map from log-probabilities to
# probabilities [N, C].
Calibrator = Callable[[Doubles, Truth], Callable[[Doubles], Doubles]]

FULL_BINS = 10
RIDGE = 0.01  # keeps per-class parameters close to a temperature alone
THRESHOLDS = (0.0, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("predictions", nargs="?", type=Path, default=PUBLISHED)
    for table in published(parser.parse_args().predictions):
        if table.seeds:
            print(f"\nseed {table.seeds[0]}\n======\n")
        report_calibrators(table, np.array(table.folds))
        report_reliability(table)
        report_refusal(table)


def report_calibrators(table: Predictions, folds: NDArray[np.str_]) -> None:
    logs, truth = log_probabilities(table), table.truth_index
    print(f"{len(table)} tracks, {len(set(folds))} folds, fitted on the others\n")
    print("                        accuracy  log-loss  ECE, equal width  ECE, equal mass")
    for name, fit in CALIBRATORS.items():
        calibrated = np.empty_like(logs)
        for fold in set(folds):
            held_out = folds == fold
            calibrated[held_out] = fit(logs[~held_out], truth[~held_out])(logs[held_out])
        hits = calibrated.argmax(axis=1) == truth
        loss = -np.log(calibrated[np.arange(len(truth)), truth]).mean()
        errors = calibration_errors(calibrated.max(axis=1), hits)
        print(f"{name:24}  {hits.mean():.4f}    {loss:.4f}            {errors[0]:.4f}", end="")
        print(f"           {errors[1]:.4f}")
    chance = errors_by_chance(table.probabilities.max(axis=1), calibration_errors)
    for name, (wide, full) in (
        ("by chance, mean", chance.mean(axis=0)),
        ("by chance, 5 % pass", np.quantile(chance, 0.95, axis=0)),
    ):
        print(f"{name:24}                              {wide:.4f}           {full:.4f}")
    print(f"\nA temperature over all: {fit_temperature(logs, truth):.3f} times that of the model.")


def report_reliability(table: Predictions) -> None:
    print("\nconfidence    tracks  mean confidence  accuracy")
    for part in table.metrics(bootstrap=0).calibration:
        if part.count:
            print(
                f"{part.low:4.0%} - {part.high:4.0%}     {part.count:4d}           "
                f"{part.confidence:6.1%}    {part.accuracy:6.1%}"
            )


def report_refusal(table: Predictions) -> None:
    confidence, hits = table.probabilities.max(axis=1), table.correct
    print("\nthreshold  coverage  accuracy above  accuracy below")
    for threshold in THRESHOLDS:
        kept = confidence >= threshold
        below = f"{hits[~kept].mean():6.1%} of {(~kept).sum()}" if not kept.all() else "-"
        print(
            f"     {threshold:.2f}    {kept.mean():6.1%}          {hits[kept].mean():6.1%}  {below}"
        )


def as_it_is(logs: Doubles, truth: Truth) -> Callable[[Doubles], Doubles]:
    return np.exp


def temperature(logs: Doubles, truth: Truth) -> Callable[[Doubles], Doubles]:
    fitted = fit_temperature(logs, truth)
    return lambda others: probabilities_at(others, fitted)


def bias_for_each_class(logs: Doubles, truth: Truth) -> Callable[[Doubles], Doubles]:
    """Fit a temperature, and a bias added to each class's log-probability."""
    return fitted_affine(logs, truth, scales=1)


def scale_and_bias_for_each_class(logs: Doubles, truth: Truth) -> Callable[[Doubles], Doubles]:
    """Fit vector scaling (Guo et al. 2017)."""
    return fitted_affine(logs, truth, scales=logs.shape[1])


def fitted_affine(logs: Doubles, truth: Truth, scales: int) -> Callable[[Doubles], Doubles]:
    """Fit a bias per class, and one scale for all or one per class, with a ridge penalty."""
    rows, classes = np.arange(len(truth)), logs.shape[1]

    def apply(parameters: Doubles, others: Doubles) -> Doubles:
        return probabilities_at(others * np.exp(parameters[classes:]) + parameters[:classes], 1.0)

    def loss(parameters: Doubles) -> float:
        biases, logarithms = parameters[:classes], parameters[classes:]
        penalty = np.square(biases).sum() + np.square(logarithms - logarithms.mean()).sum()
        return float(RIDGE * penalty - np.log(apply(parameters, logs)[rows, truth]).mean())

    parameters = minimize(loss, np.zeros(classes + scales)).x
    return lambda others: apply(parameters, others)


CALIBRATORS: dict[str, Calibrator] = {
    "as they are": as_it_is,
    "temperature": temperature,
    "bias per class": bias_for_each_class,
    "scale and bias per class": scale_and_bias_for_each_class,
}


def log_probabilities(table: Predictions) -> Doubles:
    return np.log(np.maximum(table.probabilities, 1e-12))


def calibration_errors(confidence: Doubles, hits: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the calibration error over bins of equal width, and over bins of equal mass."""
    gaps = (confidence - hits)[np.argsort(confidence)]
    full = sum(abs(part.sum()) for part in np.array_split(gaps, FULL_BINS))
    return calibration_error(confidence, hits), float(full / len(hits))


if __name__ == "__main__":
    main()
