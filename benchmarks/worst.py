"""The recordings a model is most wrong about: those whose genre it gave the least probability.

    python benchmarks/worst.py --data GTZAN [PREDICTIONS.csv] [--count 10]

Takes cross-validated predictions and prints a Markdown table, worst first, with artist and title
where the dataset has them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from foldwise import PUBLISHED, published
from tonearm import datasets
from tonearm.evaluation.compare import markdown_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("predictions", nargs="?", type=Path, default=PUBLISHED)
    parser.add_argument("--data", required=True, type=Path, help="the dataset, for the artists")
    parser.add_argument("--count", type=int, default=10)
    chosen = parser.parse_args()
    table = published(chosen.predictions)[0]  # of the first seed, so that each track occurs once
    tracks = {track.id: track for track in datasets.load(chosen.data).tracks}
    given = table.probabilities[np.arange(len(table)), table.truth_index]
    rows = []
    for place in np.argsort(given, kind="stable")[: chosen.count]:
        track = tracks[table.tracks[place]]
        rows.append(
            (
                track.id,
                " — ".join(filter(None, (track.artist, track.title))) or "unknown",
                table.truth[place],
                f"{100 * given[place]:.1f}",
                table.predicted[place],
                f"{100 * table.probabilities[place].max():.0f}",
            )
        )
    print(
        markdown_table(
            (
                "track",
                "recording",
                "label",
                "probability of label, %",
                "answer",
                "its probability, %",
            ),
            rows,
        )
    )


if __name__ == "__main__":
    main()
