"""Whether `tonearm scan` holds at thousands of files: linear time, flat memory, harmless kills.

    python benchmarks/scan_scale.py [FILE...] [--counts 100 1000 10000] [--kills 10] [--trace t.csv]

Cuts the files (by default some rendered pieces as 44.1 kHz stereo MP3, AAC and Vorbis) into clips
of five seconds, all different, and scans the first hundred, thousand and so on into new stores.
Then it repeats the largest scan, killing it at random moments and starting it again: by SIGKILL,
alternately to all its processes and to the parent alone. The resulting store must equal that of the
unbroken run in every column but the time stamps, no stored result may be computed again, and no
process may outlive its parent.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import NamedTuple

import clips
import machine
import scanning

SETTLED = 500  # files; memory must be flat from here on
ALLOWED_GROWTH = 0.1
# One kill in three comes while the scan starts; the others while files are being processed, at most
# LATEST_SECONDS after one was stored.
STARTING_EVERY, STARTING_SECONDS, LATEST_SECONDS = 3, 2.0, 0.5
LAST_KILL = 0.95  # of the files, so that the scan cannot end first
PATIENCE_SECONDS = 30.0  # for killed processes to end


class Kill(NamedTuple):
    """How a scan was killed, and what was left.

    Attributes
    ----------
    all_at_once
        Whether all processes were killed, or the parent alone.
    moment
        When the kill was due, in words.
    stored
        Rows of the store afterwards: path and time stamp.
    lingered
        Seconds until the scan's last process had ended.
    """

    all_at_once: bool
    moment: str
    stored: set[tuple[bytes, float]]
    lingered: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--counts", nargs="+", type=int, default=[100, 1000, 10_000])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trace", type=Path, help="a CSV file for the memory over time")
    args = parser.parse_args()
    options = ["--workers", str(args.workers)]
    counts = sorted(args.counts)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        sources = args.files or clips.rendered(home / "pieces")
        folders = clips.cut(sources, home / "clips", counts[-1])
        print(machine.notes(), end="\n\n")
        unbroken = grow(home, folders, counts, options, args.trace)
        if args.kills:
            store = home / "killed.db"
            kills = kill_and_resume(
                store, folders, counts[-1], options, args.kills, random.Random(args.seed)
            )
            faults = find_faults(kills, store, unbroken)
            print("\n".join(faults or ["the stores are equal"]))
            if faults:
                sys.exit(1)


def grow(
    home: Path, folders: Sequence[Path], counts: list[int], options: list[str], trace: Path | None
) -> Path:
    """Scan more and more clips, print the cost of each scan, and return the last store."""
    first = sorted(folders[0].iterdir())[: int(options[-1])]
    start = scanning.scan(home / "start.db", first, options)
    print("| files | seconds | files/s | CPU ms per file | MB at most | store, MB |")
    print("|---:|---:|---:|---:|---:|---:|")
    for count in counts:
        store = home / f"{count}.db"
        cost = scanning.scan(store, folders[: -(-count // clips.IN_FOLDER)], options)
        cpu_ms = 1000 * (cost.used - start.used) / count
        size = store.stat().st_size / 1e6
        print(
            f"| {count} | {cost.elapsed:.0f} | {count / cost.elapsed:.1f} | {cpu_ms:.1f} "
            f"| {cost.watch.peak:.0f} | {size:.1f} |",
            flush=True,
        )
        if trace:
            scanning.write_trace(trace, str(count), cost.watch)
    print(f"\nStarting and ending: {start.used:.1f} CPU s and {start.elapsed:.1f} s, once.\n")
    show_memory(cost.watch)
    return store


def show_memory(watch: scanning.Watch) -> None:
    """Print memory by bins of files after the first bin, and how much it grows."""
    bins: dict[int, list[float]] = {}
    for sample in watch.samples[:-1]:  # by the last sample some processes may have ended
        bins.setdefault(sample.files // SETTLED, []).append(sample.megabytes)
    later = {number: megabytes for number, megabytes in bins.items() if number >= 1}
    if len(later) < 2:
        return
    settled = median(later[min(later)])
    print("| files | MB, median | MB, most |\n|---:|---:|---:|")
    for number, megabytes in later.items():
        print(f"| from {number * SETTLED} | {median(megabytes):.0f} | {max(megabytes):.0f} |")
    medians = max(median(megabytes) for megabytes in later.values()) / settled - 1
    most = max(max(megabytes) for megabytes in later.values()) / settled - 1
    print(
        f"\nAgainst the median of files {SETTLED} to {2 * SETTLED} the medians grow by "
        f"{100 * medians:.1f} % at most, single looks by {100 * most:.1f} % "
        f"(allowed: {100 * ALLOWED_GROWTH:.0f} %).\n"
    )


def kill_and_resume(
    store: Path,
    folders: Sequence[Path],
    count: int,
    options: list[str],
    kills: int,
    rng: random.Random,
) -> list[Kill]:
    """Scan to the end, with `kills` kills on the way."""
    arguments = scanning.command(store, folders, options)
    goals = sorted(rng.sample(range(int(LAST_KILL * count)), kills))
    results = []
    print("| kill | processes | moment | files stored | last process gone after |")
    print("|---:|---|---|---:|---:|")
    for number, goal in enumerate(goals):
        if number % STARTING_EVERY == 0:
            delay = rng.uniform(0, STARTING_SECONDS)
            ready, moment = (lambda: True), f"{delay:.2f} s after the start"
        else:
            delay = rng.uniform(0, LATEST_SECONDS)
            ready = _reached(store, goal)
            moment = f"{delay:.2f} s after file {goal}"
        kill = _killed(arguments, store, ready, delay, bool(number % 2), moment)
        results.append(kill)
        print(
            f"| {number + 1} | {'all' if kill.all_at_once else 'the parent'} | {kill.moment} "
            f"| {len(kill.stored)} | {kill.lingered:.2f} s |",
            flush=True,
        )
    start = time.monotonic()
    subprocess.run(arguments, stdout=subprocess.DEVNULL, check=True)
    print(f"\nThe last run took {time.monotonic() - start:.0f} s.\n")
    return results


def _reached(store: Path, goal: int) -> Callable[[], bool]:
    return lambda: scanning.files_in(store) >= goal


def _killed(
    arguments: list[str],
    store: Path,
    ready: Callable[[], bool],
    delay: float,
    all_at_once: bool,
    moment: str,
) -> Kill:
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, start_new_session=True)
    while not ready():
        if process.poll() is not None:
            sys.exit("the scan ended before it was killed")
        time.sleep(0.02)
    time.sleep(delay)
    family = list(scanning.family(process.pid))
    if process.poll() is not None:
        sys.exit("the scan ended before it was killed")
    if all_at_once:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    start = time.monotonic()
    process.wait()
    while any(map(_is_alive, family)) and time.monotonic() - start < PATIENCE_SECONDS:
        time.sleep(0.01)
    lingered = time.monotonic() - start
    return Kill(all_at_once, moment, _stamps(store), lingered)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # a zombie has ended, but has not been waited for


def _stamps(store: Path) -> set[tuple[bytes, float]]:
    if not scanning.files_in(store):
        return set()
    with closing(sqlite3.connect(store)) as database:
        return set(database.execute("SELECT path, scanned_at FROM files"))


def find_faults(kills: list[Kill], killed: Path, unbroken: Path) -> list[str]:
    """List the faults of a store whose scan was killed and resumed."""
    faults = []
    stamps = _stamps(killed)
    for number, kill in enumerate(kills, 1):
        if again := len(kill.stored - stamps):
            faults.append(f"kill {number}: {again} stored results were lost or made again")
        if kill.lingered >= PATIENCE_SECONDS:
            faults.append(f"kill {number}: a process outlived its parent")
    with closing(sqlite3.connect(killed)) as database:
        (integrity,) = database.execute("PRAGMA integrity_check").fetchone()
    if integrity != "ok":
        faults.append(f"the killed store is damaged: {integrity}")
    for table in ("files", "models"):
        one, other = _rows(killed, table), _rows(unbroken, table)
        if one != other:
            faults.append(f"{table}: {len(set(one) ^ set(other))} rows differ")
    return faults


def _rows(store: Path, table: str) -> list[tuple[object, ...]]:
    """Return a table's rows without the time stamps."""
    with closing(sqlite3.connect(store)) as database:
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        selected = ", ".join(column for column in columns if column != "scanned_at")
        return database.execute(f"SELECT {selected} FROM {table} ORDER BY 1").fetchall()


if __name__ == "__main__":
    main()
