"""Which parts a model's embedding is made of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tonearm.extras import needs

with needs("learn"):
    import onnx

PASS_THROUGH = ("Cast", "Identity")  # operators that leave the values as they are


def embedding_parts(model: Path, width: int) -> tuple[int, ...]:
    """Return the widths of the parts that a model's graph concatenates into its embedding.

    In a model with two networks in parallel, the embedding is one network's followed by the
    other's.

    Parameters
    ----------
    model
        The bundle.
    width
        Of the whole embedding.

    Returns
    -------
    tuple of int
        The widths in order; just `width` if there is only one part or the parts are unknown.
    """
    graph = onnx.shape_inference.infer_shapes(onnx.load(os.fspath(model))).graph
    producers = {name: node for node in graph.node for name in node.output}
    producer = producers.get("embedding")
    while producer is not None and producer.op_type in PASS_THROUGH:
        producer = producers.get(producer.input[0])
    if producer is None or producer.op_type != "Concat":
        return (width,)
    widths = {value.name: _last_dimension(value) for value in (*graph.value_info, *graph.input)}
    parts = tuple(widths.get(name, 0) for name in producer.input)
    return parts if all(parts) and sum(parts) == width else (width,)


def _last_dimension(value: Any) -> int:
    """Return the last dimension of a tensor, or 0 if unknown."""
    sizes = value.type.tensor_type.shape.dim
    return int(sizes[-1].dim_value) if sizes else 0
