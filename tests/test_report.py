"""A model is heard on a dataset, and the page about it says what was found and needs nothing."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bundles import FRONT_END, tiny_metadata, tone
from pages import Page, check_page
from pieces import write_pieces
from tonearm.bundle import Bundle, find, write_metadata
from tonearm.classifier import Classifier
from tonearm.cli.options import listed
from tonearm.datasets import Dataset, LeakWarning, Track, load, split
from tonearm.datasets.content import content_hash
from tonearm.errors import TonearmError, UsageError
from tonearm.evaluation import predictions as files
from tonearm.evaluation.inference import NothingClassified, evaluable_tracks, run_inference
from tonearm.evaluation.metrics import Metrics, evaluate
from tonearm.evaluation.plots import confidence_histogram, confusion_matrix
from tonearm.evaluation.predictions import Predictions
from tonearm.evaluation.report import (
    ErrorPicture,
    Subject,
    confused_pairs,
    explain_errors,
    render,
    worst_errors,
    write_report,
)
from tonearm.evaluation.training_overlap import (
    data_learned,
    data_of_base,
    overlap_warning,
    training_text,
)
from tonearm.prediction import Failure, Prediction

LABELS = ("blues", "disco", "jazz")
Program = Callable[..., tuple[int, str, str]]


class Oracle:
    """Hears a genre out of a file's name; cannot decode those that are called broken."""

    labels = LABELS

    def classify_files(
        self, paths: Iterable[Path], workers: int = 1
    ) -> Iterator[Prediction | Failure]:
        for path in paths:
            if "broken" in path.name:
                yield Failure(path, "no audio stream")
                continue
            genre = path.name.split(".")[0]
            shares = {label: 0.8 if label == genre else 0.1 for label in LABELS}
            ordered = dict(sorted(shares.items(), key=lambda item: -item[1]))
            yield Prediction(
                path, genre, 0.8, ordered, (), 30.0, False, np.zeros(4, dtype=np.float32)
            )


def dataset(names: dict[str, str], **common: str) -> Dataset:
    """Make tracks of file name -> label."""
    tracks = tuple(
        Track(name, Path(f"/music/{name}"), label, **common)  # type: ignore[arg-type]
        for name, label in names.items()
    )
    return Dataset("songs", Path("/music"), tracks, tuple(sorted(set(names.values()))))


def sample(tracks: int = 40) -> Predictions:
    random = np.random.default_rng(0)
    truth = np.arange(tracks) % 3
    logits = random.normal(size=(tracks, 3)) + 1.5 * np.eye(3)[truth]
    shares = np.exp(logits)
    return Predictions(
        LABELS,
        tuple(f"track.{i}" for i in range(tracks)),
        tuple(LABELS[i] for i in truth),
        shares / shares.sum(axis=1, keepdims=True),
        artists=tuple("A <b>& B" if i % 2 else "" for i in range(tracks)),
    )


SUBJECT = Subject(
    model="tiny <model>",
    data="songs",
    protocol="split valid",
    command="tonearm evaluate tiny songs --report 'my report'",
    left_out=("/music/broken.ogg: no audio stream",),
)


def test_no_bar_of_confidence_is_behind_the_legend() -> None:
    from matplotlib.legend import Legend

    labels = tuple("abcdef")
    figure = confidence_histogram(Predictions(labels, labels, labels, np.full((6, 6), 1 / 6)))
    figure.draw_without_rendering()
    (legend,) = figure.findobj(Legend)
    bars = [bar.get_window_extent() for bar in figure.axes[0].patches]
    assert legend.get_window_extent().count_overlaps(bars) == 0


def test_right_and_wrong_answers_are_told_apart_by_the_legend() -> None:
    truth = ("a", "a", "a", "b")
    shares = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    figure = confidence_histogram(Predictions(("a", "b"), tuple("1234"), truth, shares))

    (legend,), bars = figure.legends, figure.axes[0].patches
    counts = {
        text.get_text(): sum(
            bar.get_height() for bar in bars if bar.get_facecolor() == handle.get_facecolor()
        )
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
    }
    assert counts == {"right (3)": 3, "wrong (1)": 1}


def test_the_matrix_is_shaded_by_the_share_of_the_true_genre() -> None:
    answers = np.eye(2)[[0, 0, 0, 1, 1]]
    figure = confusion_matrix(evaluate([0, 0, 0, 0, 1], answers, ("a", "b"), bootstrap=0))

    assert figure.axes[0].images[0].get_array().tolist() == [[0.75, 0.25], [0.0, 1.0]]


