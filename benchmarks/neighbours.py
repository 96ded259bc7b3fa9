"""Whether a recording's nearest neighbours by other artists have its genre, by several measures.

    python benchmarks/neighbours.py --models 'fold{fold}.onnx' --data gtzan

Every clip of an artist-grouped fold is compared with the other clips of that fold by other artists,
all of them embedded by the bundle of the fold, which was not trained on any of them. Writes
`neighbours.md`. Embeddings are kept under --work.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

import foldwise
from tonearm.bundle import Bundle
from tonearm.datasets.cache import FeatureCache
from tonearm.datasets.track import Track
from tonearm.evaluation.grouping import group_of
from tonearm.library.embedding_layout import embedding_parts
from tonearm.library.embeddings import embed
from tonearm.library.similarity import cosine_similarity

NEAREST = (1, 5, 10)

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Measure = Callable[[Floats, tuple[int, ...]], Floats]  # of embeddings and the widths of their parts

# The cosine is taken between what these return. Axes and scales are those of the fold's clips.
MEASURES: dict[str, Measure] = {
    "cosine": lambda embeddings, parts: embeddings,
    "columns centred": lambda embeddings, parts: embeddings - embeddings.mean(axis=0),
    "columns standardised": lambda embeddings, parts: StandardScaler().fit_transform(embeddings),
    "the student's columns alone": lambda embeddings, parts: embeddings[:, : parts[0]],
    "20 principal components, whitened": lambda embeddings, parts: whitened(embeddings, 20),
    "50 principal components, whitened": lambda embeddings, parts: whitened(embeddings, 50),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    foldwise.add_arguments(parser, "runs/neighbours")
    args = parser.parse_args()
    cache = FeatureCache(args.work)
    found: dict[str, list[Doubles]] = {}  # by measure, a part for each fold
    for round_ in foldwise.rounds(args):
        for number, model in enumerate(round_.models):
            tracks = [clip.track for clip in round_.clips if clip.fold == number]
            for name, shares in of_fold(tracks, Bundle.load(model), cache).items():
                found.setdefault(name, []).append(shares)
    shares = {name: np.concatenate(parts) for name, parts in found.items()}
    count = len(shares["cosine"]) // args.seeds
    rows = [
        f"| {name} | {' | '.join(f'{100 * share:.1f}' for share in rows.mean(axis=0))} |"
        for name, rows in shares.items()
    ]
    foldwise.write_page(
        args.out / "neighbours.md",
        f"""# Neighbours

`tonearm similar` compares recordings by the cosine between their embeddings. Here, for each of
{count} clips, its nearest clips by *other* artists in the same artist-grouped fold
({foldwise.FOLDS} folds), embedded by the bundle of the fold, which was trained on none of them;
seeds: {args.seeds}. Per cent of these that have the clip's genre. The best possible is below 100
because many clips have few others of their genre in the fold.

| | nearest | nearest 5 | nearest 10 |
|---|---|---|---|
{chr(10).join(rows)}

## Reproduce

```
python benchmarks/neighbours.py --models 'seed{{seed}}/fold{{fold}}.onnx' \\
    --seeds {args.seeds} --data gtzan
```

The bundles are [the networks of the folds](../results-explained.md#the-networks-of-the-folds).
""",
    )


def of_fold(tracks: Sequence[Track], model: Bundle, cache: FeatureCache) -> dict[str, Doubles]:
    """Return by measure, for each track, what share of its 1, 5 and 10 nearest has its genre."""
    embedded = embed(tracks, model, cache, progress=True)
    parts = embedding_parts(model.path, embedded.values.shape[1])
    genres = np.array([track.label for track in embedded.tracks])
    artists = np.array([group_of(track.artist, track.id) for track in embedded.tracks])
    same_genre = genres[:, np.newaxis] == genres
    others = artists[:, np.newaxis] != artists
    shares = {
        name: shares_among_nearest(cosines(measure(embedded.values, parts)), same_genre, others)
        for name, measure in MEASURES.items()
    }
    shares["*best possible*"] = shares_among_nearest(same_genre, same_genre, others)
    by_chance = (same_genre & others).sum(axis=1) / others.sum(axis=1)
    shares["*by chance*"] = np.repeat(by_chance[:, np.newaxis], len(NEAREST), axis=1)
    return shares


def cosines(vectors: Floats) -> Floats:
    """Return the cosine between every two of N vectors: float32[N, N]."""
    return np.stack([cosine_similarity(vectors, vector) for vector in vectors])


def shares_among_nearest(
    similarity: NDArray[np.generic], same_genre: NDArray[np.bool_], others: NDArray[np.bool_]
) -> Doubles:
    """Return for each of N tracks the share of its nearest others that has its genre.

    Returns
    -------
    float64[N, 3]
        Among the 1, 5 and 10 nearest.
    """
    ranked = np.where(others, similarity.astype(np.float64), -np.inf).argsort(axis=1)[:, ::-1]
    hits = np.take_along_axis(same_genre & others, ranked[:, : max(NEAREST)], axis=1)
    return np.stack([hits[:, :count].mean(axis=1) for count in NEAREST], axis=1)


def whitened(embeddings: Floats, count: int) -> Floats:
    """Return so many principal components of the embeddings, each scaled to unit variance."""
    return PCA(count, whiten=True, random_state=0).fit_transform(embeddings)


if __name__ == "__main__":
    main()
