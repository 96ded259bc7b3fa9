from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundles import FRONT_END, tone
from stores import at, track
from tonearm.bundle import Bundle
from tonearm.errors import TonearmError, with_file
from tonearm.library.analysis import Analyser, Outcome, Task, model_of
from tonearm.library.entry import Model
from tonearm.library.excerpt import Excerpt
from tonearm.library.scan import Scan, Tally
from tonearm.library.store import Store

ray = pytest.importorskip("ray", reason="Ray is not installed (extra: cluster)")
pytest.importorskip("ray.data", reason="Ray Data is not installed (extra: cluster)")
import fsspec  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.dataset  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

from tonearm.library import sources  # noqa: E402
from tonearm.library.cluster import (  # noqa: E402
    ClusterError,
    _Actor,
    _connect,
    _Fetch,
    _Job,
    _plan,
    _RemoteAnalyser,
    _rounded,
    scan_cluster,
)
from tonearm.library.partitions import Partitions  # noqa: E402
from tonearm.library.sources import download_folder, local_copy, tasks  # noqa: E402

RATE = FRONT_END.sample_rate


class StoreClientError(Exception):
    """As the clients of stores have: no OSError, no number, no name of a file."""


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[tuple[Cluster, Any]]:
    """A Ray cluster of a head and another node, each with one processor, and that other node."""
    cluster = started()
    # Before there are two: of several nodes on one machine, Ray connects to any.
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        yield cluster, cluster.add_node(num_cpus=1)
    finally:
        ray.shutdown()
        cluster.shutdown()


def started() -> Cluster:
    """Start the head of a cluster; Ray gives it half a minute, too little on a crowded machine."""
    arguments = {"num_cpus": 1, "include_dashboard": False}
    for _ in range(3):
        with suppress(Exception):
            return Cluster(initialize_head=True, head_node_args=arguments)
    return Cluster(initialize_head=True, head_node_args=arguments)


@pytest.fixture
def music(tmp_path: Path, write_audio: Callable[..., Path]) -> Path:
    """A folder of recordings, a broken one among them, and one whose name is no text."""
    folder = tmp_path / "music"
    (folder / "b").mkdir(parents=True)
    write_audio(folder / "b" / "low.flac", tone(200, 2), RATE, metadata={"genre": "Soul"})
    write_audio(folder / "high.flac", tone(5000, 3), RATE)
    if sys.platform == "linux":
        shutil.copy(folder / "high.flac", os.fsencode(folder) + b"/\xff.flac")
    (folder / "broken.mp3").write_text("no music")
    (folder / ".hidden.mp3").write_text("nor this")
    return folder


def rows(output: Path) -> dict[str, dict[str, Any]]:
    """What is in the results, by path; that no path is there twice is checked."""
    parts = sorted((output / "results").glob("*.parquet"))
    found = [row for part in parts for row in pq.read_table(part).to_pylist()]
    assert len({row["path"] for row in found}) == len(found)
    return {row["path"]: row for row in found}


def run(*arguments: Any, **settings: Any) -> Tally:
    """Scan with the cluster to the end."""
    *_, tally = scan_cluster(*arguments, partition_files=2, **settings)
    return tally


def write_plan(output: Path | str, files: Iterable[Task]) -> Partitions:
    partitions = Partitions(str(output))
    partitions.create_plan(
        files, ["s3://music"], "tiny/30/0", b"onnx", 2, {"/locked": "Permission denied"}
    )
    return partitions


def test_files_in_a_store_of_objects() -> None:
    filesystem = fsspec.filesystem("memory")
    hidden = ("b/.hidden.mp3", ".trash/3.mp3", "$RECYCLE.BIN/4.mp3")
    for name in ("c/#?/100%25*.mp3", "b/2.mp3", "b/x::1.OGG", "b/cover.jpg", "a.flac", *hidden):
        filesystem.pipe_file(f"/records/{name}", b"abc")
    found = list(tasks(["memory://records/", "memory://records/b/cover.jpg"]))
    assert found == [
        Task("memory:///records/a.flac", 3, -1),
        Task("memory:///records/b/2.mp3", 3, -1),
        Task("memory:///records/b/x::1.OGG", 3, -1),
        Task("memory:///records/c/#?/100%25*.mp3", 3, -1),
        Task("memory://records/b/cover.jpg", 3, -1),
    ]
    for task in found:
        with download_folder(task.path) as folder:
            path = local_copy(task.path, folder)
            assert Path(path).suffix == Path(task.path).suffix
            assert Path(path).read_bytes() == b"abc"
        assert not Path(path).exists()


