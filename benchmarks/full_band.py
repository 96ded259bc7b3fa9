"""What the opinions that a full-band recording is judged by know of GTZAN, which has none.

    python benchmarks/full_band.py --models 'fold{fold}.onnx' --data gtzan

Every clip is heard by the bundle of the artist-grouped fold that held it back, once as it is and
once as if it sounded above GTZAN's band: in a copy of the bundle the share of full band is always
1. Prints the table. What is finished is kept under --work.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

import foldwise
from tonearm.bundle import Bundle
from tonearm.evaluation.compare import compare


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
    print(compare(runs).to_markdown())


def as_full_band(model: Path, target: Path) -> Path:
    """Write a bundle that takes every window for one of full band, see `Duet.full_band`."""
    graph = onnx.load(model)
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    constants |= {
        node.output[0]: node.attribute[0].t
        for node in graph.graph.node
        if node.op_type == "Constant"
    }
    (share,) = (  # a bundle without one has no opinions that fall silent
        node
        for node in graph.graph.node
        if node.op_type == "Clip"
        and [_value(constants.get(name)) for name in node.input[1:]] == [0.0, 1.0]
    )
    always = numpy_helper.from_array(np.float32([1.0]), "always")
    graph.graph.initializer.append(always)
    place = list(graph.graph.node).index(share)
    graph.graph.node.remove(share)
    graph.graph.node.insert(place, helper.make_node("Identity", ["always"], share.output))
    onnx.save(graph, target)
    Bundle.load(target)
    return target


def _value(tensor: onnx.TensorProto | None) -> float | None:
    return None if tensor is None else float(numpy_helper.to_array(tensor))


if __name__ == "__main__":
    main()
