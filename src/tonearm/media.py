"""Find the audio files that the paths given by a user refer to."""

# ruff: noqa: PTH112, PTH118, PTH122 - a pathlib.Path would lose the user's own spelling (./a.mp3).

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from tonearm.errors import UsageError

# Only for files found in folders: a file that the user names is tried whatever its suffix.
SUFFIXES = frozenset(
    """
    .3gp .aac .ac3 .aif .aifc .aiff .amr .ape .au .caf .dff .dsf .dts .eac3 .flac .m4a .m4b .mka
    .mkv .mp2 .mp3 .mp4 .mpc .oga .ogg .opus .ra .snd .spx .tak .tta .voc .w64 .wav .webm .wma .wv
    """.split()  # noqa: SIM905
)


def recordings(
    paths: Iterable[str], unreadable: Callable[[OSError], object] | None = None
) -> Iterator[str]:
    """Yield the files that paths refer to, in the order of the paths, each as soon as it is found.

    A folder stands for the recordings in it and its subfolders, sorted by path. Hidden files and
    folders in it are skipped, as are files that Windows keeps as deleted; links to folders are not
    followed, so that no link can lead in circles. Any other path stands for itself, whether or not
    it exists.

    Parameters
    ----------
    paths
        Files and folders.
    unreadable
        Called with the error, which names the folder, for each folder that cannot be read; by
        default such folders count as empty.

    Raises
    ------
    UsageError
        If a path is empty: it would stand for the current folder.
    """
    for path in paths:
        if not path:
            raise UsageError("'' is no file")
        if os.path.isdir(path):
            yield from _walk(path, unreadable or (lambda error: None))
        else:
            yield path


def is_recording(name: str) -> bool:
    """Check whether a file of this name, found in a folder, is taken for a recording."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def is_hidden_folder(name: str) -> bool:
    """Check whether a folder of this name, found in another one, is skipped."""
    # Windows keeps deleted files there, and hides it by an attribute that other systems ignore.
    return name.startswith(".") or name.upper() == "$RECYCLE.BIN"


def require_several(name: str, paths: object) -> None:
    """Refuse a single path where a list is expected: a text would be taken for its letters.

    One of them is often "/", which stands for all files.

    Parameters
    ----------
    name
        The argument's name, for the error message.

    Raises
    ------
    UsageError
        If `paths` is a path rather than several.
    """
    if isinstance(paths, str | bytes | os.PathLike):
        raise UsageError(f"{name}: expected several, as a list, got {paths!r}")


def _walk(folder: str, unreadable: Callable[[OSError], object]) -> Iterator[str]:
    """Yield the recordings below a folder, keeping only listings along the way in memory."""
    stack = [(folder, True)]
    while stack:
        path, is_folder = stack.pop()
        if not is_folder:
            yield path
            continue
        try:
            with os.scandir(path) as entries:
                found = [
                    (entry.name, is_folder_entry(entry)) for entry in entries if _is_included(entry)
                ]
        except OSError as error:
            unreadable(error)
            continue
        found.sort(key=_sort_key, reverse=True)
        stack += [(os.path.join(path, name), is_folder) for name, is_folder in found]


def _sort_key(entry: tuple[str, bool]) -> str:
    """Return a name as it appears in paths: sorting by it makes the walk follow path order."""
    name, is_folder = entry
    return os.path.join(name, "") if is_folder else name


def _is_included(entry: os.DirEntry[str]) -> bool:
    """Check whether an entry is a recording, or a folder to walk through."""
    if is_folder_entry(entry):
        return not is_hidden_folder(entry.name) and not entry.is_symlink()
    return is_recording(entry.name)


def is_folder_entry(entry: os.DirEntry[str]) -> bool:
    """Check whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
