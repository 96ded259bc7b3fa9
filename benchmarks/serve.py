"""What `tonearm serve` adds to listening: answers a second, and how long each takes.

    python benchmarks/serve.py [FILE...] [--requests 200] [--workers 2] [--clients 1 2 8]

The floor is the same number of processes classifying the same files without HTTP: no request, no
upload, no copy on the disk. The server runs as its own program and is called over the loopback.
Without files a piece of 30 s is rendered and encoded as MP3 (320 kbit/s).
"""

from __future__ import annotations

import argparse
import itertools
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import httpx
import numpy as np

import machine
import scanning
from encoding import encode, piece
from tonearm.classifier import Classifier
from tonearm.isolation import IsolatedClassifier
from tonearm.prediction import Failure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--requests", type=int, default=200, metavar="N")
    parser.add_argument("--workers", type=int, default=2, help="processes that listen")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 8], help="at once")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        files = args.files or [
            encode(Path(name) / "piece.mp3", piece(0, 30.0), "libmp3lame", 320_000)
        ]
        due = list(itertools.islice(itertools.cycle(files), args.requests))
        print(machine.notes(("fastapi", "uvicorn", "onnxruntime")))
        print(f"{args.requests} requests, {args.workers} processes, {len(files)} files")
        print(f"{'':24}{'a second':>10}{'of floor':>10}{'median ms':>11}{'95 % ms':>10}")
        floors = {}
        with isolated_classifiers(args.workers) as classify:
            # More clients than processes would only wait.
            for clients in sorted({min(clients, args.workers) for clients in args.clients}):
                floors[clients] = report(f"no server, {clients} at once", classify, due, clients)
        with serving(args.workers, max(args.clients)) as (post, process):
            for clients in args.clients:
                floor = floors[min(clients, args.workers)]
                report(f"served, {clients} at once", post, due, clients, floor)
            megabytes = sum(map(scanning.proportional_megabytes, scanning.family(process)))
        print(f"memory of all processes: {megabytes:.0f} MB")


def report(
    name: str,
    request: Callable[[Path], None],
    files: Sequence[Path],
    clients: int,
    floor: float | None = None,
) -> float:
    """Print a row, and return the responses per second."""

    def timed(path: Path) -> float:
        start = time.perf_counter()
        request(path)
        return time.perf_counter() - start

    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(request, files[: 4 * clients]))  # opens connections, caches files
        start = time.perf_counter()
        latencies = list(threads.map(timed, files))
        rate = len(files) / (time.perf_counter() - start)
    middle, slow = np.percentile(latencies, [50, 95])
    share = f"{rate / floor:10.2f}" if floor else f"{'1':>10}"
    print(f"{name:24}{rate:10.2f}{share}{1000 * middle:11.0f}{1000 * slow:10.0f}")
    return rate


@contextmanager
def isolated_classifiers(workers: int) -> Iterator[Callable[[Path], None]]:
    """Yield a function that classifies a file in an idle process, waiting for one if necessary."""
    classifier = Classifier.load()
    classifiers = [classifier.isolated() for _ in range(workers)]
    idle: SimpleQueue[IsolatedClassifier] = SimpleQueue()
    for worker in classifiers:
        idle.put(worker)

    def classify(path: Path) -> None:
        worker = idle.get()
        result = worker.attempt(path)
        idle.put(worker)
        if isinstance(result, Failure):
            sys.exit(f"{path}: {result.error}")

    try:
        yield classify
    finally:
        for worker in classifiers:
            worker.close()


@contextmanager
def serving(workers: int, clients: int) -> Iterator[tuple[Callable[[Path], None], int]]:
    """Yield a function that posts a file to a server, and the server's process ID."""
    program = str(Path(sys.executable).with_name("tonearm"))
    options = ["--port", "0", "--workers", str(workers), "--max-waiting", str(clients)]
    process = subprocess.Popen(
        [program, "serve", *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    address = re.search(r"http://[^ ]+", process.stderr.readline())
    if address is None:
        process.kill()
        sys.exit("tonearm serve failed")
    with httpx.Client(base_url=address[0], timeout=120) as client:

        def post(path: Path) -> None:
            with path.open("rb") as file:
                response = client.post("/classify", files={"file": file})
            if response.status_code != 200:
                sys.exit(f"{path}: {response.text}")

        try:
            yield post, process.pid
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
