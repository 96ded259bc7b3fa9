"""Read the editions of GTZAN: the plain tree, the Kaggle tree, and a tree with a track table."""

# ruff: noqa: PTH112, PTH113 - Path.is_dir and Path.is_file raise in a folder that may not be
# entered, before Python 3.14; one such folder must not hide the others.

from __future__ import annotations

import csv
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tonearm import media
from tonearm.datasets import gtzan_facts
from tonearm.datasets.folder import subfolders, warn_of_unreadable
from tonearm.datasets.gtzan_facts import GENRES, GTZAN
from tonearm.datasets.manifest import read_header, read_rows, read_tracks, require_unique_ids
from tonearm.datasets.splits import LeftOutWarning
from tonearm.datasets.track import Dataset, DatasetError, Track, labels_of, part_name
from tonearm.text import printable

TRACK_TABLE = "tracks.csv"
PARTITION_TABLE = "partition.csv"

# Where the ten genre folders may be below the folder a user gives: the original archive unpacks to
# `genres`, mirdata puts that into another folder, Kaggle's archive unpacks to `Data`, and programs
# that download or unpack archives add a parent folder named after the archive.
_PLAIN_PATTERNS = ("genres", "*/genres")
_KAGGLE_PATTERNS = ("Data", "*", "*/Data")
_AUDIO_NAME = re.compile(rf"({'|'.join(GENRES)})\.(\d{{5}})\.(au|wav|flac|mp3|ogg)", re.IGNORECASE)
_PICTURE_NAME = re.compile(rf"({'|'.join(GENRES)})(\d{{5}})\.png")


def find_plain(path: Path) -> Path | None:
    """Return the folder that contains the genre folders, or `None`."""
    below = (folder for pattern in _PLAIN_PATTERNS for folder in sorted(path.glob(pattern)))
    for folder in (path, *below):
        if any(True for _ in _audio(folder)):
            return folder
    return None


def load_plain(path: Path) -> Dataset:
    """Read files such as `blues/blues.00000.au` (or .wav and others) below `path` or its `genres`.

    Split and artist come from `tonearm.datasets.gtzan_facts`.

    Warns
    -----
    LeftOutWarning
        If there are recordings with other names among them, or folders that cannot be read.

    Raises
    ------
    DatasetError
        If no such file was found, or a track is present in two formats.
    """
    root = find_plain(path)
    if root is None:
        raise DatasetError(f"{path}: no GTZAN audio such as blues/blues.00000.wav in it")
    return _dataset(path, _gtzan_audio(root), layout="gtzan")


def find_kaggle(path: Path) -> Path | None:
    """Return the folder that contains `genres_original` or `images_original`, or `None`."""
    folders = [
        path,
        *(below for pattern in _KAGGLE_PATTERNS for below in sorted(path.glob(pattern))),
    ]
    # A user may also give `genres_original` itself; the pictures are then beside it.
    if path.resolve().name == "genres_original":
        folders.append(path / "..")
    for folder in folders:
        if os.path.isdir(folder / "genres_original") or (
            os.path.isdir(folder / "images_original") and not os.path.isfile(folder / TRACK_TABLE)
        ):
            return folder
    return None


def load_kaggle(path: Path) -> Dataset:
    """Read the Kaggle edition: `genres_original`, `images_original`, `features_*_sec.csv`.

    Any of them may be absent. Tracks with a picture but no audio are `picture_tracks`. Split and
    artist come from `tonearm.datasets.gtzan_facts`.

    Warns
    -----
    LeftOutWarning
        If there are recordings with other names among them, or folders that cannot be read.

    Raises
    ------
    DatasetError
        If there is neither audio nor a picture, or a track is present in two formats.
    """
    root = find_kaggle(path)
    if root is None:
        raise DatasetError(f"{path}: neither genres_original nor images_original is in it")
    return _dataset(root, _gtzan_audio(root / "genres_original"), layout="gtzan-kaggle")


def genre_folder(path: Path) -> Path | None:
    """Return the folder of the genre folders in the plain or the Kaggle edition, or `None`."""
    root = find_kaggle(path)
    if root is not None and os.path.isdir(root / "genres_original"):
        return root / "genres_original"
    return find_plain(path)


def has_others(path: Path) -> bool:
    """Check whether a folder beside the ten genres has recordings, and so is another genre."""
    root = genre_folder(path)
    if root is None:
        return False
    return any(True for _ in media.recordings(map(str, _other_folders(root))))


def has_track_table(path: Path) -> bool:
    """Check whether there is a `tracks.csv` with columns track, genre and file in a folder."""
    table = path / TRACK_TABLE
    if not os.path.isfile(table):
        return False
    with table.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, skipinitialspace=True)
        try:
            header = set(read_header(reader))
        except csv.Error:  # not a table, despite its name
            return False
    return {"track", "genre", "file"} <= header


