"""Cross-validation trains on the rest only, goes on after a break, and writes its table."""

from __future__ import annotations

import csv
import re
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import reason
from pieces import write_pieces
from tonearm import datasets
from tonearm.benchmark.ladder import render_page, run_benchmark, write_results
from tonearm.benchmark.systems import (
    BaselineSystem,
    BundleSystem,
    DistilledSystem,
    NetworkSystem,
    default_systems,
    find_system,
)
from tonearm.datasets import Dataset, DatasetError, LeakWarning, Track
from tonearm.datasets.cache import FeatureCache
from tonearm.errors import TonearmError, UsageError
from tonearm.evaluation import predictions as files
from tonearm.evaluation.crossval import FloatArray, Round, cross_validate, warn_of_copies
from tonearm.synth import STYLES

LABELS = ("blues", "jazz")
Program = Callable[..., tuple[int, str, str]]

SMALL = """
name: small
model: {name: cnn, settings: {widths: [4, 8], embedding_size: 16}}
data: {crop_seconds: 1.0, window_seconds: 1.0, examples_per_epoch: 8, batch_size: 4}
schedule: {epochs: 1, validate_every: 1, threads: 1, accelerator: cpu}
"""


@dataclass
class Scripted:
    """A system that knows the truth, errs on chosen tracks, and counts its trainings."""

    name: str = "scripted"
    fingerprint: str = "1"
    wrong: frozenset[str] = frozenset()
    unheard: frozenset[str] = frozenset()
    fails_at: int = 10**9
    trained: list[tuple[int, frozenset[str]]] = field(default_factory=list)

    def fit_predict(self, given: Round) -> FloatArray:
        if len(self.trained) == self.fails_at:
            raise KeyboardInterrupt
        train, test, labels = given.train, given.test, given.labels
        assert not {track.id for track in train} & {track.id for track in test}
        artists = {track.artist for track in train} & {track.artist for track in test}
        assert artists <= {None}
        self.trained.append((given.seed, frozenset(track.id for track in test)))
        shares = np.full((len(test), len(labels)), 0.1 / (len(labels) - 1))
        for row, track in zip(shares, test, strict=True):
            guess = labels.index(str(track.label)) ^ (track.id in self.wrong)
            row[guess] = 0.9
            if track.id in self.unheard:
                row[:] = np.nan
        return shares


def songs(tracks: int = 24) -> Dataset:
    made = tuple(
        Track(
            f"{LABELS[i % 2]}.{i:02d}",
            Path(f"/music/{i}.ogg"),
            LABELS[i % 2],
            artist=f"artist {i % 12}",
            kind="full" if i % 4 else "excerpt",
        )
        for i in range(tracks)
    )
    return Dataset("songs", Path("/music"), made, LABELS)


def test_every_track_is_evaluated_once_by_one_who_never_heard_it(tmp_path: Path) -> None:
    folds = datasets.split(songs(), "artist-kfold", 3)
    system = Scripted(wrong=frozenset({"blues.00"}))
    result = cross_validate(system, folds, LABELS, str(tmp_path))
    assert sorted(result.tracks) == sorted(track.id for track in songs())
    assert result.tracks[int(np.flatnonzero(~result.correct)[0])] == "blues.00"
    assert (~result.correct).sum() == 1
    assert set(result.folds or ()) == {fold.name for fold in folds}
    assert len(system.trained) == 3


def test_without_a_fold_there_is_nothing_to_predict(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no fold"):
        cross_validate(Scripted(), [], LABELS, tmp_path)


def test_what_is_finished_is_not_done_again(tmp_path: Path) -> None:
    folds = datasets.split(songs(), "artist-kfold", 4)
    broken = Scripted(fails_at=2)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(broken, folds, LABELS, tmp_path)
    seen: list[bool] = []
    second = Scripted()
    cross_validate(second, folds, LABELS, tmp_path, on_fold=lambda fold, done: seen.append(done))
    assert seen == [True, True, False, False]
    assert len(second.trained) == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: "", "expected a header that begins with track,label"),
        (lambda text: text.replace(".00", ".0Z"), "blues.0Z is no track of this fold"),
    ],
)
def test_a_damaged_fold_is_named(tmp_path: Path, change: Callable[[str], str], told: str) -> None:
    folds = datasets.split(songs(), "artist-kfold", 2)
    cross_validate(Scripted(), folds, LABELS, tmp_path)
    for stored in tmp_path.rglob("predictions.csv"):
        stored.write_text(change(stored.read_text()))
    with pytest.raises(TonearmError, match=rf"predictions.csv: {told}; remove it to compute it"):
        cross_validate(Scripted(), folds, LABELS, tmp_path)


