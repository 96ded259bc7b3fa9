"""`tonearm data`: what listening to a dataset finds, the counts, the folds and the download."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import re
import socket
import sys
import tarfile
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from host import names_hold_anything
from tonearm import audio
from tonearm.datasets import DatasetError, fingerprint, load
from tonearm.datasets.check import Report, check
from tonearm.datasets.download import download_gtzan
from tonearm.errors import MissingExtraError, UsageError
from tonearm.synth import STYLES, render, write_wav

RATE = 16000
Encoder = Callable[..., Path]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def song() -> np.ndarray:
    return render(STYLES[0], 12.0, RATE, seed=1)


def write(path: Path, samples: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(path, samples, RATE)
    return path


def faults(report: Report) -> dict[str, list[tuple[str, ...]]]:
    found: dict[str, list[tuple[str, ...]]] = {}
    for fault in report.faults:
        found.setdefault(fault.kind, []).append(fault.tracks)
    return found


@pytest.fixture(scope="module")
def faulty(
    tmp_path_factory: pytest.TempPathFactory, song: np.ndarray, write_audio: Encoder
) -> Path:
    """Two genres with one of each fault in them, and a table that states what is not there."""
    root = tmp_path_factory.mktemp("faulty") / "set"
    rows = ["track,genre,file,split,seconds"]

    def row(name: str, genre: str, suffix: str, split: str = "", seconds: str = "") -> Path:
        rows.append(f"{name},{genre},{name}{suffix},{split},{seconds}")
        return root / f"{name}{suffix}"

    other = render(STYLES[1], 6.0, RATE, seed=2)
    write(row("fine", "a", ".wav"), render(STYLES[2], 6.0, RATE, seed=3))
    write(row("original", "a", ".wav", "train", "12.0"), song)
    write(row("copy", "a", ".wav", "train"), song)
    pcm = np.round(song * 32767).astype(np.int16) / np.float32(32768)  # as `write_wav` stores it
    write_audio(row("flac", "b", ".flac", "valid"), pcm, RATE)
    write_audio(row("cut", "a", ".mp3"), other[RATE : 5 * RATE] * 0.5, RATE)
    write(row("whole", "a", ".wav"), other)
    row("gone", "a", ".wav")
    row("text", "b", ".wav").write_text("no music")
    write(row("silent", "b", ".wav"), np.zeros(3 * RATE, np.float32))
    write(row("quiet", "b", ".wav"), np.zeros(3 * RATE, np.float32))
    write(row("short", "b", ".wav"), render(STYLES[3], 0.5, RATE, seed=4))
    write(row("less", "b", ".wav", "", "30.0"), render(STYLES[4], 4.0, RATE, seed=5))
    broken = write_audio(row("broken", "b", ".flac"), render(STYLES[5], 6.0, RATE, seed=6), RATE)
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    (root / "tracks.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def report(faulty: Path) -> Report:
    return check(load(faulty), progress=False, processes=1)


def test_a_track_without_a_path_is_missing(faulty: Path) -> None:
    fine = next(track for track in load(faulty) if track.id == "fine")
    absent = replace(fine, id="absent", path=None)
    found = check(replace(load(faulty), tracks=(fine, absent)), progress=False, processes=1)
    assert [(fault.kind, fault.tracks) for fault in found.faults] == [("missing", ("absent",))]
    assert found.faults[0].detail == "absent: no path"


def test_every_fault_is_found_and_no_track_stops_the_others(report: Report) -> None:
    assert report.checked == 13
    found = faults(report)
    assert found == {
        "missing": [("gone",)],
        "undecodable": [("text",)],
        "truncated": [("broken",)],
        "silent": [("quiet",), ("silent",)],
        "too short": [("less",), ("short",)],
        "duplicate": [("original", "copy", "flac")],
        "repetition": [("cut", "whole")],
        "label conflict": [("copy", "flac", "original")],
        "split leak": [("copy", "flac", "original")],
    }
    details = {fault.kind: fault.detail for fault in report.faults}
    assert "1.0 s apart" in details["repetition"]
    assert "stated are 30.00 s" in report.faults[5].detail
    assert all("\n" not in fault.detail for fault in report.faults)


def test_processes_find_the_same(faulty: Path, report: Report) -> None:
    assert check(load(faulty), progress=False, processes=2) == report


def test_a_long_recording_needs_no_more_memory_than_a_song(
    tmp_path: Path, song: np.ndarray
) -> None:
    long = write(tmp_path / "a" / "long.wav", np.tile(song, 100))
    write(tmp_path / "b" / "other.wav", song[::2])
    data = load(tmp_path)
    tracemalloc.start()
    try:
        check(data, progress=False, processes=1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < long.stat().st_size / 2  # which is half of what its samples would take


def test_a_strange_file_is_a_fault_and_does_not_stop_the_others(
    faulty: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = audio.stream

    def odd(path: Path, *arguments: int) -> audio.AudioStream:
        if path.stem == "fine":
            raise ZeroDivisionError("of one kind")
        return stream(path, *arguments)

    monkeypatch.setattr(audio, "stream", odd)
    strange = check(load(faulty), progress=False, processes=1)
    (fault,) = set(strange.faults) - set(report.faults)
    assert (fault.kind, fault.tracks) == ("undecodable", ("fine",))
    assert fault.detail == f"{faulty / 'fine.wav'}: unexpected ZeroDivisionError: of one kind"


@pytest.mark.skipif(sys.platform == "win32", reason="the system's reasons are others there")
@pytest.mark.parametrize("processes", [1, 2])
def test_what_cannot_be_opened_is_told_with_the_reason_and_does_not_stop_the_others(
    tmp_path: Path, song: np.ndarray, processes: int
) -> None:
    write(tmp_path / "fine.wav", song)
    (tmp_path / "folder").mkdir()
    odd = ["long" * 75, "nul\0", "fine.wav/inside", "folder", os.devnull]
    (tmp_path / "m.csv").write_text("\n".join(["path", *odd, "fine.wav"]))
    report = check(load(tmp_path / "m.csv"), progress=False, processes=processes)
    assert report.checked == 6
    told = {
        fault.tracks[0]: (fault.kind, fault.detail.split(": ", 1)[1]) for fault in report.faults
    }
    kind, detail = told.pop("nul\0")
    assert kind == "missing" and "null" in detail  # in words that differ with Python's version
    assert told == {
        "long" * 75: ("missing", "file name too long"),
        "fine.wav/inside": ("missing", "not a directory"),
        "folder": ("undecodable", "is a folder"),
        os.devnull: ("undecodable", "is not a regular file"),
    }


def test_a_file_in_a_folder_that_cannot_be_entered_is_a_fault(
    faulty: Path, lock: Callable[[Path], None]
) -> None:
    data = load(faulty)
    lock(faulty)
    report = check(data, progress=False, processes=1)
    assert {fault.detail.split(": ")[1] for fault in report.faults} == {"permission denied"}
    assert report.checked == len(report.faults) == 13


@names_hold_anything
def test_faults_of_tracks_with_line_breaks_in_their_names_are_one_line_each(
    tmp_path: Path, song: np.ndarray
) -> None:
    names = [f"{name}\n.wav" for name in ("gone", "short", "copy", "copy2", "noisy")]
    write(tmp_path / names[1], np.zeros(100, np.float32))
    write(tmp_path / names[2], song)
    write(tmp_path / names[3], song)
    write(tmp_path / names[4], song * 0.5 + 0.001 * np.random.default_rng(0).normal(size=len(song)))
    rows = [["path", "label"], *([name, f"genre {number}"] for number, name in enumerate(names))]
    with (tmp_path / "m.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    report = check(load(tmp_path / "m.csv"), progress=False, processes=1)
    assert [fault.kind for fault in report.faults] == [
        *("missing", "silent", "too short", "duplicate", "repetition", "label conflict")
    ]
    assert all(fault.detail.isprintable() for fault in report.faults)


def test_known_faults_of_gtzan_that_cannot_be_heard_are_told(tmp_path: Path) -> None:
    for number, name in enumerate(("pop.00015", "pop.00022", "reggae.00086")):
        genre = name.split(".")[0]
        write(tmp_path / genre / f"{name}.wav", render(STYLES[number], 3.0, RATE, seed=number))
    found = faults(check(load(tmp_path), progress=False, processes=1))
    assert found == {"known fault": [("pop.00015", "pop.00022"), ("reggae.00086",)]}


def test_a_known_repetition_is_told_although_one_of_the_two_has_a_fault_of_its_own(
    tmp_path: Path,
) -> None:
    write(tmp_path / "pop" / "pop.00015.wav", np.zeros(5 * RATE, np.float32))
    write(tmp_path / "pop" / "pop.00022.wav", render(STYLES[1], 5.0, RATE, seed=1))
    found = faults(check(load(tmp_path), progress=False, processes=1))
    assert found["known fault"] == [("pop.00015", "pop.00022")]
    assert found["silent"] == [("pop.00015",)]


def test_fingerprints_tell_recordings_apart(song: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    music = [
        np.interp(np.arange(0, 12, 1 / fingerprint.RATE), np.arange(len(song)) / RATE, song),
        render(STYLES[0], 12.0, fingerprint.RATE, seed=7),
        np.zeros(5 * fingerprint.RATE),
        np.zeros(5 * fingerprint.RATE),
        np.ones(100),
    ]
    noisy = music[0][3 * fingerprint.RATE :] * 0.3
    noisy = noisy + rng.normal(0, 0.03 * noisy.std(), len(noisy))
    prints = [fingerprint.fingerprint(m.astype(np.float32)) for m in [*music, noisy]]
    (repeat,) = fingerprint.repeats(prints)
    assert (repeat.first, repeat.second) == (0, 5)
    assert repeat.offset == pytest.approx(3.0, abs=0.02)
    assert repeat.error < 0.2
    assert fingerprint.repeats([]) == []


@pytest.mark.shared
def test_published_repetitions_are_heard(shared: Path) -> None:
    data = load(shared / "data" / "gtzan")
    known = [("jazz.00033", "jazz.00051"), ("jazz.00034", "jazz.00053")]
    known.append(("metal.00042", "metal.00063"))  # an excerpt of 3 s and a full clip
    wanted = {"jazz.00041", "metal.00064", *(id_ for pair in known for id_ in pair)}
    part = replace(data, tracks=tuple(track for track in data if track.id in wanted))
    assert faults(check(part, progress=False, processes=1)) == {"repetition": known}


@pytest.fixture
def run(program: Run) -> Run:
    """`run("check", ...) -> (exit code, output, errors)` of `tonearm data`."""
    return partial(program, "data")


def test_check_as_a_command(faulty: Path, tmp_path: Path, song: np.ndarray, run: Run) -> None:
    code, out, err = run("check", faulty, "--workers", "1")
    assert code == 1
    assert "undecodable: " in out
    assert "13 tracks checked: 1 missing, 1 undecodable" in out
    assert "Traceback" not in err
    code, out, _ = run("check", faulty, "--json", "--workers", "1")
    assert code == 1
    assert json.loads(out)["checked"] == 13
    assert {"kind", "tracks", "detail"} == set(json.loads(out)["faults"][0])
    write(tmp_path / "clean" / "a" / "song.wav", song)
    code, out, _ = run("check", tmp_path / "clean", "--workers", "1")
    assert (code, out) == (0, "1 tracks checked: no faults\n")


def test_info_as_a_command(faulty: Path, run: Run) -> None:
    code, out, _ = run("info", faulty)
    assert code == 0
    assert "set (gtzan-shared): tracks" in out
    code, out, _ = run("info", faulty, "--json")
    summary = json.loads(out)
    assert summary["tracks"] == 13
    a = summary["genres"][0]
    assert a["label"] == "a"
    assert {"split": "train", "kind": None, "count": 2} in a["tracks"]
    assert a["seconds"] == pytest.approx(6 + 12 + 12 + 4 + 6, abs=0.2)


def test_split_as_a_command(tmp_path: Path, run: Run) -> None:
    for number in range(6):
        path = tmp_path / "music" / "ab"[number % 2] / f"{number}.mp3"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    code, out, err = run(
        *("split", tmp_path / "music", "--protocol", "random-kfold", "--folds", "3"),
        *("-o", tmp_path / "folds.csv"),
    )
    assert code == 0
    assert out.splitlines()[0] == "random-kfold-1of3: 4 train, 2 valid"
    assert "scores come out too high" in err
    assert len((tmp_path / "folds.csv").read_text().splitlines()) == 7
    code, _, err = run("split", tmp_path / "music", "--protocol", "filtered")
    assert (code, err.count("\n")) == (1, 1)
    code, _, err = run("split", tmp_path / "music", "--folds", "1")
    assert code == 2


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror of a GTZAN of three tracks, which mirdata's loader takes for the real one."""
    mirdata = pytest.importorskip("mirdata")
    from mirdata import download_utils
    from mirdata.datasets import gtzan_genre

    folder = tmp_path / "mirror"
    index: dict[str, Any] = {"version": "1.0", "tracks": {}}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for number, name in enumerate(("blues.00000", "disco.00000", "rock.00000")):
            place = f"genres/{name.split('.')[0]}/{name}.wav"
            wav = write(folder / place, render(STYLES[number], 1.5, RATE, seed=number))
            tar.add(wav, place)
            index["tracks"][name] = {
                "audio": [f"gtzan_genre/{place}", hashlib.md5(wav.read_bytes()).hexdigest()],
                "beats": [f"gtzan_tempo_beat-main/beats/{name}.beats", "0" * 32],
            }
    files = {"index.json": json.dumps(index).encode(), "genres.tar.gz": archive.getvalue()}
    for name, content in files.items():
        (folder / name).write_bytes(content)

    def remote(name: str, to: str) -> Any:
        checksum = hashlib.md5(files[name]).hexdigest()
        url = (folder / name).as_uri()
        return download_utils.RemoteFileMetadata(name, url, checksum, destination_dir=to)

    known = mirdata.core.Index("index.json", "https://unused.invalid", "0", ["all"])
    known.indexes_dir = str(tmp_path / "indexes")
    known.remote = remote("index.json", known.indexes_dir)
    monkeypatch.setitem(gtzan_genre.INDEXES, "1.0", known)
    monkeypatch.setitem(gtzan_genre.REMOTES, "all", remote("genres.tar.gz", "gtzan_genre"))
    return folder


