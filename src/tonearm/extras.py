"""Tell users which extra to install when an optional dependency is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tonearm.errors import MissingExtraError

# Names to install packages by, where modules are named otherwise.
PACKAGES = {"sklearn": "scikit-learn"}


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Wrap imports so that a missing third-party module raises an error that names the extra.

    Raises
    ------
    MissingExtraError
        If a module that the extra would install is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        # One of our own modules would be missing even with all extras: do not hide that bug.
        if module in ("", "tonearm"):
            raise
        raise MissingExtraError(PACKAGES.get(module, module), extra) from error
