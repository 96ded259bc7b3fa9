"""The traditional classifiers learn, calibrate, and take the gaps and pictures of real data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imsave
from numpy.typing import NDArray

from tonearm import synth
from tonearm.baselines import feature_sets
from tonearm.baselines.classical import (
    Baseline,
    baseline_names,
    create_baseline,
    feature_set_of,
)
from tonearm.baselines.feature_sets import FEATURE_SETS
from tonearm.benchmark.systems import BaselineSystem
from tonearm.datasets import load
from tonearm.datasets.cache import FeatureCache
from tonearm.datasets.gtzan_pictures import COLOUR_MAP, HEIGHT, WIDTH, levels, read_picture
from tonearm.datasets.track import DatasetError, Track
from tonearm.errors import TonearmError, UsageError
from tonearm.evaluation.crossval import Round
from tonearm.features.descriptors import descriptor_names, mfcc_columns
from tonearm.features.thumbnail import BANDS, COLUMNS, NUMBERS, ROWS, describe_picture

LABELS = ("blues", "jazz", "rock")
SVM, FAST = "descriptors-svm", ("descriptors-svm", "descriptors-logistic", "descriptors-knn")


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
@pytest.mark.parametrize("name", ["descriptors-boosting", "descriptors-forest"])
def test_every_other_one_learns(name: str) -> None:
    assert accuracy(name) > 0.9


def test_names_are_feature_set_and_method() -> None:
    assert {"mfcc-svm", "descriptors-forest", "kaggle-picture-logistic"} <= set(baseline_names())
    assert {name.rpartition("-")[0] for name in baseline_names()} == set(FEATURE_SETS)
    with pytest.raises(UsageError, match=r"no baseline 'svm'; there are mfcc-svm"):
        create_baseline("svm")
    with pytest.raises(UsageError, match=r"no baseline 'picture-hybrid'; there are mfcc-svm"):
        feature_set_of("picture-hybrid")


def test_confidence_follows_from_held_out_clips() -> None:
    # Where the genres overlap, an honest classifier is right about as often as it is sure.
    known, heard = clips(240, spread=6), clips(240, spread=6, seed=1)
    baseline = create_baseline(SVM).fit(*known)
    shares = baseline.predict_proba(heard[0])
    right = share_right(baseline, shares, heard[1])
    assert 0.4 < right < 0.95
    assert abs(shares.max(axis=1).mean() - right) < 0.1


def test_confidence_is_not_judged_by_other_clips_of_the_same_artist() -> None:
    songs, heard = clips(120, spread=6), clips(240, spread=6, seed=1)
    known, truth = np.repeat(songs[0], 3, axis=0), np.repeat(songs[1], 3).tolist()
    artists = [f"artist {i // 3}" for i in range(360)]
    baseline = create_baseline("descriptors-logistic").fit(known, truth, artists)
    shares = baseline.predict_proba(heard[0])
    assert abs(shares.max(axis=1).mean() - share_right(baseline, shares, heard[1])) < 0.15


@pytest.mark.parametrize("name", ["mfcc-svm", "mfcc-logistic"])
def test_a_thin_genre_is_found_as_well_as_the_others(name: str) -> None:
    random = np.random.default_rng(0)

    def pairs(jazz: int, blues: int) -> NDArray[np.float32]:
        rows = [random.normal(0, 1, (jazz, 2)), random.normal(1, 1, (blues, 2))]
        return np.concatenate(rows).astype(np.float32)

    artists = [f"artist {i // 4}" for i in range(220)]
    baseline = create_baseline(name).fit(pairs(20, 200), ["jazz"] * 20 + ["blues"] * 200, artists)
    assert baseline.classes == ("blues", "jazz")
    says_jazz = baseline.predict_proba(pairs(500, 500)).argmax(axis=1)
    assert says_jazz[:500].mean() > 0.5
    assert says_jazz[500:].mean() < 0.4


def test_it_repeats_by_seed_and_keeps_its_settings() -> None:
    known, truth, artists = clips(spread=4)
    first, second = (create_baseline(SVM, seed=3).fit(known, truth, artists) for _ in range(2))
    assert np.array_equal(first.predict_proba(known), second.predict_proba(known))
    assert set(first.settings) == {"C"}


def test_another_seed_grows_another_forest() -> None:
    known, truth, _ = clips(12)
    one, other = (
        create_baseline("mfcc-forest", seed).fit(known, truth, truth).predict_proba(known)
        for seed in (1, 2)
    )
    assert not np.array_equal(one, other)


def test_missing_values_and_undecodable_clips_are_taken() -> None:
    known, truth, artists = clips()
    known[::7, 3] = np.nan
    known[:, 5] = np.nan  # a descriptor that no clip has
    known[4] = np.nan
    baseline = create_baseline(SVM).fit(known, truth, artists)
    assert np.isfinite(baseline.predict_proba(known)).all()


def test_a_class_of_one_artist_leaves_the_others_tuned_and_calibrated() -> None:
    known, truth, artists = clips()
    solo = ["solo" if truth[i] == "jazz" else artist for i, artist in enumerate(artists)]
    baseline = create_baseline(SVM).fit(known, truth, solo)
    assert set(baseline.settings) == {"C"}
    assert baseline.temperature < 0.1  # those of one artist do not count as errors
    assert share_right(baseline, baseline.predict_proba(known), truth) > 0.9
    # Where every class is of one artist, nothing can be held out.
    alone = create_baseline(SVM).fit(known, truth, truth)
    assert (alone.settings, alone.temperature) == ({}, 1)
    assert alone.predict_proba(known).shape == (90, 3)


def test_what_cannot_be_learned_is_refused() -> None:
    known, _, artists = clips(6)
    with pytest.raises(TonearmError, match="two classes"):
        create_baseline(SVM).fit(known, ["jazz"] * 6, artists)
    with pytest.raises(UsageError, match="call fit first"):
        create_baseline(SVM).predict_proba(known)


# --- what they are told of a track


@pytest.fixture(scope="module")
def edition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six synthetic pieces each in the place of two genres, in the shape of Kaggle's edition."""
    root = tmp_path_factory.mktemp("edition")
    for label, style in zip(LABELS[:2], synth.STYLES[:2], strict=True):
        for folder in ("genres_original", "images_original"):
            (root / folder / label).mkdir(parents=True)
        for number in range(6):
            samples = synth.render(style, 1.5, 22050, number)
            synth.write_wav(
                root / "genres_original" / label / f"{label}.{number:05d}.wav", samples, 22050
            )
    return root


