"""Derives something from each of many files: once for each content, no file stopping the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from tonearm import workers
from tonearm.audio.errors import AudioError
from tonearm.datasets.content import ContentIndex, Stamp, content_hash
from tonearm.datasets.progress import shown
from tonearm.errors import TonearmError, unexpected

Derived = TypeVar("Derived")

# Gives what is stored of some content, or None if it is not there or not whole.
Read = Callable[[str], Derived | None]
# Derives it from a file, and stores it under the name of its content.
Make = Callable[[Path, str], None]


def derived(
    paths: Iterable[Path],
    contents: ContentIndex,
    read: Read[Derived],
    prepare: Callable[[], Make],
    what: str,
    *,
    processes: int = 1,
    progress: bool = True,
) -> tuple[dict[Path, Derived], dict[Path, str]]:
    """Give what is derived from each file, and for each that has nothing the reason in one line.

    Parameters
    ----------
    contents
        What is known of the files; what is found out about them is recorded.
    read
        Picklable.
    prepare
        Called once in every process that works; picklable. Whatever the function it gives raises
        refuses the file, but for an `OSError`, which is taken for one of writing.
    what
        Is shown beside the bar.
    processes
        How many work; with 1, this process does.
    progress
        Whether to show a bar on standard error.

    Raises
    ------
    OSError
        What was derived cannot be written.
    ContentIndexError
        What is known of the files cannot be read or recorded.
    """
    refused: dict[Path, str] = {}
    stamps: dict[Path, Stamp] = {}
    for path in dict.fromkeys(paths):
        try:
            stamps[path] = Stamp.of(path)
        except OSError as error:
            refused[path] = _reason(error)
    known = contents.known(stamps.values())
    found: dict[Path, Derived] = {}
    tasks: list[_Task] = []
    for path, stamp in stamps.items():
        content = known.get(stamp)
        stored = None if content is None else read(content)
        if stored is None:
            tasks.append(_Task(path, content))
        else:
            found[path] = stored

    results = _results(partial(_worker, read, prepare), tasks, processes)
    bar = shown(results, len(tasks), what, show=progress and bool(tasks))
    for task, result in zip(tasks, bar, strict=True):
        if isinstance(result, OSError):
            raise result
        if isinstance(result, _Refused):
            refused[task.path] = result.reason
            continue
        contents.record(stamps[task.path], result)
        stored = read(result)
        if stored is None:
            refused[task.path] = "what was derived from it is gone again"
        else:
            found[task.path] = stored
    return found, refused


@dataclass(frozen=True)
class _Task:
    """A file to derive from; `content` is its hash where that is known already."""

    path: Path
    content: str | None


@dataclass(frozen=True)
class _Refused:
    """Why nothing is derived from a file, in one line."""

    reason: str


# The hash of the file's content, or why there is nothing; an OSError is the store's own.
_Result = str | _Refused | OSError


def _results(
    prepare: Callable[[], Callable[[_Task], _Result]], tasks: Sequence[_Task], processes: int
) -> Iterator[_Result]:
    """Yield a result for every task, in order; a process that dies refuses its task alone."""
    if not tasks:
        return
    if processes <= 1:
        yield from map(prepare(), tasks)
        return
    for result in workers.in_order(prepare, tasks, min(processes, len(tasks))):
        if isinstance(result, workers.Crash):
            yield _Refused(f"the process died reading it (exit {result.exit_code})")
        else:
            yield result


def _worker(read: Read[Derived], prepare: Callable[[], Make]) -> Callable[[_Task], _Result]:
    """Give the function that does one task; it never raises."""
    make = prepare()

    def work(task: _Task) -> _Result:
        try:
            content = task.content or content_hash(task.path)
        except OSError as error:
            return _Refused(_reason(error))
        try:
            # Another file, or another process, may have brought the same content.
            if read(content) is None:
                make(task.path, content)
        except AudioError as error:
            return _Refused(error.reason)
        except TonearmError as error:
            return _Refused(str(error))
        except OSError as error:
            return error
        except Exception as error:  # one strange file must not end a long job
            return _Refused(unexpected(error))
        return content

    return work


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
