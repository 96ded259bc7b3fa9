"""Published networks in a benchmark: the probe is scikit-learn's, and nothing is asked twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from teachers_stand_in import random_outputs, replace_teachers
from tonearm.benchmark.probes import AUDIOSET, JOINED, PROBES, AudioSetSystem, ProbeSystem
from tonearm.benchmark.systems import LADDER, default_systems, find_system
from tonearm.datasets import Dataset, Track
from tonearm.datasets.cache import FeatureCache
from tonearm.errors import TonearmError
from tonearm.evaluation.crossval import Round
from tonearm.models import audioset
from tonearm.synth import STYLES, render, write_wav
from tonearm.training import musicnn, transfer_set
from tonearm.training.probe import EMBEDDINGS, audioset_head, probe
from tonearm.training.teachers import TeacherOutputs

RATE = 16_000
LABELS = ("blues", "jazz", "metal")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Put a list in the place of the networks: what it says of a piece follows from its level."""
    count: list[int] = []

    def answer(samples: np.ndarray, logmel: np.ndarray) -> TeacherOutputs:
        count.append(len(samples))
        said = random_outputs(np.random.default_rng(len(count)))
        loud = np.abs(samples).max() > 0.25
        said.mn04[:200] += 9 * loud
        said.audioset[list(audioset.GENRES["jazz" if loud else "blues"].values())] += 9
        return said

    replace_teachers(monkeypatch, answer)
    return count


@pytest.fixture
def tracks(tmp_path: Path) -> list[Track]:
    """Quiet pieces that are called blues and loud ones that are called jazz, by turns."""
    made = []
    for number in range(10):
        label = LABELS[number % 2]
        samples = render(STYLES[number % 3], 1.5, RATE, seed=number)
        level = 0.4 if label == "jazz" else 0.1
        path = tmp_path / f"{number}.wav"
        write_wav(path, level * samples / np.abs(samples).max(), RATE)
        made.append(Track(path.stem, path, label))
    return made


def test_the_probe_is_scikit_learns_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([0] * 30 + [2] * 10)  # unbalanced, and none of the second genre
    known, asked = (rng.normal(3, 2, (n, 12)).astype(np.float32) for n in (40, 25))
    known[truth == 2, 0] += 3
    scores = probe(known, truth, asked, 3, regularisation=0.1)
    scaler = StandardScaler().fit(known)
    reference = LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000)
    reference.fit(scaler.transform(known), truth)
    expected = reference.predict_log_proba(scaler.transform(asked))
    assert np.abs(scaler.transform(asked)).max() < 5  # farther out, the probe stops listening
    np.testing.assert_allclose(scores[:, [0, 2]], expected, atol=1e-4)
    assert (scores[:, 1] < -13).all()
    np.testing.assert_allclose(
        scores[:, 1], np.log(1e-6)
    )  # it may still be what others are sure of
    far = np.repeat(asked[:1], 2, axis=0)
    far[:, 1] = [17, 21]  # 7 and 9 standard deviations
    one, other = probe(known, truth, far, 3, regularisation=0.1)
    np.testing.assert_array_equal(one, other)


def test_the_audioset_head_is_its_likeliest_class() -> None:
    logits = np.full((2, audioset.CLASSES), -4.0, np.float32)
    opera = audioset.GENRES["classical"]["Opera"]
    logits[0, opera] = 0.0
    scores = audioset_head(logits, ("classical", "jazz"))
    np.testing.assert_allclose(np.exp(scores[0]), [0.5, 1 / (1 + np.exp(4))], rtol=1e-5)
    assert scores[1, 0] == scores[1, 1]


def test_a_probe_learns_from_the_rest_and_asks_each_network_once(
    tracks: list[Track], asked: list[int], tmp_path: Path
) -> None:
    cache = FeatureCache(tmp_path / "cache")
    train, test = tracks[:6], tracks[6:]
    system = find_system("probe-mn04", tmp_path, cache)
    assert isinstance(system, ProbeSystem)
    shares = system.fit_predict(Round(train, test, LABELS, tmp_path, seed=0))
    assert [LABELS[i] for i in shares.argmax(axis=1)] == [track.label for track in test]
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert len(asked) == 10
    # Another network, and other seeds, hear what is there already.
    other = find_system("probe-fcn", tmp_path, cache)
    assert other.fingerprint != system.fingerprint
    other.fit_predict(Round(train, test, LABELS, tmp_path, seed=0))
    again = system.fit_predict(Round(train, test, LABELS, tmp_path, seed=1))
    np.testing.assert_array_equal(again, shares)
    assert len(asked) == 10
    # The labels of those it is asked about do not matter.
    veiled = [replace(track, label="metal") for track in test]
    np.testing.assert_array_equal(
        system.fit_predict(Round(train, veiled, LABELS, tmp_path, seed=0)), shares
    )