def test_answers_stand_beside_the_labels() -> None:
    songs = dataset({"blues.1.ogg": "blues", "jazz.1.ogg": "blues", "broken.ogg": "jazz"})
    trial = run_inference(Oracle(), songs.tracks)
    assert trial.predictions.tracks == ("blues.1.ogg", "jazz.1.ogg")
    assert trial.predictions.predicted == ("blues", "jazz")
    assert trial.predictions.labels == LABELS
    assert [failure.error for failure in trial.failures] == ["no audio stream"]
    assert trial.predictions.metrics(0).accuracy == 0.5
    assert trial.predictions.artists is None  # no empty column of them in the file
    known = [replace(track, artist="Ann") for track in songs.tracks[:1]]
    assert run_inference(Oracle(), [*known, *songs.tracks[1:]]).predictions.artists == ("Ann", "")


def test_a_track_without_audio_shifts_no_answers() -> None:
    songs = dataset({"blues.1.ogg": "blues", "jazz.1.ogg": "jazz"})
    pathless = Track("disco.1", None, "disco")
    with pytest.raises(UsageError, match=r"disco\.1: no audio file is known"):
        run_inference(Oracle(), (pathless, *songs.tracks))


def test_labels_of_the_data_are_translated_or_refused() -> None:
    songs = dataset({"blues.1.ogg": "Blues", "disco.1.ogg": "disco"})
    assert run_inference(Oracle(), songs.tracks, {"Blues": "blues"}).predictions.truth[0] == "blues"
    with pytest.raises(TonearmError, match=r"does not know the label Blues .*--map"):
        run_inference(Oracle(), songs.tracks)
    with pytest.raises(UsageError, match="cannot rename 'Punk'"):
        run_inference(Oracle(), songs.tracks, {"Punk": "disco"})


def test_a_model_may_write_its_labels_in_another_form_of_unicode() -> None:
    composed, apart = "R\u00f3ck", "Ro\u0301ck"

    class Accented(Oracle):
        labels = (apart,)

        def classify_files(
            self, paths: Iterable[Path], workers: int = 1
        ) -> Iterator[Prediction | Failure]:
            for path in paths:
                music = np.zeros(4, dtype=np.float32)
                yield Prediction(path, apart, 1.0, {apart: 1.0}, (), 30.0, False, music)

    songs = dataset({"1.ogg": composed, "2.ogg": "Rock"})
    trial = run_inference(Accented(), songs.tracks, {"Rock": composed})
    assert trial.predictions.truth == (apart, apart)


def test_nothing_decodable_is_an_error_that_names_a_file() -> None:
    with pytest.raises(NothingClassified, match=r"none of 1 tracks .*broken.ogg: no audio stream"):
        run_inference(Oracle(), dataset({"broken.ogg": "jazz"}).tracks)


def test_tracks_outside_the_partition_are_not_judged_unless_there_is_none() -> None:
    inside = dataset({"a": "blues"}, split="valid").tracks
    outside = dataset({"b": "blues", "c": "jazz"}).tracks
    both = Dataset("songs", Path("/music"), inside + outside, ("blues", "jazz"))
    assert [track.id for track in evaluable_tracks(both)] == ["a"]
    assert [track.id for track in evaluable_tracks(dataset({"b": "blues"}))] == ["b"]
    nothing = r"no labelled track with audio .split 'test'.; its parts are valid"
    with pytest.raises(TonearmError, match=nothing):
        evaluable_tracks(both, split="test")
    with pytest.raises(TonearmError, match=r"has no labelled track with audio .split 'test'.$"):
        evaluable_tracks(dataset({"b": "blues"}), split="test")
    with pytest.raises(UsageError, match="no label 'rock'; it has blues, jazz"):
        evaluable_tracks(both, labels=["rock"])


@pytest.mark.parametrize("word", ["valid", "validation", "Val", "dev"])
def test_a_part_goes_by_any_word_that_tables_have_for_it(tmp_path: Path, word: str) -> None:
    rows = "path,label,split\na.wav,x,train\nb.wav,x,validation\nc.wav,x,Dev Set\n"
    (tmp_path / "m.csv").write_text(rows)
    data = load(tmp_path / "m.csv")
    assert [track.id for track in evaluable_tracks(data, word)] == ["b.wav"]
    assert [track.id for track in evaluable_tracks(data, "Dev Set")] == ["c.wav"]


