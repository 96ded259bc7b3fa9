"""Format names, paths, times and faults for people, importing nothing that is slow to load."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable

_JOINERS = "\u200c\u200d"  # zero-width (non-)joiners, which Persian and emoji are spelt with
_MOST_NAMES = 20  # in one message; a folder per artist, taken for genres, may give thousands


def printable(path: str | os.PathLike[str]) -> str:
    """Return a path as one printable line, with control and undecodable characters escaped."""
    try:
        text = os.fsencode(path).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a surrogate pair, which cannot come from a file system
        text = os.fspath(path).encode("utf-8", "backslashreplace").decode()
    if text.isprintable():  # as most are: a page has a million of them
        return text
    return "".join(c if _is_shown(c) else c.encode("unicode_escape").decode() for c in text)


def _is_shown(character: str) -> bool:
    """Check whether a terminal shows a character as it is, or as a blank of whatever width."""
    if character.isprintable() or character in _JOINERS:
        return True
    return unicodedata.category(character) == "Zs"


def composed(text: str) -> str:
    """Return a text with each letter and its accents as one character (Unicode's NFC)."""
    return unicodedata.normalize("NFC", text)


def is_path(name: str) -> bool:
    """Check whether a word is a path rather than a name: it has a separator or a suffix."""
    return bool(os.path.dirname(name) or os.path.splitext(name)[1])  # noqa: PTH120, PTH122


def is_line(text: str) -> bool:
    """Check whether a text is a single line that is safe in any terminal, file and database."""
    # Control characters, lone surrogates, line separators and paragraph separators.
    odd = any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in text)
    return bool(text.strip()) and not odd


def not_utf8(error: UnicodeDecodeError) -> str:
    """Return a message naming the line that is not UTF-8 in a file that was read as a whole."""
    line = error.object.count(b"\n", 0, error.start) + 1
    return f"not UTF-8 (line {line})"


def listed(names: Iterable[str]) -> str:
    """Return names as an error message lists them: quoted and sorted."""
    return ", ".join(repr(name) for name in sorted(names))


def enumerated(names: Iterable[str]) -> str:
    """Return names with commas between them, or the first of them and how many more there are."""
    names = list(names)
    more = len(names) - _MOST_NAMES
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:_MOST_NAMES])} and {more} more"


def relative(path: str, folder: str = os.curdir) -> str:
    """Return a path relative to a folder, or unchanged if they are on different drives."""
    try:
        return os.path.relpath(path, folder)
    except ValueError:  # on Windows, no relative path leads from one drive to another
        return path


def clock_text(seconds: float) -> str:
    """Return seconds as m:ss, or as h:mm:ss from one hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
