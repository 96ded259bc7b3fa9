from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

from bundles import FRONT_END, tiny_metadata, tone, write_bundle
from stores import MODEL, at, open_store, track
from tonearm.bundle import Bundle
from tonearm.errors import TonearmError, UsageError
from tonearm.library import similar as similar_module
from tonearm.library.analysis import Analyser, Task, model_of
from tonearm.library.entry import Entry, Model
from tonearm.library.excerpt import Excerpt
from tonearm.library.similar import similar
from tonearm.library.similarity import best_first, cosine_similarity, unit_vectors
from tonearm.library.store import Store

RATE = FRONT_END.sample_rate
Run = Callable[..., tuple[int, str, str]]


def placed(path: str, *embedding: float, **changes: object) -> Entry:
    return track(at(path), embedding=np.array(embedding, np.float32), **changes)


def unused_analyser(*_: object) -> None:
    raise AssertionError("something was analysed")


@pytest.fixture
def tones(tmp_path: Path, write_audio: Callable[..., Path]) -> Path:
    """A folder of tones, of which each is most like the next."""
    folder = tmp_path / "music"
    folder.mkdir()
    for hertz in (200, 250, 3000, 5000):
        write_audio(folder / f"{hertz}.flac", tone(hertz, 2), RATE)
    return folder


@pytest.fixture
def store(tmp_path: Path, tones: Path, tiny_bundle: Path) -> Store:
    """What a scan of the tones writes."""
    store = Store(tmp_path / "library.db", create=True)
    add_analysed(store, tiny_bundle, Excerpt(), *sorted(tones.iterdir()))
    return store


def add_analysed(store: Store, bundle: Path, excerpt: Excerpt, *files: Path) -> Model:
    """Add files to a store as a scan of this excerpt does, and return its model."""
    model = model_of(Bundle.load(bundle), excerpt)
    store.add_model(model)
    analyser = Analyser(bundle, model, excerpt, None)
    store.save(analyser(Task.of(str(file))).entry for file in files)
    return model


def test_the_embeddings_are_not_in_memory_at_once(tmp_path: Path) -> None:
    count, width = 5000, 400
    directions = np.random.default_rng(0).normal(size=(count, width))
    entries = (placed(f"/m/{number:04}", *row) for number, row in enumerate(directions))
    with open_store(tmp_path / "l.db", entries) as store:
        tracemalloc.start()
        try:
            assert similar(store, "/m/0000").neighbours
            assert tracemalloc.get_traced_memory()[1] < count * width * 4 / 2
        finally:
            tracemalloc.stop()


def test_the_most_alike_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar_module, "Analyser", unused_analyser)
    entries = [
        placed("/m/gone", 1, 0, audio="a"),
        placed("/m/copy", 1, 0, audio="a"),
        placed("/m/near", 3, 1, audio="b"),
        placed("/m/near again", 3, 1, audio="b"),
        placed("/m/far", 0, 1),
        placed("/m/opposite", -1, 0),
        placed("/m/noise", 1, 0.1, verdict="not music"),
        placed("/m/missing", 1, 0, missing=True),
    ]
    with open_store(tmp_path / "l.db", entries) as store:
        found = similar(store, "/m/gone")
        assert found.is_known
        assert [(n.entry.path, round(n.similarity, 2)) for n in found.neighbours] == [
            (at("/m/near"), 0.95),
            (at("/m/far"), 0.0),
            (at("/m/opposite"), -1.0),
        ]
        assert len(similar(store, "/m/gone", top=1).neighbours) == 1
        (single,) = similar(store, "/m/gone", under=["/m/far"]).neighbours
        assert single.entry.path == at("/m/far")
        with pytest.raises(UsageError, match="top"):
            similar(store, "/m/gone", top=0)


