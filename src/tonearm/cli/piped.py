"""A recording that is piped into standard input, which a command line calls ``-``."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tonearm.errors import TonearmError, UsageError, reason_of

STANDARD_INPUT = "-"


@contextmanager
def paths_of(files: Sequence[str]) -> Iterator[list[str]]:
    """Yield the paths of files: of ``-``, that of a copy, which exists within the block.

    Many formats cannot be read without seeking, and other processes may be the ones to read it.

    Raises
    ------
    UsageError
        If nothing is piped into standard input.
    TonearmError
        If the copy cannot be written.
    """
    if STANDARD_INPUT not in files:
        yield list(files)
        return
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError(f"{STANDARD_INPUT}: nothing is piped into standard input")
    with TemporaryDirectory(prefix="tonearm-") as folder:
        copy = Path(folder, "recording")
        try:
            with copy.open("wb") as target:
                shutil.copyfileobj(sys.stdin.buffer, target)
        except OSError as error:
            raise TonearmError(f"{STANDARD_INPUT}: {reason_of(error)}") from None
        yield [str(copy) if file == STANDARD_INPUT else file for file in files]
