"""The feature cache: right, resumable after a kill, and safe with several writers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from host import NO_SUCH_FILE, names_are_bytes
from tonearm import audio
from tonearm.baselines.feature_sets import FEATURE_SETS
from tonearm.datasets import Track, content
from tonearm.datasets.cache import FeatureCache, Kind
from tonearm.datasets.content import ContentIndex, ContentIndexError, Stamp, content_hash, stamps
from tonearm.datasets.storage import StoredArray, write_array
from tonearm.features.descriptors import DESCRIPTOR_RATE, describe, descriptor_names
from tonearm.features.logmel import LogMel, LogMelConfig
from tonearm.synth import STYLES, render, write_wav

CONFIG = LogMelConfig(
    sample_rate=8000,
    n_fft=256,
    win_length=256,
    hop_length=128,
    n_mels=16,
    f_min=0.0,
    f_max=4000.0,
    log="log10",
    offset=1.0,
    gain=10_000.0,
)


@pytest.fixture
def tracks(tmp_path: Path) -> list[Track]:
    return pieces(tmp_path / "music", 4)


def pieces(folder: Path, count: int, seconds: float = 1.0) -> list[Track]:
    folder.mkdir()
    for number in range(count):
        samples = render(STYLES[number % len(STYLES)], seconds, 8000, seed=number)
        write_wav(folder / f"{number:03d}.wav", samples, 8000)
    return [Track(path.stem, path, "a") for path in sorted(folder.glob("*.wav"))]


def features(root: Path) -> dict[str, tuple[int, bytes]]:
    """All stored features: when written, and the bytes."""
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in root.rglob("*.npy")}


def contents(root: Path) -> dict[str, bytes]:
    return {name: data for name, (_, data) in features(root).items()}


def test_logmels_are_those_of_the_front_end_and_computed_once(
    tmp_path: Path, tracks: list[Track]
) -> None:
    root = tmp_path / "cache"
    logmels = FeatureCache(root).logmels(tracks, CONFIG, progress=False, workers=1)
    for track, logmel in zip(tracks, logmels, strict=True):
        assert logmel is not None
        assert track.path is not None
        expected = LogMel(CONFIG)(audio.read(track.path, 8000).samples)
        assert logmel.dtype == np.float16
        np.testing.assert_allclose(np.asarray(logmel), expected, rtol=1e-3, atol=1e-3)
        np.testing.assert_array_equal(logmel[10:20], np.asarray(logmel)[10:20])
        assert isinstance(logmel[10:20], np.memmap)
    before = features(root)
    again = FeatureCache(root).logmels(tracks[::-1], CONFIG, progress=False, workers=1)
    assert features(root) == before
    assert [len(m) for m in again if m] == [len(m) for m in logmels[::-1] if m]


def test_processes_give_the_same_as_one(tmp_path: Path, tracks: list[Track]) -> None:
    (tmp_path / "notes.wav").write_text("no music")
    tracks.insert(0, Track("text", tmp_path / "notes.wav", "a"))
    one, two = FeatureCache(tmp_path / "one"), FeatureCache(tmp_path / "two")
    alone = one.logmels(tracks, CONFIG, progress=False, workers=1)
    together = two.logmels(tracks, CONFIG, progress=False, workers=2)
    assert [logmel is None for logmel in alone] == [logmel is None for logmel in together]
    assert one.failures == two.failures != ()
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(contents(tmp_path / "one")) == 4


def test_a_file_that_changes_before_its_turn_is_not_stored_as_it_was(
    tracks: list[Track], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FeatureCache(tmp_path / "cache")
    cache.logmels(tracks, CONFIG, progress=False, workers=1)  # now all hashes are known
    first, last = tracks[0].path, tracks[-1].path
    assert first is not None and last is not None
    before = tmp_path / "before.wav"
    shutil.copyfile(last, before)
    compute = Kind.compute

    def replacing_the_last(kind: Kind, folder: Path, path: Path, content: str) -> None:
        if path == first:
            write_wav(last, render(STYLES[0], 2.0, 8000, seed=99), 8000)
        compute(kind, folder, path, content)

    monkeypatch.setattr(Kind, "compute", replacing_the_last)
    other = replace(CONFIG, n_mels=CONFIG.n_mels // 2)
    changed = cache.logmels(tracks, other, progress=False, workers=1)[-1]
    original = cache.logmels([Track("before", before, "a")], other, progress=False, workers=1)[0]
    assert changed is not None and original is not None
    assert len(original) < len(changed)
    assert cache.logmels(tracks, other, progress=False, workers=1)[-1].path == changed.path


def test_changed_settings_and_changed_content_are_new_features(
    tmp_path: Path, tracks: list[Track]
) -> None:
    cache = FeatureCache(tmp_path / "cache")
    first = cache.logmels(tracks, CONFIG, progress=False, workers=1)
    other = cache.logmels(tracks, replace(CONFIG, gain=1.0), progress=False, workers=1)
    assert {a.path.parent.parent for a in first if a} ^ {a.path.parent.parent for a in other if a}
    note = json.loads((other[0].path.parent.parent / "settings.json").read_text())  # type: ignore[union-attr]
    assert note["gain"] == 1.0

    assert tracks[0].path is not None
    write_wav(tracks[0].path, render(STYLES[0], 2.0, 8000, seed=99), 8000)
    changed = cache.logmels(tracks, CONFIG, progress=False, workers=1)
    assert changed[0] is not None and first[0] is not None
    assert len(changed[0]) > len(first[0])
    assert [a.path for a in changed[1:] if a] == [a.path for a in first[1:] if a]


def test_equal_content_is_stored_once(tmp_path: Path, tracks: list[Track]) -> None:
    assert tracks[0].path is not None
    copy = tracks[0].path.with_name("copy.wav")
    copy.write_bytes(tracks[0].path.read_bytes())
    root = tmp_path / "cache"
    a, b = FeatureCache(root).logmels(
        [tracks[0], Track("copy", copy, "b")], CONFIG, progress=False, workers=1
    )
    assert a is not None and b is not None
    assert a.path == b.path


@pytest.mark.parametrize("damage", ["truncated", "empty", "other width", "no header", "odd header"])
@pytest.mark.filterwarnings("error")
def test_a_damaged_feature_is_made_anew(tmp_path: Path, tracks: list[Track], damage: str) -> None:
    root = tmp_path / "cache"
    (stored,) = FeatureCache(root).logmels(tracks[:1], CONFIG, progress=False, workers=1)
    assert stored is not None
    good = stored.path.read_bytes()
    if damage == "other width":
        np.save(stored.path, np.zeros((3, 4), dtype=np.float16))
    else:
        stored.path.write_bytes(
            {
                "truncated": good[:-7],
                "empty": b"",
                "no header": b"junk" * 40,
                "odd header": good.replace(b"}", b"{", 1),
            }[damage]
        )
    FeatureCache(root).logmels(tracks[:1], CONFIG, progress=False, workers=1)
    assert stored.path.read_bytes() == good


def test_failures_are_listed_and_stop_nothing(tmp_path: Path, tracks: list[Track]) -> None:
    text = tmp_path / "notes.wav"
    text.write_text("no music")
    bad = [
        Track("text", text, "a"),
        Track("gone", tmp_path / "gone.wav", "a"),
        Track("picture", None, "a"),
    ]
    cache = FeatureCache(tmp_path / "cache")
    found = cache.logmels([bad[0], *tracks, *bad[1:]], CONFIG, progress=False, workers=1)
    assert [logmel is None for logmel in found] == [True, *[False] * 4, True, True]
    reasons = {failure.track.id: failure.reason for failure in cache.failures}
    assert set(reasons) == {"text", "gone", "picture"}
    texts = {failure.track.id: str(failure) for failure in cache.failures}
    assert texts["text"] == f"{text}: {reasons['text']}"
    assert texts["picture"] == "picture: no audio file is known"
    assert reasons["gone"] == NO_SUCH_FILE
    assert all("\n" not in reason for reason in reasons.values())
    cache.logmels(tracks, CONFIG, progress=False, workers=1)
    assert cache.failures == ()


JOB = """
from pathlib import Path
from tonearm.datasets import Track
from tonearm.datasets.cache import FeatureCache
from tonearm.features.logmel import LogMelConfig
if __name__ == "__main__":
    config = LogMelConfig.from_dict({config})
    music = sorted(Path({music!r}).glob("*.wav"))
    tracks = [Track(path.stem, path, "a") for path in music]
    FeatureCache({root!r}).logmels(tracks, config, progress=False, workers={workers})