def test_download_unpacks_validates_and_loads(mirror: Path, tmp_path: Path, run: Run) -> None:
    home = tmp_path / "home"
    code, out, err = run("download", "gtzan", "--to", home)
    assert code == 0, err
    assert out == f"{home}: 3 of 3 files as they should be\n"
    assert "WARNING" not in err
    assert [track.id for track in load(home)] == ["blues.00000", "disco.00000", "rock.00000"]
    # What is there is not fetched again.
    (mirror / "genres.tar.gz").unlink()
    (mirror / "index.json").unlink()
    assert download_gtzan(home).whole


def test_files_that_are_missing_or_altered_are_listed(
    mirror: Path, tmp_path: Path, run: Run
) -> None:
    index = json.loads((tmp_path / "mirror" / "index.json").read_text())
    blues, disco = index["tracks"]["blues.00000"], index["tracks"]["disco.00000"]
    blues["audio"][1] = "0" * 32
    disco["audio"][0] += ".gone"
    indexes = tmp_path / "indexes"
    indexes.mkdir()
    (mirror / "index.json").write_text(json.dumps(index))
    from mirdata.datasets import gtzan_genre

    remote = gtzan_genre.INDEXES["1.0"].remote
    remote.checksum = hashlib.md5((mirror / "index.json").read_bytes()).hexdigest()
    code, out, _ = run("download", "gtzan", "--to", tmp_path / "home")
    assert code == 1
    missing, altered, total = out.splitlines()
    assert missing.startswith("missing: ")
    assert missing.endswith(".gone")
    assert altered.startswith("altered: ")
    assert altered.endswith("blues.00000.wav")
    assert total.endswith("1 of 3 files as they should be")