def test_the_pause_before_another_attempt_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(sources.time, "sleep", pauses.append)

    def call() -> None:
        raise StoreClientError("connection closed")

    with pytest.raises(OSError, match="connection closed"):
        sources.with_retries(call, "memory://a")
    assert pauses == [2.0, 4.0]


def test_a_folder_is_listed_again_and_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_PAUSE_SECONDS", 0)
    filesystem = fsspec.filesystem("memory")
    for name in ("a/1.mp3", "b/2.mp3", "gone/3.mp3"):
        filesystem.pipe_file(f"/listed/{name}", b"abc")
    listed = filesystem.ls
    calls: list[str] = []
    forgotten: list[str] = []

    def ls(_: Any, path: str, **options: Any) -> Any:
        calls.append(path)
        if path == "/listed/gone":
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", "gone")
        if calls.count(path) < 3:
            raise StoreClientError("connection closed")
        # As S3 has it if there is a "/listed/a//4.mp3" too.
        nameless = [{"name": f"{path}/", "size": 0, "type": "directory"}] if path[-1] == "a" else []
        return listed(path, **options) + nameless

    monkeypatch.setattr(type(filesystem), "ls", ls)
    monkeypatch.setattr(
        type(filesystem), "invalidate_cache", lambda _, path: forgotten.append(path)
    )
    unreadable: list[OSError] = []
    found = [task.path for task in tasks(["memory://listed"], unreadable.append)]
    assert found == ["memory:///listed/a/1.mp3", "memory:///listed/b/2.mp3"]
    assert forgotten == ["/listed", "/listed/a", "/listed/b"]
    assert [with_file(error) for error in unreadable] == [
        "memory:///listed/a: what follows // in it cannot be listed",
        "memory:///listed/gone: No such file or directory",
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("memory://nothing", "nothing there: memory://nothing"),
        ("/no/such/folder", "no such file or folder: /no/such/folder"),
        ("nonsense://bucket", "nonsense://bucket: Protocol not known: nonsense"),
    ],
)
def test_sources_that_are_not_there(source: str, message: str) -> None:
    with pytest.raises(TonearmError, match=message):
        list(tasks([source]))


@pytest.mark.parametrize("location", ["memory://plans", None])
def test_partitions_keep_files_and_results(location: str | None, tmp_path: Path) -> None:
    files = [Task(os.fsdecode(b"/m/\xff.mp3"), 5, 7)]
    files += [Task(f"s3://m/{number}.mp3", number, -1) for number in (1, 2)]
    output = location or tmp_path / "plans"
    partitions = Partitions(str(output))
    assert partitions.plan() is None
    assert partitions.done() == set()
    write_plan(output, iter(files))
    plan = partitions.plan()
    assert plan is not None
    assert (plan.files, plan.partitions, plan.files_in(0), plan.files_in(1)) == (3, 2, 2, 1)
    assert plan.unreadable == {"/locked": "Permission denied"}
    assert partitions.bundle() == b"onnx"
    assert partitions.tasks(0) + partitions.tasks(1) == files
    partitions.write_results(
        1, pa.table({"genre": ["jazz"], "verdict": ["unsure"], "error": [None]})
    )
    assert partitions.done() == {1}
    partitions.write_results(
        0, pa.table({"genre": ["jazz"], "verdict": ["music"], "error": [None]})
    )
    assert partitions.counts() == ({"jazz": 1, "unsure": 1}, {})
    if location is None:
        plan_file = tmp_path / "plans" / "scan.json"
        written = json.loads(plan_file.read_text())
        for change, complaint in (
            ({"version": 3}, "of version 3"),
            ({"partition_files": 0}, "partition_files: expected a whole number from 1, got 0"),
            ({"files": -1}, "files: expected a whole number from 0"),
        ):
            plan_file.write_text(json.dumps(written | change))
            with pytest.raises(TonearmError, match=rf"scan.json: no plan of a scan: {complaint}"):
                partitions.plan()


