"""Genres over HTTP: the application, its limits on uploads, and its worker processes.

>>> from tonearm import Classifier
>>> from tonearm.serving import WorkerPool, create_app
>>> app = create_app(WorkerPool(Classifier.load()))
"""

from tonearm.extras import needs

with needs("serve"):
    from tonearm.serving.api import create_app
    from tonearm.serving.limits import Limits
    from tonearm.serving.pool import WorkerPool

__all__ = ["Limits", "WorkerPool", "create_app"]
