"""The networks, as plain torch modules.

>>> import torch
>>> from tonearm.models import create_model
>>> model = create_model("hybrid", num_classes=10, n_mels=96)
>>> model(torch.zeros(2, 188, 96)).shape  # float32[batch, frames, mels] -> [batch, classes]
torch.Size([2, 10])
"""

from tonearm.models import cnn, crnn, hybrid, mobilenet, multimodal, student
from tonearm.models.network import GenreNetwork
from tonearm.models.registry import create_model, model_names, register

__all__ = [
    "GenreNetwork",
    "cnn",
    "create_model",
    "crnn",
    "hybrid",
    "mobilenet",
    "model_names",
    "multimodal",
    "register",
    "student",
]
