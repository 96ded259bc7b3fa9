"""Runs `tonearm scan` and watches it from outside: CPU time, throughput, memory (Linux).

Memory is the proportional set size of all processes together, so shared pages count once.
"""

from __future__ import annotations

import csv
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import av

from tonearm.audio.container import ANY_TAGS

SAMPLE_SECONDS = 0.5  # between two samples of memory


class Sample(NamedTuple):
    """One sample of a scan: seconds since it began, files in its store, megabytes of memory."""

    seconds: float
    files: int
    megabytes: float


@dataclass
class Watch:
    """Samples of a process and its descendants."""

    samples: list[Sample] = field(default_factory=list)

    @property
    def peak(self) -> float:
        """Maximum memory in megabytes."""
        return max((sample.megabytes for sample in self.samples), default=0.0)


class Cost(NamedTuple):
    """The cost of a run: CPU seconds of all processes, wall-clock seconds, samples of memory."""

    used: float
    elapsed: float
    watch: Watch


def command(store: Path, paths: Iterable[Path], options: Sequence[str]) -> list[str]:
    """Return the command for a scan by the Tonearm that is installed beside this Python."""
    program = str(Path(sys.executable).with_name("tonearm"))
    return [program, "scan", "--store", str(store), *options, *map(str, paths)]


def scan(store: Path, paths: Iterable[Path], options: Sequence[str]) -> Cost:
    """Scan into a new store, and return the cost."""
    return run(command(store, paths, options), store)


def run(arguments: Sequence[str], store: Path | None = None) -> Cost:
    """Run a program to its end and return its cost; a store, if any, shows its progress."""
    before = os.times()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    with watched(process.pid, store) as watch:
        if process.wait():
            sys.exit(f"{Path(arguments[0]).name} failed")
    after = os.times()
    cpu_seconds = after.children_user + after.children_system
    cpu_seconds -= before.children_user + before.children_system
    return Cost(cpu_seconds, after.elapsed - before.elapsed, watch)


def decode_all(files: Iterable[Path]) -> tuple[float, float]:
    """Decode files on one thread; return the CPU seconds and their length in hours."""
    seconds = 0.0
    start = time.process_time()
    for path in files:
        # Files that cannot be decoded cost a scan little, too.
        with (
            suppress(av.error.FFmpegError, IndexError, ValueError),
            av.open(str(path), **ANY_TAGS) as container,
        ):
            stream = container.streams.audio[0]
            stream.codec_context.thread_count = 1
            for frame in container.decode(stream):
                seconds += frame.samples / frame.sample_rate
    return time.process_time() - start, seconds / 3600


@contextmanager
def watched(pid: int, store: Path | None) -> Iterator[Watch]:
    """Sample a process and its descendants until the block ends."""
    watch, done, start = Watch(), threading.Event(), time.monotonic()

    def sample() -> None:
        while not done.wait(SAMPLE_SECONDS):
            megabytes = sum(map(proportional_megabytes, family(pid)))
            files = files_in(store) if store else 0
            watch.samples.append(Sample(time.monotonic() - start, files, megabytes))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield watch
    finally:
        done.set()
        thread.join()


def family(pid: int) -> Iterator[int]:
    """Yield a process and all its descendants."""
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def proportional_megabytes(pid: int) -> float:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1000
    return 0.0


def files_in(store: Path) -> int:
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        return db.execute("SELECT count(*) FROM files").fetchone()[0]
    return 0


def write_trace(path: Path, name: str, watch: Watch) -> None:
    """Append the samples to a CSV file."""
    with path.open("a", newline="") as file:
        csv.writer(file).writerows((name, *sample) for sample in watch.samples)