"""


def test_silence_and_scraps_have_no_features(tmp_path: Path, tracks: list[Track]) -> None:
    sound = render(STYLES[0], 1.0, 8000)
    for name, samples in (("silent", np.zeros(8000)), ("scrap", sound[:800])):
        write_wav(tmp_path / f"{name}.wav", samples, 8000)
        tracks.append(Track(name, tmp_path / f"{name}.wav", "a"))
    cache = FeatureCache(tmp_path / "cache")
    reasons = ["silent: 1.0 s without sound", "only 0.10 s of audio, 0.25 s are needed"]

    logmels = cache.logmels(tracks, CONFIG, progress=False, workers=1)
    assert [logmel is None for logmel in logmels] == [False] * 4 + [True] * 2
    assert [failure.reason for failure in cache.failures] == reasons

    rows = cache.descriptors(tracks, progress=False, workers=1)
    assert np.isnan(rows).all(axis=1).tolist() == [False] * 4 + [True] * 2
    assert [failure.reason for failure in cache.failures] == reasons


def start(tmp_path: Path, root: Path, workers: int) -> subprocess.Popen[bytes]:
    settings = {"config": CONFIG.to_dict(), "workers": workers}
    script = tmp_path / f"job-{root.name}.py"
    script.write_text(JOB.format(music=str(tmp_path / "music"), root=str(root), **settings))
    return subprocess.Popen([sys.executable, str(script)], start_new_session=True)


@pytest.mark.skipif(os.name != "posix", reason="elsewhere its workers live on")
def test_a_killed_run_is_resumed(tmp_path: Path) -> None:
    tracks = pieces(tmp_path / "music", 40, seconds=4.0)
    root = tmp_path / "killed"
    job = start(tmp_path, root, workers=2)
    deadline = time.monotonic() + 60
    while len(list(root.rglob("*.npy"))) < 5:
        assert job.poll() is None, "done before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    left = features(root)
    assert 5 <= len(left) < 40

    resumed = FeatureCache(root).logmels(tracks, CONFIG, progress=False, workers=1)
    assert all(logmel is not None for logmel in resumed)
    after = features(root)
    assert {name: after[name] for name in left} == left, "whole features were computed again"
    FeatureCache(tmp_path / "unbroken").logmels(tracks, CONFIG, progress=False, workers=1)
    assert contents(root) == contents(tmp_path / "unbroken")


def test_two_writers_at_once(tmp_path: Path, tracks: list[Track]) -> None:
    root = tmp_path / "both"
    jobs = [start(tmp_path, root, workers=1) for _ in range(2)]
    assert [job.wait(timeout=60) for job in jobs] == [0, 0]
    FeatureCache(tmp_path / "alone").logmels(tracks, CONFIG, progress=False, workers=1)
    assert contents(root) == contents(tmp_path / "alone")
    assert not list(root.rglob("*.partial"))


def test_half_written_files_are_swept_when_old(
    tmp_path: Path, tracks: list[Track], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "cache"
    assert tracks[0].path is not None
    with monkeypatch.context() as killed:
        # A killed process cleans nothing up.
        killed.setattr(Path, "unlink", lambda *_, **__: None)
        killed.setattr(Path, "replace", lambda *_: None)
        FeatureCache(root).logmels(tracks[:2], CONFIG, progress=False, workers=1)
    drafts = [path for path in root.rglob("*") if path.is_file() and path.parent != root]
    assert len(drafts) == 3  # two features, and a note of their settings
    earlier = drafts[-1].with_name("earlier.tmp")
    earlier.write_bytes(b"half")
    for path in (*drafts[:2], earlier):
        os.utime(path, (0, 0))
    FeatureCache(root)
    assert [path.exists() for path in (*drafts, earlier)] == [False, False, True, False]


@pytest.mark.skipif(os.name != "posix", reason="files have no mode there")
def test_features_may_be_read_by_whom_the_umask_lets(tmp_path: Path, tracks: list[Track]) -> None:
    old = os.umask(0o022)
    try:
        FeatureCache(tmp_path / "cache").logmels(tracks[:1], CONFIG, progress=False, workers=1)
    finally:
        os.umask(old)
    (stored,) = (tmp_path / "cache").rglob("*.npy")
    assert stored.stat().st_mode & 0o777 == 0o644


def test_a_strange_file_does_not_stop_the_others(tmp_path: Path, tracks: list[Track]) -> None:
    assert tracks[1].path is not None
    cache = FeatureCache(tmp_path / "cache")
    found = cache.features(tracks, _Odd(tracks[1].path), progress=False, workers=1)
    assert [row is not None for row in found] == [True, False, True, True]
    (failure,) = cache.failures
    assert failure.track == tracks[1]
    assert str(failure) == f"{tracks[1].path}: unexpected ZeroDivisionError: of one kind"


class _Odd(Kind):
    """A feature that one file leads into an error nobody thought of."""

    name = "odd"
    dtype = np.float32
    row_shape = (1,)

    def __init__(self, strange: Path) -> None:
        self.strange = strange

    def settings(self) -> dict[str, object]:
        return {}

    def rows(self, path: Path) -> Iterator[np.ndarray]:
        if path == self.strange:
            raise ZeroDivisionError("of\none kind")
        yield np.ones((1, 1), np.float32)


@names_are_bytes
def test_names_that_are_not_utf8_have_features(tmp_path: Path, tracks: list[Track]) -> None:
    assert tracks[0].path is not None
    path = Path(os.fsdecode(os.fsencode(tracks[0].path.parent) + b"/caf\xe9.wav"))
    tracks[0].path.rename(path)
    odd, gone = Track("odd", path, "a"), Track("gone", path.with_suffix(".mp3"), "a")
    for _ in range(2):
        cache = FeatureCache(tmp_path / "cache")
        found = cache.logmels([odd, gone], CONFIG, progress=False, workers=1)
        assert [logmel is not None for logmel in found] == [True, False]
        assert str(cache.failures[0]).endswith("caf\\xe9.mp3: No such file or directory")


def test_descriptors_have_a_row_for_every_track(tmp_path: Path, tracks: list[Track]) -> None:
    root = tmp_path / "cache"
    bad = Track("gone", tmp_path / "gone.wav", "a")
    table = FeatureCache(root).descriptors([tracks[0], bad, tracks[1]], progress=False, workers=1)
    assert table.shape == (3, len(descriptor_names()))
    assert table.dtype == np.float32
    assert np.isnan(table[1]).all()
    assert not np.isnan(table[[0, 2]]).all(axis=1).any()
    assert tracks[0].path is not None
    samples = audio.read(tracks[0].path, DESCRIPTOR_RATE).samples
    np.testing.assert_array_equal(table[0], describe(samples))
    assert FeatureCache(root).descriptors([], progress=False).shape == (0, table.shape[1])


@pytest.mark.parametrize("damaged", [np.zeros((0, 2)), np.array([[0.5, np.nan]])])
def test_a_row_that_is_damaged_is_made_anew(
    tmp_path: Path, tracks: list[Track], damaged: np.ndarray
) -> None:
    class Peak(Kind):
        name, dtype, row_shape = "peak", np.float32, (2,)

        def settings(self) -> dict[str, str]:
            return {}

        def rows(self, path: Path) -> Iterator[np.ndarray]:
            yield np.array([[1, 2]], np.float32)

    cache = FeatureCache(tmp_path / "cache")
    (stored,) = cache.features(tracks[:1], Peak(), progress=False, workers=1)
    assert stored is not None
    write_array(stored.path, [damaged], np.float32, (2,))

    table = cache.table(tracks[:1], Peak(), progress=False, workers=1)

    assert table.tolist() == [[1, 2]]


def test_the_middle_of_a_long_recording_is_described(tmp_path: Path) -> None:
    (track,) = pieces(tmp_path / "music", 1, seconds=34.0)
    assert track.path is not None
    table = FeatureCache(tmp_path / "cache").descriptors([track], progress=False, workers=1)
    middle = audio.read(track.path, DESCRIPTOR_RATE, start=2.0, duration=30.0)
    np.testing.assert_array_equal(table[0], describe(middle.samples))


def test_a_recording_with_a_silent_middle_is_described(tmp_path: Path) -> None:
    sound = render(STYLES[0], 4.0, 8000)
    path = tmp_path / "pause.wav"
    write_wav(path, np.concatenate([sound, np.zeros(34 * 8000), sound]), 8000)
    track = Track("pause", path, "a")
    cache = FeatureCache(tmp_path / "cache")
    assert cache.logmels([track], CONFIG, progress=False, workers=1)[0] is not None
    for name in ("descriptors", "picture"):
        row = FEATURE_SETS[name].read(cache, [track], 1)[0]
        assert cache.failures == ()
        assert np.isfinite(row).all()


def test_stored_arrays_come_in_blocks_of_any_size(tmp_path: Path) -> None:
    values = np.arange(70, dtype=np.float16).reshape(10, 7)
    path = tmp_path / "deep" / "array.npy"
    write_array(path, (values[a:b] for a, b in ((0, 3), (3, 3), (3, 10))), np.float16, (7,))
    np.testing.assert_array_equal(np.load(path), values)
    stored = StoredArray(path, np.float16, (7,))
    assert stored.shape == (10, 7)
    np.testing.assert_array_equal(stored[2:5], values[2:5])

    write_array(path, iter(()), np.float16, (7,))
    assert np.asarray(StoredArray(path, np.float16, (7,))).shape == (0, 7)


def test_a_failed_write_leaves_the_old_array(tmp_path: Path) -> None:
    path = tmp_path / "array.npy"
    write_array(path, [np.ones((2, 3))], np.float16, (3,))

    def broken():  # type: ignore[no-untyped-def]
        yield np.zeros((1, 3))
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_array(path, broken(), np.float16, (3,))
    assert np.load(path).shape == (2, 3)
    assert list(tmp_path.iterdir()) == [path]


def test_hashes_are_remembered_until_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    index = ContentIndex(tmp_path / "index" / "content.sqlite")
    stamp = Stamp.of(path)
    assert index.known([stamp]) == {}
    with index.recording() as record:
        record(stamp, content_hash(path))
    assert index.known([stamp]) == {stamp: content_hash(path)}
    path.write_bytes(b"three")
    assert index.known([Stamp.of(path)]) == {}


def test_hashes_are_written_together_also_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / str(number) for number in range(50)]
    for file in files:
        file.write_text(file.name)
    index = ContentIndex(tmp_path / "content.sqlite")
    connections = []
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *a, **b: connections.append(a) or connect(*a, **b)
    )

    def interrupted(path: Path) -> str:
        if path == files[40]:
            raise KeyboardInterrupt
        return content_hash(path)

    monkeypatch.setattr(content, "content_hash", interrupted)
    with pytest.raises(KeyboardInterrupt):
        index.hashes(files)
    assert len(connections) <= 4  # one to read, one a second to write
    known = index.known([Stamp.of(file) for file in files])
    assert sorted(int(Path(stamp.path).name) for stamp in known) == list(range(40))


@pytest.mark.parametrize("hash_", [5, b"\x00\xff", "../" * 8])
def test_a_hash_that_is_damaged_is_unknown(tmp_path: Path, hash_: object) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    index = ContentIndex(tmp_path / "content.sqlite")
    with index.recording() as record:
        record(Stamp.of(path), hash_)  # type: ignore[arg-type]
    assert index.hashes([path]) == {path: content_hash(path)}


def test_a_damaged_index_is_told(tmp_path: Path) -> None:
    (tmp_path / "content.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(ContentIndexError, match=r"content\.sqlite.*may be deleted"):
        FeatureCache(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_refused_rather_than_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mp3"
    os.mkfifo(pipe)
    assert stamps([pipe]) == ({}, {pipe: "is not a regular file"})
