"""Embeddings of recordings, cached on disk so that each is computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tonearm import audio
from tonearm.bundle import Bundle, BundleError
from tonearm.classifier import Classifier
from tonearm.datasets.cache import FailedTrack, FeatureCache, Kind
from tonearm.datasets.content import content_hash
from tonearm.datasets.track import Track
from tonearm.library.excerpt import Excerpt, classify_excerpt

# Increase it when a change of the code changes the embeddings for the same audio and model.
EMBEDDINGS_VERSION = 2

EXCERPT = Excerpt()  # as in a scan: more of a song hardly improves the prediction

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Embeddings:
    """The embeddings of the tracks that decode, and why the others have none.

    Attributes
    ----------
    tracks
        The N tracks with embeddings, in the order of the input.
    values
        float32[N, E], the mean over each track's windows.
    failures
        The other tracks, each with a one-line reason.
    """

    tracks: tuple[Track, ...]
    values: Floats
    failures: tuple[FailedTrack, ...]


def embed(
    tracks: Sequence[Track],
    model: Bundle,
    cache: FeatureCache,
    *,
    workers: int = 1,
    progress: bool = False,
) -> Embeddings:
    """Return the embeddings of recordings, reading those computed before from the cache.

    Parameters
    ----------
    workers
        Number of processes that compute embeddings.
    progress
        Whether to show a progress bar on standard error.

    Raises
    ------
    CacheError
        If an embedding cannot be written to the cache.
    """
    kind = _Embedding(model)
    rows = cache.features(tracks, kind, progress=progress, workers=workers)
    decoded = [(track, row) for track, row in zip(tracks, rows, strict=True) if row is not None]
    values = [np.asarray(row)[0] for _, row in decoded]
    return Embeddings(
        tuple(track for track, _ in decoded),
        np.array(values, dtype=np.float32).reshape(len(decoded), *kind.row_shape),
        cache.failures,
    )


def require_unchanged(model: Path, content: str) -> None:
    """Check that a bundle still has the content hash it had when the work began.

    Raises
    ------
    BundleError
        If it has not: embeddings of two models must not be mixed.
    """
    if content_hash(model) != content:
        raise BundleError(model, "the model has changed meanwhile")


class _Embedding(Kind):
    """The mean embedding of a recording's windows, as one row."""

    name = "embedding"
    dtype = np.float32

    def __init__(self, model: Bundle) -> None:
        self.row_shape = (_width(model),)
        self._model = model.path
        self._model_hash = content_hash(model.path)

    def settings(self) -> dict[str, Any]:
        return {
            "version": EMBEDDINGS_VERSION,
            "kind": self.name,
            "model": self._model_hash,
            "excerpt": str(EXCERPT),
        }

    def rows(self, path: Path) -> Iterator[Floats]:
        duration = audio.identify(path).duration  # as in a scan; see `classify_excerpt`
        yield classify_excerpt(self._classifier, path, duration, EXCERPT).embedding[np.newaxis]

    @cached_property
    def _classifier(self) -> Classifier:
        # Not in the constructor: a session cannot be sent to another process, but its path can.
        require_unchanged(self._model, self._model_hash)
        return Classifier.load(self._model)


def _width(model: Bundle) -> int:
    """Return the width of a model's embedding by running it, as its graph need not declare it."""
    frames = [
        np.zeros((1, round(view.frames_per_second), view.n_mels), np.float32)
        for view in model.metadata.front_ends
    ]
    return len(model.run(frames).embedding[0])