def test_a_failed_download_says_what_to_do(mirror: Path, tmp_path: Path, run: Run) -> None:
    (mirror / "genres.tar.gz").unlink()
    code, out, err = run("download", "gtzan", "--to", tmp_path / "home")
    assert (code, out) == (1, "")
    told = err.splitlines()[-1]
    assert told.startswith(f"tonearm: GTZAN could not be downloaded ({mirror.as_uri()}/genres.tar")
    assert "by hand" in told
    assert "Traceback" not in err


def test_a_download_that_was_cut_off_starts_again(mirror: Path, tmp_path: Path) -> None:
    archive = mirror / "genres.tar.gz"
    whole = archive.read_bytes()
    archive.write_bytes(whole[:1000])
    with pytest.raises(DatasetError, match=r"genres.tar.gz: sent another file, or only a part"):
        download_gtzan(tmp_path / "home")
    archive.write_bytes(whole)
    assert download_gtzan(tmp_path / "home").whole


def test_a_part_of_the_archive_is_named_and_kept(mirror: Path, tmp_path: Path) -> None:
    part = tmp_path / "home" / "gtzan_genre" / "genres.tar.gz"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"part")
    with pytest.raises(
        DatasetError, match=f"{re.escape(str(part))}: not the published file, .* remove it"
    ):
        download_gtzan(tmp_path / "home")
    assert part.read_bytes() == b"part"


