"""Rows of CSV that end as lines do here, and come back as they were."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from _csv import Writer

_END = "\r\n"  # of csv's own rows; it quotes a field for each sign of it, and for no other


class Text(Protocol):
    """What text can be written to."""

    def write(self, text: str, /) -> object:
        """Take some text."""


def csv_writer(file: Text) -> Writer:
    r"""Return a `csv.writer` whose rows end in ``\n`` alone.

    Told so itself, it would leave a carriage return in a field unquoted (names may have one), and
    readers take that for the end of the row.
    """
    return csv.writer(_Lines(file), lineterminator=_END)


class _Lines:
    """Hands on rows, each of which csv writes at once, with another end."""

    def __init__(self, file: Text) -> None:
        self._file = file

    def write(self, row: str) -> object:
        return self._file.write(row.removesuffix(_END) + "\n")
