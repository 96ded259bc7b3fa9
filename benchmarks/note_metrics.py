"""Writes cross-validated figures into a bundle, which cannot be judged on what it learned itself.

    python benchmarks/note_metrics.py src/tonearm/weights/default.onnx

Takes the out-of-fold predictions of models made the same way, by default those in docs/results.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import mean

from foldwise import PUBLISHED, published
from tonearm.bundle import Bundle, write_metadata
from tonearm.evaluation.predictions import join


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("predictions", nargs="?", type=Path, default=PUBLISHED)
    args = parser.parse_args()
    seeds = published(args.predictions)
    metrics = join(seeds).metrics(bootstrap=0)
    tracks = len(seeds[0])
    models = sum(len(set(table.folds or ())) for table in seeds)
    ece = mean(table.metrics(bootstrap=0).ece for table in seeds)
    figures = metrics.headline(
        f"{tracks} recordings, out of fold, by {models} models made in this way"
    ) | {"tracks": tracks, "seeds": len(seeds), "expected_calibration_error": round(ece, 4)}
    metadata = Bundle.load(args.bundle).metadata
    write_metadata(args.bundle, replace(metadata, metrics=figures), args.bundle)
    for name, value in figures.items():
        print(f"{name:28}{value}")


if __name__ == "__main__":
    main()
