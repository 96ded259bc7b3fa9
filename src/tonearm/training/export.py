"""Export a trained network to a bundle: one ONNX file with metadata on how to use it."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tonearm.atomic import atomic_path
from tonearm.bundle import Bundle, BundleError, write_metadata
from tonearm.errors import TonearmError
from tonearm.metadata import BundleMetadata
from tonearm.models import GenreNetwork
from tonearm.training.ensemble import Ensemble
from tonearm.training.negligible import without_negligible_weights

# Largest difference between torch and ONNX Runtime that is accepted as rounding.
TOLERANCE = 1e-4
_OPSET = 17


class ExportError(TonearmError):
    """The exported network does not compute the same numbers as the original."""


def export(network: GenreNetwork | Ensemble, metadata: BundleMetadata, path: Path) -> Path:
    """Write a network as a bundle, and check that ONNX Runtime computes the same numbers.

    Parameters
    ----------
    network
        A network on any device; it is copied, not changed.
    metadata
        Metadata of the bundle. Its front ends and descriptors must be those of the network.
    path
        The ONNX file to write; it appears complete or not at all.

    Returns
    -------
    The path.

    Raises
    ------
    ExportError
        If an output differs by more than `TOLERANCE`, or the bundle cannot be run.
    OSError
        If the file cannot be written.
    """
    network = without_negligible_weights(copy.deepcopy(network).cpu().eval())
    with atomic_path(path) as draft:
        _write_graph(network, metadata, draft)
        write_metadata(draft, metadata, draft)
        try:
            difference = largest_difference(network, Bundle.load(draft))
        except BundleError as error:  # its message names the draft, which is about to be deleted
            raise ExportError(f"{path}: {error.reason}") from error
        if not difference <= TOLERANCE:
            raise ExportError(
                f"{path}: ONNX Runtime differs from torch by {difference:.1e}, "
                f"more than {TOLERANCE:.0e}"
            )
    return path


def largest_difference(network: GenreNetwork | Ensemble, bundle: Bundle) -> float:
    """Return the largest difference between a network and its bundle on random inputs.

    Returns
    -------
    The largest absolute difference in a logit (including that of music, if there is one) or an
    entry of the embedding, over several batch sizes and lengths; with descriptors, also for
    examples in which one of the inputs is missing.
    """
    rng = np.random.default_rng(0)
    metadata = bundle.metadata
    n_descriptors = len(metadata.descriptors)
    worst = 0.0
    for batch, seconds in ((1, 1.0), (3, 2.9), (2, metadata.window_seconds)):
        logmel, *others = (
            rng.normal(
                0.5, 0.7, (batch, round(seconds * view.frames_per_second), view.n_mels)
            ).astype(np.float32)
            for view in metadata.front_ends
        )
        # Some networks behave differently if the upper bands are silent, or nearly so.
        for row, fall in zip(logmel, (0.0, 3.0, 0.4), strict=False):
            row[:, 3 * row.shape[1] // 4 :] -= fall
        described: NDArray[np.float32] | None = None
        if n_descriptors:
            described = rng.normal(size=(batch, n_descriptors)).astype(np.float32)
            if batch == 3:
                described[1] = np.nan
                if isinstance(network, GenreNetwork) and not network.needs_logmel:
                    logmel[2] = np.nan
        got = bundle.run([logmel, *others], described)
        given = [torch.from_numpy(x) for x in (logmel, described, *others) if x is not None]
        with torch.inference_mode():
            expected = network.outputs(*given)
        pairs = [(got.logits, expected.logits), (got.embedding, expected.embedding)]
        if got.music is not None and expected.music is not None:
            pairs.append((got.music, expected.music))
        for theirs, ours in pairs:
            # Python's max would ignore NaN.
            worst = float(np.maximum(worst, np.abs(theirs - ours.numpy()).max()))
    return worst


class _Exported(nn.Module):
    """The network as exported: it returns all its outputs, without those that are None."""

    def __init__(self, network: GenreNetwork | Ensemble) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(output for output in self.network.outputs(*inputs) if output is not None)


def _write_graph(network: GenreNetwork | Ensemble, metadata: BundleMetadata, path: Path) -> None:
    front_end = metadata.front_end
    frames = round(metadata.window_seconds * front_end.frames_per_second)
    # A batch of two: some operators would treat a batch size of one as a constant.
    inputs: tuple[Tensor, ...] = (torch.zeros(2, frames, front_end.n_mels),)
    axes = {"logmel": {0: "batch", 1: "frames"}}
    if metadata.descriptors:
        inputs += (torch.zeros(2, len(metadata.descriptors)),)
        axes["descriptors"] = {0: "batch"}
    if second := metadata.second_front_end:
        frames = round(metadata.window_seconds * second.frames_per_second)
        inputs += (torch.zeros(2, frames, second.n_mels),)
        axes["second_logmel"] = {0: "batch", 1: "second_frames"}
    names = list(axes)
    outputs = ["logits", "embedding", "music"][: 3 if network.says_music else 2]
    axes |= {name: {0: "batch"} for name in outputs}
    with warnings.catch_warnings(), torch.inference_mode():
        # The exporter warns about GRUs with a variable batch size; `largest_difference` checks.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Exported(network).eval(),
            inputs,
            path,
            input_names=names,
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=_OPSET,
            dynamo=False,
        )
