from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from rich.cells import cell_len
from sklearn.linear_model import LogisticRegression

from bundles import FRONT_END, tiny_metadata, tone, write_bundle
from host import NO_SUCH_FILE, needs_links
from tonearm import Classifier, bundle, datasets
from tonearm.bundle import Bundle, BundleError, write_metadata
from tonearm.datasets.cache import FeatureCache
from tonearm.datasets.track import Track
from tonearm.errors import UsageError
from tonearm.evaluation.calibration import probabilities_at
from tonearm.evaluation.training_overlap import overlap_warning
from tonearm.library import embeddings, head_replacement
from tonearm.library import forecast as forecasting
from tonearm.library.advice import advise
from tonearm.library.embedding_layout import embedding_parts
from tonearm.library.embeddings import embed
from tonearm.library.examples import from_dataset, from_tags, keep_genres, with_enough
from tonearm.library.excerpt import Excerpt
from tonearm.library.forecast import forecast
from tonearm.library.head import SMALLEST_DEVIATION, Head, fit_head
from tonearm.library.head_replacement import ReplaceHeadError, replace_head
from tonearm.library.learn import TooFewExamples, learn
from tonearm.library.related import related_groups

RATE = FRONT_END.sample_rate
PITCHES = {"Bass Music": (110, 350), "Mid": (900, 1500), "Whistles": (3500, 6000)}  # Hz
FILES = 6  # of each genre
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory, write_audio: Callable[..., Path]) -> Path:
    """A folder per genre; each two files are by one artist, as their tags say."""
    root = tmp_path_factory.mktemp("music")
    rng = np.random.default_rng(0)
    for genre, (low, high) in PITCHES.items():
        (root / genre).mkdir()
        for number in range(FILES):
            sound = tone(rng.uniform(low, high), 0.5, RATE)
            sound += rng.normal(0, 0.01, len(sound)).astype(np.float32)
            path = write_audio(root / genre / f"{number}.flac", sound, RATE)
            tagged(path, genre=genre, artist=f"{genre} Band {number // 2}", album=f"No. {number}")
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    return FeatureCache(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def run(program: Run, tiny_bundle: Path, cache: FeatureCache, tmp_path: Path) -> Run:
    """`run(SOURCE, ...) -> (exit code, output, errors)` of learning to `tmp_path / "mine.onnx"`."""
    options = ["--model", tiny_bundle, "--cache", cache.root, "--out", tmp_path / "mine.onnx"]
    return partial(program, "learn", *options)


def tagged(path: Path, **names: str) -> None:
    tags = mutagen.File(path, easy=True)
    tags.update(names)
    tags.save()


def track(number: int, label: str | None = "a", **names: str) -> Track:
    return Track(str(number), Path(f"music/{number}.mp3"), label, **names)


def songs_table(folder: Path, files: Iterable[Path]) -> Path:
    """List recordings, each labelled as its folder is called."""
    rows = [f"{file},{file.parent.name}" for file in sorted(files)]
    table = folder / "songs.csv"
    table.write_text("\n".join(["path,label", *rows, ""]))
    return table


def clouds(
    per_genre: int, width: int = 8, spread: float = 1.0, genres: str = "abc"
) -> tuple[np.ndarray, list[Track]]:
    """Embeddings around a centre for each genre, and a track for each, of unknown artists."""
    rng = np.random.default_rng(1)
    values, tracks = [], []
    for genre in genres:
        centre = rng.normal(0, 2, width)
        for _ in range(per_genre):
            values.append(centre + rng.normal(0, spread, width))
            tracks.append(track(len(tracks), genre))
    return np.array(values, np.float32), tracks


def truth_of(tracks: list[Track]) -> np.ndarray:
    return np.array([sorted({t.label or "" for t in tracks}).index(t.label or "") for t in tracks])


# Learning, from one end to the other


def test_a_folder_becomes_a_model_that_classifies(run: Run, music: Path, tmp_path: Path) -> None:
    code, output, errors = run(music)
    assert (code, errors) == (0, "")
    assert "Only 9 groups: the 95 % intervals are too narrow" in output
    assert "No artist and no album, compilations aside, stood on both sides." in output
    classifier = Classifier.load(tmp_path / "mine.onnx")
    assert classifier.labels == tuple(sorted(PITCHES))
    predictions = [classifier(path) for path in sorted(music.glob("*/*.flac"))]
    assert [p.genre for p in predictions] == [p.path.parent.name for p in predictions if p.path]
    assert predictions[0].segments[0].genre == predictions[0].genre


def test_a_table_and_tags_teach_the_same(run: Run, music: Path, tmp_path: Path) -> None:
    table = songs_table(tmp_path, music.glob("*/*.flac"))
    records = []
    for source in ([music], [table], ["--from-tags", music]):
        code, output, errors = run("--json", *source)
        assert (code, errors) == (0, "")
        records.append(json.loads(output))
        records[-1]["head"] = Bundle.load(tmp_path / "mine.onnx").metadata.temperature
    assert records[0] == records[1] == records[2]
    assert [genre["groups"] for genre in records[0]["genres"]] == [3, 3, 3]
    assert records[0]["accuracy"] == 1.0
    assert records[0]["without_artist_or_album"] == 0


def test_the_bundle_says_where_it_comes_from(
    music: Path, tiny_bundle: Path, cache: FeatureCache, tmp_path: Path
) -> None:
    tracks = from_dataset(datasets.load(music)).tracks
    learned = learn(tracks, tmp_path / "mine.onnx", model=tiny_bundle, cache=cache)
    about = Bundle.load(learned.path).metadata
    assert (about.name, about.training["base"], about.training["tracks"]) == ("mine", "tiny", 18)
    assert about.training["tracks_by_genre"] == dict.fromkeys(PITCHES, FILES)
    assert about.metrics["accuracy"] == 1.0
    assert about.temperature == learned.forecast.temperature
    assert "18 recordings" in about.attribution
    assert list(tmp_path.iterdir()) == [learned.path]


def test_what_the_base_has_learned_already_is_told(
    music: Path, tiny_bundle: Path, tmp_path: Path, run: Run
) -> None:
    base = Path(shutil.copy(tiny_bundle, tmp_path / "base.onnx"))
    write_metadata(base, tiny_metadata(training={"data": "GTZAN", "data_parts": ["valid"]}), base)
    gtzan = tmp_path / "examples"
    for genre in PITCHES:
        for number in range(FILES):
            copy = gtzan / genre / f"blues.{number:05d}.flac"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(music / genre / f"{number}.flac", copy)
    _, _, errors = run(gtzan, "--model", base)
    assert errors.startswith("tonearm: warning: tiny learned from GTZAN (valid), where 18 of")
    learned = Bundle.load(tmp_path / "mine.onnx")
    tracks = from_dataset(datasets.load(gtzan)).tracks
    assert "mine learned from GTZAN (valid)" in str(overlap_warning(learned, tracks))
    assert overlap_warning(learned, [track(1)]) is None


def test_a_learned_model_can_be_learned_on(
    music: Path, tiny_bundle: Path, cache: FeatureCache, tmp_path: Path
) -> None:
    tracks = from_dataset(datasets.load(music)).tracks
    first = learn(tracks, tmp_path / "first.onnx", model=tiny_bundle, cache=cache)
    two = keep_genres(tracks, ["mid", "bass-music"])
    second = learn(two, tmp_path / "second.onnx", model=first.path, cache=cache)
    assert second.labels == ("Bass Music", "Mid")
    assert second.path.stat().st_size <= first.path.stat().st_size + 1000  # the old head is gone
    assert Classifier.load(second.path)(music / "Mid" / "0.flac").genre == "Mid"


def test_cached_embeddings_are_not_computed_again(
    music: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracks = from_dataset(datasets.load(music)).tracks[:3]
    cache = FeatureCache(tmp_path)
    model = Bundle.load(tiny_bundle)
    first = embed(tracks[:2], model, cache)
    embedded: list[Path] = []
    rows = embeddings._Embedding.rows
    monkeypatch.setattr(
        embeddings._Embedding, "rows", lambda kind, path: embedded.append(path) or rows(kind, path)
    )
    again = embed(tracks, model, cache)
    assert embedded == [tracks[2].path]
    np.testing.assert_array_equal(again.values[:2], first.values)


def test_two_processes_compute_the_same_as_one(
    music: Path, tiny_bundle: Path, cache: FeatureCache, tmp_path: Path
) -> None:
    tracks = from_dataset(datasets.load(music)).tracks[:4]
    model = Bundle.load(tiny_bundle)
    one = embed(tracks, model, cache)
    two = embed(tracks, model, FeatureCache(tmp_path), workers=2)
    np.testing.assert_array_equal(one.values, two.values)


def test_a_model_replaced_meanwhile_is_not_learned_on(
    music: Path,
    tiny_bundle: Path,
    cache: FeatureCache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tracks = from_dataset(datasets.load(music)).tracks
    model = shutil.copyfile(tiny_bundle, tmp_path / "model.onnx")

    def replacing_the_model(*arguments: Any) -> Head:
        shutil.copyfile(bundle.find("default"), model)
        return fit_head(*arguments)

    monkeypatch.setattr("tonearm.library.learn.fit_head", replacing_the_model)
    out = tmp_path / "mine.onnx"
    with pytest.raises(BundleError, match="the model has changed meanwhile"):
        learn(tracks, out, model=str(model), cache=cache)
    assert not out.exists()


def test_embeddings_of_two_models_are_not_mixed(
    music: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    tracks = from_dataset(datasets.load(music)).tracks[:1]
    model = shutil.copyfile(tiny_bundle, tmp_path / "model.onnx")
    cache, kind = FeatureCache(tmp_path / "cache"), embeddings._Embedding(Bundle.load(model))
    shutil.copyfile(bundle.find("default"), model)
    assert cache.features(tracks, kind, workers=1) == [None]
    assert "the model has changed meanwhile" in cache.failures[0].reason


def test_of_a_long_file_the_middle_is_embedded(
    tiny_bundle: Path,
    tmp_path: Path,
    write_audio: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embeddings, "EXCERPT", Excerpt(2.0))
    ends, middle = tone(200, 2), tone(5000, 2)
    long = write_audio(tmp_path / "long.wav", np.concatenate([ends, middle, ends]), RATE)
    alone = write_audio(tmp_path / "alone.wav", middle, RATE)
    tracks = [replace(track(0), path=long), replace(track(1), path=alone)]
    values = embed(tracks, Bundle.load(tiny_bundle), FeatureCache(tmp_path / "cache")).values
    assert np.abs(values[0] - values[1]).max() < 0.05 * np.abs(values[1]).max()


# What cannot be learned from


def test_files_that_do_not_decode_are_named_and_the_rest_is_learned(
    run: Run, music: Path, tmp_path: Path
) -> None:
    broken, silent = tmp_path / "broken.mp3", tmp_path / "gone.flac"
    broken.write_text("no music")
    table = songs_table(tmp_path, music.glob("*/*.flac"))
    with table.open("a") as file:
        file.write(f"{broken},Mid\n{silent},Mid\n")
    code, output, errors = run(table)
    assert code == 0
    lines = errors.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("tonearm: left out: ") for line in lines)
    assert {"broken.mp3", "gone.flac"} == {Path(line.split(": ")[2]).name for line in lines}
    assert "3 genres" in output

    _, output, _ = run("--json", table)
    failures = json.loads(output)["failures"]
    assert [[failure["path"], failure["error"]] for failure in failures] == [
        [str(broken), "is not a media file, or damaged beyond recognition"],
        [str(silent), NO_SUCH_FILE],
    ]


def test_a_file_whose_tags_cannot_be_read_is_among_the_failures(
    run: Run, music: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp3"
    broken.write_text("no music")
    code, output, errors = run("--json", "--from-tags", music, broken)
    assert code == 0
    (failure,) = json.loads(output)["failures"]
    assert failure["path"] == str(broken)
    assert errors == f"tonearm: left out: {broken}: {failure['error']}\n"


def test_too_few_files_are_one_clear_line(run: Run, music: Path, tmp_path: Path) -> None:
    code, output, errors = run(music, "--min-files", "7")
    assert (code, output) == (1, "")
    assert errors == (
        "tonearm: learning needs two genres of 7 recordings at least, "
        "got Bass Music 6, Mid 6, Whistles 6\n"
    )
    assert not (tmp_path / "mine.onnx").exists()


def test_files_are_named_that_would_have_been_enough(run: Run, music: Path, tmp_path: Path) -> None:
    for genre in ("Mid", "Whistles"):
        shutil.copytree(music / genre, tmp_path / "mine" / genre)
    broken = tmp_path / "mine" / "Mid" / "5.flac"
    broken.write_text("no music")
    for source in ([], ["--from-tags"]):  # where its tags cannot be read, or its sound
        code, output, errors = run(tmp_path / "mine", "--min-files", "6", *source)
        assert (code, output) == (1, "")
        left_out, too_few = errors.splitlines()
        assert left_out.startswith(f"tonearm: left out: {broken}: ")
        assert too_few.endswith("6 recordings at least, got Whistles 6, Mid 5")


def test_a_misspelt_genre_is_reported_before_anything_is_decoded(
    run: Run, music: Path, tmp_path: Path
) -> None:
    code, output, errors = run(music, "--genres", "mid, whistels,Whistles")
    assert (code, output) == (2, "")
    assert errors == ("tonearm: no example of whistels: the genres are Bass Music, Mid, Whistles\n")
    assert not (tmp_path / "mine.onnx").exists()


def test_a_small_genre_is_left_out_with_a_word(run: Run, music: Path, tmp_path: Path) -> None:
    table = songs_table(tmp_path, sorted(music.glob("*/*.flac"))[:-3])
    code, output, _ = run(table, "--min-files", "4")
    assert code == 0
    assert "Left out, with too few files (--min-files): Whistles 3" in output
    assert "2 genres" in output


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("mine.model", "expected a name that ends in .onnx"),
        ("tiny.onnx", "is the model to learn on"),
    ],
)
def test_an_unwritable_bundle_path_is_reported_first(out: str, reason: str, tmp_path: Path) -> None:
    base = write_bundle(tmp_path / "tiny.onnx", tiny_metadata())
    with pytest.raises(UsageError, match=reason):
        learn([track(0)], tmp_path / out, model=base)


def test_nothing_to_learn_is_an_error(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(TooFewExamples, match="got none"):
        learn([], tmp_path / "mine.onnx", model=tiny_bundle)
    with pytest.raises(UsageError, match="track '1' has no label"):
        learn([track(0), track(1, None)], tmp_path / "mine.onnx", model=tiny_bundle)


# Examples


def test_tags_are_read_from_every_kind(tmp_path: Path, write_audio: Callable[..., Path]) -> None:
    for suffix in ("mp3", "ogg", "flac", "m4a", "opus", "wv"):
        path = write_audio(tmp_path / f"song.{suffix}", tone(440, 0.2, 48000), 48000)
        if suffix == "wv":
            tags = mutagen.File(path)
            tags.update({"Genre": "Folk", "Artist": "Ann", "Album": "Songs"})
            tags.save()
        else:
            tagged(path, genre="Folk", artist="Ann", album="Songs")
    found = from_tags(sorted(tmp_path.iterdir()))
    assert not found.failures
    assert {(t.label, t.artist, t.album) for t in found.tracks} == {("Folk", "Ann", "Songs")}
    assert len(found.tracks) == 6


def test_spellings_of_a_genre_are_one(tmp_path: Path, write_audio: Callable[..., Path]) -> None:
    words = ["Hip-Hop", "hip hop", "Hip-Hop", "R&B", "", "Forró", "forro", "Forró"]
    for number, genre in enumerate(words):
        path = write_audio(tmp_path / f"{number}.flac", tone(440, 0.1), RATE)
        tagged(path, genre=genre)
    (tmp_path / "x.flac").write_text("no music")
    found = from_tags(sorted(tmp_path.iterdir()))
    assert Counter(t.label for t in found.tracks) == {"Hip-Hop": 3, "R&B": 1, "Forró": 3}
    assert found.unlabelled == 1
    assert [failure.track.path for failure in found.failures] == [tmp_path / "x.flac"]


def test_a_file_is_one_example_however_often_it_is_named(
    tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    (tmp_path / "dub").mkdir()
    path = write_audio(tmp_path / "dub" / "1.flac", tone(440, 0.1), RATE)
    tagged(path, genre="Dub")
    (tmp_path / "link.flac").symlink_to(path)
    found = from_tags([path, tmp_path / "dub" / ".." / "dub" / "1.flac", tmp_path / "link.flac"])
    assert len(found.tracks) == 1
    with pytest.raises(UsageError, match="paths: expected several, as a list"):
        from_tags(path)  # type: ignore[arg-type]


def test_the_test_part_of_a_dataset_is_not_learned(tmp_path: Path) -> None:
    table = tmp_path / "songs.csv"
    table.write_text(
        "path,label,split\na.mp3,x,train\nb.mp3,x,valid\nc.mp3,x,test\nd.mp3,x,\ne.mp3,,train\n"
    )
    found = from_dataset(datasets.load(table))
    assert [t.id for t in found.tracks] == ["a.mp3", "b.mp3"]
    assert (found.unlabelled, found.held_back) == (1, 2)


def test_genres_need_enough_files() -> None:
    tracks = [track(0), track(1), track(2, "b")]
    assert with_enough(tracks, 2) == (tuple(tracks[:2]), (("b", 1),))


# Kinship and folds


def test_artists_and_small_albums_tie_recordings() -> None:
    tracks = [
        track(0, artist="The Beatles", album="Help!"),
        track(1, artist="beatles"),
        track(2, artist="Nina Simone", album="Live"),
        track(3, artist="Nina Simone & Friends", album="Live"),
        track(4, album="Live"),
        track(5),
        track(6),
    ]
    related = related_groups(tracks)
    assert related.groups == (0, 0, 1, 1, 1, 2, 3)
    assert related.unknown == 2


def test_a_compilation_ties_nothing() -> None:
    tracks = [track(i, artist=f"artist {i}", album="Now That's Music") for i in range(4)]
    assert related_groups(tracks).groups == (0, 1, 2, 3)
    nameless = [track(i, album="Now That's Music") for i in (4, 5)]
    related = related_groups([*tracks, *nameless])
    assert (related.groups, related.unknown) == ((0, 1, 2, 3, 4, 5), 2)
    assert related_groups(tracks[:3]).groups == (0, 0, 0)


@needs_links
def test_a_file_and_a_link_to_it_are_related(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").touch()
    (tmp_path / "b.mp3").symlink_to(tmp_path / "a.mp3")
    tracks = [replace(track(i), path=tmp_path / name) for i, name in enumerate(("a.mp3", "b.mp3"))]
    assert related_groups(tracks).groups == (0, 0)


def test_albums_of_one_name_in_two_folders_are_two() -> None:
    one, other = track(0, artist="a", album="Best"), track(1, artist="b", album="Best")
    other = replace(other, path=Path("elsewhere/1.mp3"))
    assert related_groups([one, other]).groups == (0, 1)


def test_folds_never_share_an_artist(monkeypatch: pytest.MonkeyPatch) -> None:
    values, tracks = clouds(per_genre=12)
    tracks = [replace(t, artist=f"artist {i % 7}") for i, t in enumerate(tracks)]
    rows = {row.tobytes(): index for index, row in enumerate(values)}
    trained_artists: list[set[str]] = []
    evaluated_artists: dict[int, set[str]] = defaultdict(set)
    fit = fit_head

    class Spy(Head):
        def logits(self, embeddings: np.ndarray) -> np.ndarray:
            evaluated_artists[len(trained_artists)] |= {
                tracks[rows[r.tobytes()]].artist or "" for r in embeddings
            }
            return super().logits(embeddings)

    def spy(embeddings: np.ndarray, *rest: object) -> Head:
        trained_artists.append({tracks[rows[r.tobytes()]].artist or "" for r in embeddings})
        head = fit(embeddings, *rest)  # type: ignore[arg-type]
        return Spy(head.weights, head.biases)

    monkeypatch.setattr(forecasting, "fit_head", spy)
    assert forecast(values, tracks, "abc").folds == len(trained_artists) == 5
    for fold, artists in enumerate(trained_artists, start=1):
        assert artists.isdisjoint(evaluated_artists[fold])
    assert set.union(*evaluated_artists.values()) == {f"artist {i}" for i in range(7)}


# The forecast


def test_a_forecast_is_near_what_comes(tmp_path: Path) -> None:
    values, tracks = clouds(per_genre=80, spread=3.0)
    indices = np.arange(len(tracks))
    few = indices % 80 < 20
    expected = forecast(values[few], [tracks[i] for i in indices[few]], "abc")
    head = fit_head(values[few], truth_of(tracks)[few], 3)
    right = head.logits(values[~few]).argmax(axis=1) == truth_of(tracks)[~few]
    assert expected.metrics is not None
    low, high = expected.metrics.intervals["accuracy"]
    assert low < right.mean() < high
    assert expected.unknown == 60
    assert sum(genre.evaluated for genre in expected.genres) == 60


@pytest.mark.filterwarnings("error::tonearm.datasets.SplitWarning")
def test_a_genre_of_one_artist_is_not_evaluated() -> None:
    values, tracks = clouds(per_genre=6)
    tracks = [replace(t, artist="Only One") if t.label == "b" else t for t in tracks]
    expected = forecast(values, tracks, "abc")
    assert [(genre.groups, genre.evaluated) for genre in expected.genres] == [
        (6, 6),
        (1, 0),
        (6, 6),
    ]
    assert expected.metrics is not None
    assert expected.metrics.count == 12
    assert advise(expected)["b"] == "only 6 files; all of one artist; could not be evaluated"


def test_advice_counts_artists_only_where_all_are_known() -> None:
    values, tracks = clouds(per_genre=6)
    names = {"a": ["Ann", "Bob"], "b": ["Ann B", "Bob B", "Bob B & Friends"], "c": ["Cid", None]}
    albums = {"Bob B": "LP", "Bob B & Friends": "LP"}  # which makes one group of two artists
    named = []
    for index, t in enumerate(tracks):
        artist = names[str(t.label)][index % len(names[str(t.label)])]
        named.append(replace(t, artist=artist, album=albums.get(artist or "")))
    needs = advise(forecast(values, named, "abc"))
    assert "only 2 artists" in needs["a"]
    assert "only 2 groups" in needs["b"]
    assert "only 4 groups" in needs["c"]  # Cid, and three recordings of unknown artists


def test_genres_of_one_artist_each_have_no_forecast(tmp_path: Path) -> None:
    values, tracks = clouds(per_genre=6)
    tracks = [replace(t, artist=t.label) for t in tracks]
    expected = forecast(values, tracks, "abc")
    assert (expected.metrics, expected.temperature) == (None, 1.0)


def test_what_cannot_be_evaluated_is_said_and_learned(
    run: Run, music: Path, tmp_path: Path
) -> None:
    mine = Path(shutil.copytree(music, tmp_path / "mine"))
    for path in mine.glob("*/*.flac"):
        tagged(path, artist=path.parent.name)
    code, output, _ = run(mine)
    assert code == 0
    unknown = "Expected accuracy: unknown. Every genre is the music of one artist or album."
    assert unknown in output
    assert output.count("not evaluated") == len(PITCHES)
    said = Bundle.load(tmp_path / "mine.onnx").metadata.metrics
    assert said == {"evaluated_on": "nothing: every genre is the music of one artist"}


def test_unsure_heads_are_calibrated() -> None:
    values, tracks = clouds(per_genre=40, spread=4.0)
    metrics = forecast(values, tracks, "abc").metrics
    assert metrics is not None
    assert metrics.ece < 0.12


def test_advice_names_the_weak(tmp_path: Path) -> None:
    values, tracks = clouds(per_genre=20, genres="abcd")
    values[20:40] = values[:20] + 0.01  # b sounds like a
    needs = advise(forecast(values, tracks, "abcd"))
    assert set(needs) == {"a", "b"}
    assert "taken for a" in needs["b"]


def test_advice_on_genres_in_wide_characters_is_aligned(
    run: Run, tmp_path: Path, music: Path
) -> None:
    for genre, name in (("Mid", "歌謡曲"), ("Whistles", "Whistles")):
        shutil.copytree(music / genre, tmp_path / "mine" / name)
    _, output, _ = run(tmp_path / "mine")
    narrow, wide = output.partition("would help:\n")[2].splitlines()[:2]
    assert "歌謡曲" in wide
    assert cell_len(narrow.partition("only")[0]) == cell_len(wide.partition("only")[0])


def test_the_output_says_when_it_is_too_good(run: Run, tmp_path: Path, music: Path) -> None:
    nameless = Path(shutil.copytree(music, tmp_path / "nameless"))
    for path in nameless.glob("*/*.flac"):
        mutagen.File(path).delete()
    _, output, _ = run(nameless)
    assert "Neither artist nor album is known of any file" in output
    assert "too optimistic" in output


# The head and the written bundle


@pytest.mark.parametrize("genres", ["ab", "abcd"])
def test_a_head_is_scikit_learns_classifier(genres: str) -> None:
    values, tracks = clouds(per_genre=15, genres=genres)
    truth = truth_of(tracks)
    deviation = values.std(axis=0, dtype=float)
    assert deviation.min() > SMALLEST_DEVIATION * np.median(deviation)
    standard = (values - values.mean(axis=0, dtype=float)) / deviation
    reference = LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000)
    scaled = standard / np.sqrt([6, 6, 6, 6, 6, 6, 2, 2])
    expected = reference.fit(scaled, truth).predict_proba(scaled)
    head = fit_head(values, truth, len(genres), parts=(6, 2), strength=0.1)
    np.testing.assert_allclose(probabilities_at(head.logits(values), 1.0), expected, atol=1e-5)


def test_a_genre_without_examples_is_next_to_impossible() -> None:
    values, tracks = clouds(per_genre=5)
    head = fit_head(values[:10], truth_of(tracks)[:10], 3)
    assert probabilities_at(head.logits(values), 1.0)[:10, 2].max() < 1e-3
    with pytest.raises(UsageError, match="two genres"):
        fit_head(values[:5], truth_of(tracks)[:5], 3)


def test_the_bundle_computes_the_heads_probabilities(
    music: Path, tiny_bundle: Path, cache: FeatureCache, tmp_path: Path
) -> None:
    tracks = from_dataset(datasets.load(music)).tracks
    learned = learn(tracks, tmp_path / "mine.onnx", model=tiny_bundle, cache=cache)
    embedded = embed(tracks, Bundle.load(tiny_bundle), cache)
    truth = np.array([learned.labels.index(t.label or "") for t in embedded.tracks])
    head = fit_head(embedded.values, truth, 3)
    expected = probabilities_at(head.logits(embedded.values), learned.forecast.temperature)
    classifier = Classifier.load(learned.path)
    for row, example in zip(expected, embedded.tracks, strict=True):
        prediction = classifier(example.path or "")
        got = [prediction.probabilities[label] for label in learned.labels]
        np.testing.assert_allclose(got, row, atol=1e-5)


@pytest.fixture
def head() -> Head:
    rng = np.random.default_rng(2)
    width = FRONT_END.n_mels
    return Head(rng.normal(size=(width, 3)), rng.normal(size=3))


def outputs_of(path: Path) -> dict[str, np.ndarray]:
    frames = np.random.default_rng(3).normal(size=(2, 50, FRONT_END.n_mels)).astype(np.float32)
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"logmel": frames}), strict=True))


