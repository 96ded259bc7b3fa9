"""What shorter excerpts cost the published networks that the default model was made from.

    TONEARM_PRETRAINED=WEIGHTS python benchmarks/excerpts.py --data gtzan --seeds 3

A probe of each network is fitted to the unaltered clips, fold by fold, as `tonearm benchmark` does
it, and classifies the middle of the held-out clips. Writes `excerpts.md`, which also has the
default model's figures from `robustness.csv` (`robustness.py`). Excerpts and predictions are kept,
so that an interrupted run can continue.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import foldwise
from robustness import CONDITIONS, Condition, seconds, write_altered
from tonearm import datasets
from tonearm.benchmark.probes import JOINED, PROBES, AudioSetSystem, ProbeSystem
from tonearm.datasets.cache import FeatureCache
from tonearm.datasets.content import content_hash
from tonearm.datasets.splits import split
from tonearm.datasets.track import Dataset, Track
from tonearm.evaluation import predictions as files
from tonearm.evaluation.compare import compare, markdown_table, with_interval
from tonearm.evaluation.crossval import System, cross_validate
from tonearm.evaluation.predictions import Predictions

EXCERPTS = tuple(condition for condition in CONDITIONS if condition.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path, help="the dataset of the folds")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="from 0 on")
    parser.add_argument("--work", type=Path, default=Path("runs/excerpts"), help="what is kept")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="of the table")
    args = parser.parse_args()
    dataset = datasets.load(args.data)
    cache = FeatureCache()
    header = ["", "whole clips", *(condition.name for condition in EXCERPTS)]
    rows = [default_model_row(args.out / "robustness.csv")]
    probes = [ProbeSystem(name, cache) for name in (JOINED, *PROBES)]
    for system in [*probes, AudioSetSystem(cache)]:
        evaluate = partial(evaluate_condition, system, dataset, args.seeds, args.work)
        rows.append(
            row(
                system.name,
                evaluate(None),
                {condition: evaluate(condition) for condition in EXCERPTS},
            )
        )
    page = rendered(markdown_table(header, rows), args.seeds)
    foldwise.write_page(args.out / "excerpts.md", page)


def evaluate_condition(
    system: System, dataset: Dataset, seeds: int, work: Path, condition: Condition | None
) -> Predictions:
    """Return predictions for held-out clips or their middle by a system fitted to whole clips."""
    parts = []
    for seed in range(seeds):
        folds = split(dataset, "artist-kfold", seed=seed)
        if condition is not None:
            folds = [
                replace(fold, valid=tuple(shortened(condition, fold.valid, work))) for fold in folds
            ]
        parts.append(cross_validate(system, folds, dataset.labels, work, seed))
    return files.join(parts)


def shortened(condition: Condition, tracks: Sequence[Track], work: Path) -> Iterator[Track]:
    """Write the middle of long tracks to files, and yield the tracks with these files instead."""
    folder = work / condition.name
    folder.mkdir(parents=True, exist_ok=True)
    for track in tracks:
        assert track.path is not None  # all tracks in folds have a path
        if seconds(track.path) <= (condition.seconds or 0):
            continue
        target = folder / f"{content_hash(track.path)}.wav"  # the id may be a path
        if not target.exists():
            draft = target.with_suffix(".part.wav")
            write_altered(condition, track.path, track.id, draft)
            draft.replace(target)
        yield replace(track, path=target)


def row(name: str, whole: Predictions, runs: dict[Condition, Predictions]) -> list[str]:
    first, *others = compare({"": whole} | {one.name: run for one, run in runs.items()}).rows
    cells = []
    for other in others:
        assert other.difference is not None  # only the first run has none
        interval = other.difference.intervals.get("accuracy")
        cells.append(with_interval(other.difference.accuracy, interval, sign="+"))
    return [f"`{name}`", f"{100 * first.metrics.accuracy:.1f}", *cells]


def default_model_row(table: Path) -> list[str]:
    """Return the row of the default model, as `robustness.py` measured it."""
    with table.open(encoding="utf-8", newline="") as file:
        known = {entry["condition"]: entry for entry in csv.DictReader(file)}
    found = [known[condition.name] for condition in EXCERPTS]
    points = [f"{one['accuracy, points']} ({one['95 % from']} to {one['to']})" for one in found]
    whole = float(found[-1]["accuracy"]) - float(found[-1]["accuracy, points"])
    return ["`default`", f"{whole:.1f}", *points]


def rendered(table: str, seeds: int) -> str:
    return f"""# Excerpts

The accuracy lost if only the middle of a clip is classified, in points, with 95 % intervals over
artists. The default model is evaluated as in [robustness](robustness.md), the published networks
it is made of as in [the ladder](gtzan.md): their probes are fitted to the unaltered clips of the
other folds and classify excerpts of this one; seeds: {seeds}. They are fitted anew for this table,
so single answers may differ from those in the ladder. Full clips are those of 30 s.

{table}
An excerpt too short for a published network is repeated until it is long enough.

## Reproduce

```
TONEARM_PRETRAINED=WEIGHTS python benchmarks/excerpts.py --data gtzan --seeds {seeds}
```
"""


if __name__ == "__main__":
    main()
