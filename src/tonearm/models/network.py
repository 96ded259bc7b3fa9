"""The interface of every genre network: an embedding of a stretch of music, classified linearly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor, nn


class Outputs(NamedTuple):
    """The outputs of one pass through a network."""

    logits: Tensor  # float32[batch, classes]
    embedding: Tensor  # float32[batch, embedding_size]
    music: Tensor | None = None  # float32[batch, 1], a logit; if the network `says_music`


class GenreNetwork(nn.Module):
    """Base of the genre networks, which implement `embed` and share the linear classifier.

    A network takes log-mel frames of any length from about half a second on, so one set of weights
    serves training crops, windows and short clips; it must do so when exported to ONNX, too. The
    network itself normalises its input.

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
    needs_logmel = True  # whether it cannot classify an example without log-mel frames
    says_music = False  # whether it tells music from other sounds
    attribution = ""  # whom to credit for the weights it starts from

    def __init__(self, embedding_size: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.num_classes = num_classes
        self.classifier: nn.Module = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(embedding_size, num_classes)
        )

    def forward(self, logmel: Tensor | None, descriptors: Tensor | None = None) -> Tensor:
        """Score the genres of each example.

        Parameters
        ----------
        logmel
            float32[batch, frames, mels], or None if the network can do without them.
        descriptors
            float32[batch, descriptors]; ignored by networks that do not use them.

        Returns
        -------
        float32[batch, classes], logits.

        Raises
        ------
        UsageError
            If an input that the network needs is None.
        """
        return self.outputs(logmel, descriptors).logits

    def outputs(self, logmel: Tensor | None, descriptors: Tensor | None = None) -> Outputs:
        """Return all outputs of one pass; arguments as in `forward`."""
        embedding = self.embed(logmel, descriptors)
        return Outputs(self.classifier(embedding), embedding)

    def branch_logits(
        self, logmel: Tensor | None, descriptors: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Return the logits to train: the network's, or those of each part that predicts by itself.

        Parts trained separately make different errors, so their mean is better than the prediction
        of parts trained jointly.
        """
        return (self.forward(logmel, descriptors),)

    def embed(self, logmel: Tensor | None, descriptors: Tensor | None = None) -> Tensor:
        """Return float32[batch, embedding_size]; arguments as in `forward`."""
        raise NotImplementedError

    def pretrained_parameters(self) -> Iterable[nn.Parameter]:
        """Return the parameters that start from published weights (they need smaller steps)."""
        return ()

    def standardise_descriptors(self, descriptors: Tensor) -> None:
        """Store the mean and spread of the training set's float32[tracks, descriptors].

        They become buffers of the network; networks without descriptors ignore the call.
        """
