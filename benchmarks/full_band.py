"""What the opinions that full-band recordings are judged by know of GTZAN, which has none.

    python benchmarks/full_band.py --models 'fold{fold}.onnx' --data gtzan

Every clip is heard by the bundle of the artist-grouped fold that held it back, once as it is and
once as if it sounded above GTZAN's band: in a copy of the bundle the share of full band is always
1. Writes `full_band.md`. Copies and predictions are kept under --work: an interrupted run goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

import foldwise
from tonearm.errors import UsageError
from tonearm.evaluation.compare import compare
from tonearm.whole import whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    foldwise.add_arguments(parser, "runs/full-band")
    chosen = parser.parse_args()
    models = foldwise.bundles(chosen.models)
    heard = foldwise.clips(chosen.data, chosen.limit)
    work = chosen.work / foldwise.fingerprint(heard, models)
    work.mkdir(parents=True, exist_ok=True)
    forced = [as_full_band(model, work / f"{number}.onnx") for number, model in enumerate(models)]
    runs = {
        name: foldwise.judged(name, paths, heard, work / f"{name}.csv")
        for name, paths in (("as they are", models), ("as if of full band", forced))
    }
    chosen.out.mkdir(parents=True, exist_ok=True)
    page = chosen.out / "full_band.md"
    page.write_text(
        f"""# Full band

Recordings that sound above GTZAN's band are judged by those opinions of the default model that are
at home elsewhere ([distil](../distill.md)). None of GTZAN's does. Here all {len(heard)} clips are
judged once as they are and once by these opinions alone, each by the bundle of the artist-grouped
fold that held it back ({foldwise.FOLDS} folds). Per cent, with 95 % intervals over artists.

{compare(runs).to_markdown()}
## How to make these numbers again

```
python benchmarks/full_band.py --models 'fold{{fold}}.onnx' --data gtzan
```

The bundles are those that `tonearm benchmark gtzan --systems default` leaves.
""",
        encoding="utf-8",
    )
    print(page.read_text(encoding="utf-8"))


def as_full_band(model: Path, target: Path) -> Path:
    """Write a bundle that takes every window for one of full band, see `Duet.full_band`."""
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
        raise UsageError(f"{model}: no opinion of it falls silent where recordings are full-band")
    graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "always"))
    place = list(graph.node).index(shares[0])
    graph.node.remove(shares[0])
    graph.node.insert(place, helper.make_node("Identity", ["always"], shares[0].output))
    with whole(target) as file:
        file.write(bundle.SerializeToString())
    return target


def _value(tensor: onnx.TensorProto | None) -> float | None:
    return None if tensor is None else float(numpy_helper.to_array(tensor))


if __name__ == "__main__":
    main()