def test_worst_errors_come_by_confidence() -> None:
    predictions = sample()
    errors = worst_errors(predictions, count=4)
    confidences = [error["confidence"] for error in errors]
    wrong = predictions.probabilities.max(axis=1)[~predictions.correct]
    assert confidences == sorted(wrong, reverse=True)[:4]
    assert all(error["truth"] != error["predicted"] for error in errors)
    assert all(error["share_of_truth"] < error["confidence"] for error in errors)
    many = predictions.take(np.repeat(np.flatnonzero(~predictions.correct), 5).tolist())
    assert len(many) > 20
    page = " ".join(render(many, many.metrics(0), SUBJECT).split())
    assert f"most confidence, 20 of {len(many)}." in page


def test_confused_pairs_come_by_count() -> None:
    pairs = confused_pairs(sample().metrics(0))
    assert [pair["tracks"] for pair in pairs] == sorted(
        (pair["tracks"] for pair in pairs), reverse=True
    )
    assert sum(pair["tracks"] for pair in pairs) == (~sample().correct).sum()


def test_the_page_needs_nothing_beside_itself_and_is_the_same_for_the_same_figures() -> None:
    predictions = sample()
    metrics = predictions.metrics(50)
    text = render(predictions, metrics, SUBJECT)
    assert render(predictions, metrics, SUBJECT) == text
    addresses = Page(text).addresses
    assert len(addresses) == 4
    assert all(address.startswith("data:image/svg+xml;base64,") for address in addresses)
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in text
    assert not re.search(r"@import|<script|url\(http", text)
    assert "tiny &lt;model&gt;" in text
    assert "A &lt;b&gt;&amp; B" in text
    assert "broken.ogg: no audio stream" in text
    assert "prefers-color-scheme: dark" in text
    assert f"by chance: {100 * predictions.metrics(0).ece_by_chance:.1f}" in text
    assert "too narrow" not in text


def test_the_page_can_be_read_without_its_pictures() -> None:
    predictions = sample()
    metrics = predictions.metrics(50)
    picture = ErrorPicture("track.1", "blues", "jazz", b"", "jazz")
    text = render(predictions, metrics, SUBJECT, [picture])
    check_page(text)
    assert '<div class="plots many">' not in text
    for label, counts in zip(LABELS, metrics.confusion, strict=True):
        cells = "".join(f'<td class="number">{count}</td>' for count in counts)
        assert f'<th scope="row">{label}</th>{cells}' in text
    for row in metrics.calibration:
        confidences = f'<th scope="row">{100 * row.low:.1f} to {100 * row.high:.1f}</th>'
        assert (confidences in text) == (row.count > 0)


