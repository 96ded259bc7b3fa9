"""Which files are meant when a person names files and folders of music."""

# ruff: noqa: PTH112, PTH118, PTH122 - a pathlib.Path would lose the user's own spelling (./a.mp3).

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from tonearm.errors import UsageError

# Only for folders: a file that is named itself is tried whatever it is called.
SUFFIXES = frozenset(
    """
    .3gp .aac .ac3 .aif .aifc .aiff .amr .ape .au .caf .dff .dsf .dts .eac3 .flac .m4a .m4b .mka
    .mkv .mp2 .mp3 .mp4 .mpc .oga .ogg .opus .ra .snd .spx .tak .tta .voc .w64 .wav .webm .wma .wv
    """.split()  # noqa: SIM905
)


def recordings(
    paths: Iterable[str], unreadable: Callable[[OSError], object] | None = None
) -> Iterator[str]:
    """Yield the files meant by some paths, in the paths' order, each as soon as it is found.

    A folder stands for the recordings in it and below, sorted by path; hidden files and folders
    in it are passed over, and links to folders are not followed, so no link can lead in circles.
    Anything else stands for itself, be it there or not.

    Parameters
    ----------
    paths
        Files and folders.
    unreadable
        Is told of folders that cannot be read (its error names the folder); by default they count
        as empty.

    Raises
    ------
    UsageError
        If a path is blank: it would stand for the current folder.
    """
    for path in paths:
        if not path:
            raise UsageError("'' is no file")
        if os.path.isdir(path):
            yield from _below(path, unreadable or (lambda error: None))
        else:
            yield path


def is_recording(name: str) -> bool:
    """Whether a file of this name in a folder is taken for a recording."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def _below(folder: str, unreadable: Callable[[OSError], object]) -> Iterator[str]:
    """Yield the recordings below a folder, with no more in memory than the folders it is in."""
    ahead = [(folder, True)]
    while ahead:
        path, is_folder = ahead.pop()
        if not is_folder:
            yield path
            continue
        try:
            with os.scandir(path) as entries:
                found = [(entry.name, _is_folder(entry)) for entry in entries if _is_meant(entry)]
        except OSError as error:
            unreadable(error)
            continue
        found.sort(key=_as_in_paths, reverse=True)
        ahead += [(os.path.join(path, name), is_folder) for name, is_folder in found]


def _as_in_paths(named: tuple[str, bool]) -> str:
    """Return a name as it stands in paths: so sorted, a walk has the order of the sorted paths."""
    name, is_folder = named
    return os.path.join(name, "") if is_folder else name


def _is_meant(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a recording, or a folder to be walked through."""
    if _is_folder(entry):
        return not entry.name.startswith(".") and not entry.is_symlink()
    return is_recording(entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