def test_results_whose_plan_is_gone_are_not_taken_for_another_scans(tmp_path: Path) -> None:
    partitions = write_plan(tmp_path, [Task("/m/1.mp3", 1, 1)])
    partitions.write_results(0, pa.table({"genre": ["jazz"]}))
    (tmp_path / "scan.json").unlink()
    with pytest.raises(TonearmError, match=r"results: holds results of another scan"):
        write_plan(tmp_path, [Task("/m/2.mp3", 2, 2)])
    assert partitions.plan() is None


@pytest.mark.parametrize("location", ["memory://races", None])
def test_of_two_scans_at_once_one_fails(location: str | None, tmp_path: Path) -> None:
    output = location or tmp_path / "plans"

    def slow() -> Iterator[Task]:
        yield Task("/m/1.mp3", 1, 1)
        write_plan(output, [Task("/m/2.mp3", 2, 2), Task("/m/3.mp3", 3, 3)])  # it is quicker

    with pytest.raises(TonearmError, match="another scan has begun there meanwhile"):
        write_plan(output, slow())
    partitions = Partitions(str(output))
    assert partitions.tasks(0) == [Task("/m/2.mp3", 2, 2), Task("/m/3.mp3", 3, 3)]
    assert partitions.bundle() == b"onnx"
    filesystem, root = sources.open_folder(str(output))
    assert len(filesystem.find(root)) == 3  # nothing of the other one is left


@pytest.mark.parametrize("error", [OSError(errno.ENOSYS, "If-None-Match"), TypeError("mode")])
def test_where_a_store_cannot_create_a_plan_only_once_it_is_written(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_PAUSE_SECONDS", 0)
    filesystem = type(fsspec.filesystem("memory"))
    write = filesystem.pipe_file

    def pipe_file(self: Any, path: str, content: bytes, **mode: str) -> None:
        if mode:
            raise error
        write(self, path, content)

    monkeypatch.setattr(filesystem, "pipe_file", pipe_file)
    files = [Task("/m/1.mp3", 1, 1)]
    output = f"memory://simple/{type(error).__name__}"

    def slow() -> Iterator[Task]:
        write_plan(output, files)
        yield Task("/m/2.mp3", 2, 2)

    with pytest.raises(TonearmError, match="another scan has begun there meanwhile"):
        write_plan(output, slow())
    assert Partitions(output).tasks(0) == files


def test_damaged_results_are_no_results(tmp_path: Path) -> None:
    partitions = write_plan(tmp_path, [Task("/m/1.mp3", 1, 1)])
    partitions.write_results(
        0, pa.table({"genre": ["jazz"], "verdict": ["music"], "error": [None]})
    )
    empty = tmp_path / "results" / "part-000001.parquet"
    empty.touch()
    assert partitions.done() == {0}
    empty.write_bytes(b"no parquet")
    with pytest.raises(TonearmError, match=r"damaged results; remove them .*part-000001") as caught:
        partitions.counts()
    assert "\n" not in str(caught.value)
    empty.rename(empty.with_name("part-x.parquet"))
    with pytest.raises(TonearmError, match=r"part-x\.parquet: no result of a scan"):
        partitions.done()


def test_a_result_whose_bytes_went_wrong_is_damaged(tmp_path: Path) -> None:
    partitions = write_plan(tmp_path, [Task("/m/1.mp3", 1, 1)])
    genres = ["jazz", "rock", "blues"] * 100
    columns = {"genre": genres, "verdict": ["music"] * 300, "error": [None, "is empty", "é"] * 100}
    partitions.write_results(0, pa.table(columns))
    result = tmp_path / "results" / "part-000000.parquet"
    content = result.read_bytes()
    detected = 0
    positions = range(0, len(content), 3)
    for position in positions:
        result.write_bytes(
            content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :]
        )
        try:
            partitions.counts()  # not every byte matters
        except TonearmError as error:
            assert "damaged results; remove them and scan again" in str(error)
            detected += 1
    assert detected > len(positions) / 3


