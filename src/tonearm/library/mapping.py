"""From a model's labels to a person's own genre words."""

from __future__ import annotations

import csv
import io
import json
import os
import tomllib
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from tonearm.errors import TonearmError, reason_of
from tonearm.text import is_line, not_utf8

GenreWords = dict[str, tuple[str, ...]]  # no words: the label is never written


def read_mapping(path: str | os.PathLike[str]) -> GenreWords:
    """Read a mapping file.

    TOML and JSON hold one table: a label's value is a word, a list of words, or ``""``. CSV has
    the columns label and genre, and may have several rows for a label; the header is optional.

    Raises
    ------
    TonearmError
        If the file cannot be read or holds something else.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise _error(path, f"expected one of {', '.join(_READERS)}")
    try:
        table = reader(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise _error(path, reason_of(error)) from error
    except UnicodeDecodeError as error:
        raise _error(path, not_utf8(error)) from error
    except (ValueError, csv.Error, RecursionError) as error:  # of all formats
        raise _error(path, " ".join(str(error).split())) from error
    if not isinstance(table, dict):
        raise _error(path, "expected a table of label and genre")
    return {label: _words(path, label, value) for label, value in table.items()}


def unknown_labels(mapping: Iterable[str], labels: Collection[str]) -> list[str]:
    """Return the labels of a mapping that the model does not have."""
    return [label for label in mapping if label not in labels]


def _words(path: Path, label: str, value: object) -> tuple[str, ...]:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise _error(path, f"{label}: expected a word or a list of words, not {value!r}")
    stripped = dict.fromkeys(word.strip() for word in words if word.strip())
    if odd := [word for word in stripped if not is_line(word)]:
        raise _error(path, f"{label}: expected words of one line, not {odd[0]!a}")
    return tuple(stripped)


def _parse_csv(text: str) -> dict[str, list[str]]:
    table: dict[str, list[str]] = {}
    for number, row in enumerate(csv.reader(io.StringIO(text)), 1):
        if not row:
            continue
        if len(row) != 2:
            raise ValueError(f"line {number}: expected label and genre, got {len(row)} columns")
        label, genre = row
        is_header = number == 1 and [name.strip().lower() for name in row] == ["label", "genre"]
        if not is_header:
            table.setdefault(label.strip(), []).append(genre)
    return table


def _error(path: Path, reason: str) -> TonearmError:
    return TonearmError(f"mapping {path}: {reason}")


_READERS: dict[str, Callable[[str], object]] = {
    ".toml": tomllib.loads,
    ".json": json.loads,
    ".csv": _parse_csv,
}
