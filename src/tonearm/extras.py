"""Says which optional dependencies to install where one is needed that is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tonearm.errors import MissingExtraError


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Around imports: turn the lack of another project's module into a line on what to install.

    Raises
    ------
    MissingExtraError
        A module is missing that the extra would bring.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        # One of our own would be missing with all extras installed: that is a fault to be seen.
        if error.name is None or error.name.partition(".")[0] == "tonearm":
            raise
        raise MissingExtraError(error.name, extra) from error