def test_results_out_of_reach_are_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partitions = write_plan(tmp_path, [Task("/m/1.mp3", 1, 1)])
    partitions.write_results(
        0, pa.table({"genre": ["jazz"], "verdict": ["music"], "error": [None]})
    )

    def unplugged(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(pyarrow.dataset, "dataset", unplugged)
    with pytest.raises(OSError, match="Input/output error"):
        partitions.counts()


def test_a_source_is_the_same_however_it_is_named(tmp_path: Path) -> None:
    assert sources.absolute_or_url(f"{tmp_path}/a/../b/") == str(tmp_path / "b")
    assert sources.absolute_or_url("s3://bucket/a/../b") == "s3://bucket/a/../b"


def test_a_scan_of_nothing_has_nothing_to_count(tmp_path: Path) -> None:
    partitions = write_plan(tmp_path / "plans", [])
    assert partitions.counts() == ({}, {})


def test_writing_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_PAUSE_SECONDS", 0)
    calls = []

    def put(filesystem: Any, path: str, content: bytes) -> None:
        calls.append(path)
        if len(calls) < 3:
            raise error

    error: Exception = StoreClientError("connection closed")
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "pipe_file", put)
    Partitions("memory://flaky").write_results(0, pa.table({"genre": ["jazz"]}))
    assert calls == ["/flaky/results/part-000000.parquet"] * 3
    calls[:] = []
    monkeypatch.setattr(sources, "ATTEMPTS", 2)
    with pytest.raises(OSError, match="connection closed") as caught:
        Partitions("memory://flaky").write_results(0, pa.table({"genre": ["jazz"]}))
    address = "memory:///flaky/results/part-000000.parquet"
    assert with_file(caught.value) == f"{address}: connection closed"
    calls[:] = []
    error = PermissionError("Access Denied")
    with pytest.raises(PermissionError) as caught:
        Partitions("memory://flaky").write_results(0, pa.table({"genre": ["jazz"]}))
    assert (with_file(caught.value), len(calls)) == (f"{address}: Access Denied", 1)


@pytest.mark.slow
def test_results_equal_those_of_a_local_scan(
    two_nodes: object, tmp_path: Path, tiny_bundle: Path, music: Path
) -> None:
    output = tmp_path / "output"
    tally = run([music], output, tiny_bundle)
    assert (tally.found, tally.due, tally.done, tally.classified, tally.failed) == (4, 4, 4, 3, 1)
    with Store(tmp_path / "library.db", create=True) as store:
        local = Scan(store, [music], model=tiny_bundle, workers=1)
        list(local)
        assert tally.seconds_of_music == pytest.approx(local.tally.seconds_of_music)
        found = rows(output)
        for entry in store.entries():
            row = found.pop(entry.path.encode("utf-8", "backslashreplace").decode())
            for name in ("size", "mtime_ns", "model", "audio", "genre", "verdict", "error"):
                assert row[name] == getattr(entry, name)
            assert row["tagged"] == list(entry.tagged)
            if entry.error is None:
                assert entry.embedding is not None
                assert row["p_low"] == pytest.approx(entry.probabilities["low"], abs=1e-5)
                assert [window["end"] for window in row["segments"]] == pytest.approx(
                    [window.end for window in entry.segments], abs=0.01
                )
                np.testing.assert_array_equal(row["embedding"], entry.embedding)
    assert not found
    genres, errors = Partitions(str(output)).counts()
    assert genres == {"high": 2, "low": 1}
    assert errors.total() == 1


@pytest.mark.slow
def test_a_scan_goes_on_where_it_was(
    two_nodes: object, tmp_path: Path, tiny_bundle: Path, music: Path
) -> None:
    output = tmp_path / "output"
    run([music], output, tiny_bundle)
    before = rows(output)
    first, second = sorted((output / "results").iterdir())
    state = first.stat()
    second.unlink()
    (output / "results" / ".part-000001.parquet-draft").write_text("half of")
    (music / "new.flac").write_text("came after the list was made")
    tally = run([music], output, tiny_bundle)
    assert (tally.found, tally.due, tally.done) == (4, 2, 2)
    assert first.stat().st_mtime_ns == state.st_mtime_ns
    assert rows(output).keys() == before.keys()
    tally = run([music], output, tiny_bundle)
    assert (tally.due, tally.done) == (0, 0)
    with pytest.raises(TonearmError, match=r"output: holds a scan of .*music"):
        run([music / "b"], output, tiny_bundle)
    with pytest.raises(TonearmError, match=r"holds a scan by tiny/30/\w+, not by tiny/all/"):
        run([music], output, tiny_bundle, excerpt=Excerpt(None))


