"""Benchmarks keep the copies that they make in their own folder, however a dataset is laid out."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from pieces import write_pieces
from tonearm.datasets import load
from tonearm.datasets.track import Track

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
