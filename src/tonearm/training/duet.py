"""The student and one of its teachers in one graph, each with its own front end.

The fully convolutional tagger is small and quick enough to ship, and what it learned from a million
songs is worth more heard than imitated: where the student knows GTZAN better, the FCN errs less on
recordings from elsewhere. Their opinions are averaged in the log domain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tonearm.features.logmel import FRONT_ENDS
from tonearm.models.network import GenreNetwork, Outputs
from tonearm.models.student import Student
from tonearm.training.fcn import EMBEDDING, Fcn

SECOND_FRONT_END = FRONT_ENDS["htk32k"]  # what the FCN hears, from the student's sample rate
# A window is repeated to this length: the FCN's pools leave a moment of every 320 frames, and the
# maximum over three is as good as over the five of a whole clip.
REPEATED_FRAMES = 960

Floats = NDArray[np.float32]


class Duet(GenreNetwork):
    """Two opinions on the genre of a window: the student's and a linear one over the FCN.

    Parameters
    ----------
    student : whose logits are taken as they are, AudioSet's opinion included.
    fcn : as published.
    fcn_weight : what the FCN's log-probabilities weigh beside 1 for the student's.
    """

    def __init__(self, student: Student, fcn: Fcn, fcn_weight: float = 1.0) -> None:
        super().__init__(student.embedding_size + EMBEDDING, student.num_classes, 0.0)
        self.student = student
        self.fcn = fcn
        self.fcn_weight = fcn_weight
        self.says_music = student.says_music
        self.classifier = nn.Sequential(nn.Linear(EMBEDDING, student.num_classes))

    def both(self, logmel: Tensor | None, second_logmel: Tensor | None = None) -> Outputs:
        """Return logits, the embeddings of both side by side, and the student's logit of music.

        Parameters
        ----------
        logmel : float32[batch, frames, 128] of the student's front end.
        second_logmel : float32[batch, frames, 96] of `SECOND_FRONT_END`, the same window.
        """
        if second_logmel is None:
            raise ValueError("a duet needs the frames of both front ends")
        first = self.student.both(logmel)
        heard = self.fcn(_repeated(second_logmel)).embedding
        opinion = self.classifier(heard).log_softmax(dim=1)
        logits = first.logits + self.fcn_weight * opinion
        return Outputs(logits, torch.cat([first.embedding, heard], dim=1), first.music)

    def fit_opinion(
        self, embeddings: Floats, truth: NDArray[np.int64], regularisation: float
    ) -> None:
        """Fit the linear opinion: class-balanced logistic regression over FCN embeddings.

        Parameters
        ----------
        embeddings : float32[clips, 64], see `embed_windows`.
        truth : int[clips], columns of the logits.
        regularisation : its inverse strength, C.
        """
        from sklearn.linear_model import LogisticRegression

        mean = embeddings.mean(axis=0)
        deviation = np.maximum(embeddings.std(axis=0), 1e-6)
        fitted: Any = LogisticRegression(
            C=regularisation, class_weight="balanced", max_iter=2000
        ).fit((embeddings - mean) / deviation, truth)
        coefficients, intercepts = fitted.coef_, fitted.intercept_
        if len(fitted.classes_) == 2:  # scikit-learn keeps only how the second differs
            coefficients = np.vstack([-coefficients, coefficients]) / 2
            intercepts = np.hstack([-intercepts, intercepts]) / 2
        # The standardisation is folded into the layer; a genre without clips stays improbable.
        weights = np.zeros((self.num_classes, EMBEDDING))
        biases = np.full(self.num_classes, np.log(1e-6))
        weights[fitted.classes_] = coefficients / deviation
        biases[fitted.classes_] = intercepts - (coefficients / deviation) @ mean
        linear = nn.Linear(EMBEDDING, self.num_classes)
        linear.weight.data = torch.from_numpy(weights.astype(np.float32))
        linear.bias.data = torch.from_numpy(biases.astype(np.float32))
        self.classifier = nn.Sequential(linear)

    @torch.inference_mode()
    def embed_windows(self, windows: Sequence[Floats]) -> Floats:
        """Return the mean FCN embedding, float32[64], of a clip's float32[frames, 96] windows."""
        heard = [
            self.fcn(_repeated(torch.from_numpy(window)[None])).embedding[0] for window in windows
        ]
        mean: Floats = torch.stack(heard).mean(dim=0).numpy()
        return mean


def _repeated(logmel: Tensor) -> Tensor:
    """Repeat float32[batch, frames, mels] to `REPEATED_FRAMES`; longer ones stay as they are."""
    # Tensors, not numbers, so that the exported graph does this for any length.
    frames = torch._shape_as_tensor(logmel)[1]
    length = cast(int, torch.clamp(frames, min=REPEATED_FRAMES))
    places = torch.arange(length) % frames
    return logmel.index_select(1, places)
