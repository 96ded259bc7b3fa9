"""Tonearm listens to music and says its genre.

>>> import tonearm
>>> tonearm.Classifier.load()("song.mp3").genre  # doctest: +SKIP
'jazz'
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# ONNX Runtime's wheels tell Microsoft on which machine and by which program they run, and keep an
# identifier of the machine in the home folder, unless this is there before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "Classifier",
    "Explanation",
    "Failure",
    "Prediction",
    "Segment",
    "TonearmError",
    "__version__",
    "explain",
]

if TYPE_CHECKING:
    from tonearm.classifier import Classifier
    from tonearm.errors import TonearmError
    from tonearm.explanation import Explanation, explain
    from tonearm.prediction import Failure, Prediction, Segment

_HOMES = {
    "Classifier": "tonearm.classifier",
    "Explanation": "tonearm.explanation",
    "Failure": "tonearm.prediction",
    "Prediction": "tonearm.prediction",
    "Segment": "tonearm.prediction",
    "TonearmError": "tonearm.errors",
    "explain": "tonearm.explanation",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for, so that `import tonearm` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
