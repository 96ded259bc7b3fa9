"""How much quicker the FCN is without its silent filters, run by ONNX Runtime on one thread.

    TONEARM_PRETRAINED=FOLDER python benchmarks/pruning.py

Prints the CPU milliseconds for a window of ten seconds, the best of many alternating runs, and the
largest difference between the outputs of the two networks.
"""

from __future__ import annotations

import tempfile
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

from timing import in_turns
from tonearm.training.ensemble import REPEATED_FRAMES
from tonearm.training.fcn import load_fcn
from tonearm.training.pruning import pruned

RUNS = 40


def main() -> None:
    published = load_fcn()
    networks = {"as published": published, "pruned": pruned(published)}
    frames = np.random.default_rng(0).normal(-10, 15, (1, REPEATED_FRAMES, 96)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        sessions = [
            session(network, frames, Path(folder) / f"{number}.onnx")
            for number, network in enumerate(networks.values())
        ]
    jobs = [partial(each.run, None, {"frames": frames}) for each in sessions]
    best = in_turns(jobs, RUNS)
    for (name, network), used in zip(networks.items(), best, strict=True):
        size = sum(parameter.numel() for parameter in network.parameters())
        print(f"{name:14}{1000 * used:6.1f} ms  {used / best[0]:5.2f}  {size:8,} parameters")
    pairs = zip(*(job() for job in jobs), strict=True)
    print(f"largest difference {max(float(np.abs(a - b).max()) for a, b in pairs):.1e}")


def session(network: nn.Module, frames: np.ndarray, path: Path) -> onnxruntime.InferenceSession:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.from_numpy(frames),),
            path,
            input_names=["frames"],
            opset_version=17,
            dynamo=False,
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


if __name__ == "__main__":
    main()
