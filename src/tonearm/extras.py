"""Tell users which extra to install when an optional dependency is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tonearm.errors import MissingExtraError


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
        # One of our own modules would be missing even with all extras: do not hide that bug.
        if error.name is None or error.name.partition(".")[0] == "tonearm":
            raise
        raise MissingExtraError(error.name, extra) from error
