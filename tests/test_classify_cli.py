from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

from bundles import FRONT_END, tiny_metadata, tone, write_bundle
from host import deletes_files_in_use, names_are_bytes, sends_ctrl_c
from tonearm.bundle import Bundle, Outputs
from tonearm.classifier import Classifier

RATE = FRONT_END.sample_rate
KEYS = ["path", "genre", "confidence", "probabilities", "duration", "truncated", "error"]
KEYS += ["music", "verdict"]
Run = Callable[..., tuple[int, str, str]]
PROGRAM = [sys.executable, "-c", "from tonearm.cli.app import main; main()"]


@pytest.fixture
def music(tmp_path: Path, write_audio: Callable[..., Path]) -> Path:
    """A folder: two recordings, one of them deeper down, a broken one and what is no audio."""
    folder = tmp_path / "music"
    (folder / "deep").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    low = write_audio(folder / "low.flac", tone(200, 3), RATE)
    write_audio(folder / "deep" / "HIGH.FLAC", tone(5000, 3), RATE, container="flac")
    (folder / "broken.mp3").write_text("no music")
    (folder / "cover.jpg").write_text("no music")
    (folder / "._low.flac").write_bytes(low.read_bytes())
    (folder / ".hidden" / "low.flac").write_bytes(low.read_bytes())
    (folder / "$RECYCLE.BIN").mkdir()
    (folder / "$RECYCLE.BIN" / "low.flac").write_bytes(low.read_bytes())
    return folder


@pytest.fixture
def run(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, program: Run) -> Run:
    """`run("classify", ...) -> (exit code, output, errors)`, with the tiny model as "tiny"."""
    monkeypatch.setenv("TONEARM_MODELS", str(tiny_bundle.parent))
    return program


