"""Runs are compared on what they share, with an exact test and paired intervals."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest, permutation_test

from host import names_hold_anything
from tonearm.errors import TonearmError, UsageError
from tonearm.evaluation import predictions as files
from tonearm.evaluation.compare import compare, markdown_table, p_text, sign_flip
from tonearm.evaluation.plots import ladder
from tonearm.evaluation.predictions import Predictions

LABELS = ("blues", "jazz", "rock")
TRACKS = 120
Program = Callable[..., tuple[int, str, str]]


def run(
    error_rate: float,
    seed: int = 0,
    tracks: int = TRACKS,
    seeds: int = 1,
) -> Predictions:
    """Make a classifier that errs at this rate; the truth is the same for each."""
    random = np.random.default_rng(seed)
    truth = np.arange(tracks) % 3
    repeated = np.tile(truth, seeds)
    answer = (repeated + (random.random(len(repeated)) < error_rate)) % 3
    shares = np.full((len(answer), 3), 0.1)
    shares[np.arange(len(answer)), answer] = 0.8
    ids = [f"t{i}" for i in range(tracks)]
    return Predictions(
        LABELS,
        tuple(ids * seeds),
        tuple(LABELS[i] for i in repeated),
        shares,
        seeds=tuple(str(s) for s in range(seeds) for _ in ids) if seeds > 1 else None,
        artists=tuple(f"artist {i // 2}" for i in range(tracks)) * seeds,
    )


def wrong_on(errors: slice, tracks: int) -> Predictions:
    right = run(0.0, tracks=tracks)
    shares = right.probabilities.copy()
    shares[errors] = np.roll(shares[errors], 1, axis=1)
    return replace(right, probabilities=shares)


@pytest.mark.parametrize(
    ("gained", "lost"), [(0, 0), (1, 0), (5, 5), (10, 3), (3, 10), (40, 2), (1600, 1400)]
)
def test_mcnemar_is_the_binomial_test(gained: int, lost: int) -> None:
    first = wrong_on(slice(0, gained), 3000)
    second = wrong_on(slice(gained, gained + lost), 3000)
    difference = compare({"a": first, "b": second}, bootstrap=0).rows[1].difference
    assert difference is not None
    assert (difference.gained, difference.lost) == (gained, lost)
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert difference.p_value == pytest.approx(expected, rel=1e-9)


def test_whiskers_in_the_plot_end_where_the_intervals_do() -> None:
    comparison = compare({"a": run(0.05), "b": run(0.3)})
    accuracy = ladder(comparison, "").axes[0].containers[0]
    ends = [segment[:, 0].tolist() for segment in accuracy.lines[2][0].get_segments()]
    intervals = [list(row.metrics.intervals["accuracy"]) for row in comparison.rows]
    np.testing.assert_allclose(ends, intervals)


def test_a_run_against_itself_differs_by_nothing() -> None:
    same = run(0.3)
    row = compare({"a": same, "b": same}).rows[1]
    assert row.difference is not None
    assert (row.difference.accuracy, row.difference.p_value) == (0, 1)
    assert row.difference.intervals == {}  # on these tracks they never differ


def test_a_clear_difference_is_significant_and_has_its_sign() -> None:
    first, second = run(0.4, seed=1), run(0.05, seed=2)
    result = compare({"weak": first, "strong": second})
    difference = result.rows[1].difference
    assert result.rows[0].difference is None
    assert difference is not None
    assert difference.accuracy == pytest.approx(second.correct.mean() - first.correct.mean())
    assert difference.f1 == pytest.approx(second.metrics(0).f1 - first.metrics(0).f1)
    for figure in ("accuracy", "f1"):
        low, high = difference.intervals[figure]
        assert 0 < low < getattr(difference, figure) < high
    assert difference.p_value < 0.001
    assert difference.gained == (second.correct & ~first.correct).sum()
    assert difference.lost == (first.correct & ~second.correct).sum()


def test_the_difference_is_paired() -> None:
    # Two runs that err on the same tracks but for one: the difference is far surer than either.
    first = run(0.4, seed=1)
    shares = first.probabilities.copy()
    wrong = int(np.flatnonzero(~first.correct)[0])
    shares[wrong] = np.eye(3)[first.truth_index[wrong]]
    second = Predictions(LABELS, first.tracks, first.truth, shares, artists=first.artists)
    row = compare({"a": first, "b": second}).rows[1]
    assert row.difference is not None
    low, high = row.difference.intervals["accuracy"]
    own_low, own_high = row.metrics.intervals["accuracy"]
    assert high - low < (own_high - own_low) / 3


def test_the_sign_flip_test_is_scipys() -> None:
    ahead = np.array([3, -1, 0, 2, 2, -1, 1, 4])
    exact, exact_of_two = (
        permutation_test(
            (differences, np.zeros_like(differences)),
            lambda one, other, axis: (one - other).sum(axis=axis),
            permutation_type="samples",
            n_resamples=np.inf,
        ).pvalue
        for differences in (ahead, np.tile(ahead, 2))
    )
    assert sign_flip(ahead) == pytest.approx(exact)
    assert sign_flip(np.tile(ahead, 2)) == pytest.approx(exact_of_two, abs=0.003)  # drawn by lot
    assert sign_flip(ahead) == sign_flip(-ahead)
    assert sign_flip(np.zeros(5, int)) == 1
    assert sign_flip(np.ones(200, int)) == pytest.approx(1e-4)
    # Beyond what one byte holds, and beyond one block.
    assert sign_flip(np.full(10, 100, np.int8)) == 2 / 2**10
    assert sign_flip(np.tile([1, -1], 1000)) == 1


def test_an_artist_that_decides_alone_proves_little() -> None:
    one = run(0.2)
    # Twelve tracks more, all of a kind: as tracks they are proof, as those of one artist none.
    wrong = np.flatnonzero(~one.correct)[:12]
    shares = one.probabilities.copy()
    shares[wrong] = np.eye(3)[one.truth_index[wrong]]
    artists = np.array([f"artist {i}" for i in range(TRACKS)], dtype=object)
    p_values = []
    for names in (artists, np.where(np.isin(np.arange(TRACKS), wrong), "the same", artists)):
        known = replace(one, artists=tuple(names))
        difference = compare({"a": known, "b": replace(known, probabilities=shares)}).rows[1]
        assert difference.difference is not None
        assert difference.difference.p_value < 0.001
        p_values.append(difference.difference.group_p_value)
    assert p_values[0] < 0.002
    assert p_values[1] == 1


def test_each_may_be_held_against_the_one_before() -> None:
    runs = {"a": run(0.5, 1), "b": run(0.3, 2), "c": run(0.1, 3)}
    assert "accuracy against a" in compare(runs).cells()[0]
    result = compare(runs, "previous")
    assert [row.difference.other for row in result.rows if row.difference] == ["a", "b"]
    assert "accuracy against the row above" in result.cells()[0]


def test_only_common_tracks_count() -> None:
    short = run(0.2, tracks=90)
    result = compare({"long": run(0.2), "short": short})
    assert result.tracks == 90
    assert result.left_out == {"long": 30, "short": 0}
    assert {row.metrics.count for row in result.rows} == {90}


@pytest.mark.parametrize("unknown", [None, ("",) * TRACKS])
def test_artists_known_to_one_run_group_both(unknown: tuple[str, ...] | None) -> None:
    result = compare({"a": replace(run(0.2), artists=unknown), "b": run(0.2)})
    assert [row.metrics.groups for row in result.rows] == [60, 60]


def test_seeds_are_tested_one_by_one() -> None:
    first, second = run(0.4, 1, seeds=3), run(0.2, 2, seeds=3)
    result = compare({"a": first, "b": second})
    difference = result.rows[1].difference
    assert difference is not None
    assert (result.tracks, result.rows[0].metrics.count) == (TRACKS, 3 * TRACKS)
    tests = []
    for part in np.split(np.arange(3 * TRACKS), 3):
        one, other = first.correct[part], second.correct[part]
        gained, lost = int((other & ~one).sum()), int((one & ~other).sum())
        tests.append(binomtest(gained, gained + lost).pvalue)
    assert difference.p_value == pytest.approx(sorted(tests)[1])


def test_seeds_that_speak_for_opposite_sides_are_no_evidence() -> None:
    right, wrong = run(0.0), run(1.0)

    def two_seeds(first: Predictions, second: Predictions) -> Predictions:
        return replace(
            right,
            tracks=right.tracks * 2,
            truth=right.truth * 2,
            probabilities=np.concatenate([first.probabilities, second.probabilities]),
            seeds=("0",) * TRACKS + ("1",) * TRACKS,
            artists=None,
        )

    result = compare({"a": two_seeds(right, wrong), "b": two_seeds(wrong, right)}, bootstrap=0)
    difference = result.rows[1].difference
    assert difference is not None
    assert (difference.accuracy, difference.group_p_value, difference.p_value) == (0, 1, 1)


def test_a_run_without_seeds_is_compared_with_one_of_a_single_seed() -> None:
    plain, seeded = run(0.4, 1), replace(run(0.2, 2), seeds=("3",) * TRACKS)
    for runs in ({"a": plain, "b": seeded}, {"b": seeded, "a": plain}):
        difference = compare(runs).rows[1].difference
        assert difference is not None
        pairs = difference.gained + difference.lost
        assert difference.p_value == pytest.approx(binomtest(difference.gained, pairs).pvalue)
    with pytest.raises(TonearmError, match="same seed; of seeds, a has none, b has 0 1"):
        compare({"a": plain, "b": run(0.2, seeds=2)})
    with pytest.raises(TonearmError, match="a has 4, b has 3"):
        compare({"a": replace(plain, seeds=("4",) * TRACKS), "b": seeded})


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(UsageError, match="no run"):
        compare({})
    with pytest.raises(UsageError, match="against: expected 'first' or 'previous', got 'last'"):
        compare({"a": run(0.2)}, "last")  # type: ignore[arg-type]
    with pytest.raises(TonearmError, match="no track in common"):
        other = run(0.2)
        renamed = Predictions(
            LABELS, tuple(f"x{t}" for t in other.tracks), other.truth, other.probabilities
        )
        compare({"a": other, "b": renamed})
    with pytest.raises(TonearmError, match="disagree on the true label of 't0'"):
        other = run(0.2)
        compare({"a": other, "b": Predictions(
            LABELS, other.tracks, ("rock", *other.truth[1:]), other.probabilities
        )})  # fmt: skip
    with pytest.raises(TonearmError, match="a holds track 't0' more than once"):
        compare({"a": run(0.2).take([1, 0, 0])})


def test_a_run_alone_is_held_against_nothing() -> None:
    header, rows = compare({"a": run(0.2)}).cells()
    assert header[-1] == "macro F1"
    assert len(rows[0]) == len(header)


def test_tracks_are_the_groups_where_no_artist_is_known() -> None:
    unknown = {name: replace(run(0.2, seed), artists=None) for seed, name in enumerate("ab")}
    result = compare(unknown)
    assert "p by track" in result.cells()[0]
    assert result.resampling_unit == "single tracks: no artist is known"
    known = compare({"a": unknown["a"], "b": run(0.2)})
    assert "p by artist" in known.cells()[0]
    assert (
        known.resampling_unit
        == "60 groups (artists; tracks by an unknown artist count as one each)"
    )
    assert [row["groups"] for row in known.to_dicts()] == [60, 60]


def test_the_order_of_runs_that_know_some_artists_changes_no_group() -> None:
    one, other = run(0.2), run(0.3, 1)
    assert other.artists is not None
    partly = replace(one, artists=(*other.artists[:6], *("",) * (TRACKS - 6)))
    forth, back = compare({"a": partly, "b": other}), compare({"b": other, "a": partly})
    assert forth.unit == back.unit == "artist"
    p_values = [result.rows[1].difference.group_p_value for result in (forth, back)]  # type: ignore[union-attr]
    assert p_values[0] == p_values[1]


def test_few_artists_are_warned_of() -> None:
    one = replace(run(0.2), artists=("Ann",) * TRACKS)
    result = compare({"a": one, "b": replace(run(0.3, 1), artists=one.artists)})
    assert result.warning == "one artist: no interval"
    assert result.rows[0].metrics.intervals == {}
    assert result.rows[1].difference is not None
    assert result.rows[1].difference.intervals == {}
    assert compare({"a": one}, bootstrap=0).warning is None
    assert compare({"a": run(0.2)}).warning is None


def test_the_calibration_error_has_no_interval() -> None:
    (row,) = compare({"a": run(0.2)}).to_dicts()
    assert "ece" in row
    assert not {"ece_low", "ece_high"} & row.keys()


def test_the_order_of_the_tracks_decides_no_p_value() -> None:
    one, other = run(0.2, 1), run(0.3, 2)
    shuffled = np.random.default_rng(0).permutation(TRACKS).tolist()
    p_values = [
        row.difference.group_p_value
        for runs in ((one, other), (one.take(shuffled), other.take(shuffled)))
        for row in compare(dict(zip("ab", runs, strict=True))).rows
        if row.difference
    ]
    assert p_values[0] == p_values[1]


def test_markdown_aligns_its_columns() -> None:
    text = markdown_table(("run", "accuracy"), [("a", "1.0"), ("longer", "22.0")])
    assert text == (
        "| run    | accuracy |\n|--------|---------:|\n"
        "| a      |      1.0 |\n| longer |     22.0 |\n"
    )
    assert markdown_table(("run",), [("Dub|Ska",)]).splitlines()[2] == r"| Dub\|Ska |"


def test_runs_are_named_by_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Program
) -> None:
    for name in ("lr0.1", "lr0.01"):
        files.write(tmp_path / name / "predictions.csv", run(0.4, 1))
    files.write(tmp_path / "svm.v2.csv", run(0.1, 2))
    monkeypatch.chdir(tmp_path / "lr0.1")

    def names(*runs: str) -> list[str]:
        _, output, _ = program("compare", *runs, "--json", "--bootstrap", 0)
        return [row["run"] for row in json.loads(output)]

    assert names(".", "../lr0.01", "../svm.v2.csv") == ["lr0.1", "lr0.01", "svm.v2"]
    assert names("predictions.csv", "../lr0.01/predictions.csv") == ["lr0.1", "lr0.01"]
    assert names(".", "predictions.csv") == [".", "predictions.csv"]  # two ways to one name


def test_names_are_no_markup(tmp_path: Path, program: Program) -> None:
    runs = [tmp_path / name for name in ("cnn[lr=1e-3]", "cnn[bold]", "[/cnn]", "cnn :cat:")]
    for number, folder in enumerate(runs):
        files.write(folder / "predictions.csv", run(0.4, number))
    code, output, _ = program("compare", *runs, "--bootstrap", 0)
    assert code == 0
    names = [line.partition("  ")[0] for line in output.splitlines()[1:5]]
    assert names == [folder.name for folder in runs]


@names_hold_anything
def test_names_with_line_breaks_stay_on_one_line(tmp_path: Path, program: Program) -> None:
    files.write(tmp_path / "one\nrun.csv", run(0.4, 1))
    assert "| one\\nrun | " in program("compare", tmp_path / "one\nrun.csv", "--markdown")[1]
    table = compare({"one\rrun": run(0.4, 1)}).to_csv()
    assert [row["run"] for row in csv.DictReader(io.StringIO(table, newline=""))] == ["one\rrun"]
    complaint = f"tonearm: {tmp_path}/no\\nsuch.csv: No such file or directory\n"
    assert program("compare", tmp_path / "no\nsuch.csv") == (1, "", complaint)


def test_command_line(tmp_path: Path, program: Program) -> None:
    files.write(tmp_path / "cnn" / "predictions.csv", run(0.4, 1))
    files.write(tmp_path / "svm.csv", run(0.1, 2, tracks=100))
    arguments = ("compare", tmp_path / "cnn", tmp_path / "svm.csv")

    code, table, errors = program(*arguments)
    assert code == 0
    assert "100 tracks in common" in table
    assert "20 left out" in errors
    assert "p by artist" in table
    code, alone, _ = program(*arguments[:2])
    assert code == 0
    assert "120 tracks in common" in alone
    assert "intervals over 60 groups (artists; tracks by an unknown artist" in alone
    assert "p by artist" not in alone
    assert "100 tracks in common; per cent\n" in program(*arguments, "--bootstrap", 0)[1]

    rows = json.loads(program(*arguments, "--json")[1])
    assert [row["run"] for row in rows] == ["cnn", "svm"]
    assert rows[1]["against"] == "cnn"
    assert rows[1]["mcnemar_p"] < 0.01
    figures = {k for k, v in run(0.4, 1).metrics(0).to_dict().items() if isinstance(v, float)}
    assert figures - rows[0].keys() == {"ece_by_chance"}, "not among the figures of compare"

    cells = list(csv.DictReader(io.StringIO(program(*arguments, "--csv")[1])))
    assert float(cells[1]["accuracy"]) == pytest.approx(rows[1]["accuracy"], rel=1e-5)
    assert cells[0]["mcnemar_p"] == ""

    _, markdown, _ = program(*arguments, "--markdown", "--bootstrap", 0)
    assert markdown.startswith("| run | accuracy |")
    assert "< 0.001" in markdown


def test_small_p_values_are_not_said_to_be_smaller() -> None:
    texts = [p_text(value) for value in (0.0009, 0.001, 0.0018, 0.05, 1.0)]
    assert texts == ["< 0.001", "0.001", "0.002", "0.050", "1.000"]