def plot(path: Path, values: NDArray[np.uint8]) -> None:
    """Draw levels, uint8[216, 334], as the edition's pictures do, frame and margins included."""
    picture = np.full((HEIGHT, WIDTH, 4), 255, dtype=np.uint8)
    picture[35:253, 54:390, :3] = 51
    picture[36:252, 55:389] = matplotlib.colormaps[COLOUR_MAP](values, bytes=True)
    imsave(path, picture)


def test_mfcc_baselines_are_told_the_mfccs_alone(edition: Path, tmp_path: Path) -> None:
    tracks = load(edition).tracks[:2]
    cache = FeatureCache(tmp_path)
    few, all_ = (FEATURE_SETS[name].read(cache, tracks, 1) for name in ("mfcc", "descriptors"))
    assert np.array_equal(few, all_[:, mfcc_columns()])


def test_a_system_keeps_an_artists_tracks_together(edition: Path, tmp_path: Path) -> None:
    tracks = tuple(replace(track, artist=track.label) for track in load(edition))
    cache = FeatureCache(tmp_path)
    given = Round(tracks, tracks, LABELS[:2], tmp_path, seed=0)
    shares = BaselineSystem("mfcc-logistic", cache).fit_predict(given)

    rows, truth = FEATURE_SETS["mfcc"].read(cache, tracks, 1), [str(t.label) for t in tracks]
    alone = create_baseline("mfcc-logistic").fit(rows, truth, truth)
    np.testing.assert_allclose(shares, alone.predict_proba(rows))


def test_a_system_has_the_seed_of_its_round(edition: Path, tmp_path: Path) -> None:
    tracks = load(edition).tracks
    system = BaselineSystem("mfcc-forest", FeatureCache(tmp_path))
    one, other = (
        system.fit_predict(Round(tracks, tracks, LABELS[:2], tmp_path, seed)) for seed in (1, 2)
    )
    assert not np.array_equal(one, other)


def test_pictures_are_of_the_middle_of_a_recording(tmp_path: Path) -> None:
    middle = synth.render("swing", 30.0, 22050)
    around = np.full(5 * 22050, 0.3, np.float32)
    synth.write_wav(tmp_path / "middle.wav", middle, 22050)
    synth.write_wav(tmp_path / "long.wav", np.concatenate([around, middle, around]), 22050)
    tracks = [Track(name, tmp_path / f"{name}.wav", "jazz") for name in ("middle", "long")]
    expected, got = FEATURE_SETS["picture"].read(FeatureCache(tmp_path / "cache"), tracks, 1)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", list(FEATURE_SETS))
