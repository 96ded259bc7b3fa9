"""What the heads that full-band recordings are judged by know of GTZAN, which has none.

    python benchmarks/full_band.py --models 'seed{seed}/fold{fold}.onnx' --seeds 3 --data gtzan

Every clip is classified by the bundle of the artist-grouped fold that held it out, once as it is
and once as if it had sound above GTZAN's band: in a copy of the bundle, the full-band share is
always 1. Writes `full_band.md`. Copies and predictions are kept under --work, so that an
interrupted run can continue.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

import foldwise
from foldwise import Round
from tonearm.atomic import atomic_write
from tonearm.errors import UsageError
from tonearm.evaluation.compare import compare
from tonearm.evaluation.predictions import Predictions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    foldwise.add_arguments(parser, "runs/full-band")
    args = parser.parse_args()
    rounds = foldwise.rounds(args)
    runs = {
        "as they are": foldwise.over_seeds(rounds, as_they_are),
        "as if of full band": foldwise.over_seeds(rounds, as_if_of_full_band),
    }
    count = len(rounds[0].clips)
    foldwise.write_predicted_genres(args.out / "predictions" / "full_band.csv", runs)
    foldwise.write_page(
        args.out / "full_band.md",
        f"""# Full band

Recordings with sound above GTZAN's band are classified only by those heads of the default model
that transfer best beyond GTZAN ([distil](../distill.md)). No recording of GTZAN is among them.
Here all {count} clips are classified once as usual and once by these heads alone, each clip by the
bundle of the artist-grouped fold that held it out ({foldwise.FOLDS} folds); seeds: {args.seeds},
each with its own folds and bundles. Per cent, with 95 % intervals over artists.

{compare(runs).to_markdown()}
## Reproduce

```
python benchmarks/full_band.py --models 'seed{{seed}}/fold{{fold}}.onnx' \\
    --seeds {args.seeds} --data gtzan
```

The bundles are [the networks of the folds](../results-explained.md#the-networks-of-the-folds);
the answers are in `predictions/full_band.csv`.
""",
    )


def as_they_are(round_: Round) -> Predictions:
    """Return the bundles' predictions for the clips."""
    return foldwise.fold_predictions(
        "as they are", round_.models, round_.clips, round_.work / "as they are.csv"
    )


def as_if_of_full_band(round_: Round) -> Predictions:
    """Return the bundles' predictions if every window is treated as full-band."""
    round_.work.mkdir(parents=True, exist_ok=True)
    forced = [
        as_full_band(model, round_.work / f"{fold}.onnx")
        for fold, model in enumerate(round_.models)
    ]
    name = "as if of full band"
    return foldwise.fold_predictions(name, forced, round_.clips, round_.work / f"{name}.csv")


def as_full_band(model: Path, target: Path) -> Path:
    """Write a bundle that treats every window as full-band (see `Ensemble.full_band`)."""
    if target.exists():
        return target
    bundle = onnx.load(model)
    graph = bundle.graph
    constants = {tensor.name: tensor for tensor in graph.initializer} | {
        node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"
    }
    shares = [
        node
        for node in graph.node
        if node.op_type == "Clip"
        and [_value(constants.get(name)) for name in node.input[1:]] == [0.0, 1.0]
    ]
    if len(shares) != 1:
        raise UsageError(f"{model}: no head of it falls silent where recordings are full-band")
    graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "always"))
    position = list(graph.node).index(shares[0])
    graph.node.remove(shares[0])
    graph.node.insert(position, helper.make_node("Identity", ["always"], shares[0].output))
    with atomic_write(target) as file:
        file.write(bundle.SerializeToString())
    return target


def _value(tensor: onnx.TensorProto | None) -> float | None:
    return None if tensor is None else float(numpy_helper.to_array(tensor))


if __name__ == "__main__":
    main()
