"""Store a bundle's weights in half precision: half the file size, with arithmetic in float32."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from tonearm.atomic import atomic_write
from tonearm.bundle import Bundle
from tonearm.errors import TonearmError, reason_of
from tonearm.extras import needs

if TYPE_CHECKING:
    import onnx

SMALLEST = 64  # numbers; for fewer, a Cast would take more space than it saves


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with its float32 weights stored as float16, each behind a Cast to float32.

    The arithmetic stays in float32: ONNX Runtime casts once, when it loads the file. Only the
    weights change, by at most one part in 2048, or by 3e-8 where they are smaller than 6e-5.

    Raises
    ------
    TonearmError
        If a weight is out of the range of float16.
    MissingExtraError
        If the ``onnx`` package is not installed.
    """
    with needs("learn"):
        import onnx
        from onnx import TensorProto, helper, numpy_helper

    halved = onnx.ModelProto()
    halved.CopyFrom(model)
    casts = []
    for weights in halved.graph.initializer:
        if weights.data_type != TensorProto.FLOAT or np.prod(weights.dims) < SMALLEST:
            continue
        name, values = weights.name, numpy_helper.to_array(weights)
        with np.errstate(over="ignore"):
            stored = values.astype(np.float16)
        if not np.isfinite(stored).all():
            raise TonearmError(f"{name}: {np.abs(values).max():g} is beyond half precision")
        weights.CopyFrom(numpy_helper.from_array(stored, f"{name}_half"))
        casts.append(helper.make_node("Cast", [weights.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *halved.graph.node]  # ONNX requires the order in which they are used
    del halved.graph.node[:]
    halved.graph.node.extend(nodes)
    return halved


def halve_file(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Write a bundle with its weights stored as `halve` does it, and the same metadata.

    Parameters
    ----------
    source
        A bundle.
    target
        The file to write.

    Raises
    ------
    BundleError
        If the source is no bundle.
    TonearmError
        If a weight is out of the range of float16, or the target cannot be written.
    MissingExtraError
        If the ``onnx`` package is not installed.
    """
    with needs("learn"):
        import onnx
    halved = halve(onnx.load(Bundle.load(source).path))
    try:
        with atomic_write(target) as file:
            file.write(halved.SerializeToString())
    except OSError as error:
        raise TonearmError(f"{os.fspath(target)}: {reason_of(error)}") from error
