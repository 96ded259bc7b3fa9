"""A student in training, with a head for each of its teachers' outputs, and the imitation loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from tonearm.models.student import Student, StudentOutputs
from tonearm.training.recipe import DistillOptimiserSettings
from tonearm.training.targets import TargetBatch, TargetSpace


class TeacherHeadOutputs(NamedTuple):
    """The outputs of the student and its teacher heads for a batch."""

    student: StudentOutputs
    musicnn: Tensor  # float32[batch, components]
    musicnn_tags: Tensor  # float32[batch, 50]
    fcn: Tensor  # float32[batch, 64]
    fcn_tags: Tensor  # float32[batch, 50]


class StudentWithTeacherHeads(nn.Module):
    """The student, with linear heads on its embedding that are dropped when it ships.

    AudioSet's outputs need no head, as the student has kept the AudioSet classifier.
    """

    def __init__(self, student: Student, space: TargetSpace) -> None:
        super().__init__()
        self.student = student
        size = student.embedding_size
        self.musicnn = nn.Linear(size, space.components.shape[1])
        self.musicnn_tags = nn.Linear(size, space.musicnn_tags.shape[1])
        self.fcn = nn.Linear(size, space.fcn.shape[1])
        self.fcn_tags = nn.Linear(size, space.fcn_tags.shape[1])

    @property
    def device(self) -> torch.device:
        """Where the network is, and what it is given has to be."""
        return self.fcn.weight.device

    def forward(self, logmel: Tensor) -> TeacherHeadOutputs:
        """Return the outputs for float32[batch, frames, mels]."""
        outputs = self.student.head_outputs(logmel)
        z = outputs.embedding
        return TeacherHeadOutputs(
            outputs, self.musicnn(z), self.musicnn_tags(z), self.fcn(z), self.fcn_tags(z)
        )

    def groups(self, settings: DistillOptimiserSettings) -> list[tuple[list[nn.Parameter], float]]:
        """Group the parameters by learning rate: features, AudioSet classifier, new layers."""
        features = list(self.student.features.parameters())
        audioset = list(self.student.audioset.parameters())
        known = {id(parameter) for parameter in (*features, *audioset)}
        new = [parameter for parameter in self.parameters() if id(parameter) not in known]
        return [
            (features, settings.pretrained_lr),
            (audioset, settings.audioset_lr),
            (new, settings.lr),
        ]


def imitation_losses(outputs: TeacherHeadOutputs, targets: TargetBatch) -> Mapping[str, Tensor]:
    """Return the loss for each target: scalars by the target's name.

    Embeddings and tags are standardised, so their mean squared errors are comparable; the loss for
    AudioSet is binary cross-entropy, summed over its classes.
    """
    return {
        "musicnn": functional.mse_loss(outputs.musicnn, targets.musicnn),
        "musicnn_tags": functional.mse_loss(outputs.musicnn_tags, targets.musicnn_tags),
        "fcn": functional.mse_loss(outputs.fcn, targets.fcn),
        "fcn_tags": functional.mse_loss(outputs.fcn_tags, targets.fcn_tags),
        "audioset": functional.binary_cross_entropy_with_logits(
            outputs.student.audioset, targets.audioset, reduction="none"
        )
        .sum(dim=1)
        .mean(),
    }
