from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bundles import FRONT_END, tiny_metadata, tone, write_bundle
from host import MAKES_LINKS, deletes_files_in_use, needs_links, sends_ctrl_c
from tonearm import audio, bundle, media
from tonearm.bundle import Bundle, BundleError
from tonearm.errors import TonearmError, UsageError
from tonearm.library import scan as scan_module
from tonearm.library.analysis import Analyser, Outcome, Task, model_of
from tonearm.library.cluster import scan_cluster
from tonearm.library.entry import Entry
from tonearm.library.excerpt import Excerpt
from tonearm.library.scan import Scan, error_kind
from tonearm.library.sources import deduplicate_paths, tasks
from tonearm.library.store import Store
from tonearm.library.tags import write_genres
from tonearm.synth import write_wav

RATE = FRONT_END.sample_rate
# The program, with a pause before each result is stored: however busy the machine is, a test that
# has seen three results can still end it before the last one.
SLOW_PROGRAM = """
import time
from tonearm.cli.app import main
from tonearm.library.store import Store

save = Store.save

def save_slowly(store, entries):
    time.sleep(0.1)
    save(store, entries)

Store.save = save_slowly
main()
"""
ODD_NAME = "caf\udce9 " + "x" * 245 + ".wav"  # 255 bytes, and no UTF-8
if os.name != "posix":
    ODD_NAME = "café.wav"  # elsewhere names are text, and paths are short


class OddAnalyser(Analyser):
    """Hangs, is slow, or brings its process down, where a file's name says so."""

    def __call__(self, task: Task) -> Outcome:
        name = Path(task.path).stem
        if name == "hangs":
            time.sleep(1000)
        if name == "slow":  # so slow that its first reading ends at the limit
            assert self._time_limit is not None
            time.sleep(self._time_limit)
            hurried = copy(self)
            hurried._time_limit = 1e-6
            return Analyser.__call__(hurried, task)
        if name == "crashes":
            os.kill(os.getpid(), 9)  # SIGKILL, for which Windows has no name
        return super().__call__(task)


@pytest.fixture
def music(tmp_path: Path, write_audio: Callable[..., Path]) -> Path:
    """A folder of recordings, with all that can lie in one."""
    folder = tmp_path / "music"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    write_audio(folder / "low.flac", tone(200, 2), RATE)
    write_audio(folder / "deep" / "er" / "high.mp3", tone(5000, 2, 44100), 44100)
    write_audio(folder / ".hidden" / "low.flac", tone(200, 2), RATE)
    write_audio(folder / "x.wav", tone(300, 2), RATE).rename(folder / ODD_NAME)
    (folder / "broken.mp3").write_text("no music")
    (folder / "cover.jpg").write_text("no music")
    if MAKES_LINKS:
        (folder / "gone.ogg").symlink_to("nowhere.ogg")
        (folder / "deep" / "circle").symlink_to(folder)
        (folder / "self.mp3").symlink_to("self.mp3")
    else:
        for name in ("gone.ogg", "self.mp3"):
            (folder / name).write_text("no music")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "library.db", create=True) as store:
        yield store


def in_this_process(
    prepare: Callable[[], Analyser], tasks: Iterable[Task], *_: object, **__: object
) -> Iterator[Outcome]:
    """Stand in for `as_finished` where it does not matter that files are analysed elsewhere."""
    with closing(prepare()) as analyse:
        yield from map(analyse, tasks)


@pytest.fixture
def scanned(
    store: Store, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Scan]:
    """`scanned(*paths, processes=False, **options) -> Scan` that is over."""

    def scanned(*paths: Path, processes: bool = False, **options: object) -> Scan:
        settings = {"model": tiny_bundle, "workers": 1} | options
        scan = Scan(store, paths, **settings)  # type: ignore[arg-type]
        with monkeypatch.context() as patched:
            if not processes:
                patched.setattr(scan_module, "as_finished", in_this_process)
            for outcome in scan:
                stored = store.entry(outcome.entry.path)
                assert stored is not None
                assert stored.scanned_at == outcome.entry.scanned_at
        return scan

    return scanned


def genres(store: Store) -> dict[str, str | None]:
    return {os.path.basename(entry.path): entry.genre for entry in store.entries()}  # noqa: PTH119


