"""What `tonearm scan` costs beside bare decoding of the same files: CPU time, throughput, memory.

    python benchmarks/scan.py [FOLDER|FILE...] [--excerpt 30 all] [--workers 2] [--trace trace.csv]

Without files it renders some full-length pieces and encodes them as 44.1 kHz stereo MP3 (320
kbit/s) and AAC (256 kbit/s), as music comes. The floor is PyAV handing out every decoded frame of
every file on one thread, to nobody. CPU time counts all processes of the scan; what a scan of one
short clip for each process takes (starting up, loading the model) is told apart, since a library
pays it once. Memory is the proportional set size of all processes together, so shared pages count
once.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np

from tonearm import media, synth

ALLOWED_RATIO = 1.6
ALLOWED_MEGABYTES = 600
SAMPLE_SECONDS = 0.5  # between two looks at memory
RENDERED_SECONDS = 240.0
RENDERED_PIECES = 3
ENCODINGS = ((".mp3", "libmp3lame", 320_000), (".m4a", "aac", 256_000))


@dataclass
class Watch:
    """What was seen of a running scan: seconds, files in the store, megabytes."""

    samples: list[tuple[float, int, float]] = field(default_factory=list)

    @property
    def peak(self) -> float:
        """Megabytes at most."""
        return max((megabytes for _, _, megabytes in self.samples), default=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path, metavar="FOLDER|FILE")
    parser.add_argument("--excerpt", nargs="+", default=["30"], metavar="SECONDS|all")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--model", default="default")
    parser.add_argument("--trace", type=Path, help="a CSV file for the memory over time")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = chosen.paths or [rendered(Path(folder) / "music")]
        files = [Path(file) for file in media.recordings(map(str, paths))]
        floor, hours = decode_all(files)
        clips = [
            encoded(Path(folder) / f"clip{number}.mp3", 1.0, "libmp3lame", 128_000, number)
            for number in range(chosen.workers)
        ]
        print(f"{len(files)} files, {hours:.2f} h of music, {chosen.workers} workers")
        print(
            f"{'':24}{'CPU s per h':>12}{'of floor':>10}{'files/s':>10}{'x real time':>13}{'MB':>8}"
        )
        print(f"{'PyAV alone, 1 thread':24}{floor / hours:12.2f}{1:10.2f}")
        for excerpt in chosen.excerpt:
            options = ["--excerpt", excerpt, "--workers", str(chosen.workers)]
            options += ["--model", chosen.model]
            start, _, _ = scan(Path(folder), clips, options)
            used, elapsed, watch = scan(Path(folder), paths, options)
            lasting = used - start
            print(
                f"{'scan, excerpt ' + excerpt:24}{lasting / hours:12.2f}{lasting / floor:10.2f}"
                f"{len(files) / elapsed:10.2f}{hours * 3600 / elapsed:13.0f}{watch.peak:8.0f}"
            )
            print(f"{'  with starting up':24}{used / hours:12.2f}{used / floor:10.2f}")
            if chosen.trace:
                write_trace(chosen.trace, excerpt, watch)
    print(f"allowed: {ALLOWED_RATIO} of the floor with the default, {ALLOWED_MEGABYTES} MB")


def decode_all(files: list[Path]) -> tuple[float, float]:
    """CPU seconds of decoding some files, and their length in hours."""
    seconds = 0.0
    begun = time.process_time()
    for path in files:
        # What does not decode costs a scan little, too.
        with (
            suppress(av.error.FFmpegError, IndexError, ValueError),
            av.open(str(path), metadata_errors="replace") as container,
        ):
            stream = container.streams.audio[0]
            stream.codec_context.thread_count = 1
            for frame in container.decode(stream):
                seconds += frame.samples / frame.sample_rate
    return time.process_time() - begun, seconds / 3600


def scan(folder: Path, paths: list[Path], options: list[str]) -> tuple[float, float, Watch]:
    """CPU and wall seconds of a scan into a new store, and what was seen of it."""
    store = folder / f"{time.monotonic_ns()}.db"
    program = [str(Path(sys.executable).with_name("tonearm")), "scan", "--store", str(store)]
    before = os.times()
    process = subprocess.Popen([*program, *options, *map(str, paths)], stdout=subprocess.DEVNULL)
    with watched(process.pid, store) as watch:
        if process.wait():
            sys.exit("the scan failed")
    after = os.times()
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    return used, after.elapsed - before.elapsed, watch


@contextmanager
def watched(pid: int, store: Path) -> Iterator[Watch]:
    """Look at a process and its children, until the block ends."""
    watch, over, begun = Watch(), threading.Event(), time.monotonic()

    def look() -> None:
        while not over.wait(SAMPLE_SECONDS):
            seen = sum(map(proportional_megabytes, family(pid)))
            watch.samples.append((time.monotonic() - begun, files_in(store), seen))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


def family(pid: int) -> Iterator[int]:
    """Yield a process and those it started, and so on (Linux)."""
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
        return db.execute("SELECT coalesce(max(rowid), 0) FROM files").fetchone()[0]
    return 0


def write_trace(path: Path, excerpt: str, watch: Watch) -> None:
    with path.open("a", newline="") as file:
        csv.writer(file).writerows((excerpt, *sample) for sample in watch.samples)


def rendered(folder: Path) -> Path:
    folder.mkdir()
    for number, (suffix, codec, bitrate) in itertools.product(range(RENDERED_PIECES), ENCODINGS):
        encoded(folder / f"{number}{suffix}", RENDERED_SECONDS, codec, bitrate, number)
    return folder


def encoded(path: Path, seconds: float, codec: str, bitrate: int, number: int = 0) -> Path:
    piece = synth.render(synth.STYLES[number % len(synth.STYLES)], seconds, 44_100, seed=number)
    noise = np.random.default_rng(number).normal(0, 0.01, (2, len(piece)))  # so that bits are used
    stereo = (piece + noise).astype(np.float32)
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=44_100, layout="stereo", bit_rate=bitrate)
        frame = av.AudioFrame.from_ndarray(stereo, format="fltp", layout="stereo")
        frame.sample_rate = 44_100
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


if __name__ == "__main__":
    main()
