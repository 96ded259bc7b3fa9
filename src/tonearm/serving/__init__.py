"""Genres over HTTP: the application, its limits on uploads, and its worker processes.

>>> from tonearm.serving import Listeners, create_app
>>> app = create_app(Listeners(Classifier.load()))  # doctest: +SKIP
"""

from tonearm.extras import needs

with needs("serve"):
    from tonearm.serving.api import create_app
    from tonearm.serving.limits import Limits
    from tonearm.serving.listeners import Listeners

__all__ = ["Limits", "Listeners", "create_app"]
