"""The sources of the genres that `tonearm tag` may write."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tonearm.audio import INCONCLUSIVE, AudioError, identify
from tonearm.errors import TonearmError, reason_of
from tonearm.text import is_line, not_utf8

if TYPE_CHECKING:
    from tonearm.classifier import Classifier


@dataclass(frozen=True)
class Suggestion:
    """A suggested genre for a file.

    Attributes
    ----------
    label
        The most probable genre, as the model names it; None if there is none.
    confidence
        Its probability; 0 without a label.
    error
        Why there is no label.
    """

    label: str | None
    confidence: float = 0.0
    error: str | None = None


# A source yields one suggestion for each file, in the order given. It is called once.
SuggestionSource = Callable[[Sequence[str]], Iterator[Suggestion]]


def classifying(classifier: Classifier, workers: int = 1) -> SuggestionSource:
    """Return a source that classifies each file when its suggestion is needed.

    The source raises what `Classifier.classify_files` does.
    """

    def suggest(paths: Sequence[str]) -> Iterator[Suggestion]:
        from tonearm.prediction import Failure

        for result in classifier.classify_files(paths, workers):
            if isinstance(result, Failure):
                yield Suggestion(None, error=result.error)
            else:
                yield _suggestion(result.genre, result.confidence, result.verdict)

    return suggest


class EarlierPredictions:
    """A source of predictions made earlier.

    Attributes
    ----------
    paths
        The files it has predictions for, as they were entered.
    """

    def __init__(self, known: Iterable[tuple[str, Suggestion, _ScannedFile | None]]) -> None:
        found = list(known)
        self.paths = tuple(path for path, _, _ in found)
        self._known = {
            os.path.realpath(path): (suggestion, scanned) for path, suggestion, scanned in found
        }

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> EarlierPredictions:
        """Read the output of `tonearm classify --json` from a file or standard input (``-``).

        Relative paths in it are relative to the current folder.

        Raises
        ------
        TonearmError
            If the file cannot be read, or a line is not a prediction.
        """
        name = os.fspath(path)
        try:
            text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
            text = text.removeprefix("\ufeff")  # a byte order mark, which some editors add
        except OSError as error:
            raise TonearmError(f"{name}: {reason_of(error)}") from error
        except UnicodeDecodeError as error:
            raise TonearmError(f"{name}: {not_utf8(error)}") from error
        if text.startswith("path,"):
            raise TonearmError(f"{name}: CSV: expected what `tonearm classify --json` prints")
        lines = enumerate(text.split("\n"), 1)
        return cls((*_parse(name, number, line), None) for number, line in lines if line.strip())

    @classmethod
    def stored(cls, path: str | os.PathLike[str], under: Sequence[str] = ()) -> EarlierPredictions:
        """Read a store of `tonearm scan`: its files below the given paths, by default all.

        Raises
        ------
        StoreError
            If there is no store, or it cannot be read.
        """
        from tonearm.library.store import Store

        with Store(path) as store:
            # If a path finds nothing, it may have been scanned through another link. Predictions
            # are looked up by real path, so reading all of them is always right.
            if not all(any(store.paths([folder])) for folder in under):
                under = ()
            return cls(
                (
                    entry.path,
                    Suggestion(None, error=entry.error)
                    if entry.error
                    else _suggestion(entry.genre, entry.confidence, entry.verdict),
                    _ScannedFile(entry.size, entry.mtime_ns, entry.audio),
                )
                for entry in store.entries(under, details=False)
            )

    def __call__(self, paths: Sequence[str]) -> Iterator[Suggestion]:
        """Yield the suggestion for each file."""
        return map(self._lookup, map(os.path.realpath, paths))

    def _lookup(self, path: str) -> Suggestion:
        if path not in self._known:
            return Suggestion(None, error="no prediction")
        suggestion, scanned = self._known[path]
        if suggestion.label is None or scanned is None:
            return suggestion
        try:
            if not scanned.is_unchanged(path):
                return Suggestion(None, error="not what was scanned: scan it again")
        except AudioError as error:
            return Suggestion(None, error=error.reason)
        return suggestion


def _suggestion(label: str | None, confidence: float | None, verdict: str | None) -> Suggestion:
    """Return the most probable genre as a suggestion, unless the file is not music."""
    if verdict == "not music":
        return Suggestion(None, error="not music")
    return Suggestion(label, confidence or 0.0)


class _ScannedFile(NamedTuple):
    """What a scan recorded of a file: size in bytes, modification time and hash of its audio."""

    size: int
    mtime_ns: int
    audio: str | None

    def is_unchanged(self, path: str) -> bool:
        """Check whether a file still has this audio (True if unreadable: reported elsewhere).

        Raises
        ------
        ReadFailed, TimedOut
            If the file cannot be read now, so the answer is unknown.
        """
        try:
            state = os.stat(path)  # noqa: PTH116
            if (state.st_size, state.st_mtime_ns) == (self.size, self.mtime_ns):
                return True
            return identify(path).digest == self.audio  # true if only the tags have changed
        except INCONCLUSIVE:
            raise
        except (OSError, AudioError):
            return True


def _parse(name: str, number: int, line: str) -> tuple[str, Suggestion]:
    try:
        record: dict[str, Any] = json.loads(line)
        path, label = record["path"], record["genre"]
        if not isinstance(path, str) or not (label is None or isinstance(label, str)):
            raise TypeError
        # No file name contains NUL, or text that cannot be encoded (fsencode raises ValueError).
        if b"\0" in os.fsencode(path):
            raise ValueError
        if label is None:
            return path, Suggestion(None, error=str(record.get("error") or "no genre"))
        if not is_line(label):  # tags cannot hold it, or only as several lines
            raise ValueError
        confidence = float(record["confidence"])
        if not 0 <= confidence <= 1:  # rejects NaN too
            raise ValueError
        return path, _suggestion(label, confidence, record.get("verdict"))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise TonearmError(
            f"{name}:{number}: expected an object with path, genre and confidence, "
            "as `tonearm classify --json` prints them"
        ) from None