def test_a_server_that_stalls_is_given_up(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mirdata.datasets import gtzan_genre

    monkeypatch.setattr("tonearm.datasets.download._STALLED_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/genres.tar.gz"
        monkeypatch.setattr(gtzan_genre.REMOTES["all"], "url", url)
        with pytest.raises(DatasetError, match=f"{url}: timed out"):
            download_gtzan(tmp_path / "home")


def test_a_disk_that_is_full_while_unpacking_is_named(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(archive: tarfile.TarFile, path: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "extractall", full)
    told = re.escape(f"{tmp_path / 'home'}: No space left on device")
    with pytest.raises(DatasetError, match=told):
        download_gtzan(tmp_path / "home")


def test_download_without_mirdata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mirdata", None)
    with pytest.raises(MissingExtraError, match=r"tonearm\[data\]"):
        download_gtzan(tmp_path)
    with pytest.raises(UsageError, match="'tiny' is unknown"):
        download_gtzan(tmp_path, "tiny")


def test_a_track_clearly_shorter_than_stated_is_too_short(tmp_path: Path) -> None:
    sound = render(STYLES[0], 6.0, RATE, seed=1)
    write(tmp_path / "a.wav", sound)
    (tmp_path / "t.csv").write_text("path,label,duration\na.wav,x,6.6\n")
    assert faults(check(load(tmp_path / "t.csv"), progress=False, processes=1)) == {}
    (tmp_path / "t.csv").write_text("path,label,duration\na.wav,x,6.7\n")
    report = check(load(tmp_path / "t.csv"), progress=False, processes=1)
    assert faults(report) == {"too short": [("a.wav",)]}
