"""The networks, as plain torch modules.

>>> from tonearm.models import create_model, model_names
>>> model = create_model("hybrid", num_classes=10, n_mels=96)
>>> logits = model(logmel)  # float32[batch, frames, mels] -> float32[batch, classes]
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
