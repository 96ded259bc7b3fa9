"""Genres over HTTP: the application, what it lets in, and the processes that listen for it.

>>> from tonearm.serving import Listeners, create_app
>>> app = create_app(Listeners(Classifier.load()))  # doctest: +SKIP
"""

from tonearm.extras import needs

with needs("serve"):
    from tonearm.serving.api import create_app
    from tonearm.serving.limits import Limits
    from tonearm.serving.listeners import Listeners

__all__ = ["Limits", "Listeners", "create_app"]