def test_a_library_is_analysed_once(
    music: Path, store: Store, scanned: Callable[..., Scan]
) -> None:
    tally = scanned(music, music / "deep").tally
    assert (tally.found, tally.due, tally.done) == (6, 6, 6)
    assert (tally.classified, tally.recognised, tally.failed) == (3, 0, 3)
    assert tally.seconds_of_music == pytest.approx(6, abs=0.1)
    assert genres(store) == {
        "low.flac": "low",
        "high.mp3": "high",
        ODD_NAME: "low",
        "broken.mp3": None,
        "gone.ogg": None,
        "self.mp3": None,
    }
    assert all("\n" not in error for error in store.errors())
    low = store.entry(music / "low.flac")
    assert low is not None
    assert low.confidence == pytest.approx(low.probabilities["low"], abs=1e-5)
    assert low.verdict == "music"
    assert low.segments[0].start == 0
    assert low.embedding is not None

    tally = scanned(music).tally
    assert (tally.found, tally.due) == (6, 0)
    assert scanned(music / "broken.mp3", retry=True).tally.failed == 1


def test_only_changed_files_are_analysed_again(
    music: Path, store: Store, scanned: Callable[..., Scan], write_audio: Callable[..., Path]
) -> None:
    scanned(music)
    before = store.entry(music / "deep" / "er" / "high.mp3")
    write_genres(music / "low.flac", ["Drone"])
    shutil.copy(music / "deep" / "er" / "high.mp3", music / "deep" / "copy.mp3")
    (music / "deep" / "er" / "high.mp3").rename(music / "moved.mp3")
    write_audio(music / "broken.mp3", tone(5000, 1, 44100), 44100)
    (music / "self.mp3").unlink()
    tally = scanned(music).tally
    assert (tally.due, tally.classified, tally.recognised) == (4, 1, 3)
    assert (tally.moved, tally.missing, tally.failed) == (1, 1, 0)
    low = store.entry(music / "low.flac")
    assert low is not None
    assert (low.genre, low.tagged) == ("low", ("Drone",))
    moved = store.entry(music / "moved.mp3")
    assert before is not None
    assert moved is not None
    assert moved == replace(before, path=moved.path, scanned_at=moved.scanned_at)
    assert genres(store) == {
        "low.flac": "low",
        "copy.mp3": "high",
        "moved.mp3": "high",
        "broken.mp3": "high",
        ODD_NAME: "low",
        "gone.ogg": None,
    }

    (music / "moved.mp3").rename(music.parent / "elsewhere.mp3")
    (music / "low.flac").rename(music.parent / "elsewhere.flac")
    assert scanned(music).tally.missing == 2
    (music.parent / "elsewhere.flac").rename(music / "low.flac")
    tally = scanned(music, prune=True).tally
    assert (tally.due, tally.missing, tally.pruned) == (0, 0, 1)
    assert (music / "low.flac").is_file()
    assert "low.flac" in genres(store)


@pytest.mark.parametrize("processes", [pytest.param(True, marks=deletes_files_in_use), False])
def test_a_file_that_moves_during_a_scan_keeps_its_results(
    music: Path,
    store: Store,
    scanned: Callable[..., Scan],
    write_audio: Callable[..., Path],
    tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    processes: bool,
) -> None:
    scanned(music)
    if not processes:  # which may be quick enough to have analysed it before
        monkeypatch.setattr(scan_module, "as_finished", in_this_process)
    write_audio(music / "a.flac", tone(400, 1), RATE)
    write_audio(music / "b.flac", tone(600, 1), RATE)
    write_genres(music / "low.flac", ["Drone"])  # due, but only its tags are new
    scan = Scan(store, [music], model=tiny_bundle, workers=1)
    for outcome in scan:
        if outcome.entry.path.endswith("a.flac"):
            (music / "low.flac").rename(music / "z.flac")
            (music / "b.flac").unlink()
    low = store.entry(music / "low.flac")
    assert low is not None
    assert (low.genre, low.missing) == ("low", True)
    deleted = store.entry(music / "b.flac")  # known if it was analysed before it was deleted
    assert deleted is None or (deleted.genre is not None and deleted.missing)

    tally = scanned(music).tally
    assert (tally.recognised, tally.classified, tally.moved) == (1, 0, 1)
    assert store.entry(music / "low.flac") is None
    assert genres(store)["z.flac"] == "low"


