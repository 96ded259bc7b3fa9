"""A residual convolutional network over the spectrogram, pooled over the whole plane."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from tonearm.models.layers import BandNorm, ConvStack, DenseBlock, MeanMaxPool, required
from tonearm.models.network import GenreNetwork
from tonearm.models.registry import register


class ConvBranch(nn.Module):
    """Convolution blocks and mean-and-max pooling: timbre and texture, wherever they occur.

    float32[batch, frames, bands], normalised -> float32[batch, size].
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.blocks = ConvStack(widths, pools=[(2, 2)] * (len(widths) - 1))
        self.pool = MeanMaxPool()
        self.size = 2 * widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Encode."""
        pooled: Tensor = self.pool(self.blocks(x.unsqueeze(1)))
        return pooled


@register("cnn")
class CNN(GenreNetwork):
    """The spectrogram as a picture: convolution blocks, pooled over time and frequency.

    Parameters
    ----------
    num_classes : number of logits.
    n_mels : mel bands of the front end.
    widths : channels of the convolution stem and blocks, each of which halves time and bands.
    embedding_size : length of the embedding.
    dropout : probability of dropping a feature before each dense layer.
    """

    def __init__(
        self,
        num_classes: int,
        n_mels: int = 96,
        widths: Sequence[int] = (16, 32, 64, 128),
        embedding_size: int = 128,
        dropout: float = 0.4,
    ) -> None:
        super().__init__(embedding_size, num_classes, dropout)
        self.norm = BandNorm(n_mels)
        self.branch = ConvBranch(widths)
        self.dense = DenseBlock(self.branch.size, embedding_size, dropout)

    def embed(self, logmel: Tensor | None, descriptors: Tensor | None = None) -> Tensor:
        """Embed float32[batch, frames, mels]; descriptors are ignored."""
        embedding: Tensor = self.dense(self.branch(self.norm(required(logmel))))
        return embedding
