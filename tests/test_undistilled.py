"""The default model without its training: published networks, and heads fitted to clips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from teachers_stand_in import random_outputs, replace_teachers
from tonearm import audio
from tonearm.benchmark.systems import default_systems, find_system
from tonearm.bundle import Bundle
from tonearm.datasets import Dataset, DatasetError, Track
from tonearm.datasets.cache import FeatureCache
from tonearm.errors import TonearmError
from tonearm.evaluation.crossval import Round
from tonearm.evaluation.training_overlap import overlap_warning
from tonearm.features.logmel import FRONT_ENDS, LogMel
from tonearm.models.mobilenet import AudioSetMobileNet
from tonearm.models.student import Student
from tonearm.synth import STYLES, render, write_wav
from tonearm.training import fcn, musicnn
from tonearm.training.ensemble import Ensemble, TagHead
from tonearm.training.fcn import Fcn
from tonearm.training.probe import audioset_head, probe
from tonearm.training.recipe import EnsembleSettings

RATE = 32_000
LABELS = ("blues", "jazz", "metal")
RECIPE = """\
student: {audioset_weight: 2.0, temperature: 0.5}
ensemble: {student: 0.5, fcn: 1.0, fcn_embedding: 0.75, fcn_tags: 0.25}
"""


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "default.yaml").write_text(RECIPE)
    return folder


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> tuple[AudioSetMobileNet, Fcn]:
    """Put untrained networks in the places of mn04 and the FCN, with numbers of a usual size."""
    torch.manual_seed(0)
    tagger, network = AudioSetMobileNet(), Fcn()
    for untrained, bands in ((tagger, 128), (network, 96)):
        for module in untrained.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        with torch.no_grad():
            untrained(torch.randn(4, 480, bands))
        untrained.eval()
    with torch.no_grad():
        tagger.classifier[-1].weight *= 30.0
    monkeypatch.setattr("tonearm.models.mobilenet.load_pretrained", lambda: tagger)
    monkeypatch.setattr(fcn, "load_fcn", lambda: network)
    replace_teachers(monkeypatch, lambda *_: random_outputs(np.random.default_rng(0)))
    return tagger, network


@pytest.fixture
def tracks(tmp_path: Path) -> list[Track]:
    """Pieces of two styles by turns, called blues and jazz."""
    made = []
    for number in range(10):
        path = tmp_path / f"{number}.wav"
        write_wav(path, render(STYLES[number % 2], 1.5, RATE, seed=number), RATE)
        made.append(Track(path.stem, path, LABELS[number % 2]))
    return made


def test_it_is_the_weighted_mean_of_what_the_published_networks_say(
    configs: Path,
    published: tuple[AudioSetMobileNet, Fcn],
    tracks: list[Track],
    tmp_path: Path,
) -> None:
    tagger, network = published
    system = find_system("undistilled", configs, FeatureCache(tmp_path / "cache"))
    given = Round(tracks[:6], tracks[6:], LABELS, tmp_path / "run", seed=0)
    shares = system.fit_predict(given)

    first, second = (
        [
            torch.from_numpy(LogMel(front_end)(audio.read(track.path, RATE).samples))[None]
            for track in tracks  # one window each
        ]
        for front_end in (FRONT_ENDS["efficientat"], FRONT_ENDS["htk32k"])
    )
    student = Student(3, labels=LABELS, pretrained=False)  # takes no part
    reader = Ensemble(student, network, EnsembleSettings(), LABELS).eval()
    with torch.inference_mode():
        logits, means = (torch.cat(each).numpy() for each in zip(*map(tagger, first), strict=True))
        features = torch.cat([reader.fcn_features(window) for window in second])
        tags = TagHead(LABELS)(network.dense(features[6:, :64])).numpy()
    truth = np.array([0, 1] * 3)
    known, asked = features[:6].numpy(), features[6:].numpy()
    mean = 0.5 * probe(means[:6], truth, means[6:], 3, regularisation=0.01)
    mean += 0.5 * 2.0 * audioset_head(logits[6:], LABELS)
    mean += probe(known, truth, asked, 3, regularisation=0.003)
    mean += 0.75 * probe(known[:, :64], truth, asked[:, :64], 3, regularisation=0.01)
    mean += 0.25 * tags
    expected = np.exp(mean[:, :2] / 2.5 / 0.5)  # of genres that have clips
    np.testing.assert_allclose(
        np.log(shares[:, 0] / shares[:, 1]), np.log(expected[:, 0] / expected[:, 1]), atol=0.02
    )


def test_its_model_is_kept_like_those_of_other_systems(
    configs: Path,
    published: tuple[AudioSetMobileNet, Fcn],
    tracks: list[Track],
    tmp_path: Path,
) -> None:
    system = find_system("undistilled", configs, FeatureCache(tmp_path / "cache"))
    system.fit_predict(Round(tracks[:6], tracks[6:], LABELS, tmp_path / "run", seed=0))
    kept = Bundle.load(tmp_path / "run" / "model.onnx")
    model = kept.metadata
    assert (model.name, model.labels, model.temperature) == ("undistilled", LABELS, 0.5)
    assert model.training == {"model": "undistilled", "tracks": 6}
    assert "EfficientAT" in model.attribution
    assert "Minz Won" in model.attribution
    assert overlap_warning(kept, tracks[6:]) is None
    renamed = [replace(track, id=f"other-{track.id}") for track in tracks[5:]]
    assert "learned from 1 of these 5 tracks" in str(overlap_warning(kept, renamed))


def test_each_network_hears_a_track_once_for_all_folds(
    configs: Path,
    published: tuple[AudioSetMobileNet, Fcn],
    tracks: list[Track],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system = find_system("undistilled", configs, FeatureCache(tmp_path / "cache"))
    read = []
    fcn_features = Ensemble.mean_fcn_features
    monkeypatch.setattr(
        Ensemble,
        "mean_fcn_features",
        lambda self, windows: read.append(1) or fcn_features(self, windows),
    )
    for train, test in ((tracks[:6], tracks[6:]), (tracks[2:], tracks[:2])):
        system.fit_predict(Round(train, test, LABELS, tmp_path / "run", seed=0))
    assert len(read) == 10


def test_what_cannot_be_decoded_has_no_answer(
    configs: Path,
    published: tuple[AudioSetMobileNet, Fcn],
    tracks: list[Track],
    tmp_path: Path,
) -> None:
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    broken = Track("broken", tmp_path / "broken.wav", "jazz")
    system = find_system("undistilled", configs, FeatureCache(tmp_path / "cache"))
    run = tmp_path / "run"
    shares = system.fit_predict(Round([broken, *tracks[:6]], [broken, tracks[6]], LABELS, run, 0))
    assert np.isnan(shares[0]).all()
    np.testing.assert_allclose(shares[1].sum(), 1)
    with pytest.raises(DatasetError, match="genre"):
        system.fit_predict(Round([broken, *tracks[:6:2]], tracks[6:], LABELS, run, 0))


def test_its_results_are_known_by_the_recipe(
    configs: Path, published: tuple[AudioSetMobileNet, Fcn], tmp_path: Path
) -> None:
    cache = FeatureCache(tmp_path / "cache")
    plain = find_system("undistilled", configs, cache).fingerprint
    assert find_system("undistilled", configs, cache).fingerprint == plain
    (configs / "default.yaml").write_text(RECIPE.replace("fcn: 1.0", "fcn: 1.5"))
    assert find_system("undistilled", configs, cache).fingerprint != plain


def test_missing_weights_are_told_of_before_anything_is_trained(
    configs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(musicnn, "_PACKAGE", "no_such_package")
    with pytest.raises(TonearmError, match=r"^the teacher MSD_musicnn is not "):
        find_system("undistilled", configs, FeatureCache(tmp_path / "cache"))


def test_it_stands_in_the_ladder_before_the_default(
    configs: Path, tracks: list[Track], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tonearm.benchmark.systems.weights_available", lambda: True)
    songs = Dataset("songs", tmp_path, tuple(tracks), LABELS)
    assert default_systems(configs, songs)[-2:] == ["undistilled", "default"]
    (configs / "default.yaml").unlink()
    assert "undistilled" not in default_systems(configs, songs)
    with pytest.raises(TonearmError, match=r"default\.yaml"):
        find_system("undistilled", configs, FeatureCache(tmp_path / "cache"))
