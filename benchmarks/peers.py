"""What `tonearm scan` costs beside other ways to hear the same files, each on one thread.

    python benchmarks/peers.py FOLDER|FILE... [--songs 40] [--seconds 30] [--work FOLDER]

Takes full-length songs (two to ten minutes) from the folders, and re-encodes them alternately as
44.1 kHz stereo MP3 (320 kbit/s) and AAC (256 kbit/s); with --seconds only the beginning of each,
like GTZAN's clips, so that all systems process the same audio. The floor is PyAV decoding all files
and discarding the frames. The peers are librosa with scikit-learn as in tutorials, MSD_musicnn and
pyAudioAnalysis (see `peer.py`); those not installed are not measured. The cost of one short clip
(starting up, loading, compiling) is subtracted and shown separately. Memory is the proportional set
size of all processes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

import machine
import peer
import scanning
import songs
from encoding import COMMON, encode, piece, transcode

START_SECONDS = 5.0  # of the start-up clip: enough for a window of each system
PACKAGES = ("numpy", "scipy", "av", "onnxruntime", "librosa", "numba", "scikit-learn", "torch")
TUTORIAL = "librosa + scikit-learn, first 30 s"
SAME_SECONDS = "tonearm scan, 30 s"
ALLOWED = 10.0  # times the tutorials' throughput


@dataclass(frozen=True)
class System:
    """A system to measure.

    Attributes
    ----------
    name
        Name in the table.
    seconds
        Seconds of each file that it processes; None for all.
    peer
        Its name in `peer.py`; None for Tonearm.
    options
        Options of `tonearm scan`.
    """

    name: str
    seconds: float | None
    peer: str | None = None
    options: tuple[str, ...] = ()

    def run(self, files: Sequence[Path], store: Path) -> scanning.Cost:
        """Process files in new processes."""
        if self.peer is None:
            return scanning.scan(store, files, [*self.options, "--workers", "1"])
        return scanning.run([sys.executable, peer.__file__, self.peer, *map(str, files)])


SYSTEMS = (
    System("PyAV, all", None, "pyav"),
    System("PyAV, first 30 s", peer.SECONDS, "pyav-start"),
    System(SAME_SECONDS, peer.SECONDS, options=("--excerpt", "30")),
    System("tonearm scan, all", None, options=("--excerpt", "all")),
    System(TUTORIAL, peer.SECONDS, "tutorial"),
    System("MSD_musicnn, first 30 s", peer.SECONDS, "musicnn"),
    System("pyAudioAnalysis + SVM, first 30 s", peer.SECONDS, "pyaudioanalysis"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="+", type=Path, metavar="FOLDER|FILE")
    parser.add_argument("--songs", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=inf, help="of each song; by default all")
    parser.add_argument("--work", type=Path, help="where the encoded songs are, or are to be kept")
    args = parser.parse_args()
    for library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = songs.choose(args.paths, args.songs)
        files = encoded(sources, args.work or folder / "songs", args.seconds)
        clip = encode(folder / "clip.mp3", piece(0, START_SECONDS), "libmp3lame", 128_000)
        measure(files, clip, folder)


def encoded(sources: Sequence[Path], folder: Path, seconds: float) -> list[Path]:
    """Encode songs in the formats that shops sell, except those kept from an earlier run."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, source in enumerate(sources):
        suffix, codec, bitrate = COMMON[number % len(COMMON)]
        target = folder / f"{number:03}{suffix}"
        if not target.exists():
            draft = transcode(source, target.with_stem("draft"), codec, bitrate, seconds)
            draft.rename(target)
        files.append(target)
    return files


def measure(files: Sequence[Path], clip: Path, folder: Path) -> None:
    """Measure every system on the files, and print the table."""
    lengths = [songs.seconds(file) for file in files]
    print(machine.notes(PACKAGES), end="\n\n")
    print(f"{len(files)} songs, {sum(lengths) / 3600:.2f} h of music.\n")
    print(
        "| system | CPU s per file | times the floor | CPU s per hour analysed | files/s "
        "| MB | starting, CPU s |\n|---|---:|---:|---:|---:|---:|---:|"
    )
    floor = None
    costs: dict[str, tuple[float, float]] = {}  # CPU seconds, wall-clock seconds
    for number, system in enumerate(SYSTEMS):
        if reason := unavailable(system):
            print(f"| {system.name} | not measured: {reason} | | | | | |", flush=True)
            continue
        start = system.run([clip], folder / f"start{number}.db")
        cost = system.run(files, folder / f"{number}.db")
        cpu, elapsed = cost.used - start.used, cost.elapsed - start.elapsed
        if min(cpu, elapsed) <= 0:
            sys.exit(f"{system.name} takes no longer for these files than for one: give it more")
        costs[system.name] = cpu, elapsed
        floor = floor or cpu
        hours = sum(min(length, system.seconds or length) for length in lengths) / 3600
        print(
            f"| {system.name} | {cpu / len(files):.3f} | {cpu / floor:.2f} | {cpu / hours:.1f} "
            f"| {len(files) / elapsed:.2f} | {cost.watch.peak:.0f} | {start.used:.1f} |",
            flush=True,
        )
    if TUTORIAL in costs:
        (scan, scan_time), (tutorial, tutorial_time) = costs[SAME_SECONDS], costs[TUTORIAL]
        print(
            f"\nOn {peer.SECONDS:.0f} s of each file, a scan does {tutorial / scan:.1f} times "
            f"as many files in a second of CPU time as the tutorials, and "
            f"{tutorial_time / scan_time:.1f} times as many in a second on the clock "
            f"(aim: {ALLOWED:.0f})."
        )


def unavailable(system: System) -> str:
    """Return why a system cannot run here, or an empty string if it can."""
    if system.peer is None:
        return ""
    process = subprocess.run(
        [sys.executable, peer.__file__, system.peer], capture_output=True, text=True, check=False
    )
    if process.returncode == peer.NOT_INSTALLED:
        return process.stderr.strip().splitlines()[-1]
    if process.returncode:
        sys.exit(process.stderr)
    return ""


if __name__ == "__main__":
    main()
