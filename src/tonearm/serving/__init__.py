"""Genres over HTTP: the application, what it lets in, and the processes that listen for it.

>>> from tonearm.serving import Listeners, create_app
>>> app = create_app(Listeners(Classifier.load()))  # doctest: +SKIP
"""

from tonearm.errors import MissingExtraError

try:
    from tonearm.serving.api import create_app
    from tonearm.serving.limits import Limits
    from tonearm.serving.listeners import Listeners
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] == "tonearm":
        raise
    raise MissingExtraError(error.name, "serve") from error

__all__ = ["Limits", "Listeners", "create_app"]
