"""How well the map in `tonearm report` keeps similar tracks together, and what it costs.

    python benchmarks/map.py library.db [--tracks 50000]

Lays out the embeddings of a store three times: as the report does, by their first two principal
components, which is the floor, and by scikit-learn's t-SNE (only up to 5,000 tracks: it takes
minutes beyond). For each, of a track's ten most similar tracks, the share that is among the nearest
dots, and the CPU time. With --tracks, the store's tracks are joined by so many synthetic ones:
each the embedding of a random track, with as much noise as lies between tracks that are neighbours.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from tonearm.library.projection import faithfulness, lay_out
from tonearm.library.similarity import unit_vectors
from tonearm.library.store import Store

MOST_FOR_TSNE = 5000

Floats = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--tracks", type=int, default=0, help="enlarged to so many tracks")
    args = parser.parse_args()
    with Store(args.store) as store:
        vectors = unit_vectors(store.embeddings()[1])
    vectors = enlarged(vectors, args.tracks)
    methods: dict[str, Callable[[Floats], Floats]] = {
        "tonearm report": lay_out,
        "two principal components": PCA(2, random_state=0).fit_transform,
    }
    if len(vectors) <= MOST_FOR_TSNE:
        methods["t-SNE (scikit-learn)"] = TSNE(random_state=0, n_jobs=1).fit_transform
    print(f"{len(vectors)} tracks")
    for name, method in methods.items():
        start = time.process_time()
        points = method(vectors)
        seconds = time.process_time() - start
        found = faithfulness(vectors, points)
        print(
            f"{name:26}keeps {found.kept:4.0%} of {found.nearest} among {found.reach} nearest "
            f"(chance {found.chance:.0%}), {seconds:6.1f} s of CPU"
        )


def enlarged(vectors: Floats, count: int) -> Floats:
    """Return the vectors and noisy copies of them, so many in all."""
    random = np.random.default_rng(0)
    missing = max(0, count - len(vectors))
    sources = random.integers(len(vectors), size=missing)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    distances = np.sqrt(np.maximum(0, 2 - 2 * cosines.max(axis=1)))
    noise = random.standard_normal((missing, vectors.shape[1]), dtype=np.float32)
    noise *= (distances[sources] / np.sqrt(vectors.shape[1]))[:, np.newaxis]
    return np.concatenate([vectors, unit_vectors(vectors[sources] + noise)])


if __name__ == "__main__":
    main()