def outputs_around(base: Path, head: Head) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The outputs of a bundle, and its outputs with another head."""
    metadata = replace(tiny_metadata(), labels=("x", "y", "z"))
    return outputs_of(base), outputs_of(
        replace_head(base, head, metadata, base.with_name("new.onnx"))
    )


def add_output(model: onnx.ModelProto, name: str, nodes: Sequence[onnx.NodeProto]) -> None:
    """Let nodes at the end of a graph make another output of two numbers."""
    model.graph.node.extend(nodes)
    shape = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 2])
    model.graph.output.append(shape)


def test_a_bundle_that_is_not_finished_is_no_model(
    head: Head, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TONEARM_MODELS", str(tmp_path))
    before = bundle.available()
    listed = []

    def wrong(written: Bundle, head: Head) -> float:
        listed.append(bundle.available())  # as another process sees it, or all do after a kill
        return 1.0

    monkeypatch.setattr(head_replacement, "_max_difference", wrong)
    metadata = tiny_metadata(labels=("a", "b", "c"))
    with pytest.raises(ReplaceHeadError, match=r"mine\.onnx: the written scores differ"):
        replace_head(tiny_bundle, head, metadata, tmp_path / "mine.onnx")
    assert listed == [before]
    assert not list(tmp_path.iterdir())


def test_other_outputs_are_kept(head: Head, tmp_path: Path) -> None:
    outputs = ("logits", "embedding", "loudest")
    base = write_bundle(tmp_path / "base.onnx", tiny_metadata(), outputs=outputs)
    before, after = outputs_around(base, head)
    assert set(after) == set(before)
    assert after["logits"].shape == (2, 3)
    np.testing.assert_array_equal(after["embedding"], before["embedding"])
    np.testing.assert_array_equal(after["loudest"], before["loudest"])


def test_an_output_made_of_the_old_logits_is_kept(head: Head, tmp_path: Path) -> None:
    base = write_bundle(tmp_path / "base.onnx", tiny_metadata())
    model = onnx.load(base)
    add_output(model, "opposite", [helper.make_node("Neg", ["logits"], ["opposite"])])
    onnx.save(model, base)
    before, after = outputs_around(base, head)
    np.testing.assert_array_equal(after["opposite"], before["opposite"])
    assert after["logits"].shape == (2, 3)


def test_a_branch_that_reads_the_old_logits_is_followed(head: Head, tmp_path: Path) -> None:
    base = write_bundle(tmp_path / "base.onnx", tiny_metadata())
    model = onnx.load(base)
    branches = {}
    for name, kind in (("then_branch", "Neg"), ("else_branch", "Abs")):
        output = helper.make_tensor_value_info(kind, onnx.TensorProto.FLOAT, ["batch", 2])
        branches[name] = helper.make_graph(
            [helper.make_node(kind, ["logits"], [kind])], kind, [], [output]
        )
    nodes = [
        helper.make_node("Constant", [], ["yes"], value_ints=[1]),
        helper.make_node("Cast", ["yes"], ["choice"], to=onnx.TensorProto.BOOL),
        helper.make_node("If", ["choice"], ["chosen"], **branches),
    ]
    add_output(model, "chosen", nodes)
    onnx.save(model, base)
    before, after = outputs_around(base, head)
    np.testing.assert_array_equal(after["chosen"], before["chosen"])


def test_a_second_front_end_is_kept(head: Head, tmp_path: Path) -> None:
    metadata = tiny_metadata(second_front_end=FRONT_END)
    base = write_bundle(tmp_path / "base.onnx", metadata)
    new = replace_head(base, head, replace(metadata, labels=("x", "y", "z")), tmp_path / "new.onnx")
    assert Classifier.load(new)(tone(440, 1), RATE).genre in "xyz"


def test_the_parts_of_an_embedding_are_found(tiny_bundle: Path, tmp_path: Path) -> None:
    width = FRONT_END.n_mels
    assert embedding_parts(tiny_bundle, width) == (width,)
    shipped = Path(datasets.__file__).parents[1] / "weights" / "default.onnx"
    assert embedding_parts(shipped, 896) == (512, 64, 320)
    assert embedding_parts(shipped, 500) == (500,)  # the graph says something else


def test_the_shipped_model_takes_a_head(tmp_path: Path) -> None:
    base = Bundle.load(Path(datasets.__file__).parents[1] / "weights" / "default.onnx")
    width = embeddings._width(base)
    head = Head(np.random.default_rng(4).normal(0, 0.1, (width, 2)), np.zeros(2))
    new = replace_head(
        base.path, head, replace(base.metadata, labels=("x", "y")), tmp_path / "new.onnx"
    )
    before = Classifier(base)(tone(440, 1), RATE)
    after = Classifier.load(new)(tone(440, 1), RATE)
    np.testing.assert_array_equal(after.embedding, before.embedding)
    assert after.music == before.music
    assert set(after.probabilities) == {"x", "y"}


# What it needs


WITHOUT = """
import sys
missing = sys.argv.pop(1).split(",")
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError("no " + name, name=name)
sys.meta_path.insert(0, Blocker())
from tonearm.cli.app import main
if __name__ == "__main__":
    main()
