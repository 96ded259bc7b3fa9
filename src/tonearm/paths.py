"""Where Tonearm keeps its own files: what it can make again, and what it must remember."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """Return the folder of one kind of cached things ("features", "pretrained"); it may not exist.

    It lies in the folder the environment variable TONEARM_CACHE names, otherwise in `tonearm`
    in the user's cache folder (XDG_CACHE_HOME, or `.cache` at home).
    """
    chosen = os.environ.get("TONEARM_CACHE")
    if chosen:
        return Path(chosen) / name
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tonearm" / name


def state_folder(name: str) -> Path:
    """Return the folder of one kind of things to remember ("journals"); it may not exist.

    It lies in the folder the environment variable TONEARM_STATE names, otherwise in `tonearm`
    in the user's state folder (XDG_STATE_HOME, or `.local/state` at home).
    """
    chosen = os.environ.get("TONEARM_STATE")
    if chosen:
        return Path(chosen) / name
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "tonearm" / name


def pretrained_weights(name: str) -> Path | None:
    """Return where a published weight file lies, or None if it is nowhere.

    It may lie anywhere below the folder the environment variable TONEARM_PRETRAINED names, or in
    the cache folder "pretrained".

    Parameters
    ----------
    name
        Of the file, with the folders it came in if its own name alone says too little.
    """
    found: list[Path] = []
    if chosen := os.environ.get("TONEARM_PRETRAINED"):
        direct = Path(chosen) / name
        found = [direct] if direct.is_file() else sorted(Path(chosen).glob(f"**/{name}"))
    return next(filter(Path.is_file, [*found, cache_folder("pretrained") / name]), None)
