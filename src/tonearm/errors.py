"""The errors Tonearm raises on purpose: each is one line that names the thing and the reason."""

from __future__ import annotations


class TonearmError(Exception):
    """Base of every error a user can cause and mend; its text is one line fit to print."""


class UsageError(TonearmError):
    """The call itself was wrong (an unknown name, a setting out of range): exit code 2."""


class MissingExtraError(TonearmError):
    """A part of Tonearm that needs an optional dependency was called without it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this needs {package}, which is not installed: pip install 'tonearm[{extra}]'"
        )
