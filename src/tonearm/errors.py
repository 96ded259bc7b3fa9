"""The errors Tonearm raises on purpose: each is one line that names the thing and the reason."""

from __future__ import annotations


class TonearmError(Exception):
    """Base of every error a user can cause and mend; its text is one line fit to print."""


class UsageError(TonearmError):
    """The call itself was wrong (an unknown name, a setting out of range): exit code 2.

    What depends on files, the network or their contents is another `TonearmError`: exit code 1.
    """


class MissingExtraError(TonearmError, ImportError):
    """A part of Tonearm that needs an optional dependency was called, or imported, without it.

    It is an ImportError too, so that who tries to import such a part need not know this class.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(package, extra)  # both, so that the error survives pickling
        self.package = package
        self.extra = extra

    def __str__(self) -> str:
        remedy = f"pip install 'tonearm[{self.extra}]'"
        return f"this needs {self.package}, which is not installed: {remedy}"


def unexpected(error: BaseException) -> str:
    """Say in one line that something went wrong in a way nobody foresaw."""
    return " ".join(f"unexpected {type(error).__name__}: {error}".split())
