"""Where Tonearm keeps its own files: caches it can rebuild, and state it must remember."""

from __future__ import annotations

import os
from pathlib import Path

from tonearm.errors import TonearmError


def cache_folder(name: str) -> Path:
    """Return the cache folder of one kind ("features", "pretrained"); it may not exist.

    It is in the folder that the environment variable TONEARM_CACHE names, or else in `tonearm`
    in the user's cache folder (XDG_CACHE_HOME, or `.cache` in the home folder).

    Raises
    ------
    TonearmError
        If none of the variables is set, and the user has no home folder.
    """
    return _own_folder("TONEARM_CACHE", "XDG_CACHE_HOME", ".cache") / name


def state_folder(name: str) -> Path:
    """Return the folder of one kind of persistent state ("journals"); it may not exist.

    It is in the folder that the environment variable TONEARM_STATE names, or else in `tonearm`
    in the user's state folder (XDG_STATE_HOME, or `.local/state` in the home folder).

    Raises
    ------
    TonearmError
        If none of the variables is set, and the user has no home folder.
    """
    return _own_folder("TONEARM_STATE", "XDG_STATE_HOME", ".local/state") / name


def pretrained_weights(name: str) -> Path | None:
    """Return the path of a published weight file, or None if it is not found.

    It is looked for anywhere below the folder that the environment variable TONEARM_PRETRAINED
    names, then in the cache folder "pretrained".

    Parameters
    ----------
    name
        Name of the file, including its original folders if the bare name is not specific enough.

    Raises
    ------
    TonearmError
        As in `cache_folder`.
    """
    found: list[Path] = []
    if folder := os.environ.get("TONEARM_PRETRAINED"):
        direct = Path(folder) / name
        found = [direct] if direct.is_file() else sorted(Path(folder).glob(f"**/{name}"))
    return next(filter(Path.is_file, [*found, cache_folder("pretrained") / name]), None)


def _own_folder(variable: str, xdg_variable: str, in_home: str) -> Path:
    if folder := os.environ.get(variable):
        return Path(folder)
    if base := os.environ.get(xdg_variable):
        return Path(base) / "tonearm"
    try:
        return Path.home() / in_home / "tonearm"
    except RuntimeError:  # a user without an entry in the password file, and no HOME
        raise TonearmError(f"no home folder: set HOME or {variable}") from None
