"""Which files are meant when a person names files and folders of music."""

# ruff: noqa: PTH112, PTH118, PTH122 - a pathlib.Path would lose the user's own spelling (./a.mp3).

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

# Only for folders: a file that is named itself is tried whatever it is called.
SUFFIXES = frozenset(
    """
    .3gp .aac .ac3 .aif .aifc .aiff .amr .ape .au .caf .dff .dsf .dts .eac3 .flac .m4a .m4b .mka
    .mkv .mp2 .mp3 .mp4 .mpc .oga .ogg .opus .ra .snd .spx .tak .tta .voc .w64 .wav .webm .wma .wv
    """.split()  # noqa: SIM905
)


def recordings(paths: Iterable[str]) -> Iterator[str]:
    """Yield the files meant by some paths, in the paths' order.

    A folder stands for the recordings in it and below, sorted by path; hidden files and folders
    in it are passed over, and links to folders are not followed. Anything else stands for itself,
    be it there or not.
    """
    for path in paths:
        if os.path.isdir(path):
            yield from sorted(_below(path))
        else:
            yield path


def _below(folder: str) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES:
                yield os.path.join(parent, name)
