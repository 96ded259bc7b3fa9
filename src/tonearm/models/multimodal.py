"""A network on the spectrogram and the clip descriptors, either of which may be missing."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from tonearm.errors import UsageError
from tonearm.models.cnn import ConvBranch
from tonearm.models.layers import BandNorm, DescriptorNet, GatedFusion, fill_missing
from tonearm.models.network import GenreNetwork
from tonearm.models.registry import register


@register("multimodal")
class Multimodal(GenreNetwork):
    """A convolutional network on the spectrogram and a perceptron on the descriptors.

    The two are joined by a gate that knows which inputs are present: an example with a NaN in its
    log-mel frames or in its descriptors is classified by the other input alone.

    Parameters
    ----------
    num_classes
        Number of logits.
    n_mels
        Mel bands of the front end.
    n_descriptors
        Number of clip descriptors.
    widths
        Channels of the stem and of the blocks; each block halves time and bands.
    descriptor_size
        Size of the descriptor network.
    features
        Size of the convolutional features whose statistics are taken.
    embedding_size
        Length of the embedding.
    dropout
        Probability of dropping a feature before each dense layer.
    modality_dropout
        Probability of withholding either input from an example in training, at most 0.5.
    """

    uses_descriptors = True
    needs_logmel = False

    def __init__(
        self,
        num_classes: int,
        n_mels: int = 96,
        n_descriptors: int = 0,
        widths: Sequence[int] = (16, 32, 64, 128),
        descriptor_size: int = 64,
        features: int = 96,
        embedding_size: int = 128,
        dropout: float = 0.4,
        modality_dropout: float = 0.2,
    ) -> None:
        super().__init__(embedding_size, num_classes, dropout)
        if n_descriptors < 1:
            raise UsageError("model 'multimodal' needs n_descriptors, the number of descriptors")
        self.n_mels = n_mels
        self.norm = BandNorm(n_mels)
        self.picture = ConvBranch(n_mels, widths, features)
        self.numbers = DescriptorNet(n_descriptors, descriptor_size, dropout)
        self.fusion = GatedFusion(
            self.picture.size, descriptor_size, embedding_size, modality_dropout
        )

    def embed(self, logmel: Tensor | None, descriptors: Tensor | None = None) -> Tensor:
        """Embed float32[batch, frames, mels] and float32[batch, descriptors].

        Either may be None, which means that it is missing in every example.
        """
        logmel, has_logmel, descriptors, has_descriptors = fill_missing(
            logmel, descriptors, self.n_mels, len(self.numbers.mean)
        )
        embedding: Tensor = self.fusion(
            self.picture(self.norm(logmel)),
            self.numbers(descriptors),
            has_logmel,
            has_descriptors,
        )
        return embedding

    def standardise_descriptors(self, descriptors: Tensor) -> None:
        """Store the training set's mean and spread as buffers of the network."""
        self.numbers.standardise(descriptors)
