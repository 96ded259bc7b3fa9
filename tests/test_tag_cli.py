from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from bundles import FRONT_END, tone
from host import needs_links
from tonearm.audio import ReadFailed
from tonearm.cli.tag import _way_back
from tonearm.library import tagging
from tonearm.library.journal import Journal
from tonearm.library.tags import read_genres, write_genres

RATE = FRONT_END.sample_rate
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def music(tmp_path: Path, write_audio: Callable[..., Path]) -> Path:
    """A folder: two recordings without a genre, one with, and a broken one."""
    folder = tmp_path / "music"
    folder.mkdir()
    write_audio(folder / "high.flac", tone(5000, 2), RATE)
    write_audio(folder / "low.flac", tone(200, 2), RATE)
    write_genres(write_audio(folder / "tagged.mp3", tone(200, 1), 44100), ["Soul"])
    (folder / "broken.mp3").write_text("no music")
    return folder


@pytest.fixture
def run(
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: Run,
) -> Run:
    """`run("tag", ...) -> (exit code, output, errors)`, with the tiny model as "tiny"."""
    monkeypatch.setenv("TONEARM_MODELS", str(tiny_bundle.parent))
    monkeypatch.setenv("TONEARM_STATE", str(tmp_path / "state"))
    return program


@pytest.fixture
def scan(run: Run, tmp_path: Path) -> Callable[[Path], Path]:
    """`scan(folder) -> store` of what is in it, by the tiny model."""

    def scan(folder: Path) -> Path:
        store = tmp_path / "library.db"
        options = ("--model", "tiny", "--store", store, "--workers", 1)
        assert run("scan", folder, *options)[0] == 0
        return store

    return scan


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_plan_write_and_undo(run: Run, music: Path, tmp_path: Path) -> None:
    before = contents(music)
    code, output, errors = run("tag", "--model", "tiny", "--dry-run", music)
    assert (code, errors) == (0, "")
    broken, high, low, tagged, summary = output.splitlines()
    assert "fail" in broken
    assert high.split()[1:] == ["→", "high", high.split()[3], "write", "had", "none"]
    assert low.split()[2] == "low"
    assert tagged.split()[1:] == ["Soul", "keep", "has", "a", "genre"]
    assert summary == "would be: 2 written, 1 kept, 1 failed"
    assert contents(music) == before
    assert not (tmp_path / "state").exists()

    code, written, errors = run("tag", "--model", "tiny", music)
    assert (code, errors) == (0, "")
    assert written.splitlines()[:4] == output.splitlines()[:4]
    assert written.splitlines()[4] == summary.removeprefix("would be: ")
    [journal] = (tmp_path / "state" / "journals").iterdir()
    quoted = f'"{journal}"' if os.name == "nt" else journal
    assert written.splitlines()[5] == f"undo: tonearm tag --undo {quoted}"
    assert read_genres(music / "high.flac") == ("high",)

    code, output, _ = run("tag", "--model", "tiny", music)
    assert (code, output.splitlines()[-1]) == (0, "3 kept, 1 failed")

    code, output, _ = run("tag", "--undo", "--dry-run")
    assert (code, output.splitlines()[-1]) == (0, "would be: 2 restored")
    assert contents(music) != before
    code, output, _ = run("tag", "--undo")
    assert (code, output.splitlines()[-1]) == (0, "2 restored")
    assert output.splitlines()[0] == f"journal: {journal}"
    # Whole, since this is no terminal: files of one name in several folders are told apart.
    restored = {line.split()[0] for line in output.splitlines()[1:-1]}
    assert restored == {str(music / "high.flac"), str(music / "low.flac")}
    assert contents(music) == before
    code, output, errors = run("tag", "--undo")
    assert (code, output) == (1, "")
    assert "nothing to undo: every journal in" in errors
    code, output, _ = run("tag", "--undo", journal)
    assert (code, output.splitlines()[-1]) == (0, "2 kept")
    (music / "low.flac").unlink()
    code, output, _ = run("tag", "--undo", journal)
    assert (code, output.splitlines()[-1]) == (1, "1 kept, 1 failed")


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_is_answered_while_the_tags_are_read(
    run: Run, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def interrupted(path: str) -> tuple[str, ...]:
        read.append(path)
        signal.raise_signal(signal.SIGINT)
        return ()

    monkeypatch.setattr(tagging, "read_genres", interrupted)
    assert run("tag", "--model", "tiny", music)[0] == 130
    assert len(read) == 1


def test_names_in_wide_characters_are_whole_and_aligned(run: Run, music: Path) -> None:
    wide = (music / "low.flac").rename(music / "東京スカパラダイスオーケストラ.flac")
    _, output, _ = run("tag", "--model", "tiny", "--dry-run", music)
    high, low = (line for line in output.splitlines() if "→" in line)
    assert low.split()[0] == str(wide)
    assert cell_len(low.partition("→")[0]) == cell_len(high.partition("→")[0])


def test_long_genres_are_whole_unless_in_a_terminal(
    run: Run, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genres = ["Psychedelic Rock", "Progressive Rock"]
    write_genres(music / "tagged.mp3", genres)
    arguments = ("tag", "--model", "tiny", "--dry-run", music / "tagged.mp3")
    assert "  Psychedelic Rock; Progressive Rock  " in run(*arguments)[1]
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    monkeypatch.setenv("TERM", "dumb")
    (row, *_) = run(*arguments)[1].splitlines()
    assert re.search(r"tagged\.mp3  (….{15}|.{15}…)  ", row)


def test_stored_predictions_replace_classification(
    run: Run, music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, lines, _ = run("classify", "--json", "--model", "tiny", music)
    found = tmp_path / "found.jsonl"
    found.write_text(lines)
    options = ("tag", "--json", "--policy", "append", "--from")

    code, output, _ = run(*options, found, "--dry-run")
    planned = [json.loads(line) for line in output.splitlines()]
    assert code == 0
    assert [change["action"] for change in planned] == ["fail", "write", "write", "write"]
    assert planned[3]["new"] == ["Soul", "low"]
    assert list(planned[0]) == [
        "path", "old", "new", "label", "confidence", "action", "reason",
    ]  # fmt: skip

    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    code, output, _ = run(*options, "-", "--dry-run", music / "low.flac")
    assert [json.loads(line)["new"] for line in output.splitlines()] == [["low"]]

    journal = tmp_path / "own" / "notes.jsonl"
    assert run(*options, found, "--journal", journal)[1].splitlines() == [
        json.dumps(change) for change in planned
    ]
    assert read_genres(music / "tagged.mp3") == ("Soul", "low")
    code, output, _ = run("tag", "--undo", "--json", journal)
    assert {json.loads(line)["action"] for line in output.splitlines()} == {"restore"}
    assert read_genres(music / "tagged.mp3") == ("Soul",)


def test_what_is_not_what_was_scanned_keeps_its_tags(
    run: Run,
    music: Path,
    scan: Callable[[Path], Path],
    write_audio: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = scan(music)
    write_genres(music / "low.flac", ["Drone"])  # the same sound in a file of another size
    write_audio(music / "high.flac", tone(200, 2), RATE)  # another sound
    options = ("tag", "--store", store, "--policy", "append", "--json", "--dry-run")
    _, output, _ = run(*options)
    done = {Path(change["path"]).name: change for change in map(json.loads, output.splitlines())}
    assert done["low.flac"]["new"] == ["Drone", "low"]
    assert done["high.flac"]["action"] == "fail"
    assert done["high.flac"]["reason"] == "not what was scanned: scan it again"

    def lost(path: str) -> None:
        raise ReadFailed(path, "input/output error")

    monkeypatch.setattr("tonearm.library.suggestions.identify", lost)
    _, output, _ = run(*options)
    done = {Path(change["path"]).name: change for change in map(json.loads, output.splitlines())}
    assert done["high.flac"]["reason"] == done["low.flac"]["reason"] == "input/output error"


@pytest.mark.parametrize("named", ["store", pytest.param("link", marks=needs_links)])
def test_a_scan_notices_tags_whose_file_keeps_its_time(
    run: Run, music: Path, scan: Callable[[Path], Path], tmp_path: Path, named: str
) -> None:
    link = tmp_path / "link"
    if named == "link":
        link.symlink_to(music, target_is_directory=True)
    song, store = music / "tagged.mp3", scan(music)
    before = song.stat()
    paths = [link] if named == "link" else []
    run("tag", *paths, "--store", store, "--policy", "replace", "--keep-mtime")
    after = song.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    scan(music)
    rows = map(json.loads, run("export", store, "--format", "jsonl")[1].splitlines())
    assert {Path(row["path"]).name: row["tagged"] for row in rows} == {
        "broken.mp3": [],
        "high.flac": ["high"],
        "low.flac": ["low"],
        "tagged.mp3": ["low"],
    }


@needs_links
def test_a_library_may_be_named_through_another_link(
    run: Run, music: Path, scan: Callable[[Path], Path], tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(music, target_is_directory=True)
    store = scan(link)
    for named in ([music], [link / "high.flac", music / "low.flac"]):
        code, output, _ = run("tag", "--store", store, "--dry-run", "--json", *named)
        done = {
            Path(change["path"]).name: change["new"]
            for change in map(json.loads, output.split("\n")[:-1])
        }
        assert code == 0
        assert (done["high.flac"], done["low.flac"]) == (["high"], ["low"])


def test_own_words(run: Run, music: Path, scan: Callable[[Path], Path], tmp_path: Path) -> None:
    words = tmp_path / "words.toml"
    words.write_text('low = "Deep Drones"\nhigh = ""\nmiddle = "x"\n')
    code, output, errors = run("tag", "--model", "tiny", "--mapping", words, music)
    assert code == 0
    assert errors == "tonearm: the model never predicts middle: it knows low, high\n"
    assert read_genres(music / "low.flac") == ("Deep Drones",)
    assert read_genres(music / "high.flac") == ()
    store = scan(music)
    for arguments in (
        ["tag", "--dry-run", "--store", store],
        ["playlists", store, "-o", tmp_path / "lists"],
        ["report", store, "-o", tmp_path / "page.html"],
    ):
        assert run(*arguments, "--mapping", words)[2] == errors
    assert "high is never written" in output


def test_only_the_sure_are_written(run: Run, music: Path) -> None:
    code, output, _ = run("tag", "--model", "tiny", "--below", "0.5", "--json", music / "low.flac")
    [change] = map(json.loads, output.splitlines())
    assert (code, change["action"], change["reason"]) == (0, "keep", "not less sure than 0.5")


def test_all_failed_is_exit_1(run: Run, music: Path, tmp_path: Path) -> None:
    code, output, errors = run("tag", "--model", "tiny", music / "broken.mp3", "absent.mp3")
    assert (code, errors) == (1, "")
    assert output.splitlines()[-1] == "2 failed"
    (tmp_path / "empty").mkdir()
    code, output, errors = run("tag", "--model", "tiny", tmp_path / "empty")
    assert (code, output) == (1, "")
    assert errors == f"tonearm: no audio files in {tmp_path / 'empty'}\n"


def test_interrupted(run: Run, music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = contents(music)
    monkeypatch.setattr(tagging, "put_in_place", interrupt)
    code, _, errors = run("tag", "--model", "tiny", music)
    assert (code, errors) == (130, "tonearm: interrupted after 1 files\n")
    assert contents(music) == before


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_waits_for_the_file_in_hand(
    run: Run, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tagging.put_in_place

    def interrupted(copy: Path, *rest: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        whole(copy, *rest)

    monkeypatch.setattr(tagging, "put_in_place", interrupted)
    code, output, errors = run("tag", "--model", "tiny", music)
    interrupted_line, way_back = errors.splitlines()
    assert (code, interrupted_line) == (130, "tonearm: interrupted after 2 files")
    assert "write" in output
    assert read_genres(music / "high.flac") == ("high",)
    assert read_genres(music / "low.flac") == ()
    before, _, command = way_back.partition("undo: tonearm ")
    assert before == "tonearm: 1 written; "
    assert run(*shlex.split(command))[0] == 0
    assert read_genres(music / "high.flac") == ()


def test_the_way_back_is_told_where_the_output_was_closed(
    run: Run, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object) -> None:
        if read_genres(music / "high.flac") == ("high",):
            raise BrokenPipeError

    monkeypatch.setattr("tonearm.cli.tag.print_row", closed)
    _, _, errors = run("tag", "--model", "tiny", music)
    assert errors.startswith("tonearm: 1 written; undo: tonearm tag --undo ")


def test_genres_are_not_cut_where_there_is_no_terminal(
    run: Run, music: Path, tmp_path: Path
) -> None:
    genres = "Soundtrack; Ambient; Electronic; Downtempo"
    table = tmp_path / "genres.jsonl"
    table.write_text(
        json.dumps({"path": str(music / "low.flac"), "genre": genres, "confidence": 1})
    )
    code, output, _ = run("tag", "--from", table, "--dry-run")
    assert code == 0
    assert genres in output


def test_the_way_back_can_be_typed_as_it_is_printed(
    run: Run, music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "my notes.jsonl"
    _, output, _ = run("tag", "--model", "tiny", "--journal", journal, music)
    assert shlex.split(output.splitlines()[-1])[3:] == ["--undo", str(journal)]
    other = Journal("my notes.jsonl")
    with monkeypatch.context() as windows:
        windows.setattr(os, "name", "nt")
        way_back = _way_back(other)
    assert way_back == 'undo: tonearm tag --undo "my notes.jsonl"'


def test_unreadable_folders_are_reported(
    run: Run, music: Path, tmp_path: Path, lock: Callable[[Path], None]
) -> None:
    locked = music / "locked"
    locked.mkdir()
    lock(locked)
    complaint = f"tonearm: {locked}: Permission denied\n"
    code, _, errors = run("tag", "--model", "tiny", "--dry-run", music)
    assert (code, errors) == (0, complaint)
    options = ("--out", tmp_path / "mine.onnx", "--cache", tmp_path / "cache")
    code, _, errors = run("learn", "--from-tags", music, *options)
    assert code == 1  # there are too few
    assert errors.startswith(complaint)


def test_what_was_scanned_and_left_alone_is_tagged_from_the_store(
    run: Run, music: Path, scan: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = scan(music)

    def identify(path: str) -> None:
        raise AssertionError(f"{path} was decoded again")

    monkeypatch.setattr("tonearm.library.suggestions.identify", identify)
    _, output, _ = run("tag", "--store", store, "--json")
    done = {Path(change["path"]).name: change for change in map(json.loads, output.splitlines())}
    assert (done["high.flac"]["action"], done["high.flac"]["new"]) == ("write", ["high"])
    assert done["tagged.mp3"]["reason"] == "has a genre"
    assert read_genres(music / "low.flac") == ("low",)


def test_an_undo_that_restores_some_is_exit_0(run: Run, music: Path) -> None:
    run("tag", "--model", "tiny", music)
    (music / "low.flac").unlink()
    code, output, _ = run("tag", "--undo")
    assert (code, output.splitlines()[-1]) == (0, "1 restored, 1 failed")