def test_joined_probes_are_the_mean_of_what_they_say(
    tracks: list[Track], asked: list[int], tmp_path: Path
) -> None:
    cache = FeatureCache(tmp_path / "cache")
    given = Round(tracks[:6], tracks[6:], LABELS, tmp_path, seed=0)
    each = [find_system(name, tmp_path, cache).fit_predict(given) for name in PROBES]
    mean = np.exp(np.mean(np.log(each), axis=0))
    np.testing.assert_allclose(
        find_system(JOINED, tmp_path, cache).fit_predict(given),
        mean / mean.sum(axis=1, keepdims=True),
    )


def test_audioset_is_asked_without_learning(
    tracks: list[Track], asked: list[int], tmp_path: Path
) -> None:
    system = find_system("audioset", tmp_path, FeatureCache(tmp_path / "cache"))
    assert isinstance(system, AudioSetSystem)
    shares = system.fit_predict(Round((), tracks, LABELS, tmp_path, seed=0))
    assert [LABELS[i] for i in shares.argmax(axis=1)] == [track.label for track in tracks]
    with pytest.raises(TonearmError, match="not for polka"):
        system.fit_predict(Round((), tracks, ("jazz", "polka"), tmp_path, seed=0))


def test_what_cannot_be_heard_has_no_answer(
    tracks: list[Track], asked: list[int], tmp_path: Path
) -> None:
    cache = FeatureCache(tmp_path / "cache")
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    deaf = [Track("broken", tmp_path / "broken.wav", "jazz"), Track("nowhere", None, "jazz")]
    system = find_system("probe-mn04", tmp_path, cache)
    shares = system.fit_predict(
        Round([*deaf, *tracks[:6]], [*deaf, *tracks[6:]], LABELS, tmp_path, 0)
    )
    assert np.isnan(shares[:2]).all()
    assert np.isfinite(shares[2:]).all()
    assert np.isnan(system.fit_predict(Round(tracks, deaf, LABELS, tmp_path, 0))).all()
    with pytest.raises(TonearmError, match="probe-mn04 needs decodable tracks of two genres"):
        system.fit_predict(Round(deaf, tracks, LABELS, tmp_path, 0))


@pytest.mark.parametrize("name", [*PROBES, JOINED, AUDIOSET])
def test_what_is_stored_of_a_probe_is_known_by_the_segments_and_the_code(
    asked: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    system = find_system(name, tmp_path, FeatureCache(tmp_path / "cache"))
    plain = system.fingerprint
    monkeypatch.setattr(transfer_set, "TRANSFER_VERSION", 99)
    newer = system.fingerprint
    (tmp_path / "probe.py").write_text("# other code\n")
    monkeypatch.setattr("tonearm.training.probe.__file__", str(tmp_path / "probe.py"))
    assert len({plain, newer, system.fingerprint}) == 3


def test_what_is_stored_of_audioset_is_known_by_the_classes_of_the_genres(
    asked: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = find_system(AUDIOSET, tmp_path, FeatureCache(tmp_path / "cache"))
    plain = system.fingerprint
    monkeypatch.setitem(audioset.GENRES, "jazz", {"Jazz": 235})
    assert system.fingerprint != plain


def test_missing_weights_are_told_of_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(musicnn, "_PACKAGE", "no_such_package")
    for name in (*PROBES, JOINED, AUDIOSET):
        with pytest.raises(
            TonearmError, match=r"^the teacher MSD_musicnn is not .*musicnn==0"
        ) as it:
            find_system(name, tmp_path, FeatureCache(tmp_path / "cache"))
        assert "\n" not in str(it.value)


def test_the_ladder_holds_what_can_be_had(
    tracks: list[Track], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(PROBES) == {f"probe-{name}" for name in EMBEDDINGS}
    (tmp_path / "mobilenet.yaml").write_text("name: mobilenet\n")
    at_hand = "tonearm.benchmark.systems.weights_available"
    songs = Dataset("songs", tmp_path, tuple(tracks), LABELS)
    monkeypatch.setattr(at_hand, lambda: False)
    plain = default_systems(tmp_path, songs)
    assert plain == [name for name in LADDER if name in plain]
    assert plain[-2:] == ["picture-svm", "mobilenet"]
    monkeypatch.setattr(at_hand, lambda: True)
    seen = replace(songs, tracks=(replace(tracks[0], picture=tmp_path / "a.png"), *tracks[1:]))
    assert default_systems(tmp_path, seen)[-8:] == [
        *("picture-svm", "kaggle-picture-svm", "audioset", *PROBES, JOINED, "mobilenet")
    ]
    assert AUDIOSET not in default_systems(tmp_path, replace(seen, labels=("polka",)))
