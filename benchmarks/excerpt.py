"""How often the genre of a song changes when less than all of it is heard.

    python benchmarks/excerpt.py FOLDER|FILE... [--songs 60] [--excerpt 10 30 60] [--model default]

Scans full-length songs (two to ten minutes) from the folders with each excerpt length, and compares
the stores with that of a scan of whole songs: how many songs keep their genre, and how far apart
the probabilities are on average (half the sum of absolute differences). It does not know which
answer is right: the songs are unlabelled.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import scanning
import songs
from tonearm.library.entry import Entry
from tonearm.library.store import Store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="+", type=Path, metavar="FOLDER|FILE")
    parser.add_argument("--songs", type=int, default=60)
    parser.add_argument("--excerpt", nargs="+", default=["10", "30", "60"], metavar="SECONDS")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--model", default="default")
    args = parser.parse_args()
    files = songs.choose(args.paths, args.songs)
    entries_by_excerpt = {}
    with tempfile.TemporaryDirectory() as folder:
        for excerpt in ("all", *args.excerpt):
            store = Path(folder) / f"{excerpt}.db"
            options = ["--excerpt", excerpt, "--workers", str(args.workers)]
            scanning.scan(store, files, [*options, "--model", args.model])
            with Store(store) as library:
                entries_by_excerpt[excerpt] = {
                    e.path: e for e in library.entries() if e.genre is not None
                }
    everything = entries_by_excerpt.pop("all")
    print("| excerpt | songs | same genre | same verdict | distance |\n|---|---:|---:|---:|---:|")
    for excerpt, entries in entries_by_excerpt.items():
        pairs = [(entries[path], everything[path]) for path in everything if path in entries]
        genres = sum(part.genre == whole.genre for part, whole in pairs)
        verdicts = sum(part.verdict == whole.verdict for part, whole in pairs)
        mean_distance = sum(distance(part, whole) for part, whole in pairs) / len(pairs)
        print(f"| {excerpt} s | {len(pairs)} | {genres} | {verdicts} | {mean_distance:.2f} |")


def distance(one: Entry, other: Entry) -> float:
    """Return half the sum of absolute differences between two entries' probabilities."""
    return sum(abs(one.probabilities[k] - other.probabilities[k]) for k in one.probabilities) / 2


if __name__ == "__main__":
    main()
