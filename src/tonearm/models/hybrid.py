"""A convolutional and a recurrent branch in parallel over one spectrogram."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tonearm.errors import UsageError
from tonearm.models.cnn import ConvBranch
from tonearm.models.crnn import RecurrentBranch
from tonearm.models.layers import BandNorm, DenseBlock, DescriptorNet, fill_missing, required
from tonearm.models.network import GenreNetwork, Outputs
from tonearm.models.registry import register


@register("hybrid")
class Hybrid(GenreNetwork):
    """A CNN for timbre and texture and a CNN with bidirectional GRU for change, joined at the end.

    The parallel branches are those of Feng, Liu and Yao (2017), "Music genre classification with
    paralleling recurrent convolutional neural network", with convolutions before the recurrent
    branch. With `descriptors`, a perceptron on the clip descriptors predicts too, and the two
    log-probabilities are averaged: what a network learns from scratch from a few hundred recordings
    and what the traditional descriptors already capture complement each other.

    Parameters
    ----------
    num_classes
        Number of logits.
    n_mels
        Mel bands of the front end, at least 16.
    cnn_widths
        Channels of the convolutional branch's stem and blocks.
    crnn_widths
        Channels of the recurrent branch's stem and two blocks.
    hidden
        Size of the GRU in each direction.
    features
        Size of the convolutional features whose statistics are taken.
    embedding_size
        Length of the embedding.
    dropout
        Probability of dropping a feature before each dense layer.
    n_descriptors
        Number of clip descriptors, required with `descriptors`.
    descriptors
        Whether to use clip descriptors; an example without them (NaN) is classified by its frames
        alone.
    descriptor_size
        Size of the descriptor network.
    """

    def __init__(
        self,
        num_classes: int,
        n_mels: int = 96,
        cnn_widths: Sequence[int] = (12, 24, 48, 96),
        crnn_widths: Sequence[int] = (12, 24, 48),
        hidden: int = 48,
        features: int = 96,
        embedding_size: int = 128,
        dropout: float = 0.4,
        n_descriptors: int = 0,
        descriptors: bool = False,
        descriptor_size: int = 64,
    ) -> None:
        super().__init__(embedding_size, num_classes, dropout)
        if descriptors and n_descriptors < 1:
            raise UsageError("model 'hybrid' with descriptors needs their number, n_descriptors")
        self.uses_descriptors = descriptors
        self.n_mels = n_mels
        self.norm = BandNorm(n_mels)
        self.convolutional = ConvBranch(n_mels, cnn_widths, features)
        self.recurrent = RecurrentBranch(n_mels, crnn_widths, hidden)
        joined = self.convolutional.size + self.recurrent.size
        self.dense = DenseBlock(joined, embedding_size, dropout)
        self.numbers = (
            DescriptorNet(n_descriptors, descriptor_size, dropout) if descriptors else None
        )
        self.second = nn.Linear(descriptor_size, num_classes) if descriptors else None

    def outputs(self, logmel: Tensor | None, descriptors: Tensor | None = None) -> Outputs:
        """Return the logits and the frames' embedding; arguments as in `forward`."""
        of_frames = super().outputs(logmel)
        branches = self._branches(of_frames.logits, logmel, descriptors)
        if len(branches) == 1:
            return of_frames
        mean = torch.stack([logits.log_softmax(dim=1) for logits in branches]).mean(dim=0)
        return Outputs(mean, of_frames.embedding)

    def branch_logits(
        self, logmel: Tensor | None, descriptors: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Return the logits of the frames and, with `descriptors`, those of the descriptors.

        If an example lacks descriptors, the frames' logits replace theirs, since there is nothing
        to learn from missing descriptors.
        """
        return self._branches(super().outputs(logmel).logits, logmel, descriptors)

    def standardise_descriptors(self, descriptors: Tensor) -> None:
        """Store the training set's mean and spread, if the network uses descriptors."""
        if self.numbers is not None:
            self.numbers.standardise(descriptors)

    def embed(self, logmel: Tensor | None, descriptors: Tensor | None = None) -> Tensor:
        """Embed float32[batch, frames, mels]; descriptors are ignored."""
        x = self.norm(required(logmel))
        embedding: Tensor = self.dense(torch.cat([self.convolutional(x), self.recurrent(x)], dim=1))
        return embedding

    def _branches(
        self, of_frames: Tensor, logmel: Tensor | None, descriptors: Tensor | None
    ) -> tuple[Tensor, ...]:
        if self.numbers is None or self.second is None:
            return (of_frames,)
        _, _, descriptors, has_descriptors = fill_missing(
            logmel, descriptors, self.n_mels, len(self.numbers.mean)
        )
        second = self.second(self.numbers(descriptors))
        return of_frames, torch.where(has_descriptors > 0, second, of_frames)
