"""Derive data from many files, once per content; a bad file does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from tonearm import workers
from tonearm.datasets.content import ContentIndex, Stamp, content_hash, stamps
from tonearm.errors import reason_of
from tonearm.prediction import Failure
from tonearm.progress import with_progress

Derived = TypeVar("Derived")

# Returns what is stored for a content hash, or None if it is missing or incomplete.
Read = Callable[[str], Derived | None]
# Derives it from a file, and stores it under the file's content hash.
Make = Callable[[Path, str], None]


def derived(
    paths: Iterable[Path],
    contents: ContentIndex,
    read: Read[Derived],
    prepare: Callable[[], Make],
    description: str,
    *,
    processes: int,
    progress: bool,
) -> tuple[dict[Path, Derived], dict[Path, str]]:
    """Return what is derived from each file, and a one-line reason for each file without it.

    Parameters
    ----------
    contents
        The known content hashes; new ones are recorded in it.
    read
        Picklable.
    prepare
        Called once in every worker process; picklable. Any exception from the function it returns
        means that the file failed, except an `OSError`, which is taken for a failure to write.
    description
        Shown beside the progress bar.
    processes
        Number of worker processes; with 1, the calling process does the work.
    progress
        Whether to show a progress bar on standard error.

    Raises
    ------
    OSError
        If what was derived cannot be written.
    ContentIndexError
        If the content hashes cannot be read or recorded.
    StartError
        With several processes, if one dies or fails before it can begin.
    """
    listed, errors = stamps(paths)
    known = contents.known(listed.values())
    found: dict[Path, Derived] = {}
    tasks: list[_Task] = []
    for path, stamp in listed.items():
        content = known.get(stamp)
        stored = None if content is None else read(content)
        if stored is None:
            tasks.append(_Task(path, stamp, content))
        else:
            found[path] = stored

    results = _results(partial(_worker, read, prepare), tasks, processes)
    bar = with_progress(results, len(tasks), description, show=progress and bool(tasks))
    with contents.recording() as record:
        for task, result in zip(tasks, bar, strict=True):
            if isinstance(result, OSError):
                raise result
            if isinstance(result, Failure):
                errors[task.path] = result.error
                continue
            record(result.stamp, result.content)
            stored = read(result.content)
            if stored is None:
                errors[task.path] = "what was derived from it is gone again"
            else:
                found[task.path] = stored
    return found, errors


@dataclass(frozen=True)
class _Task:
    """A file to derive from; `content` is its hash at `stamp` if already known."""

    path: Path
    stamp: Stamp
    content: str | None


@dataclass(frozen=True)
class _Made:
    """The hash of the content that was derived from, and the stamp of the file with it."""

    stamp: Stamp
    content: str


# What was derived from, or why nothing was; an OSError is a failure to write.
_Result = _Made | Failure | OSError


def _results(
    prepare: Callable[[], Callable[[_Task], _Result]], tasks: Sequence[_Task], processes: int
) -> Iterator[_Result]:
    """Yield a result for every task, in order; a process that dies fails only its own task."""
    if not tasks:
        return
    if processes <= 1:
        yield from map(prepare(), tasks)
        return
    for result in workers.in_order(prepare, tasks, min(processes, len(tasks))):
        if isinstance(result, workers.Crash):
            yield Failure(result.item.path, result.reason)
        else:
            yield result


def _worker(read: Read[Derived], prepare: Callable[[], Make]) -> Callable[[_Task], _Result]:
    """Return a function that does one task and never raises."""
    make = prepare()

    def work(task: _Task) -> _Result:
        try:
            # The file may have changed since the task was listed, which may be hours ago.
            stamp = Stamp.of(task.path)
            known = task.content if stamp == task.stamp else None
            content = known or content_hash(task.path)
        except OSError as error:
            return Failure(task.path, reason_of(error))
        try:
            # Another file with the same content, or another process, may have been first.
            if read(content) is None:
                make(task.path, content)
        except OSError as error:
            return error
        except Exception as error:  # one odd file must not end a long job
            return Failure.of(task.path, error)
        return _Made(stamp, content)

    return work
