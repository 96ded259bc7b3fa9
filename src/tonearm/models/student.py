"""The student: a small network distilled from several large ones, with its AudioSet head kept.

It is MobileNetV3 with the AudioSet weights of EfficientAT, and two heads. The genre head reads an
embedding that `tonearm.training.distill` trains to contain the information in the teachers'
embeddings. The published AudioSet classifier is kept beside it: it was trained on far more varied
audio than any genre dataset has, and helps on recordings unlike those of such a dataset.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tonearm.errors import UsageError
from tonearm.models import audioset
from tonearm.models.layers import log_sigmoid, rectangle, required
from tonearm.models.mobilenet import ATTRIBUTION, PRETRAINED_WIDTH, keep_statistics, make_tagger
from tonearm.models.network import GenreNetwork, Outputs
from tonearm.models.registry import register

# Slope and centre of the logistic regression behind the logit of music, see `Student._music`. It
# was fitted to GTZAN and game music against speech, noise, tones, sound effects and field
# recordings, and its coefficients were rounded.
MUSIC_SLOPE = 2.0
MUSIC_CENTRE = 1.65


class StudentOutputs(NamedTuple):
    """The student's raw outputs for a batch."""

    genre: Tensor  # float32[batch, classes], logits of the genre head
    audioset: Tensor  # float32[batch, 527], logits of the AudioSet classifier
    embedding: Tensor  # float32[batch, embedding_size]


class GenreScores(NamedTuple):
    """The student's genre log-probabilities for a batch, separately for each of its heads."""

    genre: Tensor  # float32[batch, classes], log-probabilities of the genre head
    audioset: Tensor | None  # the same of the AudioSet head, None if it has no weight
    embedding: Tensor  # float32[batch, embedding_size]
    music: Tensor | None  # float32[batch, 1], logit of the audio being music


@register("student")
class Student(GenreNetwork):
    """A genre head on an embedding of MobileNetV3 features, with the AudioSet head added.

    Parameters
    ----------
    num_classes
        Number of logits.
    n_mels
        Number of mel bands of the front end; the published weights require 128 ("efficientat").
    labels
        The genres' names in the order of the logits; required if `audioset_weight` is not 0.
    audioset_weight
        Weight of AudioSet's log-probability of a genre in its logit, relative to 1 for the genre
        head's. It must be 0 if AudioSet has no classes for the labels.
    embedding_size
        Length of the embedding.
    width
        Multiplier of the channels; the published weights require 0.4.
    pretrained
        Whether to start from the published AudioSet weights.
    dropout
        Probability of dropping an entry of the embedding before the genre head.
    """

    def __init__(
        self,
        num_classes: int,
        n_mels: int = 128,
        labels: Sequence[str] = (),
        audioset_weight: float = 0.0,
        embedding_size: int = 512,
        width: float = PRETRAINED_WIDTH,
        pretrained: bool = True,
        dropout: float = 0.3,
    ) -> None:
        super().__init__(embedding_size, num_classes, dropout)
        if audioset_weight and len(labels) != num_classes:
            raise UsageError(
                f"model 'student' with audioset_weight {audioset_weight} needs the names of its "
                f"{num_classes} labels, got {len(labels)}"
            )
        tagger = make_tagger("student", width, n_mels, pretrained=pretrained)
        self.pretrained = pretrained
        self.attribution = ATTRIBUTION if pretrained else ""
        self.audioset_weight = audioset_weight
        self.features = tagger.features
        # The published classifier without its first two layers, which only take the mean.
        self.audioset = tagger.classifier[2:]
        self.project = nn.Sequential(
            nn.Linear(2 * tagger.embedding_size, embedding_size), nn.Hardswish()
        )
        classes = audioset.genre_classes(labels) if audioset_weight else [[0]]
        self.register_buffer("genre_classes", rectangle(classes), persistent=False)
        self.genre_classes: Tensor
        # Only the published classifier, kept by distillation, was trained on anything but music.
        self.says_music = pretrained
        others = torch.tensor(audioset.other_classes())
        self.register_buffer("other_classes", others, persistent=False)
        self.other_classes: Tensor

    def outputs(self, logmel: Tensor | None, descriptors: Tensor | None = None) -> Outputs:
        """Return the logits, the embedding and the logit of music from one forward pass.

        The logits are the log-probabilities of the genre head plus the weighted ones of the
        AudioSet head, in which a genre is as likely as the likeliest of its classes.
        """
        scores = self.genre_scores(required(logmel))
        logits = scores.genre
        if scores.audioset is not None:
            logits = logits + self.audioset_weight * scores.audioset
        return Outputs(logits, scores.embedding, scores.music)

    def genre_scores(self, logmel: Tensor) -> GenreScores:
        """Return the parts that `outputs` combines, for float32[batch, frames, mels]."""
        outputs = self.head_outputs(logmel)
        of_genres = None
        if self.audioset_weight:
            of_genres = log_sigmoid(outputs.audioset)[:, self.genre_classes].amax(dim=2)
        music = self._music(outputs.audioset) if self.says_music else None
        return GenreScores(outputs.genre.log_softmax(dim=1), of_genres, outputs.embedding, music)

    def embed(self, logmel: Tensor | None, descriptors: Tensor | None = None) -> Tensor:
        """Embed float32[batch, frames, mels]; descriptors are ignored."""
        embedding: Tensor = self.project(self._pooled(required(logmel)))
        return embedding

    def head_outputs(self, logmel: Tensor) -> StudentOutputs:
        """Return the logits of both heads, and the embedding, of float32[batch, frames, mels]."""
        pooled = self._pooled(logmel)
        embedding = self.project(pooled)
        mean = pooled[:, : pooled.shape[1] // 2]
        return StudentOutputs(self.classifier(embedding), self.audioset(mean), embedding)

    def train(self, mode: bool = True) -> Student:
        """Switch between training and evaluation, except for pretrained batch normalisation."""
        super().train(mode)
        if self.pretrained:
            keep_statistics(self.features)
        return self

    def pretrained_parameters(self) -> Iterable[nn.Parameter]:
        """Return the parameters of the features and AudioSet classifier if they are pretrained."""
        if not self.pretrained:
            return ()
        return [*self.features.parameters(), *self.audioset.parameters()]

    def _music(self, logits: Tensor) -> Tensor:
        """Return a logit of the audio being music, float32[batch, 1], from AudioSet's logits.

        It compares the logit of "Music" in float32[batch, 527] with the logarithm of the expected
        number of other sounds, which do not include singing and instruments.
        """
        others = logits[:, self.other_classes].sigmoid().sum(dim=1, keepdim=True)
        evidence = logits[:, audioset.MUSIC : audioset.MUSIC + 1] - others.log()
        return MUSIC_SLOPE * (evidence - MUSIC_CENTRE)

    def _pooled(self, logmel: Tensor) -> Tensor:
        """Return the mean of the features, then the maximum over time of their means over bands."""
        plane = self.features(logmel.transpose(1, 2).unsqueeze(1))  # batch, size, bands, frames
        return torch.cat([plane.mean((2, 3)), plane.mean(2).amax(2)], dim=1)
