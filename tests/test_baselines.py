"""The traditional classifiers learn, calibrate, and take the gaps that real data has."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tonearm.baselines.classical import FEATURE_SETS, Baseline, baseline_names, create_baseline
from tonearm.errors import UsageError
from tonearm.features.descriptors import descriptor_names, mfcc_columns

LABELS = ("blues", "jazz", "rock")
SVM, FAST = "descriptors-svm", ("mfcc-svm", "mfcc-logistic", "descriptors-knn")


def clips(
    tracks: int = 90, spread: float = 1.0, seed: int = 0
) -> tuple[NDArray[np.float32], list[str], list[str]]:
    """Make descriptions whose MFCC columns carry the genre, and an artist for each three."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(3, len(mfcc_columns())))
    truth = np.arange(tracks) % 3
    table = random.normal(size=(tracks, len(descriptor_names())))
    table[:, list(mfcc_columns())] = centres[truth] + spread * table[:, list(mfcc_columns())]
    # Scales as far apart as hertz and shares are.
    table *= np.geomspace(1e-3, 1e3, table.shape[1])
    artists = [f"artist {i // 9}" for i in range(tracks)]
    return table.astype(np.float32), [LABELS[i] for i in truth], artists


def share_right(baseline: Baseline, shares: NDArray[np.float64], truth: list[str]) -> float:
    return float(np.mean(np.array(baseline.classes)[shares.argmax(axis=1)] == truth))


def accuracy(name: str, spread: float = 1.0) -> float:
    known, heard = clips(spread=spread), clips(60, spread, seed=1)
    baseline = create_baseline(name).fit(*known)
    shares = baseline.predict_proba(heard[0])
    assert shares.shape == (60, 3)
    assert np.allclose(shares.sum(axis=1), 1)
    return share_right(baseline, shares, heard[1])


@pytest.mark.parametrize("name", FAST)
def test_it_learns(name: str) -> None:
    assert accuracy(name) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(baseline_names()) - set(FAST)))
def test_every_other_one_learns(name: str) -> None:
    assert accuracy(name) > 0.9


def test_names_are_feature_set_and_method() -> None:
    assert {"mfcc-svm", "descriptors-forest", "descriptors-boosting"} <= set(baseline_names())
    assert {name.split("-")[0] for name in baseline_names()} == set(FEATURE_SETS)
    with pytest.raises(UsageError, match=r"no baseline 'svm'; there are mfcc-svm"):
        create_baseline("svm")


def test_mfcc_baselines_see_no_other_column() -> None:
    known, truth, artists = clips()
    baseline = create_baseline("mfcc-logistic").fit(known, truth, artists)
    changed = known.copy()
    others = np.setdiff1d(np.arange(known.shape[1]), mfcc_columns())
    changed[:, others] = 0
    assert np.array_equal(baseline.predict_proba(known), baseline.predict_proba(changed))


def test_confidence_follows_from_held_out_clips() -> None:
    # Where the genres overlap, an honest classifier is right about as often as it is sure.
    known, heard = clips(240, spread=6), clips(240, spread=6, seed=1)
    baseline = create_baseline(SVM).fit(*known)
    shares = baseline.predict_proba(heard[0])
    right = share_right(baseline, shares, heard[1])
    assert 0.4 < right < 0.95
    assert abs(shares.max(axis=1).mean() - right) < 0.1


def test_it_repeats_by_seed_and_keeps_its_settings() -> None:
    known, truth, artists = clips(spread=4)
    first, second = (create_baseline(SVM, seed=3).fit(known, truth, artists) for _ in range(2))
    assert np.array_equal(first.predict_proba(known), second.predict_proba(known))
    assert set(first.settings) == {"C"}


def test_missing_values_and_undecodable_clips_are_taken() -> None:
    known, truth, artists = clips()
    known[::7, 3] = np.nan
    known[:, 5] = np.nan  # a descriptor that no clip has
    known[4] = np.nan
    baseline = create_baseline(SVM).fit(known, truth, artists)
    assert np.isfinite(baseline.predict_proba(known)).all()


def test_a_class_of_one_artist_can_still_be_learned() -> None:
    known, truth, artists = clips()
    artists = ["solo" if truth[i] == "jazz" else artist for i, artist in enumerate(artists)]
    baseline = create_baseline(SVM).fit(known, truth, artists)
    assert baseline.settings == {}
    assert baseline.predict_proba(known).shape == (90, 3)


def test_what_cannot_be_learned_is_refused() -> None:
    known, _, artists = clips(6)
    with pytest.raises(UsageError, match="two classes"):
        create_baseline(SVM).fit(known, ["jazz"] * 6, artists)
    with pytest.raises(UsageError, match="call fit first"):
        create_baseline(SVM).predict_proba(known)
