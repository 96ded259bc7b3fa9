"""Text files that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from tonearm.audio import printable
from tonearm.errors import TonearmError


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write a file of UTF-8; until all of it is on the disk there is what was there before.

    Folders above it are made.

    Raises
    ------
    TonearmError
        If it cannot be written.
    """
    target = Path(os.path.realpath(path))  # a link stays one
    # Not made of the target's name, which may be as long as names can be.
    draft = target.with_name(f".tonearm-{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with draft.open("w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise TonearmError(f"{printable(os.fspath(path))}: {reason}") from error
