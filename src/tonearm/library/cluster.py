"""Scan with a cluster: Ray Data distributes partitions of files, results are stored in Parquet."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tonearm import bundle
from tonearm.atomic import atomic_write
from tonearm.bundle import Bundle
from tonearm.errors import TonearmError, UsageError, reason_of, with_file
from tonearm.extras import needs
from tonearm.library.analysis import (
    Analyser,
    Outcome,
    Task,
    check_limits,
    failed_outcome,
    model_of,
    time_limit_of,
)
from tonearm.library.entry import Entry, Model
from tonearm.library.excerpt import Excerpt
from tonearm.library.rows import to_row
from tonearm.library.scan import Tally
from tonearm.library.sources import absolute_or_url, download_folder, local_copy, tasks
from tonearm.media import require_several
from tonearm.paths import cache_folder
from tonearm.text import printable
from tonearm.threads import keep_blas_single
from tonearm.workers import Crash, IsolatedWorker

if TYPE_CHECKING:
    from tonearm.library.partitions import Partitions, Plan

PARTITION_FILES = 250  # about half a minute on one processor
_IN_FLIGHT = 2  # partitions assigned to an actor, so that it need not wait for the next one


class ClusterError(TonearmError):
    """A scan with a cluster ended before everything was done."""


def scan_cluster(
    sources: Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    model: str | os.PathLike[str] = bundle.DEFAULT_NAME,
    *,
    excerpt: Excerpt | None = None,
    workers: int | None = None,
    partition_files: int = PARTITION_FILES,
    time_limit: float | None = None,
) -> Iterator[Tally]:
    """Analyse all recordings in some folders, files or URLs with all processors of a Ray cluster.

    The files are listed once, in partitions. Each partition becomes one Parquet file in the folder
    ``results`` of the output, with a row for each recording (see `parquet.schema`). The file is
    written completely or not at all, so whatever ends a scan, the same call resumes with the
    missing partitions, and the unfinished work of a lost node is redone by another. A recording
    that crashes or hangs its decoder fails alone.

    Ray is used as this process has set it up, or else as ``RAY_ADDRESS`` says; if that is not set,
    Ray is started on this machine. Every node needs the same version of Tonearm, and local folders
    (on NFS) must have the same paths on every node.

    Parameters
    ----------
    sources
        Folders and files; or URLs that fsspec supports (``s3://bucket/music``).
    output
        A folder or a URL, for this scan alone.
    model
        A name, a bundle or a run folder, as for `Classifier.load`. The nodes read it from the
        output.
    excerpt
        How much of each long file to analyse.
    workers
        Maximum number of actors, each with one processor; by default, the present number of
        processors. For a cluster that grows on demand, give the number it may grow to.
    partition_files
        Recordings in a partition; a resumed scan keeps the number it started with.
    time_limit
        As in `Scan`; the time to fetch a file counts only towards the doubled limit.

    Yields
    ------
    Tally
        The progress of this call: once it knows what is due, and after every partition. It is the
        same object each time.

    Raises
    ------
    UsageError
        If a parameter is out of range, or `sources` is a single path.
    TonearmError
        If a source does not exist, or the output belongs to a scan of other sources or by another
        model.
    MissingExtraError
        If Ray, fsspec or PyArrow is not installed.
    ClusterError
        If there is no cluster at ``RAY_ADDRESS``, a remote source or the output cannot be read or
        written, or partitions are missing at the end.
    """
    check_limits(workers, time_limit)
    require_several("sources", sources)
    if partition_files < 1:
        raise UsageError(f"partition files: expected 1 or more, got {partition_files}")
    with needs("cluster"):
        import ray.data
    excerpt = excerpt or Excerpt()
    loaded = Bundle.load(bundle.find(model))
    job = _Job(
        output=absolute_or_url(os.fspath(output)),
        model=model_of(loaded, excerpt),
        excerpt=excerpt,
        time_limit=time_limit,
    )
    locations = tuple(absolute_or_url(os.fspath(source)) for source in sources)
    try:
        yield from _scan(ray, job, locations, loaded.path, partition_files, workers)
    except OSError as error:  # of the file system of the output or a source
        raise ClusterError(with_file(error)) from error


@dataclass(frozen=True)
class _Job:
    """What an actor needs to know.

    Attributes
    ----------
    output
        Where the partitions and the model are.
    model
        The model as the results name it.
    excerpt, time_limit
        As for `scan_cluster`.
    """

    output: str
    model: Model
    excerpt: Excerpt
    time_limit: float | None


def _scan(
    ray: Any,
    job: _Job,
    sources: tuple[str, ...],
    bundle_path: Path,
    partition_files: int,
    workers: int | None,
) -> Iterator[Tally]:
    """Do what is left of a scan, and yield its tally as `scan_cluster` does."""
    from tonearm.library.partitions import Partitions

    folder = Partitions(job.output)
    plan = _plan(folder, sources, job.model, bundle_path.read_bytes(), partition_files)
    due = sorted(set(range(plan.partitions)) - folder.done())
    tally = Tally(
        found=plan.files, due=sum(map(plan.files_in, due)), unreadable=dict(plan.unreadable)
    )
    yield tally
    if due:
        for row in _results(ray, job, due, workers):
            if row["error"]:
                raise ClusterError(row["error"])
            tally.done += row["classified"] + row["failed"]
            tally.classified += row["classified"]
            tally.failed += row["failed"]
            tally.seconds_of_music += row["seconds_of_music"]
            yield tally
    if missing := plan.partitions - len(folder.done()):
        raise ClusterError(
            f"{job.output}: {missing} of {plan.partitions} partitions are missing; the "
            "same scan again goes on from there"
        )


class _Actor:
    """Analyses one partition after the other, in a process beside the actor's own.

    That process keeps the model loaded, and is replaced if a file crashes or hangs it.
    """

    def __init__(self, job: _Job) -> None:
        from tonearm.library.partitions import Partitions

        keep_blas_single()  # also, each actor has only one processor
        self._job = job
        self._folder = Partitions(job.output)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Analyse the partition that a row names, store the results and return their counts.

        An error of the output is returned as well, as Ray would bury it in stack traces.
        """
        counts = {"classified": 0, "failed": 0, "seconds_of_music": 0.0, "error": ""}
        try:
            return counts | self._analyse(int(row["partition"]))
        except (TonearmError, OSError) as error:
            return counts | {"error": with_file(error)}

    @cached_property
    def _worker(self) -> IsolatedWorker[_Fetch, Outcome]:
        return IsolatedWorker(
            partial(_RemoteAnalyser, self._job, _bundle_file(self._folder.bundle())),
            time_limit=lambda fetch: time_limit_of(fetch.task, self._job.time_limit),
        )

    def _analyse(self, partition: int) -> dict[str, Any]:
        from tonearm.library.parquet import to_table

        entries = [self._outcome(task).entry for task in self._folder.tasks(partition)]
        rows = [to_row(_rounded(entry), timeline=True, embeddings=True) for entry in entries]
        self._folder.write_results(partition, to_table(rows, self._job.model.labels))
        failed = sum(entry.genre is None for entry in entries)
        return {
            "classified": len(entries) - failed,
            "failed": failed,
            "seconds_of_music": sum(entry.duration or 0.0 for entry in entries if entry.genre),
        }

    def _outcome(self, task: Task) -> Outcome:
        with download_folder(task.path) as folder:  # here, as the process may die with the copy
            result = self._worker(_Fetch(task, folder))
        if isinstance(result, Crash):
            return failed_outcome(task, self._job.model, result.reason)
        return result


class _Fetch(NamedTuple):
    """A file to fetch and analyse, and the folder to fetch it into if it is remote."""

    task: Task
    folder: Path | None


def _rounded(entry: Entry) -> Entry:
    """Round an entry's embedding to the precision of a store; compression then halves its size."""
    if entry.embedding is None:
        return entry
    return replace(entry, embedding=entry.embedding.astype(np.float16).astype(np.float32))


class _RemoteAnalyser:
    """An `Analyser` that also fetches remote files."""

    def __init__(self, job: _Job, bundle: Path) -> None:
        self._model = job.model
        self._analyse = Analyser(bundle, job.model, job.excerpt, None, job.time_limit)

    def __call__(self, fetch: _Fetch) -> Outcome:
        task = fetch.task
        try:
            path = local_copy(task.path, fetch.folder)
        except Exception as error:  # file systems raise errors of many kinds
            return failed_outcome(task, self._model, f"cannot be fetched: {reason_of(error)}")
        # A copy has a time of its own.
        outcome = self._analyse(Task.of(path) if path != task.path else task)
        return outcome._replace(entry=replace(outcome.entry, **task._asdict()))


def _plan(
    folder: Partitions,
    sources: tuple[str, ...],
    model: Model,
    bundle: bytes,
    partition_files: int,
) -> Plan:
    """Return the plan of the output, creating it if there is none."""
    plan = folder.plan()
    if plan is None:
        unreadable: dict[str, str] = {}

        def note_unreadable(error: OSError) -> None:
            unreadable[printable(os.fsdecode(error.filename))] = reason_of(error)

        files = tasks(sources, note_unreadable)
        return folder.create_plan(files, sources, model.key, bundle, partition_files, unreadable)
    if plan.sources != sources:
        previous = ", ".join(plan.sources)
        raise TonearmError(f"{folder.path}: holds a scan of {previous}")
    if plan.model != model.key:
        raise TonearmError(f"{folder.path}: holds a scan by {plan.model}, not by {model.key}")
    return plan


def _results(ray: Any, job: _Job, due: list[int], workers: int | None) -> Iterator[dict[str, Any]]:
    """Have the actors analyse partitions, and yield the counts of each."""
    starts_ray = not ray.is_initialized()
    if starts_ray:
        _connect(ray)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        actors = ray.data.ActorPoolStrategy(
            min_size=1,  # if a node is lost, no other may have room for its actors
            max_size=workers or max(1, int(ray.cluster_resources().get("CPU", 1))),
            max_tasks_in_flight_per_actor=_IN_FLIGHT,
        )
        partitions = ray.data.from_items(
            [{"partition": number} for number in due], override_num_blocks=len(due)
        )
        results = partitions.map(_Actor, fn_constructor_args=(job,), compute=actors, num_cpus=1)
        yield from results.iter_rows()
    finally:
        if starts_ray:
            ray.shutdown()


def _connect(ray: Any) -> None:
    """Join the cluster that RAY_ADDRESS names, or start one on this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # usage reports to Ray's authors
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    address = os.environ.get("RAY_ADDRESS")
    options = {} if address else {"include_dashboard": False}
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ValueError, ConnectionError) as error:
        reason = reason_of(error)
        raise ClusterError(f"no Ray cluster at RAY_ADDRESS={address}: {reason}") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)  # Ray's handler prints a stack trace and aborts


def _bundle_file(content: bytes) -> Path:
    """Write a bundle's bytes to a file on this node, shared by its actors; return its path."""
    path = cache_folder("bundles") / f"{hashlib.sha256(content).hexdigest()}.onnx"
    if not path.is_file():
        with atomic_write(path) as file:
            file.write(content)
    return path
