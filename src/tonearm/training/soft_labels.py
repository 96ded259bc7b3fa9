"""Labels music that nobody labelled, by classifiers over the teachers' embeddings.

A student that sees only a few hundred labelled clips learns them by heart. What the teachers make
of many hours of other music, seen through the same few clips, shows it how to go on from them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tonearm.evaluation.calibration import probabilities_at
from tonearm.models import audioset
from tonearm.training.probe import EMBEDDINGS, audioset_head, probe
from tonearm.training.teachers import Said

Floats = NDArray[np.float32]


def soft_labels(
    clips: Sequence[Said],
    truth: NDArray[np.int64],
    music: Sequence[Said],
    labels: Sequence[str],
    *,
    regularisation: float,
    audioset_weight: float,
) -> Floats:
    """Give the shares of the genres in unlabelled music.

    Linear probes of each teacher's embedding, fitted to the labelled clips, are averaged in the
    log domain. The AudioSet head is added, relative to its mean over the music: it has other
    ideas of how frequent a genre is.

    Parameters
    ----------
    clips
        What was said of the labelled clips.
    truth
        int[clips], places in `labels`.
    music
        What was said of M stretches of unlabelled music.
    regularisation
        C of the probes.
    audioset_weight
        What the log-probability AudioSet gives to a genre weighs; it counts as 0 where AudioSet
        does not know the genres.

    Returns
    -------
    float32[M, labels], every row a distribution.
    """
    scores = np.zeros((len(music), len(labels)))
    for embedding in EMBEDDINGS.values():
        known = np.stack([embedding(said) for said in clips])
        asked = np.stack([embedding(said) for said in music])
        scores += probe(known, truth, asked, len(labels), regularisation) / len(EMBEDDINGS)
    if audioset_weight and audioset.knows(labels):
        said_by_audioset = audioset_head(np.stack([said.audioset for said in music]), labels)
        scores += audioset_weight * (said_by_audioset - said_by_audioset.mean(axis=0))
    return probabilities_at(scores).astype(np.float32)
