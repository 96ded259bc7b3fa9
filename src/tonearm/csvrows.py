"""Write CSV rows that end in a plain newline and still read back unchanged."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _csv import Writer

    from _typeshed import SupportsWrite

_END = "\r\n"  # given to csv, which quotes fields with either character, but no other line break


def csv_writer(file: SupportsWrite[str]) -> Writer:
    r"""Return a `csv.writer` whose rows end in ``\n`` alone.

    With ``lineterminator="\n"``, csv would leave a carriage return in a field unquoted (names may
    contain one), and readers would take it for the end of the row.
    """
    return csv.writer(_Lines(file), lineterminator=_END)


class _Lines:
    """Passes rows on with a plain newline at the end; csv writes each in a single call."""

    def __init__(self, file: SupportsWrite[str]) -> None:
        self._file = file

    def write(self, row: str) -> object:
        return self._file.write(row.removesuffix(_END) + "\n")