"""


def without(packages: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the program as if some packages were not installed."""
    command = [sys.executable, "-c", WITHOUT, packages, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_learning_needs_no_torch(
    music: Path, tiny_bundle: Path, tmp_path: Path, cache: FeatureCache
) -> None:
    options = ["--model", tiny_bundle, "--cache", cache.root, "--out", tmp_path / "mine.onnx"]
    heavy = "torch,lightning,pandas,matplotlib,librosa,pyarrow"
    done = without(heavy, "learn", music, *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 genres" in done.stdout


def test_tracks_that_a_table_excludes_are_reported(run: Run, music: Path, tmp_path: Path) -> None:
    files = sorted(file for file in music.rglob("*") if file.is_file())
    rows = [f"{file},{file.parent.name},{'train' if n else 'test'}" for n, file in enumerate(files)]
    table = tmp_path / "songs.csv"
    table.write_text("\n".join(["path,label,split", *rows]))
    code, _, errors = run(table, "--min-files", "2")
    assert code == 0
    assert "tonearm: left out: 1 files that the dataset's partition" in errors


@pytest.mark.parametrize(("package", "name"), [("sklearn", "scikit-learn"), ("onnx", "onnx")])
def test_missing_packages_are_reported_first(package: str, name: str, tmp_path: Path) -> None:
    done = without(package, "learn", tmp_path, "--out", tmp_path / "mine.onnx")
    assert done.returncode == 1
    assert done.stderr == (
        f"tonearm: this needs {name}, which is not installed: pip install 'tonearm[learn]'\n"
    )


def test_an_album_that_the_table_names_is_not_read_from_the_tags(music: Path) -> None:
    path = music / "Mid" / "0.flac"
    known = Track("1", path, "a", album="Known")
    data = datasets.Dataset("set", music, (known, Track("2", path, "a")), ("a",))
    named, read = from_dataset(data).tracks
    assert (named.artist, named.album) == (None, "Known")
    assert (read.artist, read.album) == ("Mid Band 0", "No. 0")


def test_one_mistake_is_no_confusion() -> None:
    genre = forecasting.GenreForecast("a", 10, 5, "artist", 5, 1.0, 0.8, 0.9, (("b", 1),))
    forecast_ = forecasting.Forecast((genre,), None, 1.0, 5, 0)
    assert advise(forecast_) == {}
    twice = replace(genre, confused_with=(("b", 2), ("c", 1)))
    assert advise(replace(forecast_, genres=(twice,))) == {"a": "2 taken for b"}


@needs_links
def test_the_base_is_not_overwritten_through_a_link(tiny_bundle: Path, tmp_path: Path) -> None:
    link = tmp_path / "mine.onnx"
    link.symlink_to(tiny_bundle)
    with pytest.raises(UsageError, match="is the model to learn on"):
        learn([track(1), track(2, "b")], link, model=tiny_bundle)
