"""Compute soft labels for unlabelled music, by classifiers over the teachers' embeddings.

A student trained on only a few hundred labelled clips memorises them. Soft labels on many hours of
other music, from classifiers fitted to the same few clips, help it to generalise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tonearm.evaluation.calibration import probabilities_at
from tonearm.models import audioset
from tonearm.training.probe import EMBEDDINGS, audioset_head, probe
from tonearm.training.teachers import TeacherOutputs

Floats = NDArray[np.float32]


def soft_labels(
    clips: Sequence[TeacherOutputs],
    truth: NDArray[np.int64],
    music: Sequence[TeacherOutputs],
    labels: Sequence[str],
    *,
    regularisation: float,
    audioset_weight: float,
) -> Floats:
    """Return the genre probabilities of unlabelled music.

    Linear probes of each teacher's embedding, fitted to the labelled clips, are averaged in the
    log domain. The AudioSet head is added, relative to its mean over the music, because it assumes
    other genre frequencies.

    Parameters
    ----------
    clips
        The teachers' outputs for the labelled clips.
    truth
        int[clips], indices in `labels`.
    music
        The teachers' outputs for M segments of unlabelled music.
    regularisation
        C of the probes.
    audioset_weight
        Weight of AudioSet's log-probability of a genre; counts as 0 if AudioSet does not know the
        genres.

    Returns
    -------
    float32[M, labels], every row a distribution.
    """
    scores = np.zeros((len(music), len(labels)))
    for embedding in EMBEDDINGS.values():
        known = np.stack([embedding(outputs) for outputs in clips])
        unlabelled = np.stack([embedding(outputs) for outputs in music])
        scores += probe(known, truth, unlabelled, len(labels), regularisation) / len(EMBEDDINGS)
    if audioset_weight and audioset.knows(labels):
        audioset_scores = audioset_head(np.stack([outputs.audioset for outputs in music]), labels)
        scores += audioset_weight * (audioset_scores - audioset_scores.mean(axis=0))
    return probabilities_at(scores).astype(np.float32)
