"""A convolutional network with a bidirectional GRU over its features (Choi et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from tonearm.models.layers import BandNorm, ConvStack, DenseBlock, RecurrentPool, required
from tonearm.models.network import GenreNetwork
from tonearm.models.registry import register

# (frames, bands) that the blocks pool over. Frequency shrinks faster than time: the GRU needs a
# sequence of time steps, one every 8 frames (0.13 s at 62.5 frames per second), not a picture.
_POOLS = ((1, 2), (2, 4))


class RecurrentBranch(nn.Module):
    """Convolution blocks, then a bidirectional GRU with attention: the order of events.

    float32[batch, frames, bands], normalised -> float32[batch, size].
    """

    def __init__(self, n_mels: int, widths: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.blocks = ConvStack(widths, _POOLS)
        bands = (n_mels + 1) // 2
        for _, pool in _POOLS:
            bands //= pool
        self.project = nn.Linear(widths[-1] * bands, 2 * hidden)
        self.recurrent = RecurrentPool(2 * hidden, hidden)
        self.size = 2 * hidden

    def forward(self, x: Tensor) -> Tensor:
        """Encode frames as a vector for each example."""
        features = self.blocks(x.unsqueeze(1))  # batch, channels, time steps, bands
        moments = features.permute(0, 2, 1, 3).flatten(2)
        encoded: Tensor = self.recurrent(self.project(moments).relu())
        return encoded


@register("crnn")
class CRNN(GenreNetwork):
    """Convolutions for local patterns, a bidirectional GRU for their order, attention pooling.

    Parameters
    ----------
    num_classes
        Number of logits.
    n_mels
        Mel bands of the front end, at least 16.
    widths
        Channels of the convolution stem and the two blocks.
    hidden
        Size of the GRU in each direction.
    embedding_size
        Length of the embedding.
    dropout
        Probability of dropping a feature before each dense layer.
    """

    def __init__(
        self,
        num_classes: int,
        n_mels: int = 96,
        widths: Sequence[int] = (16, 32, 64),
        hidden: int = 64,
        embedding_size: int = 128,
        dropout: float = 0.4,
    ) -> None:
        super().__init__(embedding_size, num_classes, dropout)
        self.norm = BandNorm(n_mels)
        self.branch = RecurrentBranch(n_mels, widths, hidden)
        self.dense = DenseBlock(self.branch.size, embedding_size, dropout)

    def embed(self, logmel: Tensor | None, descriptors: Tensor | None = None) -> Tensor:
        """Embed float32[batch, frames, mels]; descriptors are ignored."""
        embedding: Tensor = self.dense(self.branch(self.norm(required(logmel))))
        return embedding
