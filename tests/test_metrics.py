"""Metrics agree with scikit-learn, predictions survive their file."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as reference

from tonearm.errors import UsageError
from tonearm.evaluation import predictions as files
from tonearm.evaluation.calibration_error import bins_of
from tonearm.evaluation.grouping import Unit, too_few
from tonearm.evaluation.metrics import (
    Metrics,
    evaluate,
    evaluate_with_replicates,
    intervals_of,
)
from tonearm.evaluation.predictions import Predictions, PredictionsError

LABELS = ("blues", "classical", "disco", "metal", "pop")


def sample(tracks: int = 300, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, len(LABELS), tracks)
    logits = random.normal(size=(tracks, len(LABELS)))
    logits[np.arange(tracks), truth] += 1.2
    shares = np.exp(logits)
    return truth, shares / shares.sum(axis=1, keepdims=True)


def test_agrees_with_scikit_learn() -> None:
    truth, shares = sample()
    predicted = shares.argmax(axis=1)
    result = evaluate(truth, shares, LABELS, bootstrap=0)

    assert result.accuracy == pytest.approx(reference.accuracy_score(truth, predicted))
    macro = reference.precision_recall_fscore_support(truth, predicted, average="macro")[:3]
    assert (result.precision, result.recall, result.f1) == pytest.approx(macro)
    assert np.array_equal(result.confusion, reference.confusion_matrix(truth, predicted))
    assert result.top3 == pytest.approx(reference.top_k_accuracy_score(truth, shares, k=3))
    assert result.nll == pytest.approx(reference.log_loss(truth, shares))
    rows = reference.precision_recall_fscore_support(truth, predicted)
    for i, row in enumerate(result.per_class):
        assert (row.precision, row.recall, row.f1, row.support) == pytest.approx(
            tuple(values[i] for values in rows)
        )
    assert result.intervals == {}


def test_macro_goes_over_the_classes_that_occur() -> None:
    truth, shares = sample()
    kept = truth != 2
    truth, shares = truth[kept], shares[kept]
    predicted = shares.argmax(axis=1)
    assert 2 in predicted
    result = evaluate(truth, shares, LABELS, bootstrap=50)
    expected = reference.f1_score(truth, predicted, labels=[0, 1, 3, 4], average="macro")
    assert result.f1 == pytest.approx(expected)
    assert result.per_class[2].support == 0


def test_a_class_never_predicted_has_precision_nought() -> None:
    shares = np.tile([0.9, 0.1, 0, 0, 0], (4, 1))
    result = evaluate([0, 0, 1, 1], shares, LABELS, bootstrap=0)
    assert result.per_class[1].precision == 0
    assert result.f1 == pytest.approx((2 / 3) / 2)


def test_equal_scores_rank_in_the_order_of_the_labels() -> None:
    shares = np.full((len(LABELS), len(LABELS)), 0.2)
    result = evaluate(np.arange(len(LABELS)), shares, LABELS, bootstrap=0)
    assert result.accuracy == pytest.approx(1 / 5)
    assert result.top3 == pytest.approx(3 / 5)


def test_calibration_error_by_hand() -> None:
    # Two bins: 0.9 (three of four right) and 0.6 (one of two right).
    shares = np.array([[0.9, 0.1]] * 4 + [[0.6, 0.4]] * 2)
    result = evaluate([0, 0, 0, 1, 0, 1], shares, ("a", "b"), bootstrap=0)
    assert result.ece == pytest.approx((4 * 0.15 + 2 * 0.1) / 6)
    occupied = [(b.count, b.accuracy) for b in result.calibration if b.count]
    assert occupied == [(2, 0.5), (4, 0.75)]


def test_calibration_error_by_chance() -> None:
    # Whatever the bin, one answer of 0.7 is off by 0.3 seven times of ten, and else by 0.7.
    single = evaluate([0], [[0.7, 0.3]], ("a", "b"), bootstrap=0)
    assert single.ece_by_chance == pytest.approx(0.42, abs=0.02)
    # Many answers leave little to chance: the mean of |a normal deviate| is 0.8 of its deviation.
    shares = np.tile([0.7, 0.3], (2000, 1))
    many = evaluate(np.arange(2000) % 2, shares, ("a", "b"), bootstrap=0)
    assert many.ece_by_chance == pytest.approx(0.8 * np.sqrt(0.21 / 2000), rel=0.1)
    assert many.ece == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("groups", "unit", "said"),
    [
        (1, "artist", "one artist: no interval"),
        (5, "artist", "only 5 artists: the 95 % intervals are too narrow"),
        (9, "group", "only 9 groups: "),
        (2, "track", "only 2 tracks: "),
    ],
)
def test_few_groups_are_told_of(groups: int, unit: Unit, said: str) -> None:
    assert str(too_few(groups, unit)).startswith(said)
    assert too_few(10, unit) is None


def test_a_perfect_and_certain_classifier() -> None:
    result = evaluate(np.arange(5), np.eye(5), LABELS)
    assert (result.accuracy, result.f1, result.ece, result.nll) == (1, 1, 0, 0)
    assert result.intervals == {}  # with other tracks it might well err


def test_one_group_gives_no_interval() -> None:
    assert evaluate(*sample(30), LABELS, groups=["one"] * 30).intervals == {}


def test_intervals_hold_the_estimate_and_repeat_by_seed() -> None:
    truth, shares = sample()
    result = evaluate(truth, shares, LABELS, seed=3)
    low, high = result.intervals["accuracy"]
    # The normal approximation of a binomial share is close at 300 tracks.
    spread = 1.96 * np.sqrt(result.accuracy * (1 - result.accuracy) / len(truth))
    assert (low, high) == pytest.approx(
        (result.accuracy - spread, result.accuracy + spread), abs=0.012
    )
    assert set(result.intervals) == {
        "accuracy", "precision", "recall", "f1", "top3", "nll"
    }  # fmt: skip
    assert evaluate(truth, shares, LABELS, seed=3) == result
    assert evaluate(truth, shares, LABELS, seed=4).intervals != result.intervals


def test_groups_of_alike_tracks_widen_the_intervals() -> None:
    truth, shares = sample(60)
    truth, shares = np.repeat(truth, 5), np.repeat(shares, 5, axis=0)
    groups = np.repeat(np.arange(60), 5).tolist()
    single = evaluate(truth, shares, LABELS)
    grouped = evaluate(truth, shares, LABELS, groups=groups)
    assert grouped.accuracy == single.accuracy
    assert (single.groups, grouped.groups) == (300, 60)

    def width(metrics: Metrics) -> float:
        low, high = metrics.intervals["accuracy"]
        return high - low

    assert width(grouped) == pytest.approx(width(single) * np.sqrt(5), rel=0.15)


@pytest.mark.parametrize(
    ("classes", "artists", "known"),
    [
        (1, 2, True),
        (3, 3, True),
        (3, 1, False),  # most draws lack one of the three
        (1, 1, False),  # only a third do, but how much its artists differ cannot be known from one
    ],
)
def test_macro_figures_have_no_interval_where_a_class_has_too_few_artists(
    classes: int, artists: int, known: bool
) -> None:
    # Two classes of ten artists, and some of few.
    thin = np.repeat(np.arange(2, 2 + classes), artists)
    truth = np.concatenate([np.arange(40) % 2, thin, thin])
    singers = np.arange(10, 10 + len(thin))
    groups = np.concatenate([np.arange(40) // 4, singers, singers])
    answers = truth.copy()
    answers[:2] = 1, 0
    result = evaluate(truth, np.eye(5)[answers], LABELS, groups=groups)
    assert ("f1" in result.intervals) is known
    assert "accuracy" in result.intervals


def test_a_draw_that_lacks_a_genre_has_no_macro_figures() -> None:
    truth = np.array([0] * 8 + [1] * 2)
    drawn = evaluate_with_replicates(truth, np.eye(2)[truth], LABELS[:2])[1]
    lacking = np.isnan(drawn["f1"])
    assert lacking.mean() == pytest.approx(0.8**10, abs=0.03)
    assert (drawn["f1"][~lacking] == 1).all()
    assert (drawn["accuracy"] == 1).all()


def test_many_tracks_are_weighted_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, shares = sample(50)
    whole = evaluate(truth, shares, LABELS, bootstrap=40)
    monkeypatch.setattr("tonearm.evaluation.metrics.BLOCK_NUMBERS", 350)
    assert evaluate(truth, shares, LABELS, bootstrap=40) == whole


def test_many_classes_take_no_room_squared() -> None:
    labels = tuple(map(str, range(300)))
    truth = np.arange(300)
    shares = 0.9 * np.eye(300)[np.roll(truth, 1)] + 0.1 / 300
    tracemalloc.start()
    evaluate(truth, shares, labels, bootstrap=10)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 300**3 / 10  # float64 confusion matrices of all tracks, a tenth of them


def test_json_round_trip() -> None:
    result = evaluate(*sample(40), LABELS, bootstrap=20)
    assert Metrics.from_json(result.to_json()) == result
    assert evaluate(*sample(40), LABELS, np.int64(20), np.int64(0)).to_json() == result.to_json()


@pytest.mark.parametrize(
    ("truth", "shares", "message"),
    [
        ([], np.zeros((0, 5)), "no tracks"),
        ([0, 1], np.full((1, 5), 0.2), "do not fit"),
        ([0], np.full((1, 4), 0.25), "do not fit"),
        ([5], np.full((1, 5), 0.2), "class 5"),
        ([-1], np.full((1, 5), 0.2), "class -1"),
        ([4, -1], np.full((2, 5), 0.2), "class -1"),
        ([0.5], np.full((1, 5), 0.2), "integers"),
        ([0], np.full((1, 5), 0.3), "no distribution"),
        ([0], [[0.2, 0.2, 0.2, 0.2, 0.203]], "no distribution"),
        ([0], [[1.5, -0.5, 0, 0, 0]], "no distribution"),
        ([0], [[np.nan, 1, 0, 0, 0]], "no distribution"),
    ],
)
def test_what_cannot_be_judged_is_refused(truth: list[int], shares: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        evaluate(truth, shares, LABELS)  # type: ignore[arg-type]


def test_probabilities_rounded_to_three_digits_are_judged_as_they_were() -> None:
    truth, shares = sample(40)
    truth, shares = [*truth, 0], np.vstack([shares, [0.2006, 0.2006, 0.2006, 0.2006, 0.1976]])
    rounded = np.round(shares, 3)
    assert rounded[-1].sum() == pytest.approx(1.002)
    exact = evaluate(truth, shares, LABELS)
    assert evaluate(truth, rounded, LABELS).accuracy == exact.accuracy


@pytest.mark.parametrize("setting", ["bootstrap", "seed"])
def test_numbers_below_zero_are_refused(setting: str) -> None:
    with pytest.raises(UsageError, match=f"{setting}.* must be 0 or more, got .*-1"):
        evaluate(*sample(8), LABELS, **{setting: -1})


def predictions(tracks: int = 12) -> Predictions:
    truth, shares = sample(tracks)
    return Predictions(
        labels=LABELS,
        tracks=tuple(f"track.{i:03d}" for i in range(tracks)),
        truth=tuple(LABELS[i] for i in truth),
        probabilities=shares,
        artists=tuple("Ann, Bob" if i % 3 else "" for i in range(tracks)),
    )


def test_predictions_file_round_trip(tmp_path: Path) -> None:
    before = predictions()
    files.write(tmp_path / "run" / "predictions.csv", before)
    header = (tmp_path / "run" / "predictions.csv").read_text().splitlines()[0]
    assert header == "track,label,blues,classical,disco,metal,pop,artist"
    after = files.read(tmp_path / "run")
    assert np.allclose(after.probabilities, before.probabilities, atol=1e-6)
    assert (after.labels, after.tracks, after.truth) == (
        before.labels, before.tracks, before.truth
    )  # fmt: skip
    assert (after.artists, after.folds) == (before.artists, None)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["predictions.csv"]


def test_joined_predictions_keep_the_columns_that_all_have() -> None:
    first, second = replace(predictions(3), seeds=("0",) * 3), predictions(2)
    joined = files.join([first, second])
    assert joined.tracks == first.tracks + second.tracks
    assert joined.truth == first.truth + second.truth
    assert joined.artists == ("", "Ann, Bob", "Ann, Bob", "", "Ann, Bob")
    assert joined.seeds is None
    np.testing.assert_array_equal(joined.probabilities[3:], second.probabilities)
    with pytest.raises(UsageError, match="different classes"):
        files.join([first, replace(second, labels=second.labels[::-1])])


def test_unknown_artists_are_groups_of_their_own() -> None:
    groups = predictions(4).groups
    assert groups == ("track track.000", "artist annbob", "artist annbob", "track track.003")
    assert predictions(12).metrics(bootstrap=10).groups == 5
    assert predictions().unit == "group"
    assert predictions().take([1, 2]).unit == "artist"
    assert predictions().take([0, 3]).unit == "track"
    assert replace(predictions(2), artists=("Unknown Artist", "")).unit == "track"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"p\.csv: No such file"),
        ("", "header"),
        ("id,genre,a\n1,a,1\n", "header"),
        ("track,label,a,b\n", "no predictions"),
        ("track,label,a,b\n1,a,1\n", "line 2"),
        (
            "track,label,a,b\n1,a,1,x\n",
            "the column 'b' holds no probabilities.* could not convert .*'x'",
        ),
        ("track,label,a,b\n1,c,1,0\n", "'c' is not among"),
        ("track,label,a,b\n1,a,1,0\n2,b,nan,1\n", "line 3: the probabilities are no distribution"),
        ("track,label,a,b\n1,a,2,-1\n", "line 2: the probabilities are no distribution"),
        ("track,label,a,b\n1,a,1e400,-1e400\n", "line 2: the probabilities are no distribution"),
        ("track,label,a,b\n1,a,1e308,1e308\n", "line 2: the probabilities are no distribution"),
        ('track,label,a,b\n"1\n2",a,0,0\n', "line 3: the probabilities are no distribution"),
        ('track,label,a,b,artist\n1,a,1,0,"Ann\n2,b,0,1,Bob\n', "not a CSV file"),
        ("track,label,a,a\n1,a,1,0\n", "has the column 'a' twice"),
        ("track,label,a,\n1,a,1,0\n", "has a column without a name"),
    ],
)
def test_a_bad_predictions_file_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "p.csv").write_text(text)
    with pytest.raises(PredictionsError, match=message) as caught:
        files.read(tmp_path / "p.csv")
    assert "p.csv" in str(caught.value)


def test_a_name_too_long_for_any_file_is_named() -> None:
    with pytest.raises(PredictionsError, match=r"x{300}: "):
        files.read("x" * 300)


def test_a_table_that_a_spreadsheet_wrote_is_read(tmp_path: Path) -> None:
    text = "track,label,a,b\n1,a,0.9,0.1\n\n2,b,0.2,0.8\n\n"  # an empty line is no row
    (tmp_path / "p.csv").write_text(text, encoding="utf-8-sig")
    table = files.read(tmp_path / "p.csv")
    assert (table.labels, table.tracks) == (("a", "b"), ("1", "2"))


def test_a_class_may_not_take_the_name_of_a_column() -> None:
    with pytest.raises(UsageError, match="artist"):
        Predictions(("artist",), ("1",), ("artist",), np.ones((1, 1)))


def test_there_are_fifteen_bins_of_equal_width() -> None:
    truth, shares = sample()
    bins = evaluate(truth, shares, LABELS, bootstrap=0).calibration
    edges = np.arange(16) / 15
    assert [b.low for b in bins] == pytest.approx(edges[:-1])
    assert [b.high for b in bins] == pytest.approx(edges[1:])
    confidence = shares.max(axis=1)
    for each in bins:
        inside = (confidence > each.low) & (confidence <= each.high)
        assert each.count == inside.sum()
        if each.count:
            assert each.confidence == pytest.approx(confidence[inside].mean())
    # Of many classes the most probable may be improbable, and a sum may round to above 1.
    assert bins_of(np.array([0, 1 / 26, 1 / 15, 0.07, 0.93, 1, 1 + 1e-9])).tolist() == [
        0, 0, 0, 1, 13, 14, 14
    ]  # fmt: skip


def test_an_interval_is_the_central_95_per_cent() -> None:
    assert intervals_of({"accuracy": np.arange(1001.0)})["accuracy"] == pytest.approx((25, 975))