@pytest.mark.parametrize("change", ["settings", "labels", "seed", "tracks", "parts"])
def test_what_has_changed_is_done_again(tmp_path: Path, change: str) -> None:
    folds = datasets.split(songs(), "artist-kfold", 3)
    cross_validate(Scripted(), folds, LABELS, tmp_path)
    system = Scripted(fingerprint="2" if change == "settings" else "1")
    if change == "tracks":
        folds = datasets.split(songs(22), "artist-kfold", 3)
    elif change == "parts":
        folds = [datasets.Fold(fold.name, fold.held_out, fold.train) for fold in folds]
    labels = (*LABELS, "rock") if change == "labels" else LABELS
    cross_validate(system, folds, labels, tmp_path, seed=int(change == "seed"))
    assert len(system.trained) == 3


@pytest.mark.parametrize("change", ["path", "artist", "audio", "picture"])
def test_a_dataset_corrected_under_the_same_ids_is_done_again(tmp_path: Path, change: str) -> None:
    tracks = []
    for number, track in enumerate(songs(12)):
        path, picture = tmp_path / f"{number}.ogg", tmp_path / f"{number}.png"
        path.write_bytes(b"a song %d" % number)
        picture.write_bytes(b"a picture %d" % number)
        tracks.append(replace(track, path=path, picture=picture))
    fold = datasets.Fold("one", tuple(tracks[2:]), tuple(tracks[:2]))
    system = Scripted()
    for _ in range(2):
        cross_validate(system, [fold], LABELS, tmp_path / "work")
    assert len(system.trained) == 1

    if change == "path":
        moved = tracks[0].path.rename(tmp_path / "moved.ogg")
        tracks[0] = replace(tracks[0], path=moved)
    elif change == "artist":
        tracks[0] = replace(tracks[0], artist="another")
    elif change == "audio":
        tracks[5].path.write_bytes(b"another")
    else:
        tracks[5].picture.write_bytes(b"another")
    changed = replace(fold, train=tuple(tracks[2:]), valid=tuple(tracks[:2]))
    cross_validate(system, [changed], LABELS, tmp_path / "work")
    # Where a file lies says nothing of what is in it.
    assert len(system.trained) == (1 if change == "path" else 2)