def test_what_is_stored_of_a_baseline_is_known_by_the_version_of_its_features(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = BaselineSystem(f"{name}-svm", FeatureCache(tmp_path))
    plain = system.fingerprint
    assert system.fingerprint == plain
    monkeypatch.setattr("tonearm.datasets.cache.CACHE_VERSION", 99)
    monkeypatch.setattr("tonearm.baselines.feature_sets.PICTURES_VERSION", 99)
    assert system.fingerprint != plain


def test_pictures_of_changed_frames_are_described_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = feature_sets._Picture().folder_name()
    monkeypatch.setattr(feature_sets, "CACHE_VERSION", 99)
    assert feature_sets._Picture().folder_name() != plain


def test_a_picture_is_described_alike_whatever_its_size() -> None:
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 256, (BANDS, COLUMNS)).astype(np.uint8)
    small = describe_picture(cells)
    large = describe_picture(cells.repeat(2, axis=0).repeat(40, axis=1))
    assert small.shape == (NUMBERS,)
    assert np.allclose(small, large, atol=1e-3)
    thumbnail, mean, deviation = np.split(small, [ROWS * COLUMNS, ROWS * COLUMNS + BANDS])
    pairs = cells.reshape(ROWS, 2, COLUMNS).mean(axis=1)
    assert np.allclose(thumbnail.reshape(ROWS, COLUMNS), pairs, atol=1e-3)
    assert np.allclose(mean, cells.mean(axis=1), atol=1e-3)
    assert np.allclose(deviation, cells.std(axis=1), atol=1e-3)
    assert np.isfinite(describe_picture(cells[:5, :1])).all()
    with pytest.raises(UsageError, match=r"got shape \(128, 0\)"):
        describe_picture(np.zeros((128, 0), np.uint8))


def test_colours_are_turned_back_into_levels(tmp_path: Path) -> None:
    values = np.arange(216 * 334).reshape(216, 334) % 256
    plot(tmp_path / "plot.png", values.astype(np.uint8))
    back = read_picture(tmp_path / "plot.png")
    # Eight bits a channel are not enough to tell all of the 256 darkest and brightest apart.
    assert np.abs(back.astype(int) - values).max() <= 1
    # Halfway between two colours lies what is between their levels.
    one, other = matplotlib.colormaps[COLOUR_MAP]([100, 110], bytes=True)[:, :3].astype(int)
    assert 100 < levels(((one + other) // 2).astype(np.uint8)[np.newaxis])[0] < 110


def test_what_is_no_picture_of_the_edition_is_named(tmp_path: Path) -> None:
    imsave(tmp_path / "small.png", np.zeros((10, 20, 3)))
    with pytest.raises(DatasetError, match=r"small\.png: .*432x288 .* got 20x10 of"):
        read_picture(tmp_path / "small.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "small.png").read_bytes()[:40])
    with pytest.raises(DatasetError, match=r"broken\.png: not readable as a picture"):
        read_picture(tmp_path / "broken.png")


def test_pictures_of_audio_tell_styles_apart(edition: Path, tmp_path: Path) -> None:
    tracks = load(edition).tracks
    train, test = (
        tuple(t for i, t in enumerate(tracks) if (i % 3 > 0) == known) for known in (1, 0)
    )
    system = BaselineSystem("picture-svm", FeatureCache(tmp_path))
    shares = system.fit_predict(Round(train, test, LABELS[:2], tmp_path, seed=0))
    assert [LABELS[i] for i in shares.argmax(axis=1)] == [track.label for track in test]


def test_published_pictures_are_learned_from_where_there_are_any(
    edition: Path, tmp_path: Path
) -> None:
    cache = FeatureCache(tmp_path)
    system = BaselineSystem("kaggle-picture-logistic", cache)
    with pytest.raises(TonearmError, match=r"need the published .* found none$"):
        system.fit_predict(
            Round(load(edition).tracks[2:], load(edition).tracks[:2], LABELS[:2], tmp_path, 0)
        )

    rng = np.random.default_rng(0)
    for track in load(edition):
        number = int(track.id[-5:])
        values = rng.integers(0, 60, (216, 334))
        values[:90] += 100 * (track.label == "jazz")
        file = edition / "images_original" / str(track.label) / f"{track.label}{number:05d}.png"
        if number:
            plot(file, values.astype(np.uint8))
    file.write_bytes(b"not a picture")

    def half(known: bool) -> tuple[Track, ...]:
        return tuple(t for t in load(edition) if (int(t.id[-5:]) in (1, 2, 3)) == known)

    shares = system.fit_predict(Round(half(True), half(False), LABELS[:2], tmp_path, seed=0))
    answers = {t.id: row for t, row in zip(half(False), shares, strict=True)}
    assert np.isnan(answers.pop("jazz.00005")).all(), "its picture cannot be read"
    for nameless in ("blues.00000", "jazz.00000"):
        assert 0.2 < answers.pop(nameless)[0] < 0.8, "without a picture, it can only be guessed"
    assert {id_: LABELS[row.argmax()] for id_, row in answers.items()} == {
        id_: id_[:-6] for id_ in answers
    }
