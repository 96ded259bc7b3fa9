"""Protect the library itself from being overwritten by a command's output."""

from __future__ import annotations

import os
from pathlib import Path

from tonearm.errors import UsageError
from tonearm.media import is_recording


def refuse_to_overwrite(target: str | os.PathLike[str], store: str | os.PathLike[str]) -> None:
    """Refuse to write to a recording, or to the store that is read, which is often a mistake.

    Raises
    ------
    UsageError
        If the target, or the file that a link there leads to, is one of them.
    """
    path = Path(os.path.realpath(target))
    shown = os.fspath(target)
    if path == Path(os.path.realpath(store)):
        raise UsageError(f"{shown} is the store itself, and would be written over")
    # Not `Path.is_file`, which raises an error if the system refuses to look, as writing will.
    if os.path.isfile(path) and is_recording(path.name):  # noqa: PTH113
        raise UsageError(f"{shown} is a recording, and would be written over")
