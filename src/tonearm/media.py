"""Which files are meant when a person names files and folders of music."""

# ruff: noqa: PTH112, PTH118, PTH122 - a pathlib.Path would lose the user's own spelling (./a.mp3).

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

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
    """
    for path in paths:
        if os.path.isdir(path):
            yield from _below(path, unreadable or (lambda error: None))
        else:
            yield path


def is_recording(name: str) -> bool:
    """Whether a file of this name in a folder is taken for a recording."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def _below(folder: str, unreadable: Callable[[OSError], object]) -> Iterator[str]:
    """Yield the recordings below a folder, with no more in memory than the folders it is in.

    Ending the names of folders in a separator makes this the order of the sorted paths.
    """
    ahead = [os.path.join(folder, "")]
    while ahead:
        path = ahead.pop()
        if not path.endswith(os.sep):
            yield path
            continue
        try:
            with os.scandir(path) as entries:
                names = [name for entry in entries if (name := _wanted(entry))]
        except OSError as error:
            unreadable(error)
            continue
        ahead += [os.path.join(path, name) for name in sorted(names, reverse=True)]


def _wanted(entry: os.DirEntry[str]) -> str | None:
    """Return the name of a recording, or of a folder and a separator, or None for all else."""
    if entry.name.startswith("."):
        return None
    try:
        is_folder = entry.is_dir()
    except OSError:  # a link that leads to itself
        is_folder = False
    if is_folder:
        return None if entry.is_symlink() else os.path.join(entry.name, "")
    return entry.name if is_recording(entry.name) else None
