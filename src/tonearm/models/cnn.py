"""A residual convolutional network over the spectrogram, pooled over time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tonearm.models.layers import (
    BandNorm,
    CepstralStatistics,
    ConvStack,
    DenseBlock,
    StatisticsPool,
    required,
)
from tonearm.models.network import GenreNetwork
from tonearm.models.registry import register


class ConvBranch(nn.Module):
    """Convolution blocks and statistics over time: timbre and texture, whenever they occur.

    Only time is pooled away. Convolutions do not know at which frequency they are applied, and
    pooling over frequency too would lose the spectral envelope, which alone (as MFCCs) goes half
    the way in telling genres apart. For the same reason, cepstral statistics of the input are
    appended.

    float32[batch, frames, bands], normalised -> float32[batch, size].

    Parameters
    ----------
    n_mels
        Bands of the input.
    widths
        Channels of the stem and of the blocks; each block halves time and bands.
    features
        Size to which all channels and bands at one time step are projected.
    """

    def __init__(self, n_mels: int, widths: Sequence[int], features: int) -> None:
        super().__init__()
        self.blocks = ConvStack(widths, pools=[(2, 2)] * (len(widths) - 1))
        bands = (n_mels + 1) // 2 // 2 ** (len(widths) - 1)
        self.project = nn.Sequential(
            nn.Linear(widths[-1] * bands, features), nn.LayerNorm(features), nn.ReLU()
        )
        self.pool = StatisticsPool()
        self.cepstral = CepstralStatistics(n_mels)
        self.size = 2 * features + self.cepstral.size
        self.norm = nn.BatchNorm1d(self.size, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """Encode frames as a vector for each example."""
        planes = self.blocks(x.unsqueeze(1))  # batch, channels, time steps, bands
        moments = self.project(planes.permute(0, 2, 1, 3).flatten(2))
        joined = torch.cat([self.pool(moments), self.cepstral(x)], dim=1)
        encoded: Tensor = self.norm(joined)
        return encoded


@register("cnn")
class CNN(GenreNetwork):
    """A network that treats the spectrogram as a picture: convolution blocks, then statistics.

    Parameters
    ----------
    num_classes
        Number of logits.
    n_mels
        Mel bands of the front end.
    widths
        Channels of the stem and of the blocks; each block halves time and bands.
    features
        Size of the features whose statistics are taken.
    embedding_size
        Length of the embedding.
    dropout
        Probability of dropping a feature before each dense layer.
    """

    def __init__(
        self,
        num_classes: int,
        n_mels: int = 96,
        widths: Sequence[int] = (16, 32, 64, 128),
        features: int = 128,
        embedding_size: int = 128,
        dropout: float = 0.4,
    ) -> None:
        super().__init__(embedding_size, num_classes, dropout)
        self.norm = BandNorm(n_mels)
        self.branch = ConvBranch(n_mels, widths, features)
        self.dense = DenseBlock(self.branch.size, embedding_size, dropout)

    def embed(self, logmel: Tensor | None, descriptors: Tensor | None = None) -> Tensor:
        """Embed float32[batch, frames, mels]; descriptors are ignored."""
        embedding: Tensor = self.dense(self.branch(self.norm(required(logmel))))
        return embedding