@pytest.mark.slow
def test_the_program_with_addresses(
    two_nodes: tuple[Cluster, Any],
    tmp_path: Path,
    tiny_bundle: Path,
    music: Path,
    program: Callable[..., tuple[int, str, str]],
) -> None:
    address, output = (music / "b").as_uri(), (tmp_path / "out put").as_uri().replace("%20", " ")
    options = ("--engine", "ray", "--output", output, "--model", tiny_bundle, "--json")
    code, printed, _ = program("scan", address, *options)
    summary = json.loads(printed)
    assert (code, summary["done"], summary["genres"]) == (0, 1, {"low": 1})
    assert list(rows(tmp_path / "out put")) == [f"{address}/low.flac"]
    code, _, errors = program("scan", address, "--engine", "ray")
    assert (code, "--engine ray needs --output" in errors) == (2, True)
    for option in ("--store=library.db", "--retry", "--prune"):
        code, _, errors = program("scan", address, *options, option)
        named = option.partition("=")[0]
        assert (code, f"{named} means nothing with --engine ray" in errors) == (2, True)
    assert program("scan", address, "--output", output)[0] == 2


@pytest.mark.slow
def test_a_node_is_killed_and_nothing_is_lost(
    two_nodes: tuple[Cluster, Any],
    tmp_path: Path,
    tiny_bundle: Path,
    write_audio: Callable[..., Path],
) -> None:
    cluster, other = two_nodes
    (tmp_path / "music").mkdir()
    song = write_audio(tmp_path / "song.flac", tone(200, 200), RATE)
    for number in range(30):
        (tmp_path / "music" / f"{number}.flac").hardlink_to(song)
    output = tmp_path / "output"
    killed_after = None
    for tally in scan_cluster(
        [tmp_path / "music"], output, tiny_bundle, partition_files=1, excerpt=Excerpt(None)
    ):
        if killed_after is None and is_working(other):
            killed_after = tally.done
            cluster.remove_node(other, allow_graceful=False)
    assert killed_after is not None
    assert killed_after < 30
    assert (tally.done, tally.failed) == (30, 0)
    assert rows(output).keys() == {str(path) for path in (tmp_path / "music").iterdir()}


