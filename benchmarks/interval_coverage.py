"""How often a 95 % interval holds the true accuracy, by the number of artists it is drawn over.

    python benchmarks/interval_coverage.py

Each simulated collection has a few artists of ten tracks each. How often a model is right differs
from artist to artist: it is drawn from a beta distribution with a mean of 70 % and a standard
deviation of 22 points. The true figure is that mean, the accuracy on new artists.
Collections without an interval (`tonearm.evaluation.metrics.intervals_of`) do not count.
"""

from __future__ import annotations

import numpy as np

from tonearm.evaluation.metrics import evaluate

ARTISTS = (2, 3, 5, 10, 20, 50)
TRACKS = 10
SHAPE = 2.3, 1.0  # of the beta distribution
COLLECTIONS = 1000
REPLICATES = 300


def main() -> None:
    random = np.random.default_rng(0)
    print("artists  interval  holds the true figure")
    for artists in ARTISTS:
        covered = [holds(artists, random) for _ in range(COLLECTIONS)]
        known = [hit for hit in covered if hit is not None]
        print(f"{artists:7d}  {len(known) / len(covered):8.0%}  {np.mean(known):21.0%}")


def holds(artists: int, random: np.random.Generator) -> bool | None:
    """Draw a collection; return whether its accuracy interval contains the true accuracy."""
    chances = random.beta(*SHAPE, artists)
    right = (random.random((artists, TRACKS)) < chances[:, None]).ravel().astype(int)
    groups = np.repeat(np.arange(artists), TRACKS).tolist()
    # Every track belongs to the first of two classes; the prediction is one or the other.
    metrics = evaluate(
        np.zeros(len(right), int), np.eye(2)[1 - right], ("a", "b"), REPLICATES, groups=groups
    )
    interval = metrics.intervals.get("accuracy")
    return interval and interval.low <= SHAPE[0] / sum(SHAPE) <= interval.high


if __name__ == "__main__":
    main()
