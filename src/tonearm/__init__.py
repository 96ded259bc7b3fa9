"""Tonearm listens to music and predicts its genre.

>>> import tonearm
>>> tonearm.Classifier.load()("song.mp3").genre  # doctest: +SKIP
'jazz'
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.3.0.dev0"

# Unless this is set before they are loaded, ONNX Runtime's wheels report to Microsoft which machine
# and program they run on, and keep an identifier of the machine in the home folder.
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
else:

    def __getattr__(name: str) -> Any:
        """Load a public name on first access, so that `import tonearm` costs nothing.

        Type checkers do not see this, or any misspelt name would have a type.
        """
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)


_MODULES = {
    "Classifier": "tonearm.classifier",
    "Explanation": "tonearm.explanation",
    "Failure": "tonearm.prediction",
    "Prediction": "tonearm.prediction",
    "Segment": "tonearm.prediction",
    "TonearmError": "tonearm.errors",
    "explain": "tonearm.explanation",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