def test_json_is_one_object_a_line_in_order(run: Run, music: Path) -> None:
    code, output, errors = run(
        "classify", "--json", "--model", "tiny", music, f"{music}/./low.flac", music / "cover.jpg"
    )
    records = [json.loads(line) for line in output.splitlines()]
    assert (code, errors) == (0, "")
    assert [record["path"] for record in records] == [
        str(music / "broken.mp3"),
        str(music / "deep" / "HIGH.FLAC"),
        str(music / "low.flac"),
        f"{music}/./low.flac",
        str(music / "cover.jpg"),
    ]
    assert [record["genre"] for record in records] == [None, "high", "low", "low", None]
    for record in records:
        assert list(record) == KEYS
        assert (record["error"] is None) != (record["genre"] is None)
    assert records[0]["probabilities"] is None
    high = records[1]
    assert high["confidence"] == high["probabilities"]["high"]
    assert sum(high["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert high["duration"] == pytest.approx(3, abs=0.01)
    assert high["truncated"] is False


def test_json_with_timeline_and_top(run: Run, music: Path) -> None:
    _, output, _ = run(
        "classify",
        "--json",
        "--timeline",
        "--top",
        1,
        "--model",
        "tiny",
        music / "low.flac",
        music / "broken.mp3",
    )
    classified, failed = map(json.loads, output.splitlines())
    assert list(classified) == list(failed) == [*KEYS, "segments"]
    assert list(classified["probabilities"]) == ["low"]
    assert [segment["start"] for segment in classified["segments"]] == pytest.approx(
        [0, 1], abs=0.05
    )
    assert classified["segments"][-1]["end"] == pytest.approx(classified["duration"], abs=0.02)
    assert list(classified["segments"][0]["probabilities"]) == ["low"]
    assert failed["segments"] is None


def test_csv_has_a_column_for_every_genre(run: Run, music: Path) -> None:
    code, output, _ = run("classify", "--csv", "--model", "tiny", music)
    rows = list(csv.DictReader(output.splitlines()))
    assert code == 0
    assert list(rows[0]) == [
        "path",
        "duration",
        "genre",
        "confidence",
        "truncated",
        "error",
        "music",
        "verdict",
        "low",
        "high",
    ]
    assert [row["genre"] for row in rows] == ["", "high", "low"]
    assert rows[0]["error"]
    assert rows[1]["confidence"] == rows[1]["high"]


def test_csv_tells_a_genre_from_a_column_of_the_same_name(
    run: Run, music: Path, tmp_path: Path
) -> None:
    model = write_bundle(tmp_path / "speech.onnx", tiny_metadata(labels=("music", "speech")))
    _, output, _ = run("classify", "--csv", "--model", model, music / "low.flac")
    (row,) = csv.DictReader(output.splitlines())
    assert list(row)[-4:] == ["music", "verdict", "p_music", "speech"]
    assert (row["music"], row["p_music"]) == ("", row["confidence"])


def test_csv_with_timeline_has_a_row_for_every_window(run: Run, music: Path) -> None:
    _, output, _ = run("classify", "--csv", "--timeline", "--model", "tiny", music)
    rows = list(csv.DictReader(output.splitlines()))
    assert [row["genre"] for row in rows] == ["", "high", "high", "low", "low"]
    assert rows[0]["start"] == rows[0]["end"] == ""
    assert float(rows[2]["end"]) == pytest.approx(3, abs=0.01)


@pytest.mark.parametrize(("encoding", "block"), [("utf-8", "█"), ("cp1252", "#")])
def test_the_table_is_for_people(
    run: Run, music: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, block: str
) -> None:
    monkeypatch.setattr("rich.console.Console.encoding", encoding)
    code, output, _ = run("classify", "--model", "tiny", music)
    broken, high, low = output.splitlines()
    assert code == 0
    assert "broken.mp3" in broken
    assert "high" in high
    assert block in high
    assert "%" in high
    assert low.split()[1] == "low"
    assert low.index(" low ") == high.index(" high ")
    assert "breaks off" not in output

    whole = (music / "low.flac").read_bytes()
    (music / "low.flac").write_bytes(whole[: len(whole) // 2])
    _, output, _ = run("classify", "--model", "tiny", music / "low.flac")
    assert output.endswith("  (file breaks off)\n")


def test_the_table_with_timeline(run: Run, music: Path) -> None:
    _, output, _ = run("classify", "--timeline", "--model", "tiny", music / "low.flac")
    assert [line.split("  low")[0].strip() for line in output.splitlines()][1:] == [
        "0:00 - 0:02",
        "0:01 - 0:03",
    ]


def test_the_table_with_timeline_of_a_model_that_does_not_say_what_is_music(
    run: Run, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    with_gap = np.concatenate((tone(200, 2), np.zeros(2 * RATE, np.float32)))
    path = write_audio(tmp_path / "gap.flac", with_gap, RATE)
    code, output, errors = run("classify", "--timeline", "--model", "tiny", path)
    assert (code, errors) == (0, "")
    assert re.search(r"^ *0:02 - 0:04 +not music$", output, re.MULTILINE)


def test_what_is_no_music_is_not_given_a_genre(run: Run, music: Path, musical_bundle: Path) -> None:
    arguments = ("classify", "--model", musical_bundle, music / "deep", music / "low.flac")
    code, output, _ = run(*arguments)
    high, low = output.splitlines()
    assert code == 0
    assert "not music  (music 0%)" in high
    assert low.split()[1] == "low"

    records = [json.loads(line) for line in run(*arguments, "--json", "--timeline")[1].splitlines()]
    assert [record["verdict"] for record in records] == ["not music", "music"]
    assert [record["genre"] for record in records] == ["high", "low"]
    assert records[0]["music"] < 0.01 < 0.99 < records[1]["music"]
    assert records[0]["segments"][0]["verdict"] == "not music"

    assert "not music" not in run(*arguments, "--music-threshold", 0)[1]


def test_what_is_of_no_genre_in_particular_is_unsure(run: Run, music: Path) -> None:
    arguments = ("classify", "--model", "tiny", music / "deep", "--unsure-threshold", 1)
    assert "  unsure (high 100%)" in run(*arguments)[1]
    (row,) = csv.DictReader(run(*arguments, "--csv")[1].splitlines())
    assert (row["genre"], row["verdict"], row["music"]) == ("high", "unsure", "")


def test_several_workers_print_the_same(
    run: Run, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    classify_files = Classifier.classify_files

    def noting(self: Classifier, paths: Any, workers: int = 1) -> Any:
        asked.append(workers)
        return classify_files(self, paths, workers)

    monkeypatch.setattr(Classifier, "classify_files", noting)
    arguments = ("classify", "--json", "--model", "tiny", music)
    assert run(*arguments, "--workers", 2) == run(*arguments)
    assert asked == [2, 1]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_piped_in_is_a_file_like_others(
    tiny_bundle: Path, music: Path, workers: int
) -> None:
    low = music / "low.flac"
    options = ("classify", "--json", "--model", tiny_bundle, "--workers", workers)
    completed = _piped(low.read_bytes(), *options, "-", low, "-")
    records = [json.loads(line) for line in completed.stdout.splitlines()]
    assert [record.pop("path") for record in records] == ["-", str(low), "-"]
    assert records[0] == records[1] == records[2]
    assert records[0]["genre"] == "low"
    assert completed.returncode == 0


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no process can be killed so here")
def test_what_is_piped_in_leaves_nothing_behind(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    command = [*PROGRAM, "classify", "--model", str(tiny_bundle), "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(bytes(1_000_000))  # more than a pipe holds: some of it is copied
        process.kill()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_folder_does_not_take_the_place_of_what_is_piped_in(
    tiny_bundle: Path, music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(music, tmp_path / "-")
    options = ("classify", "--json", "--model", tiny_bundle)
    completed = _piped((music / "deep" / "HIGH.FLAC").read_bytes(), *options, "-", "./-/low.flac")
    records = [json.loads(line) for line in completed.stdout.splitlines()]
    assert [(record["path"], record["genre"]) for record in records] == [
        ("-", "high"),
        ("./-/low.flac", "low"),
    ]


def test_what_is_piped_in_may_be_no_recording(tiny_bundle: Path) -> None:
    options = ("classify", "--model", tiny_bundle, "-")
    for data, reason in (
        (b"", "is empty"),
        (b"no music", "is not a media file, or damaged beyond recognition"),
    ):
        completed = _piped(data, *options)
        assert (completed.returncode, completed.stderr) == (1, b"")
        assert completed.stdout.decode().split(maxsplit=1) == ["-", f"{reason}\n"]


def test_standard_input_that_nothing_is_piped_into_is_no_file(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # as Python has it where it was closed
    assert run("classify", "--model", tiny_bundle, "-") == (
        2,
        "",
        "tonearm: -: nothing is piped into standard input\n",
    )


def _piped(data: bytes, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(command, input=data, capture_output=True, check=False)


def test_nothing_classified_is_exit_1(run: Run, music: Path) -> None:
    code, output, errors = run("classify", "--json", "--model", "tiny", music / "broken.mp3")
    assert (code, errors) == (1, "")
    assert json.loads(output)["genre"] is None


def test_a_folder_without_recordings_is_one_line(run: Run, tmp_path: Path) -> None:
    code, output, errors = run("classify", "--model", "tiny", tmp_path)
    assert (code, output) == (1, "")
    assert errors == f"tonearm: no audio files in {tmp_path}\n"


def test_a_file_that_is_no_model_is_one_line(run: Run, music: Path) -> None:
    code, output, errors = run("classify", music, "--model", music / "cover.jpg")
    assert (code, output) == (1, "")
    assert errors.startswith(f"tonearm: {music / 'cover.jpg'}: not a model")
    assert errors.count("\n") == 1


@names_are_bytes
def test_any_file_name_can_be_printed(
    run: Run, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    whole = write_audio(tmp_path / "whole.flac", tone(200, 1), RATE).read_bytes()
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/line\nbreak \xff\x1b[31m.flac")
    Path(odd).write_bytes(whole)
    assert json.loads(run("classify", "--json", "--model", "tiny", odd)[1])["path"] == odd
    code, output, _ = run("classify", "--model", "tiny", odd)
    assert code == 0
    assert "line\\nbreak \\xff\\x1b[31m.flac" in output
    done = subprocess.run(
        [*PROGRAM, "classify", "--csv", "--model", "tiny", odd], capture_output=True, check=True
    )
    assert os.fsencode(odd) in done.stdout


def test_names_and_reasons_are_whole_where_no_terminal_cuts_them(
    run: Run, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    name = "a very long name, as names of classical recordings are, " * 3 + "op. 27"
    write_audio(tmp_path / f"{name}.flac", tone(200, 1), RATE)
    (tmp_path / f"{name} broken.mp3").write_bytes(b"no music at all")
    _, printed, _ = run("classify", "--model", "tiny", tmp_path)
    assert f"{name}.flac" in printed
    assert f"{name} broken.mp3" in printed
    assert "…" not in printed


def test_a_long_genre_leaves_room_for_its_confidence_in_a_terminal(
    run: Run, music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genre = "music of the renaissance and the baroque, played on instruments of the time"
    model = write_bundle(tmp_path / "early.onnx", tiny_metadata(labels=(genre, "high")))
    assert f"  {genre}  " in run("classify", "--model", model, music / "low.flac")[1]
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    monkeypatch.setenv("TERM", "dumb")
    (row,) = run("classify", "--model", model, music / "low.flac")[1].splitlines()
    assert re.search(r"low\.flac  …[a-z ]{25}  \S+ 100%", row)


def test_names_in_wide_characters_are_whole_and_aligned(run: Run, music: Path) -> None:
    wide = music / "東京スカパラダイスオーケストラ.flac"
    shutil.copy(music / "low.flac", wide)
    *_, low, ska = run("classify", "--model", "tiny", music)[1].splitlines()
    assert ska.split()[0] == str(wide)
    assert cell_len(ska.partition(" low ")[0]) == cell_len(low.partition(" low ")[0])


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell's way to close a stream")
@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_closed_output_is_as_silent_as_none(music: Path, tiny_bundle: Path, closed: str) -> None:
    arguments = [sys.executable, "-m", "tonearm", "classify", str(music / "low.flac")]
    command = f"{shlex.join([*arguments, '--model', str(tiny_bundle)])} {closed}"
    completed = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (completed.returncode, completed.stderr) == (0, "")


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell's way to close a stream")
def test_closed_streams_are_open_in_processes_that_are_started(tmp_path: Path) -> None:
    # Else the first files that a worker opens get the numbers of its standard streams.
    found = tmp_path / "found"
    child = f"""
import os, pathlib
rdevs = [os.fstat(number).st_rdev for number in (0, 1, 2)]
pathlib.Path({str(found)!r}).write_text(str(set(rdevs) == {{os.stat(os.devnull).st_rdev}}))
"""
    parent = f"""
import subprocess, sys
from tonearm.cli import app
app._reopen_closed_streams()
subprocess.run([sys.executable, "-c", {child!r}], check=True)
"""
    command = f"{shlex.join([sys.executable, '-c', parent])} <&- >&- 2>&-"
    subprocess.run(["sh", "-c", command], check=True)
    assert found.read_text() == "True"


@deletes_files_in_use
def test_a_deleted_folder_is_not_called_output(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    code, _, errors = run("scan", ".", "--store", "library.db")
    assert (code, errors) == (1, "tonearm: the current folder: No such file or directory\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_behind_the_output_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        completed = subprocess.run(
            [sys.executable, "-m", "tonearm", "models"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert completed.returncode == 1
    assert completed.stderr == "tonearm: output: No space left on device\n"


def test_a_closed_pipe_ends_quietly(tiny_bundle: Path, music: Path) -> None:
    process = _started(tiny_bundle, *[music / "low.flac"] * 300)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) != 0


@sends_ctrl_c
@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_keeps_what_was_done(tiny_bundle: Path, music: Path) -> None:
    process = _started(tiny_bundle, *[music / "low.flac"] * 3000)
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    # Not `communicate`, which knows nothing of lines that were read together with the first.
    rest = process.stdout.read()
    records = [json.loads(line) for line in [first, *rest.splitlines()]]
    assert process.wait(timeout=60) == 130
    assert process.stderr is not None
    assert process.stderr.read() == f"tonearm: interrupted after {len(records)} of 3000 files\n"


def _started(model: Path, *files: Path) -> subprocess.Popen[str]:
    command = [*PROGRAM, "classify", "--json", "--model", str(model), *map(str, files)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def test_a_file_may_take_so_long(
    run: Run, tmp_path: Path, write_audio: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_audio(tmp_path / "minute.flac", tone(200, 60), FRONT_END.sample_rate)
    run_bundle = Bundle.run

    def slow(*arguments: Any) -> Outputs:
        time.sleep(0.2)
        return run_bundle(*arguments)

    monkeypatch.setattr(Bundle, "run", slow)
    code, output, _ = run("classify", "--time-limit", 1, "--model", "tiny", path)
    assert code == 1
    assert "took longer than the limit of 1 s" in output


def test_models_are_listed(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    code, output, errors = run("models")
    assert (code, errors) == (0, "")
    assert "tiny" in output
    assert "low, high" in output
    assert re.search(r" accuracy 0\.\d+, macro_f1 0\.\d+ ", output)  # of the default

    code, output, _ = run("models", "--json")
    tiny = json.loads(output)["tiny"]
    assert tiny["labels"] == ["low", "high"]
    assert tiny["path"] == str(tiny_bundle)
    assert tiny["bytes"] == tiny_bundle.stat().st_size


def test_one_model_is_shown_in_full(run: Run, tmp_path: Path) -> None:
    metadata = tiny_metadata(licence="MIT", metrics={"gtzan": {"accuracy": 0.5}})
    path = write_bundle(tmp_path / "own.onnx", metadata)
    _, output, _ = run("models", path)
    fields = dict(line.split(maxsplit=1) for line in output.splitlines())
    assert fields["labels"] == "low, high"
    assert fields["licence"] == "MIT"
    assert fields["metrics.gtzan.accuracy"] == "0.5"
    assert json.loads(run("models", path, "--json")[1])["licence"] == "MIT"


def test_a_broken_model_does_not_hide_the_others(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle(tmp_path / "fine.onnx", tiny_metadata())
    (tmp_path / "bad.onnx").write_text("no model")
    monkeypatch.setenv("TONEARM_MODELS", str(tmp_path))
    code, output, _ = run("models")
    assert code == 0
    assert "unusable" in output
    assert "low, high" in output


def test_a_folder_of_models_that_is_not_there_is_told(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TONEARM_MODELS", str(tmp_path / "nowhere"))
    code, output, errors = run("models")
    folder = tmp_path / "nowhere"
    assert (code, errors) == (0, f"tonearm: $TONEARM_MODELS: {folder}: no such folder\n")
    assert "default" in output


def test_what_models_say_is_printed_as_it_is(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "of [bold]" * 20
    licence = "[/nope] \x1b[31mred\nand \ud800"
    metadata = tiny_metadata(labels=("low", long), licence=licence)
    path = write_bundle(tmp_path / "[bold]x.onnx", metadata)
    monkeypatch.setenv("TONEARM_MODELS", str(tmp_path))
    for arguments in ((), (path,)):
        code, output, errors = run("models", *arguments)
        assert (code, errors) == (0, "")
        assert r"[/nope] \x1b[31mred\nand \ud800" in output
        assert "[bold]x" in output
        assert f"low, {long}" in output  # nothing is cut in a pipe


@pytest.mark.shared
def test_every_odd_file_gets_a_genre_or_a_reason(run: Run, shared: Path) -> None:
    formats = shared / "data" / "formats"
    code, output, errors = run("classify", "--json", "--model", "tiny", formats)
    records = [json.loads(line) for line in output.splitlines()]
    expected = sorted(str(path) for path in formats.iterdir() if path.suffix != ".csv")
    assert (code, errors) == (0, "")
    assert [record["path"] for record in records] == expected
    for record in records:
        assert (record["error"] is None) != (record["genre"] is None)
        assert "unexpected" not in (record["error"] or "")
        assert "\n" not in (record["error"] or "")
    assert sum(record["genre"] is not None for record in records) >= 70
