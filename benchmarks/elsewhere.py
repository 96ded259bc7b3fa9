"""How a model's networks judge a labelled collection that none of them learned from.

    python benchmarks/elsewhere.py --models 'seed{seed}/fold{fold}.onnx' --seeds 3 --data COLLECTION

Every recording is classified by every network of a cross-validation over another dataset. The
shipped model was made in the same way, and a single network's score on a few dozen recordings is
largely luck. Recordings are classified as they are, and as copies resampled to 22 kHz mono like
GTZAN. Writes `elsewhere.md`. Copies and predictions are kept under --work, so that an interrupted
run can continue.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import foldwise
from foldwise import Clip, Round
from tonearm import audio, datasets
from tonearm.datasets.content import content_hash
from tonearm.datasets.track import Track
from tonearm.evaluation.compare import markdown_table
from tonearm.evaluation.predictions import Predictions
from tonearm.training.degradations import encode

GTZAN_RATE = 22_050  # Hz


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    foldwise.add_arguments(parser, "runs/elsewhere")
    args = parser.parse_args()
    tracks = [track for track in datasets.load(args.data).tracks if track.label and track.path][
        : args.limit
    ]
    networks = [
        model for seed in range(args.seeds) for model in foldwise.bundles(args.models, seed)
    ]
    work = args.work / foldwise.fingerprint([Clip(track, 0) for track in tracks], networks)
    resampled = [gtzan_like_copy(track, work / "copies") for track in tracks]
    runs = {
        "as they are": predict_with_all("as they are", networks, tracks, work),
        "resampled to 22 kHz, mono": predict_with_all("resampled", networks, resampled, work),
    }
    foldwise.write_predicted_genres(args.out / "predictions" / "elsewhere.csv", runs)
    page = rendered(runs, len(tracks), len(networks), args.seeds)
    foldwise.write_page(args.out / "elsewhere.md", page)


def gtzan_like_copy(track: Track, folder: Path) -> Track:
    """Return the track with its recording replaced by a copy in GTZAN's format (22 kHz mono)."""
    assert track.path is not None
    copy = folder / f"{content_hash(track.path)}.flac"  # the id may be a path
    if not copy.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = copy.with_name(f".{copy.name}")
        encode(draft, audio.read(track.path, GTZAN_RATE).samples, GTZAN_RATE, "flac", None)
        draft.rename(copy)
    return replace(track, path=copy)


def predict_with_all(
    name: str, networks: list[Path], tracks: list[Track], work: Path
) -> Predictions:
    """Join each network's predictions for the tracks; the networks take the place of seeds."""
    clips = [Clip(track, 0) for track in tracks]
    return foldwise.over_seeds(
        [Round(number, [network], clips, work) for number, network in enumerate(networks)],
        lambda round_: foldwise.fold_predictions(
            f"{name}, network {round_.seed}",
            round_.models,
            round_.clips,
            work / f"{name}-{round_.seed}.csv",
        ),
    )


def rendered(runs: dict[str, Predictions], tracks: int, networks: int, seeds: int) -> str:
    reference = next(iter(runs.values()))
    rows = []
    for name, run in runs.items():
        metrics = run.metrics()
        interval = metrics.intervals.get("accuracy")
        right: dict[str, int] = {}
        for seed, hit in zip(run.seeds or (), run.correct, strict=True):
            right[seed] = right.get(seed, 0) + int(hit)
        rows.append(
            (
                name,
                f"{100 * metrics.accuracy:.1f}",
                f"{100 * interval.low:.1f} to {100 * interval.high:.1f}" if interval else "",
                f"{min(right.values())} to {max(right.values())}",
                f"{100 * metrics.f1:.1f}",
                f"{metrics.nll:.2f}",
                "" if run is reference else f"{100 * foldwise.changed_share(run, reference):.1f}",
            )
        )
    header = (
        *("recordings", "accuracy", "95 %", "right per model", "macro F1", "log-loss"),
        "answers changed",
    )
    return f"""# Recordings from outside GTZAN

{tracks} labelled recordings from other sources, none of them used in training. Each was classified
by all {networks} models of the cross-validation on GTZAN ({foldwise.FOLDS} folds, seeds: {seeds}).
The figures are per cent of all their answers, with a 95 % interval over artists (each recording by
an unknown artist counts as one). "Right per model" is the range from the worst model to the best;
"answers changed" is the share of answers that differ from those for the original files. These
recordings were looked at when the weight of the AudioSet head, the heads used for full-band
recordings and several others of [its settings](../model-card.md#how-good-it-is) were chosen.

{markdown_table(header, rows)}
All answers: `predictions/elsewhere.csv`, where "seed" is the number of the model.

## Reproduce

```
python benchmarks/elsewhere.py --models 'seed{{seed}}/fold{{fold}}.onnx' \\
    --seeds {seeds} --data COLLECTION
```

The bundles are [the networks of the folds](../results-explained.md#the-networks-of-the-folds).
"""


if __name__ == "__main__":
    main()