def test_the_page_says_what_the_middle_of_a_long_track_does_not_explain(
    tiny_bundle: Path, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    low, rate = tone(300, 5), FRONT_END.sample_rate
    middles = {"high": tone(6000, 30), "silent": np.zeros(30 * rate, np.float32)}
    paths = {
        name: write_audio(tmp_path / f"{name}.wav", np.concatenate([low, middle, low]), rate)
        for name, middle in middles.items()
    }
    wrong = Predictions(("low", "high"), (*paths,), ("high",) * 2, np.array([[0.9, 0.1]] * 2))
    pictures = explain_errors(Classifier.load(tiny_bundle), wrong, paths, 2)
    assert [(picture.predicted, picture.shown) for picture in pictures] == [
        ("low", "high"),
        ("low", ""),
    ]
    text = render(wrong, wrong.metrics(0), SUBJECT, pictures)
    assert text.count("data:image/png") == 1
    assert "is by itself taken" in text
    assert "no picture of its middle: silent: 30.0 s without sound, from 5.0 s on" in text
    same = replace(pictures[0], shown="low")
    assert "is by itself" not in render(wrong, wrong.metrics(0), SUBJECT, [same])


def test_the_matrix_of_many_genres_has_the_width_of_the_page() -> None:
    few = sample(21)
    shares = np.hstack([few.probabilities, np.zeros((21, 18))])
    many = replace(few, labels=(*LABELS, *map(str, range(18))), probabilities=shares)
    assert '<div class="plots many">' in render(many, many.metrics(0), SUBJECT)


def test_the_page_warns_of_few_artists() -> None:
    predictions = sample().take(range(8))
    text = render(predictions, predictions.metrics(50), SUBJECT)
    assert "Warning: only 5 groups: the 95 % intervals are too narrow" in text
    assert "too narrow" not in render(predictions, predictions.metrics(0), SUBJECT)


def test_the_page_says_why_a_figure_has_no_range() -> None:
    predictions = sample()
    assert "ranges reach further down" in render(predictions, predictions.metrics(50), SUBJECT)
    lone = replace(predictions, artists=tuple(f"{truth}'s" for truth in predictions.truth))
    text = render(lone, lone.metrics(50), SUBJECT)
    assert "A macro figure has no range if a genre has a single artist" in text
    assert "ranges reach further down" not in text
    assert "has no range" not in render(lone, lone.metrics(0), SUBJECT)


def test_the_page_of_a_perfect_model_has_no_errors() -> None:
    predictions = Predictions(LABELS, ("a", "b"), ("blues", "disco"), np.eye(3)[:2])
    text = render(predictions, predictions.metrics(0), SUBJECT)
    assert "Worst errors" not in text
    assert "Artist</th>" not in text
    assert "does not occur in the data" in text


def test_the_folder_holds_the_numbers_too(tmp_path: Path) -> None:
    predictions = sample()
    metrics = predictions.metrics(50)
    page = write_report(str(tmp_path / "report"), predictions, metrics, SUBJECT)
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert Metrics.from_json((tmp_path / "report" / "metrics.json").read_text()) == metrics
    assert json.loads((tmp_path / "report" / "metrics.json").read_text())["count"] == 40
    assert files.read(tmp_path / "report").tracks == predictions.tracks


@pytest.mark.parametrize("name", ["$oul_{", "爵士乐", "a name of some " + 20 * "more words "])
def test_a_genre_may_have_any_name(name: str, recwarn: pytest.WarningsRecorder) -> None:
    labels = (name.strip(), f"{name}^", "pop")
    truth = tuple(labels[i % 3] for i in range(40))
    predictions = replace(sample(), labels=labels, truth=truth)
    assert labels[0] in render(predictions, predictions.metrics(0), SUBJECT)
    assert not [str(warning.message) for warning in recwarn]


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_heard(
    tmp_path: Path, program: Program
) -> None:
    (tmp_path / "taken").touch()
    complaint = f"tonearm: {tmp_path / 'taken'}: a file is where its folder should be\n"
    done = program("evaluate", "default", tmp_path, "--report", tmp_path / "taken")
    assert done == (1, "", complaint)


def test_command_line_from_audio_to_page(
    tiny_bundle: Path, tmp_path: Path, program: Program
) -> None:
    music = write_pieces(tmp_path / "music", ("low", "high"), 2)
    (music / "low" / "broken.wav").write_bytes(b"no music at all")
    arguments = ("evaluate", tiny_bundle, music, "--bootstrap", 20)

    code, table, errors = program(*arguments, "--report", tmp_path / "report")
    assert code == 0
    assert "4 tracks in" in table
    assert "1 could not be classified" in table
    assert " by chance)" in table
    assert "warning: only 4 tracks: the 95 % intervals are too narrow" in errors
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "broken.wav" in page
    assert "4 tracks of 2 genres" in page
    (seconds,) = re.findall(r"4 tracks in ([\d.]+) s", table)
    (a_track,) = re.findall(r"([\d.]+) s a track, decoding included", page)
    assert float(a_track) == pytest.approx(float(seconds) / 5, abs=0.02)  # the broken one too

    figures = json.loads(program(*arguments, "--json")[1])
    assert figures["count"] == 4
    assert [Path(failure["path"]).name for failure in figures["failures"]] == ["broken.wav"]
    written = Metrics.from_json((tmp_path / "report" / "metrics.json").read_text())
    assert figures["accuracy"] == written.accuracy

    (music / "low").rename(music / "Unheard of")
    code, _, errors = program(*arguments)
    assert (code, "does not know the label Unheard of" in errors) == (1, True)
    assert json.loads(program(*arguments, "--json", "--labels", "high")[1])["count"] == 2
    arguments = (*arguments, "--json", "--map")
    renamed = program(*arguments, "Unheard of=low")[1]
    assert json.loads(renamed)["confusion"] == figures["confusion"]
    for labels, count in (("high", 2), (" high, Unheard of", 4)):  # all words need not be used
        subset = program(*arguments, "Unheard of=low", "--labels", labels)[1]
        assert json.loads(subset)["count"] == count
    (music / "Unheard of").rename(music / "R\u00f3ck")
    for option in (("--labels", "Ro\u0301ck"), ()):
        assert program(*arguments, "Ro\u0301ck=low", *option)[0] == 0
    code, _, errors = program(*arguments, "Unheard of")
    assert (code, "--map 'Unheard of': expected" in errors) == (2, True)


def test_a_model_that_has_learned_the_tracks_is_told_of(
    tiny_bundle: Path, tmp_path: Path, program: Program
) -> None:
    music = write_pieces(tmp_path / "music", ("low", "high"), 1)
    run = tmp_path / "run"
    run.mkdir()
    model = shutil.copy(tiny_bundle, run / "model.onnx")
    arguments = ("evaluate", run, music, "--bootstrap", 0)

    def told(train: dict[str, str], *options: object) -> str:
        (run / "tracks.json").write_text(json.dumps({"train": train, "valid": {"low/0": "low"}}))
        code, _, errors = program(*arguments, *options)
        assert code == 0
        return errors

    report = ("--explain", 0, "--report", tmp_path / "report")
    page = tmp_path / "report" / "report.html"
    named = "learned from tracks named and labelled as 1 of these 2"
    assert f"warning: {run} {named}" in told({"high/0": "high"}, *report)
    assert named in page.read_text(encoding="utf-8")
    # A track of the same name, but of another genre, is of another collection.
    assert "warning:" not in told({"high/0": "jazz", "high/2": "high"}, *report)
    assert "Warning:" not in page.read_text(encoding="utf-8")

    # Where the files' hashes are kept, neither names nor labels matter.
    hashes = {"high/0": "00" * 16, "mine": content_hash(music / "low" / "0.wav")}
    tracks = {"train": dict.fromkeys(hashes, "high"), "valid": {}, "contents": hashes}
    (run / "tracks.json").write_text(json.dumps(tracks))
    assert f"warning: {run} learned from 1 of these 2 tracks" in program(*arguments)[2]
    judged = {"train": {"high/0": "jazz"}, "valid": {"mine": "high"}}  # not learned from
    (run / "tracks.json").write_text(json.dumps(tracks | judged))
    assert "warning:" not in program(*arguments)[2]

    write_metadata(model, tiny_metadata(training={"data": "music"}), model)
    assert "warning:" not in told({})  # a run knows better than by its dataset's name
    (run / "tracks.json").unlink()
    assert "warning: tiny learned from music" in program(*arguments)[2]


def test_a_fold_is_judged_by_what_it_held_out(
    tiny_bundle: Path, tmp_path: Path, program: Program
) -> None:
    music = write_pieces(tmp_path / "music", ("low", "high"), 4)
    arguments = ("evaluate", tiny_bundle, music, "--bootstrap", 0, "--explain", 0)
    arguments += ("--protocol", "artist-kfold", "--folds", 4, "--report", tmp_path)
    code, _, errors = program(*arguments, "--fold", 3)
    assert code == 0
    assert "warning: the artist of 8 of 8 tracks is not known" in errors
    with pytest.warns(LeakWarning):
        fold = split(load(music), "artist-kfold", 4)[3]
    judged = files.read(tmp_path / "predictions.csv").tracks
    assert sorted(judged) == sorted(track.id for track in fold.valid)
    assert "held out by artist-kfold-4of4" in (tmp_path / "report.html").read_text("utf-8")
    assert program(*arguments, "--fold", 3, "--labels", "low")[0] == 0
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "held out by artist-kfold-4of4, labels low" in page
    whole = ("evaluate", tiny_bundle, music, "--bootstrap", 0, "--explain", 0)
    assert program(*whole, "--report", tmp_path)[0] == 0
    assert "all tracks of the partition" in (tmp_path / "report.html").read_text("utf-8")

    assert "choose one with --fold" in program(*arguments)[2]
    assert "--fold must be from 0 to 3, got 4" in program(*arguments, "--fold", 4)[2]


def test_only_what_is_known_is_told_of_what_a_model_learned(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copy(tiny_bundle, tmp_path / "model.onnx"))
    tracks = (Track("a", tmp_path / "a.wav", "low"),)
    assert overlap_warning(Bundle.load(model), tracks, "music") is None
    for odd in ("[]", "{}", "{", '{"train": 1}', '{"train": {}, "contents": 1}'):
        (tmp_path / "tracks.json").write_text(odd)
        assert overlap_warning(Bundle.load(model), tracks, "music") is None
    # Of a dataset without parts, every track was learned, whatever parts it was given since.
    write_metadata(model, tiny_metadata(training={"data": "music"}), model)
    divided = (*tracks, replace(tracks[0], split="test"))
    told = str(overlap_warning(Bundle.load(model), divided, "music"))
    assert "learned from music, where 2 of these 2 tracks are from" in told


def test_the_model_in_the_package_tells_of_gtzan(tmp_path: Path) -> None:
    tracks = (Track("blues.00000", tmp_path / "blues.00000.wav", "blues"),)
    shipped = Bundle.load(find("default"))
    others = (Track("blues/song", tmp_path / "song.wav", "blues"),)
    assert "default learned from GTZAN" in str(overlap_warning(shipped, others, "GTZAN"))
    test, valid = (Track(f"blues/{part}", None, "blues", split=part) for part in ("test", "valid"))
    assert overlap_warning(shipped, (test,), "GTZAN") is None
    told = str(overlap_warning(shipped, (test, valid), "GTZAN"))
    assert "learned from GTZAN (train, valid), where 1 of these 2 tracks are from" in told
    assert overlap_warning(shipped, others, "gtzan") is None  # a folder per genre of that name
    # Its files, in whatever folder or table.
    told = str(overlap_warning(shipped, (*tracks, *others), "folds"))
    assert "default learned from GTZAN (train, valid), where 1 of these 2 tracks seem" in told
    held_out = Track("mine", tmp_path / "blues.00012.wav", "blues")
    assert overlap_warning(shipped, (held_out,), "folds") is None
    # A run says itself what it held out.
    run = Bundle.load(Path(shutil.copy(shipped.path, tmp_path / "model.onnx")))
    (tmp_path / "tracks.json").write_text(training_text((), tracks, ["blues"]))
    assert overlap_warning(run, tracks, "GTZAN") is None


def test_parts_that_were_learned_are_noted_if_every_track_is_in_one() -> None:
    tracks = [Track(part, None, "blues", split=part) for part in ("valid", "train", "valid")]
    assert data_learned("mine", tracks) == {"data": "mine", "data_parts": ["train", "valid"]}
    assert data_learned("mine", [*tracks, Track("other", None, "blues")]) == {"data": "mine"}


def test_a_model_built_on_a_built_one_names_what_the_first_learned_from() -> None:
    built = data_of_base({"data": "GTZAN", "data_parts": ["train"], "tracks": 443})
    assert built == {"base_data": "GTZAN", "base_data_parts": ["train"]}
    assert data_of_base({**built, "tracks": 18}) == built
    assert data_of_base({"tracks": 18}) == {}


def test_a_run_is_the_same_in_whatever_order_its_tracks_are_listed() -> None:
    tracks = [Track(name, None, "blues") for name in ("b", "c", "a")]
    hashes = {track.id: track.id * 32 for track in tracks}
    backwards = dict(reversed(hashes.items()))
    assert training_text(tracks, tracks, ["blues"], hashes) == training_text(
        tracks[::-1], tracks[::-1], ["blues"], backwards
    )


def test_labels_in_options_are_trimmed_and_may_have_commas() -> None:
    assert listed(["a, b", "c"]) == ["a", "b", "c"]
    assert listed(["Folk, World", "Jazz,Folk"], ["Folk, World", "Jazz", "Folk"]) == [
        "Folk, World",
        "Jazz",
        "Folk",
    ]
    assert listed(["a,,a", ""]) == ["a"]


def test_confusions_of_as_many_tracks_come_by_share() -> None:
    truth = ("blues",) * 4 + ("disco",) * 2
    heard = np.eye(3)[[0, 0, 0, 2, 1, 2]]
    predictions = Predictions(LABELS, tuple("abcdef"), truth, heard)
    pairs = confused_pairs(predictions.metrics(0))
    assert [(pair["truth"], pair["share"]) for pair in pairs] == [("disco", 0.5), ("blues", 0.25)]
    twice = predictions.take([0, 1, 2, 2, 2, 2, 3, 3, 4, 5])
    pairs = confused_pairs(twice.metrics(0))
    assert [(pair["truth"], pair["share"]) for pair in pairs] == [("blues", 0.25), ("disco", 0.5)]
