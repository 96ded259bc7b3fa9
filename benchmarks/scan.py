"""What `tonearm scan` costs beside bare decoding of the same files: CPU time, throughput, memory.

    python benchmarks/scan.py [FOLDER|FILE...] [--songs N] [--excerpt 30 all] [--workers 2]

With --songs it takes that many full-length songs (two to ten minutes) from the folders. Without
files it renders some pieces and encodes them in the usual formats, 44.1 kHz stereo MP3 (320 kbit/s)
and AAC (256 kbit/s). The floor is PyAV decoding every frame of every file on one thread and
discarding it. CPU time covers all processes of the scan; the cost of scanning one short clip per
process (starting up, loading the model) is subtracted, since a library pays it once, and included
in a row of its own. Memory is the proportional set size of all processes together, so shared pages
count once.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path

import machine
import scanning
import songs
from encoding import COMMON, encode, piece
from tonearm import media

ALLOWED_RATIO = 1.6
ALLOWED_MEGABYTES = 600
RENDERED_SECONDS = 240.0
RENDERED_PIECES = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path, metavar="FOLDER|FILE")
    parser.add_argument("--songs", type=int, metavar="N", help="only so many full-length songs")
    parser.add_argument("--excerpt", nargs="+", default=["30"], metavar="SECONDS|all")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--model", default="default")
    parser.add_argument("--trace", type=Path, help="a CSV file for the memory over time")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = args.paths or [rendered(folder / "music")]
        if args.songs:
            paths = songs.choose(paths, args.songs)
        files = [Path(file) for file in media.recordings(map(str, paths))]
        floor, hours = scanning.decode_all(files)
        clips = [
            encode(folder / f"clip{number}.mp3", piece(number, 1.0), "libmp3lame", 128_000)
            for number in range(args.workers)
        ]
        print(machine.notes())
        print(f"{len(files)} files, {hours:.2f} h of music, {args.workers} workers")
        print(
            f"{'':24}{'CPU s per h':>12}{'of floor':>10}{'files/s':>10}{'x real time':>13}{'MB':>8}"
        )
        print(f"{'PyAV alone, 1 thread':24}{floor / hours:12.2f}{1:10.2f}")
        for excerpt in args.excerpt:
            options = ["--excerpt", excerpt, "--workers", str(args.workers)]
            options += ["--model", args.model]
            start = scanning.scan(folder / f"start-{excerpt}.db", clips, options)
            cost = scanning.scan(folder / f"{excerpt}.db", paths, options)
            cpu = cost.used - start.used
            print(
                f"{'scan, excerpt ' + excerpt:24}{cpu / hours:12.2f}{cpu / floor:10.2f}"
                f"{len(files) / cost.elapsed:10.2f}{hours * 3600 / cost.elapsed:13.0f}"
                f"{cost.watch.peak:8.0f}"
            )
            print(f"{'  with starting up':24}{cost.used / hours:12.2f}{cost.used / floor:10.2f}")
            if args.trace:
                scanning.write_trace(args.trace, excerpt, cost.watch)
    print(f"allowed: {ALLOWED_RATIO} of the floor with the default, {ALLOWED_MEGABYTES} MB")


def rendered(folder: Path) -> Path:
    folder.mkdir()
    for number, (suffix, codec, bitrate) in itertools.product(range(RENDERED_PIECES), COMMON):
        encode(folder / f"{number}{suffix}", piece(number, RENDERED_SECONDS), codec, bitrate)
    return folder


if __name__ == "__main__":
    main()
