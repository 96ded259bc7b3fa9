"""Benchmarks: their copies of recordings, and the networks that only they run."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from pieces import write_pieces
from tonearm import audio
from tonearm.datasets import load
from tonearm.datasets.track import Track
from tonearm.evaluation.crossval import Round
from tonearm.features.logmel import LogMel
from tonearm.training import fcn, musicnn
from tonearm.training.teachers import TEACHER_RATE, patches

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the benchmarks be imported."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture(params=["folder", "manifest"])
def tracks(request: pytest.FixtureRequest, tmp_path: Path) -> list[Track]:
    """Two tracks, called `low/0` and `high/0` in one layout, by their whole paths in the other."""
    music = write_pieces(tmp_path / "music", ("low", "high"), 1, seconds=4.0)
    if request.param == "folder":
        return list(load(music).tracks)
    paths = [music / label / "0.wav" for label in ("low", "high")]
    table = tmp_path / "table.csv"
    table.write_text("path,label\n" + "".join(f"{path},{path.parent.name}\n" for path in paths))
    return list(load(table).tracks)


def test_copies_like_gtzans(tracks: list[Track], tmp_path: Path) -> None:
    elsewhere = importlib.import_module("elsewhere")
    copies = [elsewhere.gtzan_like_copy(track, tmp_path / "copies") for track in tracks]
    assert sorted(copy.path for copy in copies) == sorted((tmp_path / "copies").iterdir())
    assert [copy.id for copy in copies] == [track.id for track in tracks]
    assert len({copy.path for copy in copies}) == 2


def test_excerpts_of_each_length(tracks: list[Track], tmp_path: Path) -> None:
    excerpts = importlib.import_module("excerpts")
    three_seconds = next(one for one in excerpts.EXCERPTS if one.seconds == 3)
    copies = list(excerpts.shortened(three_seconds, tracks, tmp_path / "work"))
    folder = tmp_path / "work" / three_seconds.name
    assert sorted(copy.path for copy in copies) == sorted(folder.iterdir())
    assert [copy.id for copy in copies] == [track.id for track in tracks]


def test_clips_are_only_encoded_into_files_that_are_meant_for_the_codec(
    tracks: list[Track], monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path
) -> None:
    robustness = importlib.import_module("robustness")
    foldwise = importlib.import_module("foldwise")
    opus = next(one for one in robustness.CONDITIONS if one.codec == "libopus")
    monkeypatch.setattr(robustness, "CONDITIONS", (opus,))
    heard = robustness._clip_classifier(0, [tiny_bundle])(foldwise.Clip(tracks[0], 0))
    assert heard.genre == "low"
    with pytest.raises(ValueError, match="'aac': has no suffix"):
        robustness.Condition("AAC", codec="aac")


def test_the_late_ensemble_learns_and_leaves_out_what_cannot_be_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late_ensemble = importlib.import_module("late_ensemble")

    class Loudness:
        """Stands in for the five networks, which are not at hand everywhere."""

        def __call__(self, path: Path) -> dict[str, np.ndarray]:
            spectrum = np.abs(np.fft.rfft(audio.read(path, 8000).samples[:8000]))[:4000]
            bands = np.log(spectrum.reshape(8, 500).mean(axis=1)).astype(np.float32)
            return dict.fromkeys(late_ensemble.ENCODERS, bands)

    monkeypatch.setattr(late_ensemble, "Encoders", Loudness)
    music = write_pieces(tmp_path / "music", ("low", "high"), 5, seconds=1.0)
    *known, first, second = sorted(load(music).tracks, key=lambda track: track.id.split("/")[1])
    broken = Track("broken", tmp_path / "broken.wav", "low")
    broken.path.write_bytes(b"RIFF")
    ensemble = late_ensemble.LateEnsemble(tmp_path, workers=1)
    given = Round(known, [first, broken, second], ("high", "low"), tmp_path / "run", 0)
    found = ensemble.fit_predict(given)
    assert np.isnan(found).all(axis=1).tolist() == [False, True, False]
    heard = [("high", "low")[row.argmax()] for row in found[[0, 2]]]
    assert heard == [first.label, second.label]
    np.testing.assert_allclose(found[[0, 2]].sum(axis=1), 1.0)


@pytest.fixture
def song(shared: Path) -> np.ndarray:
    """Thirty seconds of a real recording, for the taggers."""
    return audio.read(min((shared / "data/gtzan/audio/blues").iterdir()), TEACHER_RATE).samples


@pytest.mark.shared
def test_the_crnn_hears_what_the_reference_hears(
    shared: Path, reference: ModuleType, song: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TONEARM_PRETRAINED", str(shared / "data" / "pretrained"))
    network = importlib.import_module("taggers").load_crnn()
    frames = LogMel(fcn.FRONT_END)(song)
    with torch.inference_mode():
        ours = network(torch.from_numpy(frames)[None])
        _, expected = reference.load_won("crnn", "msd")(torch.from_numpy(song)[None])
    np.testing.assert_allclose(ours, expected, atol=1e-3)


@pytest.mark.shared
@pytest.mark.skipif(
    importlib.util.find_spec("musicnn") is None, reason="musicnn is not installed (--no-deps)"
)
def test_the_vgg_hears_what_the_reference_hears(reference: ModuleType, song: np.ndarray) -> None:
    network = importlib.import_module("taggers").load_vgg()
    ours_in = torch.from_numpy(patches(LogMel(musicnn.FRONT_END)(song)))
    published = reference.load_musicnn("MSD_vgg", str(musicnn.find_musicnn().parent))
    with torch.inference_mode():
        ours = network(ours_in)
        expected = published(published.patches(torch.from_numpy(song)[None]))["pool5"]
    assert ours.shape == (10, 256)
    np.testing.assert_allclose(ours, expected, atol=1e-3)
