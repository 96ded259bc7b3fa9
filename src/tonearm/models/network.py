"""What every genre network offers: an embedding of a stretch of music, classified linearly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Outputs(NamedTuple):
    """What one pass through a network gives."""

    logits: Tensor  # float32[batch, classes]
    embedding: Tensor  # float32[batch, embedding_size]
    music: Tensor | None = None  # float32[batch, 1], a logit; where the network `says_music`


class GenreNetwork(nn.Module):
    """Base of the genre networks: `embed` is theirs, the linear classifier is common.

    A network takes log-mel frames of any length from about half a second, so one set of weights
    serves training crops, windows and short clips. Normalisation of the input happens inside.

    Parameters
    ----------
    embedding_size
        Length of what `embed` returns.
    num_classes
        Number of logits.
    dropout
        Probability of dropping an entry of the embedding before the classifier.
    """

    uses_descriptors = False
    needs_logmel = True  # whether it has no answer to an example without log-mel frames
    says_music = False  # whether it tells music from other sounds
    attribution = ""  # whom the weights it starts from are owed to

    def __init__(self, embedding_size: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.num_classes = num_classes
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(embedding_size, num_classes))

    def forward(self, logmel: Tensor | None, descriptors: Tensor | None = None) -> Tensor:
        """Score the genres of each example.

        Parameters
        ----------
        logmel
            float32[batch, frames, mels], or None if the network can do without.
        descriptors
            float32[batch, descriptors], ignored by networks that use none.

        Returns
        -------
        float32[batch, classes], logits.
        """
        return self.both(logmel, descriptors).logits

    def both(self, logmel: Tensor | None, descriptors: Tensor | None = None) -> Outputs:
        """Return logits and embedding of one pass; arguments as in `forward`."""
        embedding = self.embed(logmel, descriptors)
        return Outputs(self.classifier(embedding), embedding)

    def branch_logits(
        self, logmel: Tensor | None, descriptors: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Return what training teaches: the logits, or those of each part that answers by itself.

        Parts that are taught apart err apart, which makes their mean better than one taught whole.
        """
        return (self.forward(logmel, descriptors),)

    def embed(self, logmel: Tensor | None, descriptors: Tensor | None = None) -> Tensor:
        """Return float32[batch, embedding_size]; arguments as in `forward`."""
        raise NotImplementedError

    def pretrained_parameters(self) -> Iterable[nn.Parameter]:
        """Return the parameters that start from published weights (they want smaller steps)."""
        return ()

    @torch.no_grad()
    def standardise_descriptors(self, descriptors: Tensor) -> None:
        """Take over mean and spread of the training set's float32[tracks, descriptors].

        The statistics become buffers of the network. Networks without descriptors ignore it.
        """