def test_a_renaming_in_case_alone_leaves_one_file(
    music: Path,
    store: Store,
    scanned: Callable[..., Scan],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scanned(music)
    (music / "low.flac").rename(music / "Low.flac")
    # On a drive that ignores case the old name is still answered to.
    lstat = os.lstat
    monkeypatch.setattr(
        os,
        "lstat",
        lambda path, **options: lstat(
            music / "Low.flac" if os.fspath(path) == str(music / "low.flac") else path, **options
        ),
    )
    tally = scanned(music).tally
    assert (tally.recognised, tally.moved, tally.missing) == (1, 1, 0)
    assert "low.flac" not in genres(store)
    assert genres(store)["Low.flac"] == "low"


def test_a_disk_that_is_not_mounted_is_not_forgotten(
    music: Path, store: Store, scanned: Callable[..., Scan]
) -> None:
    scanned(music)
    music.rename(music.parent / "unplugged")
    music.mkdir()
    tally = scanned(music, prune=True).tally
    assert (tally.found, tally.missing, tally.pruned) == (0, 6, 0)
    assert len(store) == 6


def test_a_copy_does_not_stand_for_a_disk_that_is_not_mounted(
    music: Path, store: Store, scanned: Callable[..., Scan]
) -> None:
    (music / "disk").mkdir()
    (music / "low.flac").rename(music / "disk" / "low.flac")
    shutil.copy(music / "disk" / "low.flac", music / "copy.flac")
    scanned(music)
    (music / "disk").rename(music.parent / "unplugged")
    (music / "disk").mkdir()
    tally = scanned(music).tally
    assert (tally.moved, tally.missing) == (0, 1)
    (music.parent / "unplugged" / "low.flac").rename(music / "moved.flac")
    tally = scanned(music).tally
    assert (tally.recognised, tally.moved, tally.missing) == (1, 1, 0)


def test_a_folder_does_not_stand_for_the_recording_of_its_name(
    music: Path, store: Store, scanned: Callable[..., Scan]
) -> None:
    scanned(music)
    (music / "low.flac").unlink()
    (music / "low.flac").mkdir()
    (music / "low.flac" / "notes.txt").touch()
    assert scanned(music).tally.missing == 1
    assert scanned(music / "low.flac", prune=True).tally.missing == 1  # nothing is found there
    assert scanned(music, prune=True).tally.pruned == 1


@pytest.mark.parametrize(
    ("left", "remaining"),
    [
        ("nothing", 0),  # deleted
        ("empty folder", 2),  # a disk that is not mounted, as far as anyone can tell
        ("hidden file", 2),
        ("cover", 0),
    ],
)
def test_below_an_empty_folder_nothing_is_forgotten(
    music: Path,
    store: Store,
    scanned: Callable[..., Scan],
    write_audio: Callable[..., Path],
    left: str,
    remaining: int,
) -> None:
    disk = music / "disk"
    (disk / "album").mkdir(parents=True)
    for pitch in (400, 600):
        write_audio(disk / "album" / f"{pitch}.flac", tone(pitch, 1), RATE)
    scanned(music)
    shutil.rmtree(disk)
    if left != "nothing":
        disk.mkdir()
    if left in ("cover", "hidden file"):
        (disk / {"cover": "cover.jpg"}.get(left, ".hidden")).touch()
    tally = scanned(music, prune=True).tally
    assert (tally.missing, tally.pruned) == (remaining, 2 - remaining)
    assert len(list(store.missing([disk]))) == remaining


def test_another_model_or_excerpt_analyses_again(
    store: Store, scanned: Callable[..., Scan], tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    file = write_audio(tmp_path / "low.flac", tone(200, 40), RATE)
    scanned(file)
    first = store.entry(file)
    assert first is not None
    assert [(s.start, s.end) for s in first.segments][:2] == [(1.67, 3.67), (2.66, 4.66)]
    assert first.duration == pytest.approx(40)

    scan = scanned(file, excerpt=Excerpt(None))
    assert (scan.tally.replaced, scan.tally.classified) == (1, 1)
    whole = store.entry(file)
    assert whole is not None
    assert whole.model == scan.model.key != first.model
    assert len(whole.segments) == 40
    again = scanned(file, excerpt=Excerpt(None)).tally
    assert (again.due, again.replaced) == (0, 0)

    other = write_bundle(tmp_path / "other.onnx", tiny_metadata(labels=("deep", "shrill")))
    assert scanned(file, model=other).tally.classified == 1
    assert store.genres() == {"deep": 1}
    assert list(store.models().values()) == [1, 0, 0]


def test_a_file_that_hangs_is_slow_or_crashes_costs_itself_alone(
    tmp_path: Path,
    store: Store,
    scanned: Callable[..., Scan],
    write_audio: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scan_module, "Analyser", OddAnalyser)
    for number, name in enumerate(("a", "crashes", "hangs", "slow", "z")):
        write_audio(tmp_path / f"{name}.wav", tone(200 + number, 0.5), RATE)
    tally = scanned(tmp_path, processes=True, time_limit=2).tally
    assert (tally.classified, tally.failed) == (2, 3)
    assert store.errors() == {
        "given up after 4 s": 1,
        "took longer than the limit of 1e-06 s": 1,  # its own words, not those about its process
        f"the process died reading it ({-9 if os.name == 'posix' else 9})": 1,
    }
    assert store.entry(tmp_path / "z.wav")


@sends_ctrl_c
@pytest.mark.usefixtures("heeds_ctrl_c")
def test_interrupted_or_killed_and_resumed_is_as_good_as_unbroken(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    music = tmp_path / "music"
    music.mkdir()
    for number in range(80):
        write_wav(music / f"{number}.wav", tone(100 + 50 * number, 0.3), RATE)
    killed, interrupted = tmp_path / "killed.db", tmp_path / "interrupted.db"

    process = started(tiny_bundle, killed, music, workers=2)
    before = await_rows(killed, 3)
    process.kill()
    process.communicate(timeout=60)
    survived = await_rows(killed, 3)
    assert before <= survived < 80

    process = started(tiny_bundle, interrupted, music, workers=1)
    await_rows(interrupted, 3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    done = await_rows(interrupted, 3)
    assert errors == (
        f"tonearm: interrupted after {done} of 80 files; the next scan goes on from there\n"
    )

    for path, known in ((killed, survived), (interrupted, done)):
        with Store(path) as store:
            scan = Scan(store, [music], model=tiny_bundle, workers=1)
            assert len(list(scan)) == scan.tally.classified == 80 - known
    assert facts(killed) == facts(interrupted)
    assert len(facts(killed)) == 80


def started(model: Path, store: Path, music: Path, workers: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW_PROGRAM, "scan", str(music)]
    command += ["--store", str(store), "--model", str(model)]
    command += ["--workers", str(workers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def await_rows(store: Path, count: int) -> int:
    """Wait for so many rows, and return how many there are."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if store.exists():
            try:
                with sqlite3.connect(store) as database:
                    (found,) = database.execute("SELECT count(*) FROM files").fetchone()
                if found >= count:
                    return int(found)
            except sqlite3.OperationalError:  # it is being made
                pass
        time.sleep(0.01)
    raise AssertionError(f"{store}: no {count} rows")


def facts(path: Path) -> list[tuple[Entry, bytes]]:
    with Store(path) as store:
        return [
            (replace(entry, scanned_at=0.0), np.asarray(entry.embedding).tobytes())
            for entry in store.entries()
        ]


def test_a_folder_that_was_moved_as_a_whole_is_known_in_its_new_place(
    store: Store, scanned: Callable[..., Scan], tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    for folder in ("old", "kept"):
        (tmp_path / folder).mkdir()
    for name, hertz in (("a", 200), ("b", 300)):
        write_audio(tmp_path / "old" / f"{name}.flac", tone(hertz, 2), RATE)
    write_audio(tmp_path / "kept" / "c.flac", tone(200, 2), RATE)  # a copy, which stays
    scanned(tmp_path / "old")
    scanned(tmp_path / "kept")
    (tmp_path / "old").rename(tmp_path / "new")

    tally = scanned(tmp_path / "new").tally

    assert (tally.recognised, tally.classified, tally.moved) == (2, 0, 2)
    assert sorted(store.paths(missing=True)) == [
        str(tmp_path / name) for name in ("kept/c.flac", "new/a.flac", "new/b.flac")
    ]


def test_copies_of_what_is_on_an_unmounted_disk_do_not_take_its_place(
    store: Store, scanned: Callable[..., Scan], tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    for folder in ("disk", "copy"):
        (tmp_path / folder).mkdir()
    file = write_audio(tmp_path / "disk" / "a.flac", tone(200, 2), RATE)
    scanned(tmp_path / "disk")
    file.rename(tmp_path / "copy" / "a.flac")  # leaves an empty folder, as without its disk
    tally = scanned(tmp_path / "copy").tally
    assert (tally.recognised, tally.moved) == (1, 0)
    assert list(store.paths()) == [str(tmp_path / "copy" / "a.flac")]
    assert sorted(store.paths(missing=True)) == [str(tmp_path / "copy" / "a.flac"), str(file)]


def test_a_file_that_vanishes_after_its_folder_was_listed_is_not_due(
    music: Path, store: Store, scanned: Callable[..., Scan], monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned(music)
    listed = list(media.recordings([str(music)]))
    (music / "low.flac").unlink()
    monkeypatch.setattr(scan_module, "recordings", lambda paths, _: iter(listed))
    tally = scanned(music).tally
    assert (tally.due, tally.failed) == (0, 0)
    kept = store.entry(music / "low.flac")
    assert kept is not None
    assert kept.genre == "low"


def test_what_vanished_elsewhere_without_being_found_again_is_kept(
    store: Store, scanned: Callable[..., Scan], tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    for folder in ("a", "b", "lib"):
        (tmp_path / folder).mkdir()
    first = write_audio(tmp_path / "a" / "x.flac", tone(200, 2), RATE)
    shutil.copy(first, tmp_path / "b" / "x.flac")
    known = write_audio(tmp_path / "lib" / "known.flac", tone(5000, 2), RATE)
    scanned(tmp_path)
    shutil.rmtree(tmp_path / "a")
    shutil.rmtree(tmp_path / "b")
    shutil.copy(known, tmp_path / "lib" / "copy.flac")
    tally = scanned(tmp_path / "lib").tally
    assert (tally.recognised, tally.moved) == (1, 0)
    assert len(list(store.paths())) == 4  # nobody looked for those in the two folders


def test_a_copy_of_a_damaged_file_is_as_damaged(
    store: Store, scanned: Callable[..., Scan], tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    noise = tone(200, 4) + np.random.default_rng(0).normal(0, 0.05, 4 * RATE).astype(np.float32)
    path = write_audio(tmp_path / "a.flac", noise, RATE)
    data = bytearray(path.read_bytes())
    middle, length = len(data) // 2, len(data) // 10
    data[middle : middle + length] = bytes(length)  # only decoding finds this
    path.write_bytes(data)
    scanned(tmp_path)
    copy = tmp_path / "b.flac"
    shutil.copy(path, copy)
    assert scanned(tmp_path).tally.recognised == 1
    entries = [store.entry(file) for file in (path, copy)]
    assert [entry is not None and entry.truncated for entry in entries] == [True, True]


def test_a_damaged_entry_of_a_file_that_changed_is_replaced(
    store: Store, scanned: Callable[..., Scan], tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    file = write_audio(tmp_path / "a.flac", tone(200, 2), RATE)
    scanned(file)
    with sqlite3.connect(store.path) as database:
        database.execute("UPDATE files SET probabilities = x'00ff'")
    write_audio(file, tone(5000, 2), RATE)
    assert scanned(file).tally.classified == 1
    assert store.genres() == {"high": 1}


def test_of_two_scans_at_once_neither_repeats_what_the_other_has_done(
    store: Store,
    scanned: Callable[..., Scan],
    tiny_bundle: Path,
    tmp_path: Path,
    write_audio: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = write_audio(tmp_path / "a.flac", tone(200, 2), RATE)
    model = model_of(Bundle.load(tiny_bundle), Excerpt())
    analyse = Analyser(tiny_bundle, model, Excerpt(), store.path)
    task = Task.of(str(file))
    scanned(file)
    with monkeypatch.context() as patched:
        patched.setattr("tonearm.audio.identify", None)  # nothing is read
        outcome = analyse(task)
    assert (outcome.entry.genre, outcome.is_new) == ("low", False)
    assert not analyse(task._replace(size=task.size + 1)).is_new  # known by its audio
    analyse.close()


def test_what_was_written_while_it_was_analysed_is_analysed_again(
    tiny_bundle: Path, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    file = write_audio(tmp_path / "a.flac", tone(200, 2), RATE)
    model = model_of(Bundle.load(tiny_bundle), Excerpt())
    analyse = Analyser(tiny_bundle, model, Excerpt(), None)
    task = Task.of(str(file))
    whole = analyse(task).entry
    assert (whole.mtime_ns, whole.audio is None) == (task.mtime_ns, False)
    entry = analyse(task._replace(mtime_ns=task.mtime_ns - 1)).entry
    assert (entry.mtime_ns, entry.audio) == (-1, None)  # no copy of it takes its genre over
    assert entry.genre == "low"


def test_what_cannot_be_scanned_is_reported_at_once(store: Store, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    with pytest.raises(TonearmError, match=re.escape(f"no such file or folder: {nothing}")):
        Scan(store, [nothing])
    with pytest.raises(UsageError, match="workers"):
        Scan(store, [tmp_path], workers=0)
    with pytest.raises(UsageError, match="time limit"):
        Scan(store, [tmp_path], time_limit=0)
    with pytest.raises(UsageError, match="no model named 'nobody'"):
        Scan(store, [tmp_path], model="nobody")
    for single in (tmp_path, str(tmp_path)):
        with pytest.raises(UsageError, match="paths: expected several, as a list"):
            Scan(store, single)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="sources: expected several, as a list"):
            next(scan_cluster(single, tmp_path / "out"))  # type: ignore[arg-type]
    assert len(store.models()) == 0
    for setting in ({"workers": 0}, {"time_limit": -1.0}, {"partition_files": 0}):
        with pytest.raises(UsageError, match="expected"):
            next(scan_cluster([tmp_path], tmp_path / "out", **setting))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_folders_within_others_are_walked_once(store: Store, tmp_path: Path) -> None:
    for name in ("a/b", "a/.c", "ab"):
        (tmp_path / name).mkdir(parents=True)
    paths = [tmp_path / name for name in ("a/b", "a", "a/.c", "ab", "a")]
    assert Scan(store, paths).paths == tuple(str(tmp_path / name) for name in ("a", "a/.c", "ab"))
    root = tmp_path.anchor
    assert deduplicate_paths([root, str(tmp_path / "a"), root]) == (root,)


@needs_links
def test_what_no_walk_leads_to_is_not_taken_for_part_of_one(tmp_path: Path) -> None:
    (tmp_path / "music" / ".hidden" / "deep").mkdir(parents=True)
    (tmp_path / "music" / "$RECYCLE.BIN").mkdir()
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "music" / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("odd.bin", "a.mp3", ".b.mp3", ".hidden/c.mp3", "$RECYCLE.BIN/c.mp3"):
        (tmp_path / "music" / name).touch()
    (tmp_path / "music" / "d.mp3").symlink_to(tmp_path / "music" / "a.mp3")
    apart = ["", "link", "link/deep", "odd.bin", ".b.mp3", ".hidden/c.mp3", ".hidden/deep"]
    apart.append("$RECYCLE.BIN/c.mp3")
    paths = [str(Path(tmp_path, "music", name)) for name in [*apart, "a.mp3", "d.mp3"]]
    expected = [path for path in paths[:-2] if not path.endswith("link/deep")]
    assert deduplicate_paths(paths) == tuple(expected)
    assert [task.path for task in tasks([*paths[:1], *paths[-2:], *paths[:1]])] == paths[-2:]


def test_many_named_files_are_looked_up_at_once(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{number}.mp3") for number in range(3000)]
    for path in paths:
        Path(path).touch()
    began = time.process_time()
    assert deduplicate_paths(paths) == tuple(paths)
    assert time.process_time() - began < 5  # to compare each with each would take half a minute


def test_another_process_may_write_while_the_known_files_are_looked_for(
    store: Store, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "music").mkdir()
    scan = Scan(store, [tmp_path / "music"], model=tiny_bundle)
    blank = Entry(path="", size=1, mtime_ns=1, model=scan.model.key, scanned_at=1.0)
    store.save(replace(blank, path=str(tmp_path / "music" / f"{number}")) for number in range(600))
    known = store.paths

    def interrupted(*under: object) -> Iterator[str]:
        for path in known(*under):  # type: ignore[arg-type]
            with Store(store.path) as other:
                other.add_model(replace(scan.model, key=path))
            yield path

    monkeypatch.setattr(store, "paths", interrupted)
    assert list(scan) == []
    assert scan.tally.missing == 600


def test_an_unreadable_folder_is_reported_and_its_files_stay(
    music: Path, store: Store, tiny_bundle: Path, lock: Callable[[Path], None]
) -> None:
    lock(music / "deep")
    scan = Scan(store, [music], model=tiny_bundle)
    scan.survey()
    assert scan.tally.unreadable == {str(music / "deep"): "Permission denied"}
    assert scan.tally.due == 5


def test_the_program_names_unreadable_folders(
    run: Run, music: Path, tmp_path: Path, lock: Callable[[Path], None]
) -> None:
    lock(music / "deep")
    code, output, _ = run("scan", music, "--store", tmp_path / "library.db", "--workers", 1)
    title, row = output.splitlines()[-2:]
    assert (code, title) == (0, "unreadable folders:")
    assert row.split()[:2] == ["1", "100%"]
    assert row.endswith(f"{music / 'deep'}: Permission denied")


def test_recordings_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    names = ["a/z.mp3", "a b/1.mp3", "a-/2.ogg", "a.mp3", "ab.flac", "a/b/c.wav"]
    names.append("A/x.MP3" if os.name == "posix" else "B/x.MP3")  # elsewhere a and A are one
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = list(media.recordings([str(tmp_path)]))
    assert found == sorted(str(tmp_path / name) for name in names)


def test_a_folder_may_be_named_with_a_separator_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.mp3").touch()
    found = list(media.recordings([f"{tmp_path}{os.sep}"]))
    assert found == [str(tmp_path / "deep" / "a.mp3")]


@pytest.mark.parametrize(
    "name", ["a.mp3", "a.flac", "a.ogg", "a.opus", "a.m4a", "a.wav", "a.aiff", "a.wma", "a.wv"]
)
def test_the_audio_hash_does_not_depend_on_tags(
    name: str, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    rate = 48000 if name.endswith("opus") else 44100
    bitrate = 128_000 if name.endswith("wma") else None
    path = write_audio(tmp_path / name, tone(440, 1, rate), rate, bitrate=bitrate)
    other = write_audio(tmp_path / f"other {name}", tone(441, 1, rate), rate, bitrate=bitrate)
    before = audio.identify(path)
    assert before.duration == pytest.approx(1, abs=0.2)
    assert not before.truncated
    write_genres(path, ["A genre of many words " * 200])
    assert audio.identify(path).digest == before.digest
    assert audio.identify(other).digest != before.digest


def test_a_truncated_file_has_another_audio_hash(
    tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    path = write_audio(tmp_path / "a.wav", tone(440, 2), RATE)
    whole = audio.identify(path)
    path.write_bytes(path.read_bytes()[:40_000])
    part = audio.identify(path)
    assert part.truncated
    assert part.digest != whole.digest


def test_excerpts_are_spread_over_the_recording() -> None:
    assert Excerpt().stretches(240) == [(35, 10), (115, 10), (195, 10)]
    assert Excerpt(20).stretches(100) == [(20, 10), (70, 10)]
    assert Excerpt(5).stretches(100) == [(47.5, 5)]
    assert Excerpt(35).stretches(350, window=29) == [(157.5, 35)]
    assert Excerpt().stretches(30) is None
    assert Excerpt().stretches(30.9) is None
    assert Excerpt().stretches(31) == [
        (pytest.approx(31 * (2 * i + 1) / 6 - 5), 10) for i in range(3)
    ]
    assert Excerpt().stretches(None) is None
    assert Excerpt(None).stretches(1e6) is None
    assert Excerpt.parse("all") == Excerpt(None)
    assert [str(Excerpt.parse(text)) for text in ("30", "12.5", "all")] == ["30", "12.5", "all"]
    for text in ("some", "0", "-3", "nan", "inf"):
        with pytest.raises(UsageError, match="excerpt: expected"):
            Excerpt.parse(text)


@pytest.fixture
def analyse(tiny_bundle: Path) -> Callable[[Path], Entry]:
    """`analyse(path) -> Entry`, in this process, by the default excerpt."""
    excerpt = Excerpt()
    model = model_of(Bundle.load(tiny_bundle), excerpt)
    analyser = Analyser(tiny_bundle, model, excerpt, None)
    return lambda path: analyser(Task.of(str(path))).entry


def test_a_model_replaced_during_a_scan_analyses_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    file = shutil.copyfile(tiny_bundle, tmp_path / "model.onnx")
    model = model_of(Bundle.load(file), Excerpt())
    shutil.copyfile(bundle.find("default"), file)
    with pytest.raises(BundleError, match=r"onnx: the model has changed since the start"):
        Analyser(file, model, Excerpt(), None)


def test_of_a_long_file_the_stretches_are_analysed(
    analyse: Callable[[Path], Entry], tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    # High but for 10 s around 1/6, 1/2 and 5/6 of the 90 s.
    low, high = partial(tone, 200), partial(tone, 5000)
    parts = [high(10), low(10), high(20), low(10), high(20), low(10), high(10)]
    entry = analyse(write_audio(tmp_path / "a.flac", np.concatenate(parts), RATE))
    assert (entry.genre, entry.error) == ("low", None)
    assert entry.duration == pytest.approx(90)
    assert entry.segments[0].start == 10
    assert entry.segments[-1].end == pytest.approx(80, abs=0.1)


def test_a_long_file_silent_in_its_stretches_is_analysed_as_a_whole(
    analyse: Callable[[Path], Entry], tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    sound = np.zeros(60 * RATE, np.float32)
    sound[: 2 * RATE] = tone(5000, 2)
    entry = analyse(write_audio(tmp_path / "a.flac", sound, RATE))
    assert entry.error is None
    assert len(entry.segments) == 60
    silent = analyse(write_audio(tmp_path / "b.flac", 0 * sound, RATE))
    assert silent.error == "silent: 60.0 s without sound"


def test_a_truncated_long_file_is_analysed_to_its_end(
    analyse: Callable[[Path], Entry], tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    path = write_audio(tmp_path / "a.flac", tone(200, 90), RATE)
    path.write_bytes(path.read_bytes()[: int(0.6 * path.stat().st_size)])
    entry = analyse(path)
    assert (entry.genre, entry.truncated) == ("low", True)
    assert entry.segments[-1].end < 60


def test_errors_of_one_kind_are_counted_together() -> None:
    for error, kind in [
        ("only 0.10 s of audio, 0.25 s are needed", "only N s of audio, 0.25 s are needed"),
        ("silent: 12.3 s without sound", "silent: N s without sound"),
        ("lasts only 3.2e+02 ms", "lasts only N ms"),
        ("took longer than the limit of 64.5 s", "took longer than the limit of N s"),
        ("the process died reading it (-9)", "the process died reading it (-9)"),
        ("its mp3 audio does not decode (damaged data)",) * 2,
    ]:
        assert error_kind(error) == kind


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Run) -> Run:
    """`run("scan", ...) -> (exit code, output, errors)`, with the tiny model as the default."""
    models = tmp_path / "models"  # of its own: other tests ask for the shipped default
    models.mkdir()
    shutil.copy(tiny_bundle, models / "default.onnx")
    monkeypatch.setenv("TONEARM_MODELS", str(models))
    return program


def test_the_program_sums_up(run: Run, music: Path, tmp_path: Path) -> None:
    store = tmp_path / "library.db"
    code, output, errors = run("scan", music, "--store", store, "--workers", 1)
    assert (code, errors) == (0, "")
    first, speed, *rest = output.splitlines()
    assert first == "6 recordings: 3 classified, 3 failed"
    seconds, rate = map(float, re.findall(r"in ([\d.]+) s: ([\d.]+) files/s", speed)[0])
    assert speed.startswith("0.0 h of music in ")
    # Both are shown to one digit, so each may be off by half of it.
    assert (seconds - 0.051) * (rate - 0.051) <= 6 <= (seconds + 0.051) * (rate + 0.051)
    assert rest[:4] == ["genres:", "  2   67%  low", "  1   33%  high", "errors:"]
    code, output, errors = run("scan", music, "--store", store)
    assert (code, output.splitlines()[0]) == (0, "6 recordings: 6 unchanged")

    code, output, errors = run("tag", "--store", store, "--dry-run", music / "low.flac")
    assert (code, errors) == (0, "")
    assert output.split()[1:3] == ["→", "low"]
    code, output, errors = run("tag", "--store", store, "--dry-run")
    assert output.splitlines()[-1] == "would be: 3 written, 3 failed"
    assert run("tag", "--store", store, "--from", "x.jsonl")[0] == 2


def test_a_scan_that_cannot_begin_leaves_no_store(run: Run, music: Path, tmp_path: Path) -> None:
    store = tmp_path / "library.db"
    for arguments, complaint in (
        (["s3://bucket/music"], "bucket/music: addresses need --engine ray"),
        ([music, "--model", "nobody"], "no model named 'nobody'"),
        ([music, "--partition", "9"], "--partition means nothing without --engine ray"),
        ([music, "--output", "x"], "--output means nothing without --engine ray"),
    ):
        code, output, errors = run("scan", *arguments, "--store", store)
        assert (code, output) == (2, "")
        assert complaint in errors
        assert not store.exists()
    code, output, errors = run("scan", tmp_path / "nothing", "--store", store)
    assert (code, output) == (1, "")
    assert "no such file or folder" in errors
    assert not store.exists()


def test_exit_codes(run: Run, music: Path, tmp_path: Path) -> None:
    store = ("--store", tmp_path / "library.db", "--workers", 1)
    assert run("scan", music / "broken.mp3", *store)[0] == 1
    assert run("scan", music / ".hidden" / "low.flac", *store)[0] == 0
    assert run("scan", music, *store, "--excerpt", "some")[0] == 2
    code, _, errors = run("scan", music, "--store", music / "cover.jpg")
    assert (code, errors) == (1, f"tonearm: {music / 'cover.jpg'}: file is not a database\n")


def test_what_cannot_be_listed_is_not_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "now a folder.mp3").mkdir()
    named = str(tmp_path / "now a folder.mp3")
    assert scan_module._gone_checker([named])(named)

    def locked(folder: str) -> None:
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr(os, "scandir", locked)
    assert not scan_module._gone_checker(())(str(tmp_path / "a.mp3"))


def test_a_folder_that_cannot_be_listed_counts_as_unplugged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.mp3").touch()
    assert not scan_module._is_left_empty(str(tmp_path))

    def failing(folder: str) -> None:
        raise OSError(5, "Input/output error", folder)

    monkeypatch.setattr(os, "listdir", failing)
    assert scan_module._is_left_empty(str(tmp_path))


def test_damage_found_in_decoding_is_kept(
    tmp_path: Path,
    tiny_bundle: Path,
    write_audio: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = write_audio(tmp_path / "a.flac", tone(200, 2), RATE)
    model = model_of(Bundle.load(tiny_bundle), Excerpt())
    analyser = Analyser(tiny_bundle, model, Excerpt(), None)
    heard = replace(analyser._classifier(file), truncated=True)
    monkeypatch.setattr("tonearm.library.analysis.classify_excerpt", lambda *_: heard)
    assert analyser(Task.of(str(file))).entry.truncated
