"""How much recordings sound alike: the cosine of their embeddings.

The embeddings are used as they are. Centring or standardising their columns finds no more
neighbours of the same genre by other artists, and whitening clearly fewer (docs/library.md).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

FIRST = 100  # recordings that `best_first` finds without sorting all
_SMALLEST = 1e-12  # minimum length of an embedding, to avoid division by zero


def cosine_similarity(embeddings: Floats, embedding: Floats) -> Floats:
    """Return the similarity of recordings to a given one, from -1 to 1: float32[N].

    Parameters
    ----------
    embeddings : float32[N, E]
    embedding : float32[E]
    """
    direction = unit_vectors(embedding[np.newaxis].copy())[0]
    cosines: Floats = embeddings @ direction / _lengths(embeddings)
    return cosines


def unit_vectors(embeddings: Floats) -> Floats:
    """Scale each embedding of float32[N, E] to length 1, in place; return the matrix."""
    embeddings /= _lengths(embeddings)[:, np.newaxis]
    return embeddings


def best_first(similarity: Floats) -> Iterator[int]:
    """Yield indices by descending similarity; sort all only if more than `FIRST` are taken."""
    top = np.argpartition(-similarity, FIRST)[:FIRST] if len(similarity) > FIRST else np.arange(0)
    yield from top[np.argsort(-similarity[top], kind="stable")].tolist()
    order = np.argsort(-similarity, kind="stable")
    yield from order[np.isin(order, top, invert=True)].tolist()  # equal ones may be in any order


def _lengths(embeddings: Floats) -> Floats:
    lengths: Floats = np.sqrt(np.einsum("ne,ne->n", embeddings, embeddings))
    return np.maximum(lengths, np.float32(_SMALLEST))
