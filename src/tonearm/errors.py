"""The errors Tonearm raises on purpose; each message is one line naming subject and reason."""

from __future__ import annotations

import os

from tonearm.text import printable


class TonearmError(Exception):
    """Base of all errors a user can cause and fix; the message is one printable line."""

    def __str__(self) -> str:
        return printable(super().__str__())  # names of files and tracks may hold anything


class UsageError(TonearmError):
    """The call itself was wrong (an unknown name, a setting out of range): exit code 2.

    What depends on files, the network or their contents is another `TonearmError`; exit code 1.
    """


class FileError(TonearmError):
    """Something is wrong with one file; the message is ``<path>: <reason>``.

    Attributes
    ----------
    path : str
        The path as given (undecodable bytes as surrogates, as from `os.fsdecode`).
    reason : str
        The reason, in a few words.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(path, reason)  # both, so that the error survives pickling
        self.path: str = os.fspath(path)
        self.reason = reason

    def __str__(self) -> str:
        return printable(f"{self.path}: {self.reason}")


class MissingExtraError(TonearmError, ImportError):
    """A part of Tonearm was called or imported without the optional dependency it needs.

    It is also an ImportError, so that code that tries to import such a part need not know this
    class.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(package, extra)  # both, so that the error survives pickling
        self.package = package
        self.extra = extra

    def __str__(self) -> str:
        remedy = f"pip install 'tonearm[{self.extra}]'"
        return f"this needs {self.package}, which is not installed: {remedy}"


def reason_of(error: BaseException) -> str:
    """Return in one line, never empty, what went wrong: in the system's words where it has some."""
    text = getattr(error, "strerror", None) or str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0]


def with_file(error: BaseException) -> str:
    """Return what `reason_of` does, after the name of the file if the system says which it was."""
    file = getattr(error, "filename", None)
    reason = reason_of(error)
    return reason if file is None else f"{printable(os.fsdecode(file))}: {reason}"


def unexpected(error: BaseException) -> str:
    """Return a one-line message for an error that nobody foresaw."""
    return " ".join(f"unexpected {type(error).__name__}: {error}".split())
