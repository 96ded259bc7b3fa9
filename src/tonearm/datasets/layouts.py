"""Detect how a dataset is laid out on disk, and call the loader for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from tonearm.datasets import fma, folder, gtzan, manifest
from tonearm.datasets.track import Dataset, DatasetError
from tonearm.errors import UsageError, with_file


@dataclass(frozen=True)
class Layout:
    """A layout: how to recognise it, how to read it, and how to describe it in errors."""

    fits: Callable[[Path], bool]
    load: Callable[[Path], Dataset]
    looks_like: str


# In the order in which they are tried, most specific first: a folder per genre would also match
# most of the others.
LAYOUTS: dict[str, Layout] = {
    "gtzan-shared": Layout(
        gtzan.has_track_table,
        gtzan.load_track_table,
        "tracks.csv with the columns track, genre, file",
    ),
    "fma": Layout(
        lambda path: fma.find_metadata(path) is not None,
        fma.load_fma,
        "fma_metadata/tracks.csv and fma_small/000/000002.mp3",
    ),
    "gtzan-kaggle": Layout(
        lambda path: gtzan.find_kaggle(path) is not None and not gtzan.has_others(path),
        gtzan.load_kaggle,
        "genres_original/blues/blues.00000.wav",
    ),
    "gtzan": Layout(
        lambda path: gtzan.find_plain(path) is not None and not gtzan.has_others(path),
        gtzan.load_plain,
        "genres/blues/blues.00000.au",
    ),
    "manifest": Layout(
        lambda path: path.is_file() and path.suffix.lower() in manifest.SUFFIXES,
        manifest.load_manifest,
        "a .csv or .parquet file with the columns path, label",
    ),
    "folder": Layout(
        folder.fits,
        # Also reads GTZAN with genres added to its ten, so that all genres are treated alike.
        lambda path: folder.load_folder(gtzan.genre_folder(path) or path),
        "a folder per genre with audio files in it",
    ),
}


def load(path: str | PathLike[str], layout: str | None = None) -> Dataset:
    """Read a dataset.

    Parameters
    ----------
    path
        A folder, or a manifest file.
    layout
        A key of `LAYOUTS`; detected by default.

    Warns
    -----
    LeftOutWarning
        If a folder contains recordings that the layout leaves out, or cannot be read.
    OneGenreWarning
        If there is a folder per genre, but only one genre.

    Raises
    ------
    DatasetError
        If `path` does not exist or cannot be read, no layout matches, or the given layout cannot be
        read.
    UsageError
        If there is no such layout.
    MissingExtraError
        If a manifest is Parquet and pyarrow is not installed.
    """
    path = Path(path)
    if layout is not None and layout not in LAYOUTS:
        raise UsageError(f"layout {layout!r} is unknown; there are {', '.join(LAYOUTS)}")
    try:
        if not path.exists():
            raise DatasetError(f"{path}: not found")
        if path.is_dir():
            os.scandir(path).close()  # or the error would name a file that a layout looks for in it
        if layout is not None:
            return LAYOUTS[layout].load(path)
        for known in LAYOUTS.values():
            if known.fits(path):
                return known.load(path)
    except OSError as error:
        raise DatasetError(with_file(error)) from error
    looked_for = "; ".join(f"{name}: {known.looks_like}" for name, known in LAYOUTS.items())
    raise DatasetError(f"{path}: no known dataset layout (looked for {looked_for})")