def test_an_error_of_the_output_ends_a_scan_in_one_line(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plan(tmp_path, [Task("/m/1.mp3", 1, 1)])
    job = _Job(str(tmp_path), model_of(Bundle.load(tiny_bundle), Excerpt()), Excerpt(), None)
    (model,) = tmp_path.glob("files/*/model.onnx")
    model.unlink()
    error = _Actor(job)({"partition": 0})["error"]
    assert error == f"{model}: No such file or directory"
    listing = model.with_name("part-000000.parquet")
    listing.write_bytes(b"damaged")
    error = _Actor(job)({"partition": 0})["error"]
    assert error.startswith(f"{listing}: damaged list of files: ")

    music = tmp_path / "music"
    music.mkdir()
    (music / "a.mp3").touch()
    monkeypatch.setattr("tonearm.library.cluster._results", lambda *_: [{"error": error}])
    with pytest.raises(ClusterError, match=r"part-000000.parquet: damaged list"):
        run([music], tmp_path / "output", tiny_bundle)
    with pytest.raises(ClusterError, match=r"a.mp3.*: Not a directory"):
        run([music], music / "a.mp3", tiny_bundle)


def test_what_ray_prints_is_not_among_the_json(
    tmp_path: Path,
    tiny_bundle: Path,
    music: Path,
    program: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def results(_: Any, job: _Job, due: list[int], __: Any) -> Iterator[dict[str, Any]]:
        print("(raylet) a node has been marked dead")
        return map(_Actor(job), ({"partition": number} for number in due))

    monkeypatch.setattr("tonearm.library.cluster._results", results)
    options = ("--engine", "ray", "--output", tmp_path / "out::put", "--model", tiny_bundle)
    code, printed, errors = program("scan", music, *options, "--json")
    assert code == 0, errors
    assert (code, json.loads(printed)["done"]) == (0, 4 if sys.platform == "linux" else 3)
    assert "(raylet)" in errors


def test_the_end_by_a_signal_is_the_programs_own_not_rays() -> None:
    class Ray:
        @staticmethod
        def init(**_: object) -> None:
            signal.signal(signal.SIGTERM, lambda *_: None)

    before = signal.getsignal(signal.SIGTERM)
    _connect(Ray)
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_address_without_a_cluster_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ray:
        @staticmethod
        def init(**_: object) -> None:
            raise ValueError("Invalid address format: nonsense")

    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    with pytest.raises(ClusterError, match="no Ray cluster at RAY_ADDRESS=nonsense: Invalid addr"):
        _connect(Ray)


def test_a_fetched_file_has_its_own_hash_and_time(
    tmp_path: Path, tiny_bundle: Path, write_audio: Callable[..., Path]
) -> None:
    file = write_audio(tmp_path / "a.flac", tone(200, 2), RATE)
    excerpt = Excerpt(None)
    model = model_of(Bundle.load(tiny_bundle), excerpt)
    task = Task.of(str(file))._replace(path=file.as_uri(), mtime_ns=5)
    job = _Job(str(tmp_path), model, excerpt, time_limit=None)
    analyse = _RemoteAnalyser(job, tiny_bundle)
    fetched = analyse(_Fetch(task, tmp_path)).entry
    local = Analyser(tiny_bundle, model, excerpt, None)(Task.of(str(file))).entry
    assert (fetched.path, fetched.size, fetched.mtime_ns) == task
    assert (fetched.audio, fetched.genre) == (local.audio, "low")
    file.unlink()
    missing = analyse(_Fetch(task, tmp_path)).entry
    assert missing.error == "cannot be fetched: No such file or directory"


def test_each_reading_of_a_cluster_has_the_time_limit(
    tmp_path: Path, tiny_bundle: Path, write_audio: Callable[..., Path]
) -> None:
    file = write_audio(tmp_path / "a.wav", tone(200, 2), RATE)
    excerpt = Excerpt(None)
    job = _Job(str(tmp_path), model_of(Bundle.load(tiny_bundle), excerpt), excerpt, time_limit=1e-6)
    entry = _RemoteAnalyser(job, tiny_bundle)(_Fetch(Task.of(str(file)), None)).entry
    assert entry.error == "took longer than the limit of 1e-06 s"


def test_embeddings_are_rounded_as_a_store_rounds_them() -> None:
    rounded = _rounded(track(at("/m/a"), embedding=np.array([0.1, 7.0], np.float32)))
    assert rounded.embedding is not None
    assert rounded.embedding.tolist() == [float(np.float16(0.1)), 7.0]


class Crashing(_RemoteAnalyser):
    """Dies in the midst of a recording, with the copy in its hands."""

    def __call__(self, fetch: _Fetch) -> Outcome:
        local_copy(fetch.task.path, fetch.folder)
        os.kill(os.getpid(), 9)  # SIGKILL, for which Windows has no name
        raise AssertionError


def test_a_process_that_dies_leaves_no_copy_behind(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(copies))
    monkeypatch.setattr("tonearm.library.cluster._RemoteAnalyser", Crashing)
    song = tmp_path / "song.mp3"
    song.write_bytes(b"abc")
    output = tmp_path / "output"
    partitions = Partitions(str(output))
    model = model_of(Bundle.load(tiny_bundle), Excerpt())
    partitions.create_plan(
        [Task(song.as_uri(), 3, -1)], [song.as_uri()], model.key, tiny_bundle.read_bytes(), 2, {}
    )
    counts = _Actor(_Job(str(output), model, Excerpt(), None))({"partition": 0})
    assert (counts["failed"], counts["error"]) == (1, "")
    assert "died" in rows(output)[song.as_uri()]["error"]
    assert list(copies.iterdir()) == []


def is_working(node: Any) -> bool:
    """Whether an actor lives on a node."""
    actors = ray._private.state.actors().values()
    return any(
        actor["State"] == "ALIVE" and actor["Address"]["NodeID"] == node.node_id for actor in actors
    )


def test_the_output_of_another_model_is_refused(tmp_path: Path) -> None:
    partitions = write_plan(tmp_path, [Task("s3://music/a.mp3", 1, -1)])
    other = Model("other/30/1", "other", ("a",), "30")
    with pytest.raises(TonearmError, match="holds a scan by tiny/30/0, not by other/30/1"):
        _plan(partitions, ("s3://music",), other, b"onnx", 2)
