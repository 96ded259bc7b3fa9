"""Writes cross-validated figures into a bundle, which cannot be judged on what it learned itself.

    python benchmarks/note_metrics.py src/tonearm/weights/default.onnx

Takes the out-of-fold predictions of models made in the same way, by default those in docs/results.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from foldwise import PUBLISHED, published
from tonearm.bundle import Bundle, write_metadata


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("predictions", nargs="?", type=Path, default=PUBLISHED)
    chosen = parser.parse_args()
    table = published(chosen.predictions)
    if table.folds is None:
        parser.error("the predictions have no column of folds")
    metrics = table.metrics(bootstrap=0)
    folds = len(set(table.folds))
    figures = {
        "judged_on": f"{metrics.count} recordings, out of fold, by {folds} models made in this way",
        "tracks": metrics.count,
        "accuracy": round(metrics.accuracy, 4),
        "macro_f1": round(metrics.f1, 4),
        "expected_calibration_error": round(metrics.ece, 4),
    }
    metadata = Bundle.load(chosen.bundle).metadata
    write_metadata(chosen.bundle, replace(metadata, metrics=figures), chosen.bundle)
    for name, value in figures.items():
        print(f"{name:28}{value}")


if __name__ == "__main__":
    main()
