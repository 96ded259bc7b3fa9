"""Read a folder per genre, in the root or in folders that are called train, valid and test."""

# ruff: noqa: PTH112 - Path.is_dir raises for a link into a folder that may not be entered, before
# Python 3.14.

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tonearm import media
from tonearm.datasets.splits import LeftOutWarning, OneGenreWarning
from tonearm.datasets.track import (
    SPLITS,
    Dataset,
    DatasetError,
    Track,
    label_text,
    labels_of,
    part_name,
)
from tonearm.errors import with_file
from tonearm.text import printable

_FMA_NAME = re.compile(r"(\d{3})/\1\d{3}")  # 003/003245: no folder per genre


def load_folder(root: Path) -> Dataset:
    """Read `root/<genre>/**/<file>`, with the path below the root, without suffix, as the id.

    If the folders in the root are all called like the parts of a partition, and there are several,
    it is `root/<part>/<genre>/**/<file>`.

    To keep ids unique, files that differ only in their suffix keep it in the id, and so does a file
    whose name without its suffix is another file's name (`a.mp3.wav` beside `a.mp3`). Ids are
    written to files, so what is not UTF-8 or not printable is escaped in them.

    Warns
    -----
    LeftOutWarning
        For each folder that cannot be read.
    OneGenreWarning
        If there is only one genre.

    Raises
    ------
    DatasetError
        If the root is no folder, no folder below it contains an audio file, a folder's name cannot
        be a label, parts have audio files outside folders of genres, or these are the numbered
        folders of FMA.
    """
    if not os.path.isdir(root):
        raise DatasetError(f"{root}: not a folder")
    unreadable: list[OSError] = []
    files = list(_audio_files(root, unreadable.append))
    warn_of_unreadable(unreadable, stacklevel=5)
    if not files:
        raise DatasetError(f"{root}: no folder in it has an audio file")
    names = [path.relative_to(root) for path in files]
    if all(_FMA_NAME.fullmatch(name.with_suffix("").as_posix()) for name in names):
        raise DatasetError(
            f"{root}: numbered as FMA, whose fma_metadata/tracks.csv is neither in it nor beside it"
        )
    parts = _parts(root, names)
    depth = 2 if parts else 1
    folders = dict.fromkeys(name.parts[:depth] for name in names)
    labels = {folder: label_text(folder[-1], str(root.joinpath(*folder))) for folder in folders}
    occurrences = Counter(names) + Counter(name.with_suffix("") for name in names)
    tracks = tuple(
        Track(
            id=printable(
                (name if occurrences[stem := name.with_suffix("")] > 1 else stem).as_posix()
            ),
            path=path,
            label=labels[name.parts[:depth]],
            split=parts.get(name.parts[0]),
        )
        for path, name in zip(files, names, strict=True)
    )
    genres = labels_of(tracks)
    if len(genres) == 1:
        warnings.warn(
            f"{printable(str(root))}: a single genre was found, {genres[0]!r}: if the folders of "
            "the genres lie deeper, name the folder they are in",
            OneGenreWarning,
            stacklevel=4,
        )
    return Dataset(
        name=root.resolve().name,
        root=root,
        tracks=tracks,
        labels=genres,
        layout="folder",
    )


def fits(path: Path) -> bool:
    """Check whether a path is a folder with folders that have audio files or cannot be read."""
    unreadable: list[OSError] = []
    return os.path.isdir(path) and (
        any(True for _ in _audio_files(path, unreadable.append)) or bool(unreadable)
    )


def subfolders(root: Path) -> list[Path]:
    """Return the folders in `root`, sorted and without hidden ones."""
    return [
        path
        for path in sorted(root.iterdir())
        if not media.is_hidden_folder(path.name) and os.path.isdir(path)
    ]


def warn_of_unreadable(errors: Iterable[OSError], stacklevel: int) -> None:
    """Warn of each folder that could not be read; `stacklevel` counts from this function."""
    for error in errors:
        warnings.warn(
            f"{with_file(error)}; what is in this folder is left out",
            LeftOutWarning,
            stacklevel=stacklevel,
        )


def _parts(root: Path, names: Sequence[Path]) -> dict[str, str]:
    """Return the standard names of the root's folders if they are parts, and nothing otherwise."""
    parts = {name.parts[0]: str(part_name(name.parts[0])) for name in names}
    found = set(parts.values())
    if len(found) < 2 or not found <= set(SPLITS.values()):
        return {}
    for name in names:
        if len(name.parts) < 3:
            raise DatasetError(
                f"{root}: {printable(name.as_posix())} is in no folder of a genre, and "
                f"{', '.join(sorted(parts))} are called like the parts of a dataset"
            )
    return parts


def _audio_files(root: Path, unreadable: Callable[[OSError], object]) -> Iterator[Path]:
    """Yield the audio files in the folders of `root`, sorted and without hidden ones."""
    return map(Path, media.recordings(map(str, subfolders(root)), unreadable))