def load_track_table(path: Path) -> Dataset:
    """Read a folder described by its `tracks.csv`.

    The columns are `track, genre, file`, and where known `kind, split, artist, title, seconds`.
    `partition.csv` (`track, split, artist`) describes the tracks that have only a picture.

    Raises
    ------
    DatasetError
        If a table cannot be read.
    """
    found = _dataset(path, read_tracks(path / TRACK_TABLE), layout="gtzan-shared")
    dataset = replace(
        found,
        table=path / TRACK_TABLE,
        picture_tracks=_with_partition(found.picture_tracks, path / PARTITION_TABLE),
    )
    if all(track.id in gtzan_facts.facts() for track in dataset):
        return dataset
    # The same layout with other recordings: GTZAN's name and citation would be wrong.
    has_licences = "licence" in read_rows(path / TRACK_TABLE)[0]
    return replace(
        dataset,
        name=path.resolve().name,
        licence=f"per track, see {TRACK_TABLE}" if has_licences else "unknown",
        citation="",
    )


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Ready-made descriptors: `values` is float64[rows, columns], row i belongs to `ids[i]`.

    In a table of 3 s segments, an id occurs once per segment, in chronological order.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    values: NDArray[np.float64]


def read_feature_table(path: Path) -> FeatureTable:
    """Read `features_30_sec.csv` or `features_3_sec.csv` of the Kaggle edition.

    Raises
    ------
    DatasetError
        If the table lacks the column `filename` or `label`, or a value is not a number.
    """
    rows = read_rows(path)
    if not rows or not {"filename", "label"} <= rows[0].keys():
        raise DatasetError(f"{path}: expected a table with the columns filename and label")
    columns = tuple(name for name in rows[0] if name not in ("filename", "label"))
    try:
        values = np.array([[float(row[name]) for name in columns] for row in rows])
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from error
    return FeatureTable(
        # blues.00000.wav, or blues.00000.3.wav for the fourth segment of three seconds.
        ids=tuple(".".join(row["filename"].split(".")[:2]) for row in rows),
        labels=tuple(row["label"] for row in rows),
        columns=columns,
        values=values,
    )


def _with_partition(tracks: Iterable[Track], table: Path) -> tuple[Track, ...]:
    """Give tracks the split and artist of their row in a partition table, if it is there."""
    rows = read_rows(table) if table.is_file() else []
    if rows and "track" not in rows[0]:
        raise DatasetError(f"{table}: no column track among {', '.join(rows[0])}")
    by_id = {row["track"]: row for row in rows}
    return tuple(
        replace(track, split=part_name(row.get("split") or None), artist=row.get("artist") or None)
        if (row := by_id.get(track.id))
        else track
        for track in tracks
    )


def _dataset(root: Path, audio: tuple[Track, ...], layout: str) -> Dataset:
    """Combine the audio found with the pictures."""
    require_unique_ids(audio, root)
    _walk([root / "images_original"])
    pictures = {track.id: track for track in _pictures(root / "images_original")}
    with_audio = {track.id for track in audio}
    tracks = tuple(
        replace(track, picture=pictures[track.id].picture) if track.id in pictures else track
        for track in audio
    )
    picture_tracks = tuple(track for id_, track in pictures.items() if id_ not in with_audio)
    if not tracks and not picture_tracks:
        raise DatasetError(f"{root}: neither GTZAN audio nor pictures are in it")
    return Dataset(
        name=GTZAN,
        root=root,
        tracks=tracks,
        labels=labels_of(tracks + picture_tracks),
        licence=gtzan_facts.LICENCE,
        citation=gtzan_facts.CITATION,
        layout=layout,
        picture_tracks=picture_tracks,
        feature_tables=tuple(sorted(root.glob("features_*_sec.csv"))),
    )


def _gtzan_audio(root: Path) -> tuple[Track, ...]:
    """Return the recordings named as in GTZAN, and warn of others in its genre folders."""
    tracks = tuple(_audio(root))
    _walk(_other_folders(root))  # one that cannot be read may be a genre beside the ten
    others = _walk(root / genre for genre in GENRES) - len(tracks)
    if others > 0:
        count = "1 recording is" if others == 1 else f"{others} recordings are"
        warnings.warn(
            f"{printable(str(root))}: {count} left out, not being named as in GTZAN "
            "(blues.00000.wav); the layout folder takes them in",
            LeftOutWarning,
            stacklevel=4,
        )
    return tracks


def _walk(folders: Iterable[Path]) -> int:
    """Return the number of recordings in folders, and warn of those that cannot be read."""
    unreadable: list[OSError] = []
    existing = (str(folder) for folder in folders if os.path.isdir(folder))
    count = sum(1 for _ in media.recordings(existing, unreadable.append))
    warn_of_unreadable(unreadable, stacklevel=6)
    return count


def _other_folders(root: Path) -> list[Path]:
    """Return the folders beside those of the ten genres."""
    folders = subfolders(root) if os.path.isdir(root) else []
    return [folder for folder in folders if folder.name not in GENRES]


def _audio(root: Path) -> Iterator[Track]:
    return _numbered(root, _AUDIO_NAME, picture=False)


def _pictures(root: Path) -> Iterator[Track]:
    return _numbered(root, _PICTURE_NAME, picture=True)


def _numbered(root: Path, name: re.Pattern[str], *, picture: bool) -> Iterator[Track]:
    """Yield a track for each `<genre>/<file>` that is named as in GTZAN, in order."""
    for genre in GENRES:
        folder = root / genre
        for path in sorted(folder.glob("*")) if os.path.isdir(folder) else ():
            match = name.fullmatch(path.name)
            if match is None:
                continue
            id_ = gtzan_facts.track_id(match[1].lower(), int(match[2]))
            fact = gtzan_facts.facts().get(id_)
            yield Track(
                id=id_,
                path=None if picture else path,
                label=genre,
                artist=fact.artist if fact else None,
                split=fact.split if fact else None,
                kind=None if picture else "full",
                picture=path if picture else None,
            )
