"""A recording that is piped into standard input, which a command line calls ``-``."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from tonearm.errors import TonearmError, UsageError, reason_of

if TYPE_CHECKING:
    from tonearm.classifier import Classifier
    from tonearm.prediction import Failure, Prediction

STANDARD_INPUT = "-"


def classify_files(
    classifier: Classifier, files: Sequence[str], workers: int
) -> Iterator[Prediction | Failure]:
    """Yield what `Classifier.classify_files` does, with standard input as one of the files.

    Raises
    ------
    UsageError
        If standard input is one of them, but nothing is piped into it.
    TonearmError
        If what is piped in cannot be copied. Otherwise as `Classifier.classify_files`.
    """
    piped = _classify_piped(classifier) if STANDARD_INPUT in files else None
    on_disk = [file for file in files if file != STANDARD_INPUT]
    others = iter(classifier.classify_files(on_disk, workers))
    return (piped if piped and file == STANDARD_INPUT else next(others) for file in files)


def _classify_piped(classifier: Classifier) -> Prediction | Failure:
    from tonearm.prediction import Failure

    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError(f"{STANDARD_INPUT}: nothing is piped into standard input")
    with TemporaryFile() as copy:  # FFmpeg has to seek; whatever ends the program, it is gone
        try:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        except OSError as error:
            raise TonearmError(f"{STANDARD_INPUT}: {reason_of(error)}") from None
        try:
            return classifier(copy)
        except Exception as error:  # as `Classifier.attempt`, which takes paths only
            return Failure.of(Path(STANDARD_INPUT), error)