def test_a_file_to_evaluate_that_is_trained_on_under_another_name_is_told_of(
    tmp_path: Path,
) -> None:
    tracks = [replace(track, path=tmp_path / track.id) for track in songs(6)]
    for track in tracks:
        track.path.write_text(f"the song {track.id}")
    fold = datasets.Fold("one", tuple(tracks[2:]), tuple(tracks[:2]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_copies([fold], tmp_path / "work")
    tracks[0].path.write_bytes(tracks[5].path.read_bytes())
    with pytest.warns(LeakWarning, match="^1 of the files to evaluate are copies of files to tr"):
        warn_of_copies([fold], tmp_path / "work")
    copied = Dataset("songs", tmp_path, tuple(tracks), LABELS)
    with pytest.warns(LeakWarning, match="^2 of the files to evaluate are copies of") as said:
        run_benchmark(copied, [Scripted()], tmp_path / "work", folds=2, seeds=2)
    assert len(said) == 1


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    folds = datasets.split(songs(), "artist-kfold", 3)
    folder = tmp_path / "taken" / "work"
    told = f"{folder}: {reason('Not a directory', partial(folder.mkdir, parents=True))}"
    with pytest.raises(TonearmError, match=re.escape(told)):
        cross_validate(Scripted(), folds, LABELS, folder)


def test_tracks_that_cannot_be_decoded_are_left_out(tmp_path: Path) -> None:
    folds = datasets.split(songs(), "artist-kfold", 3)
    result = cross_validate(Scripted(unheard=frozenset({"jazz.01"})), folds, LABELS, tmp_path)
    assert len(result) == 23
    assert "jazz.01" not in result.tracks
    deaf = Scripted("deaf", unheard=frozenset(track.id for track in songs()))
    with pytest.raises(TonearmError, match=r"deaf, artist-kfold-1of3: none of its tracks"):
        cross_validate(deaf, folds, LABELS, tmp_path)


def test_seeds_change_folds_and_training(tmp_path: Path) -> None:
    system = Scripted()
    result = run_benchmark(songs(), [system], tmp_path, folds=3, seeds=2)
    assert [seed for seed, _ in system.trained] == [0, 0, 0, 1, 1, 1]
    assert {test for seed, test in system.trained if seed == 0} != {
        test for seed, test in system.trained if seed == 1
    }
    predictions = result.predictions["scripted"]
    assert len(predictions) == 48
    assert set(predictions.seeds or ()) == {"0", "1"}
    assert result.comparison().tracks == 24


def test_tracks_that_cannot_be_classified_with_any_of_the_seeds_are_named(tmp_path: Path) -> None:
    class Forgetful(Scripted):
        def fit_predict(self, given: Round) -> FloatArray:
            self.unheard = frozenset({f"blues.{2 * given.seed:02d}"})
            return super().fit_predict(given)

    result = run_benchmark(songs(), [Forgetful()], tmp_path, folds=3, seeds=2)
    assert result.unclassified == {"scripted": ("blues.00", "blues.02")}


def test_gaps_are_told_once_and_before_anything_is_trained(tmp_path: Path) -> None:
    parts = ("valid", "extra", *["train"] * 6)
    tracks = tuple(
        replace(track, artist=track.id, split=part)
        for track, part in zip(songs(8), parts, strict=True)
    )
    system = Scripted()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run_benchmark(replace(songs(), tracks=tracks), [system], tmp_path / "a", "builtin", seeds=3)
    assert [str(warning.message) for warning in said] == [
        "the builtin split leaves out the parts extra"
    ]

    polka = Track("polka", Path("/music/polka.ogg"), "polka")
    more = replace(songs(), tracks=(*songs(), polka), labels=(*LABELS, "polka"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(datasets.GapWarning, match=r"polka in artist-kfold-\dof3"):
            run_benchmark(more, [system], tmp_path / "b", "artist-kfold", folds=3, seeds=2)
    assert not (tmp_path / "b").exists()


def test_results_are_written_and_name_the_leak(tmp_path: Path) -> None:
    weak = Scripted("weak", wrong=frozenset(track.id for track in songs().tracks[:10]))
    strong = Scripted("strong")
    # The scripted systems refuse to hear an artist on both sides, as random folds let them.
    singles = Dataset(
        "songs",
        Path("/music"),
        tuple(Track(t.id, t.path, t.label, artist=t.id, kind=t.kind) for t in songs()),
        LABELS,
    )
    result = run_benchmark(singles, [weak, strong], tmp_path / "work", "random-kfold", folds=3)
    written = write_results(
        tmp_path / "out", "songs", result, "tonearm benchmark songs", result.comparison()
    )
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in written) == [
        "predictions/songs/strong.csv",
        "predictions/songs/weak.csv",
        "songs.csv",
        "songs.md",
        "songs.png",
        "songs.svg",
    ]
    assert all(path.stat().st_size for path in written)
    page = written[0].read_text(encoding="utf-8")
    assert "Warning:" in page
    assert "tonearm benchmark songs" in page
    assert "| strong |" in page
    assert "excerpt" in page
    rows = list(csv.DictReader((tmp_path / "out" / "songs.csv").open()))
    assert [(row["run"], row["against"]) for row in rows] == [("weak", ""), ("strong", "weak")]
    assert float(rows[1]["accuracy_difference"]) == pytest.approx(10 / 24, rel=1e-5)
    again = files.read(tmp_path / "out" / "predictions" / "songs" / "weak.csv")
    assert again.metrics(0).accuracy == pytest.approx(14 / 24)


def test_artist_folds_carry_no_warning(tmp_path: Path) -> None:
    result = run_benchmark(songs(), [Scripted()], tmp_path, folds=3)
    assert (result.warning, result.unused) == (None, 0)
    page = render_page("songs", result, "again", result.comparison())
    assert not re.search("Warning:|are not used", page)
    assert "a sign-flip test over those groups, and" in page


def test_without_artists_the_tests_are_over_tracks(tmp_path: Path) -> None:
    data = songs()
    unknown = tuple(replace(track, artist=None) for track in data.tracks)
    result = run_benchmark(replace(data, tracks=unknown), [Scripted()], tmp_path, folds=3)
    page = render_page("songs", result, "again", result.comparison())
    assert "bootstrap intervals over single tracks" in page
    assert "a sign-flip test over those tracks, and" in page


def test_accuracy_by_kind_is_of_the_tracks_in_common(tmp_path: Path) -> None:
    data = songs()
    # Not labelled, and so not judged: a kind of its own that has no accuracy.
    strange = replace(data, tracks=(*data.tracks, Track("x", None, None, kind="loop")))
    # "blues.02" is full, and the first system alone errs on it: the second has not heard it.
    systems = [
        Scripted("hasty", wrong=frozenset({"blues.02"})),
        Scripted("deaf", unheard=frozenset({"blues.02"})),
    ]
    result = run_benchmark(strange, systems, tmp_path, folds=3)
    page = render_page("songs", result, "again", result.comparison())
    assert "| system | excerpt |  full |" in page
    assert "| hasty  |   100.0 | 100.0 |" in page
    assert "\n- deaf: blues.02\n" in page
    assert "- hasty:" not in page


def test_accuracy_by_kind_is_of_the_genres_that_have_all_kinds(tmp_path: Path) -> None:
    # All jazz is full: what the system gets wrong of it says nothing of full recordings.
    jazz = frozenset(track.id for track in songs() if track.label == "jazz")
    deaf = Scripted("deaf to jazz", wrong=jazz)
    result = run_benchmark(songs(), [deaf], tmp_path, folds=3, seeds=2)
    page = render_page("songs", result, "again", result.comparison())
    assert "every kind: blues (6 excerpt, 6 full)" in page
    assert "| deaf to jazz |   100.0 | 100.0 |" in page


def test_what_is_stored_of_a_network_is_known_by_every_setting_and_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FeatureCache(tmp_path / "cache")

    def fingerprint(text: str) -> str:
        (tmp_path / "hybrid.yaml").write_text(text)
        return find_system("hybrid", tmp_path, cache).fingerprint

    plain = fingerprint("name: hybrid\n")
    assert fingerprint("# A comment says nothing new.\nname: hybrid\n") == plain
    assert fingerprint("name: hybrid\nseed: 1\n") != plain
    assert "lr:" in plain  # what the file leaves to the defaults
    monkeypatch.setattr("tonearm.training.run.VERSIONS", (99, 1))
    assert fingerprint("name: hybrid\n") != plain


def test_what_is_stored_of_a_distillation_is_known_by_its_recipe_its_code_and_the_music(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    music = tmp_path / "music"
    music.mkdir()
    (music / "song.ogg").write_bytes(b"a song")
    monkeypatch.setenv("TONEARM_UNLABELLED", str(music))
    teachers = "tonearm.training.teachers.teachers_fingerprint"
    monkeypatch.setattr(teachers, lambda: "those")
    (tmp_path / "default.yaml").write_text("tuning:\n  steps: 7\n")
    system = find_system("default", tmp_path, FeatureCache(tmp_path / "cache"))
    assert isinstance(system, DistilledSystem)
    plain = system.fingerprint
    assert system.fingerprint == plain
    assert "hop_seconds" in plain  # a default
    with monkeypatch.context() as patch:
        patch.setattr("tonearm.training.distill.VERSIONS", (1, 2, 99))
        assert system.fingerprint != plain
    with monkeypatch.context() as patch:
        patch.setattr(teachers, lambda: "others")
        assert system.fingerprint != plain
    assert system.fingerprint == plain
    (music / "song.ogg").write_bytes(b"A SONG")  # of the same size
    other = system.fingerprint
    (music / "another.ogg").write_bytes(b"another song")
    assert len({plain, other, system.fingerprint}) == 3


@pytest.mark.parametrize("text", ["imitation: {epochs: 1}", "ensemble: {fcn: 0.0}", "threads: 1"])
def test_a_distillation_is_known_by_any_setting_that_a_network_lacks(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TONEARM_UNLABELLED", str(tmp_path))
    (tmp_path / "mine.yaml").write_text(f"name: mine\n{text}\n")
    assert isinstance(find_system("mine", tmp_path, FeatureCache(tmp_path)), DistilledSystem)


def test_systems_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FeatureCache(tmp_path / "cache")
    (tmp_path / "hybrid.yaml").write_text("name: hybrid\n")
    (tmp_path / "zebra.yaml").write_text("name: zebra\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.onnx").write_bytes(b"a model")
    assert isinstance(find_system("mfcc-svm", tmp_path, cache), BaselineSystem)
    network = find_system("hybrid", tmp_path, cache)
    assert isinstance(network, NetworkSystem)
    assert network.name == "hybrid"
    finished = find_system(str(tmp_path / "run"), tmp_path, cache)
    assert isinstance(finished, BundleSystem)
    assert finished.name == "run"
    (tmp_path / "run" / "logs").mkdir()
    for folder, name in (("run", "."), ("run", "model.onnx"), ("run/logs", "..")):
        monkeypatch.chdir(tmp_path / folder)
        assert find_system(name, tmp_path, cache).name == "run"
    with pytest.raises(UsageError, match=r"no system 'ghost': .*mfcc-svm.*hybrid, zebra"):
        find_system("ghost", tmp_path, cache)
    (tmp_path / "wrong.yaml").write_text("optimiser: {lr: -1}\n")
    with pytest.raises(TonearmError, match=r"wrong.yaml: optimiser.lr must be above 0"):
        find_system("wrong", tmp_path, cache)
    (tmp_path / "wrong.yaml").write_text("model: {name: cnn}\nschedule: {epochs: 1}\nthreads: 1\n")
    with pytest.raises(TonearmError, match=r"wrong.yaml: Option 'threads' is not accepted"):
        find_system("wrong", tmp_path, cache)
    (tmp_path / "wrong.yaml").write_text("imitation: {}\ntuning: {}\noptimiser: {lr: 1}\n")
    with pytest.raises(TonearmError, match=r"wrong.yaml: Option 'optimiser.lr' is not accepted"):
        find_system("wrong", tmp_path, cache)
    (tmp_path / "wrong.yaml").unlink()
    names = default_systems(tmp_path, songs())
    assert names[0] == "mfcc-svm"
    assert names[-1] == "zebra"  # which the ladder does not know
    first, *others = songs()
    pictured = replace(songs(), tracks=(replace(first, picture=Path("0.png")), *others))
    found = set(default_systems(tmp_path, pictured)) - set(names)
    assert found
    assert all(name.startswith("kaggle-picture-") for name in found)
    assert "hybrid" in names


def test_a_benchmark_needs_distinct_systems(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="different names"):
        run_benchmark(songs(), [Scripted(), Scripted()], tmp_path)
    with pytest.raises(UsageError, match="got none"):
        run_benchmark(songs(), [], tmp_path)
    with pytest.raises(UsageError, match="seeds must be at least 1, got 0"):
        run_benchmark(songs(), [Scripted()], tmp_path, seeds=0)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six short synthetic pieces in each of two styles."""
    return write_pieces(tmp_path_factory.mktemp("pieces"), STYLES[:2], 6, 1.5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::tonearm.datasets.LeakWarning")
def test_a_network_never_sees_the_tracks_it_is_evaluated_on(
    pieces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tonearm import training

    config = tmp_path / "small.yaml"
    config.write_text(SMALL)
    seen: list[Track] = []
    fit = training.fit

    def watched(
        experiment: training.Experiment,
        train: Sequence[Track],
        valid: Sequence[Track],
        *others: Any,
        workers: int,
    ) -> training.Run:
        assert (experiment.name, experiment.seed, workers) == ("small", 7, 2)
        seen.extend([*train, *valid])
        return fit(experiment, train, valid, *others, workers=workers)

    monkeypatch.setattr(training, "fit", watched)
    dataset = datasets.load(pieces)
    fold = datasets.split(dataset, "artist-kfold", 3)[0]
    system = NetworkSystem(config, FeatureCache(tmp_path / "cache"), workers=2)
    shares = system.fit_predict(
        Round(fold.train, fold.valid, dataset.labels, tmp_path / "run", seed=7)
    )
    assert sorted(track.id for track in seen) == sorted(track.id for track in fold.train)
    assert shares.shape == (len(fold.valid), 2)
    assert np.allclose(shares.sum(axis=1), 1)


def test_a_finished_model_is_asked_as_it_is(tiny_bundle: Path, pieces: Path) -> None:
    dataset = datasets.load(pieces)
    system = BundleSystem(tiny_bundle)
    known = system.fit_predict(Round((), dataset.tracks[:3], ("low", "high"), pieces, seed=0))
    assert known.shape == (3, 2)
    assert (known[:, 0] > 0.5).all()  # of these pieces, most energy is in the lower bands
    only = system.fit_predict(Round((), dataset.tracks[:1], ("high",), pieces, seed=0))
    assert only == pytest.approx(1)
    with pytest.raises(TonearmError, match="does not know the labels jazz"):
        system.fit_predict(Round((), dataset.tracks[:1], ("high", "jazz"), pieces, seed=0))
    other = Scripted()
    with pytest.raises(TonearmError, match="does not know the labels blues, jazz"):
        run_benchmark(songs(), [other, system], pieces, folds=3)
    assert other.trained == []


def test_command_line_from_audio_to_table(pieces: Path, tmp_path: Path, program: Program) -> None:
    options: tuple[object, ...] = ("--data", pieces, "--systems", "mfcc-logistic, mfcc-svm")
    options += ("--folds", 3, "--out", tmp_path / "out")
    options += ("--work", tmp_path / "work", "--cache", tmp_path / "cache")
    code, first, errors = program("benchmark", "pieces", *options)
    assert code == 0
    assert "mfcc-svm" in first
    assert "mfcc-svm, seed 0, artist-kfold-3of3" in errors
    assert errors.count("warning: the artist of 12 of 12 tracks is not known") == 1
    page = (tmp_path / "out" / "pieces.md").read_text()
    assert "12 tracks, 2 genres, 3 folds, 1 seed" in page

    code, second, errors = program("benchmark", "pieces", *options)
    assert (code, second) == (0, first)
    assert "seed 0" not in errors

    assert "--configs" not in page
    elsewhere = ("--configs", tmp_path / "my configs")
    assert program("benchmark", "pieces", *options, *elsewhere)[0] == 0
    assert f"--configs '{tmp_path / 'my configs'}'" in (tmp_path / "out" / "pieces.md").read_text()

    assert program("benchmark", "pieces", *options, "--systems", "mfcc-logistic")[0] == 0

    for name in ("../evil", "a/b", "a\\b", ".."):
        code, _, errors = program("benchmark", name, *options)
        assert (code, "must be a name" in errors) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "out", "work"]

    (tmp_path / "file").touch()
    taken = tmp_path / "file" / "out"
    code, _, errors = program("benchmark", "pieces", *options, "--out", taken)
    assert (code, "seed 0" in errors) == (1, False)
    assert f"{taken}: a file is where its folder should be" in errors

    code, _, errors = program("benchmark", "pieces", *options, "--protocol", "magic")
    assert (code, "artist-kfold" in errors) == (2, True)


def test_recordings_that_a_system_cannot_classify_are_named(
    pieces: Path, tmp_path: Path, program: Program
) -> None:
    data = Path(shutil.copytree(pieces, tmp_path / "data"))
    folder = min(path for path in data.iterdir() if path.is_dir())
    (folder / "broken.wav").write_text("no music")
    options: tuple[object, ...] = ("--data", data, "--systems", "mfcc-logistic", "--folds", 3)
    options += ("--out", tmp_path / "out", "--work", tmp_path / "work")
    code, _, errors = program("benchmark", "data", *options, "--cache", tmp_path / "cache")
    assert code == 0
    assert f"left out: mfcc-logistic cannot classify {folder.name}/broken\n" in errors
    assert "12 tracks" in (tmp_path / "out" / "data.md").read_text()


@pytest.mark.filterwarnings("error")
def test_a_baseline_is_quiet_about_settings_that_few_tracks_rule_out(
    pieces: Path, tmp_path: Path
) -> None:
    dataset = datasets.load(pieces)
    system = BaselineSystem("descriptors-knn", FeatureCache(tmp_path))
    given = Round(dataset.tracks[::2], dataset.tracks[1::2], dataset.labels, tmp_path, seed=0)
    assert np.isfinite(system.fit_predict(given)).all()

    few = replace(given, train=(*dataset.tracks[:2], *dataset.tracks[-2:]))
    with pytest.raises(DatasetError, match="descriptors-knn cannot learn from 4 tracks: Expected"):
        system.fit_predict(few)


def test_a_finished_model_is_marked_as_one_that_the_folds_did_not_train(
    tiny_bundle: Path, tmp_path: Path, program: Program
) -> None:
    music = write_pieces(tmp_path / "music", ("low", "high"), 3)
    options: tuple[object, ...] = ("--systems", f"mfcc-logistic,{tiny_bundle}", "--folds", 2)
    options += ("--data", music, "--out", tmp_path / "out")
    options += ("--work", tmp_path / "work", "--cache", tmp_path / "cache")
    code, output, errors = program("benchmark", "tones", *options)
    assert code == 0
    assert f"warning: {tiny_bundle} is a finished model, not trained anew" in errors
    assert "tiny (finished model)" in output
    page = (tmp_path / "out" / "tones.md").read_text()
    assert "**Warning:** tiny: a finished model, not trained anew" in page
    assert "| tiny (finished model) |" in page
    assert "mfcc-logistic (finished" not in page
