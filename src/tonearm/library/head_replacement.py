"""Put another head on a model: one bundle with the same network and other genres."""

from __future__ import annotations

import os
from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from tonearm.atomic import atomic_path
from tonearm.bundle import Bundle, write_metadata
from tonearm.errors import TonearmError, reason_of
from tonearm.extras import needs
from tonearm.library.head import Head
from tonearm.metadata import BundleMetadata

with needs("learn"):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

EMBEDDING, LOGITS = "embedding", "logits"
# Largest difference between the written graph's scores and the head's to accept as rounding.
TOLERANCE = 1e-4


class ReplaceHeadError(TonearmError):
    """The bundle cannot be written, or its scores differ from the head's."""


def replace_head(base: Path, head: Head, metadata: BundleMetadata, target: Path) -> Path:
    """Write a bundle that combines an existing network with a new head.

    The head reads the graph's output ``embedding`` and writes ``logits``. All other outputs stay;
    nodes that only the old logits needed are removed.

    Parameters
    ----------
    base
        The bundle whose network is used.
    metadata
        Of the new bundle: the base's, with all that depends on the head or its training replaced.
    target
        The file to write; it appears complete or not at all.

    Raises
    ------
    ReplaceHeadError
        If the bundle cannot be written, or its scores differ from the head's by more than
        `TOLERANCE`.
    BundleError
        If the graph and the metadata do not match.
    """
    model = onnx.load(os.fspath(base))
    _replace_logits(model.graph, head)
    try:
        with atomic_path(target) as draft:
            onnx.save(model, os.fspath(draft))
            write_metadata(draft, metadata, draft)
            difference = _max_difference(Bundle.load(draft), head)
            if not difference <= TOLERANCE:
                raise ReplaceHeadError(
                    f"{target}: the written scores differ from the fitted ones by "
                    f"{difference:.1e}, more than {TOLERANCE:.0e}"
                )
    except OSError as error:
        raise ReplaceHeadError(f"{target}: {reason_of(error)}") from error
    return target


def _replace_logits(graph: Any, head: Head) -> None:
    used_names = {name for node in graph.node for name in (*node.input, *node.output)}
    used_names |= {tensor.name for tensor in graph.initializer}
    old, weights, biases = (
        _unused_name(name, used_names) for name in ("base_logits", "weights", "biases")
    )
    # Other outputs may depend on the old logits, so keep these; unused nodes are removed below.
    for node in _all_nodes(graph):
        _rename(node.input, LOGITS, old)
        _rename(node.output, LOGITS, old)
    graph.initializer.extend(
        [
            numpy_helper.from_array(head.weights.astype(np.float32), weights),
            numpy_helper.from_array(head.biases.astype(np.float32), biases),
        ]
    )
    graph.node.append(helper.make_node("Gemm", [EMBEDDING, weights, biases], [LOGITS]))
    shape: list[str | int] = ["batch", len(head.biases)]
    for output in graph.output:
        if output.name == LOGITS:
            output.CopyFrom(helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, shape))
    _prune(graph)


def _prune(graph: Any) -> None:
    """Remove the nodes and constants that no output depends on."""
    needed = {output.name for output in graph.output}
    needed_nodes = []
    for node in reversed(graph.node):  # in a valid graph a node comes after those it reads
        if needed.intersection(node.output):
            needed_nodes.append(node)
            needed.update(name for inner in _with_inner_nodes(node) for name in inner.input)
    needed_nodes.reverse()
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    shapes = [value for value in graph.value_info if value.name in needed]
    for field, entries in (
        (graph.node, needed_nodes),
        (graph.initializer, constants),
        (graph.value_info, shapes),
    ):
        copies = deepcopy(entries)
        del field[:]  # and with it its entries
        field.extend(copies)


def _all_nodes(graph: Any) -> Iterable[Any]:
    """Yield the nodes of a graph, including those inside branches and loops."""
    for node in graph.node:
        yield from _with_inner_nodes(node)


def _with_inner_nodes(node: Any) -> Iterable[Any]:
    """Yield a node and, if it is a branch or a loop, the nodes inside."""
    yield node
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from _all_nodes(graph)


def _rename(names: Any, old: str, new: str) -> None:
    for index, name in enumerate(names):
        if name == old:
            names[index] = new


def _unused_name(name: str, used_names: set[str]) -> str:
    while name in used_names:
        name = f"{name}_"
    return name


def _max_difference(bundle: Bundle, head: Head) -> float:
    """Return the largest difference between a bundle's scores and the head's on random input."""
    rng = np.random.default_rng(0)
    frames = [
        rng.normal(0.5, 0.7, (2, round(view.frames_per_second), view.n_mels)).astype(np.float32)
        for view in bundle.metadata.front_ends
    ]
    outputs = bundle.run(frames)
    return float(np.abs(outputs.logits - head.logits(outputs.embedding)).max())
