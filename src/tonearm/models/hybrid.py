"""The convolutional and the recurrent branch side by side over one spectrogram."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tonearm.models.cnn import ConvBranch
from tonearm.models.crnn import RecurrentBranch
from tonearm.models.layers import BandNorm, DenseBlock, required
from tonearm.models.network import GenreNetwork
from tonearm.models.registry import register


@register("hybrid")
class Hybrid(GenreNetwork):
    """A CNN for what sounds and a CNN with bidirectional GRU for how it moves, joined at the end.

    Parallel branches as in Feng, Liu and Yao (2017), "Music genre classification with paralleling
    recurrent convolutional neural network", with a convolutional front to the recurrent branch.

    Parameters
    ----------
    num_classes : number of logits.
    n_mels : mel bands of the front end, at least 16.
    cnn_widths : channels of the convolutional branch's stem and blocks.
    crnn_widths : channels of the recurrent branch's stem and two blocks.
    hidden : size of the GRU in each direction.
    features : size of the convolutional features the statistics are of.
    embedding_size : length of the embedding.
    dropout : probability of dropping a feature before each dense layer.
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
    ) -> None:
        super().__init__(embedding_size, num_classes, dropout)
        self.norm = BandNorm(n_mels)
        self.convolutional = ConvBranch(n_mels, cnn_widths, features)
        self.recurrent = RecurrentBranch(n_mels, crnn_widths, hidden)
        joined = self.convolutional.size + self.recurrent.size
        self.dense = DenseBlock(joined, embedding_size, dropout)

    def embed(self, logmel: Tensor | None, descriptors: Tensor | None = None) -> Tensor:
        """Embed float32[batch, frames, mels]; descriptors are ignored."""
        x = self.norm(required(logmel))
        embedding: Tensor = self.dense(torch.cat([self.convolutional(x), self.recurrent(x)], dim=1))
        return embedding
