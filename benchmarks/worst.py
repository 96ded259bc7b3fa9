"""The recordings a model is most wrong about: those whose genre it gave the least probability.

    python benchmarks/worst.py --data GTZAN [PREDICTIONS.csv] [--count 10]

Takes cross-validated predictions (those of the first seed) and prints a Markdown table, worst
first, with artist and title where the dataset has them.
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
    args = parser.parse_args()
    table = published(args.predictions)[0]  # of the first seed, so that each track occurs once
    tracks = {track.id: track for track in datasets.load(args.data).tracks}
    true_probability = table.probabilities[np.arange(len(table)), table.truth_index]
    rows = []
    for i in np.argsort(true_probability, kind="stable")[: args.count]:
        track = tracks[table.tracks[i]]
        rows.append(
            (
                track.id,
                " — ".join(filter(None, (track.artist, track.title))) or "unknown",
                table.truth[i],
                f"{100 * true_probability[i]:.1f}",
                table.predicted[i],
                f"{100 * table.probabilities[i].max():.0f}",
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
