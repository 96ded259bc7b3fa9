"""Log-probabilities become shares at the temperature that fits them."""

from __future__ import annotations

import numpy as np
import pytest

from tonearm.evaluation.calibration import fit_temperature, probabilities_at


def test_temperature_cools_the_timid_and_heats_the_bold() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 2000)
    logits = rng.normal(size=(2000, 4)) + 2 * np.eye(4)[truth]
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    calibrated = fit_temperature(log_probabilities, truth)

    assert fit_temperature(3 * log_probabilities, truth) == pytest.approx(3 * calibrated, rel=0.05)
    assert fit_temperature(0.5 * log_probabilities, truth) == pytest.approx(
        0.5 * calibrated, rel=0.05
    )


def test_a_temperature_is_never_beyond_its_bounds() -> None:
    truth = np.arange(30) % 3
    always_right = 2.0 * np.eye(3)[truth]  # the cooler, the better
    always_wrong = 2.0 * np.eye(3)[(truth + 1) % 3]
    assert fit_temperature(always_right, truth) == pytest.approx(0.2)
    assert fit_temperature(always_wrong, truth) == pytest.approx(5.0)


def test_log_probabilities_of_any_size_become_shares() -> None:
    scores = np.array([[0.0, 2000.0], [-9e4, -9e4]])
    assert probabilities_at(scores).tolist() == [[0, 1], [0.5, 0.5]]
    shares = np.array([[0.2, 0.8], [0.7, 0.3]])
    assert probabilities_at(np.log(shares)) == pytest.approx(shares)  # unless told otherwise