def test_a_known_file_is_not_decoded(
    store: Store, tones: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(similar_module, "Analyser", unused_analyser)
    found = similar(store, tones / "200.flac")
    assert [Path(n.entry.path).stem for n in found.neighbours] == ["250", "3000", "5000"]


def test_an_unknown_file_is_analysed(
    store: Store, tmp_path: Path, tiny_bundle: Path, write_audio: Callable[..., Path]
) -> None:
    other = write_audio(tmp_path / "other.wav", tone(4900, 2), RATE)
    found = similar(store, other, top=1, model=tiny_bundle)
    assert (found.is_known, found.query.genre) == (False, "high")
    assert Path(found.neighbours[0].entry.path).stem == "5000"
    assert store.entry(other) is None  # asking writes nothing


def test_known_audio_under_another_name_is_recognised(
    store: Store, tones: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    copy = (tones / "200.flac").rename(tmp_path / "copy.flac")
    found = similar(store, copy, model=tiny_bundle)
    assert found.is_known
    assert Path(found.neighbours[0].entry.path).stem == "250"  # not the copy's own sound


def test_a_file_that_has_changed_is_analysed_again(
    store: Store, tones: Path, tiny_bundle: Path, write_audio: Callable[..., Path]
) -> None:
    write_audio(tones / "200.flac", tone(4900, 3), RATE)
    found = similar(store, tones / "200.flac", model=tiny_bundle)
    assert (found.is_known, found.query.genre) == (False, "high")
    assert "200" not in [Path(n.entry.path).stem for n in found.neighbours]


def test_another_model_is_refused(
    store: Store, tones: Path, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    other = write_audio(tmp_path / "other.wav", tone(4900, 2), RATE)
    other_model = write_bundle(tmp_path / "other.onnx", tiny_metadata(name="other"))
    with pytest.raises(TonearmError, match=r"scanned by tiny/30/\w+, .* of other") as error:
        similar(store, other, model=other_model)
    assert "\n" not in str(error.value)
    assert similar(store, tones / "200.flac", model=other_model).neighbours  # nothing is analysed


def test_a_store_without_files_is_reported(tmp_path: Path, tones: Path, tiny_bundle: Path) -> None:
    with (
        open_store(tmp_path / "l.db", [track("/m/a", missing=True)]) as store,
        pytest.raises(TonearmError, match=r"l\.db knows no file$"),
    ):
        similar(store, tones / "200.flac", model=tiny_bundle)


def test_what_cannot_be_analysed_is_one_line(
    store: Store, tmp_path: Path, tiny_bundle: Path
) -> None:
    (tmp_path / "text.mp3").write_text("no music")
    with pytest.raises(TonearmError, match=r"text\.mp3: is not a media file"):
        similar(store, tmp_path / "text.mp3", model=tiny_bundle)
    with pytest.raises(TonearmError, match=r"none\.mp3: "):
        similar(store, tmp_path / "none.mp3", model=tiny_bundle)


def test_similarity_is_the_cosine() -> None:
    vectors = np.array([[2, 0], [1, 1], [0, 0]], np.float32)
    assert cosine_similarity(vectors, vectors[1]) == pytest.approx([0.5**0.5, 1, 0])
    assert np.linalg.norm(unit_vectors(vectors), axis=1) == pytest.approx([1, 1, 0])


def test_best_first_sorts_all_in_the_end() -> None:
    values = np.random.default_rng(0).normal(size=500).astype(np.float32)
    assert list(best_first(values)) == np.argsort(-values).tolist()
    for count in (0, 1, 50, 99, 100, 101):
        assert list(best_first(values[:count])) == np.argsort(-values[:count]).tolist()


def test_best_first_yields_each_once_though_many_are_equal() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=50).astype(np.float32), 5)
    found = list(best_first(values))
    assert sorted(found) == list(range(250))
    assert values[found].tolist() == sorted(values, reverse=True)


def test_two_thousand_tracks_answer_at_once(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(2000, 576)).astype(np.float32)
    entries = [track(at(f"/m/{i}"), embedding=vector) for i, vector in enumerate(vectors)]
    with open_store(tmp_path / "l.db", entries) as store:
        began = time.process_time()
        assert len(similar(store, "/m/7", top=100).neighbours) == 100
        assert time.process_time() - began < 1


def test_the_command(store: Store, tones: Path, tmp_path: Path, program: Run) -> None:
    named = ("similar", tones / "200.flac", "--store", store.path)
    code, output, _ = program(*named, "--top", 2)
    assert code == 0
    assert [line.split()[1] for line in output.splitlines()] == ["low", "high"]
    target = tmp_path / "like it.m3u8"
    _, output, _ = program(*named, "--json", "--playlist", target)
    records = [json.loads(line) for line in output.splitlines()]
    assert [Path(record["path"]).stem for record in records] == ["250", "3000", "5000"]
    assert [line for line in target.read_text().splitlines() if line[0] != "#"] == [
        str(Path("music") / f"{hertz}.flac") for hertz in (200, 250, 3000, 5000)
    ]


def test_files_of_another_excerpt_are_told_to_be_left_out(
    store: Store, tones: Path, tiny_bundle: Path, program: Run
) -> None:
    add_analysed(store, tiny_bundle, Excerpt(None), tones / "250.flac")
    _, output, errors = program("similar", tones / "200.flac", "--store", store.path)
    assert len(output.splitlines()) == 2
    assert errors == (
        "tonearm: warning: not searched, since another model or excerpt analysed them: "
        "1 of the files (scan them again)\n"
    )


def test_genres_in_wide_characters_are_aligned(tmp_path: Path, program: Run) -> None:
    model = replace(MODEL, labels=("歌謡曲", "jazz"))
    pop = replace(track(at("/m/c")), genre="歌謡曲", probabilities={"歌謡曲": 1.0})
    songs = [track(at("/m/a")), track(at("/m/b")), pop]
    open_store(tmp_path / "l.db", songs, model).close()
    _, output, _ = program("similar", "/m/a", "--store", tmp_path / "l.db")
    jazz, wide = (line.partition(at("/m"))[0] for line in output.splitlines())
    assert ("jazz" in jazz, "歌謡曲" in wide) == (True, True)
    assert cell_len(jazz) == cell_len(wide)


@pytest.mark.usefixtures("on_another_drive")
def test_a_track_on_another_drive_is_shown_by_its_whole_path(tmp_path: Path, program: Run) -> None:
    open_store(tmp_path / "l.db", [track(at("/m/a")), track(at("/m/b"))]).close()
    target = tmp_path / "list.m3u8"
    options = ("--store", tmp_path / "l.db", "--playlist", target)
    code, output, _ = program("similar", "/m/a", *options)
    assert (code, output.split()[2]) == (0, at("/m/b"))
    assert target.read_text().splitlines()[-1] == at("/m/b")


def test_a_playlist_takes_the_place_of_no_recording(
    store: Store, tones: Path, program: Run
) -> None:
    song = tones / "200.flac"
    before = song.read_bytes()
    for target, what in ((song, "a recording"), (store.path, "the store itself")):
        code, _, errors = program("similar", song, "--store", store.path, "--playlist", target)
        assert (code, f"is {what}, and would be written over" in errors) == (2, True)
    assert song.read_bytes() == before
    assert len(store) > 0


def test_a_playlist_of_another_format_is_refused(
    store: Store, tones: Path, tmp_path: Path, program: Run
) -> None:
    named = ("similar", tones / "200.flac", "--store", store.path, "--playlist")
    assert program(*named, tmp_path / "list.pls") == (
        2,
        "",
        f"tonearm: {tmp_path / 'list.pls'}: expected a playlist's suffix, .m3u8 or .m3u\n",
    )
    assert not (tmp_path / "list.pls").exists()
    # Before a recording is looked for, and analysed.
    absent = ("similar", tmp_path / "absent.mp3", "--store", store.path, "--playlist", "list.pls")
    assert "expected a playlist's suffix" in program(*absent)[2]
    assert program(*named, tmp_path / "list.M3U")[0] == 0
    assert (tmp_path / "list.M3U").read_text().startswith("#EXTM3U\n")


def test_a_folder_that_the_store_does_not_know_is_reported(tmp_path: Path, program: Run) -> None:
    open_store(tmp_path / "l.db", [track(at("/m/a")), track(at("/m/b"))]).close()
    named = ("similar", "/m/a", "--store", tmp_path / "l.db", "--under", "/Wildd")
    complaint = f"tonearm: {tmp_path / 'l.db'} knows no file in /Wildd\n"
    assert program(*named) == (1, "", complaint)
    assert program(*named, "--under", "/m")[::2] == (0, complaint)


def test_a_damaged_store_is_one_line(tmp_path: Path, program: Run) -> None:
    with open_store(tmp_path / "l.db", [track(at(f"/m/{name}")) for name in "abc"]) as store:
        store._database.execute("UPDATE files SET tagged = 'null' WHERE title IS NULL")
    fault = f"damaged: wrong values for {at('/m/a')} (scan into a new store)"
    complaint = f"tonearm: {tmp_path / 'l.db'}: {fault}"
    assert program("similar", "/m/a", "--store", tmp_path / "l.db") == (1, "", f"{complaint}\n")


def test_a_library_of_one_has_nothing_similar(tmp_path: Path, program: Run) -> None:
    open_store(tmp_path / "l.db", [track(at("/m/a"))]).close()
    complaint = "tonearm: there is no other track\n"
    assert program("similar", "/m/a", "--store", tmp_path / "l.db") == (1, "", complaint)


def test_an_unknown_file_is_analysed_as_far_as_the_scan_was(
    tones: Path, tmp_path: Path, tiny_bundle: Path, write_audio: Callable[..., Path]
) -> None:
    other = write_audio(tmp_path / "other.wav", tone(4900, 2), RATE)
    with Store(tmp_path / "whole.db", create=True) as store:
        model = add_analysed(store, tiny_bundle, Excerpt(None), tones / "5000.flac")
        found = similar(store, other, model=tiny_bundle)
        assert found.query.model == model.key


def test_a_file_of_the_same_size_that_has_changed_is_analysed_again(
    tmp_path: Path, tiny_bundle: Path, write_audio: Callable[..., Path]
) -> None:
    path = write_audio(tmp_path / "a.wav", tone(200, 2), RATE)
    with Store(tmp_path / "l.db", create=True) as store:
        add_analysed(store, tiny_bundle, Excerpt(), path)
        size = path.stat().st_size
        write_audio(path, tone(4900, 2), RATE)
        assert path.stat().st_size == size
        assert similar(store, path, model=tiny_bundle).query.genre == "high"
