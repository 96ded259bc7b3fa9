"""Read FMA: its metadata table with three header rows, its clips and its official splits.

Source: M. Defferrard, K. Benzi, P. Vandergheynst, X. Bresson, "FMA: A Dataset for Music Analysis",
ISMIR 2017.
"""

from __future__ import annotations

import csv
from pathlib import Path

from tonearm.datasets.manifest import seconds
from tonearm.datasets.track import Dataset, DatasetError, Track, label_text, labels_of, part_name

# Each subset contains the one before it; the table gives the smallest one that a track is in.
SUBSETS = ("small", "medium", "large", "full")

_METADATA = Path("fma_metadata") / "tracks.csv"
_COLUMNS = (
    ("set", "split"),
    ("set", "subset"),
    ("track", "genre_top"),
    ("track", "title"),
    ("track", "duration"),
    ("artist", "id"),
    ("album", "id"),
)


def find_metadata(path: Path) -> Path | None:
    """Return FMA's `tracks.csv` inside, beside or at `path`, or `None` if it is not there."""
    inside = path / _METADATA
    if inside.is_file():
        return inside
    if _subset_of(path) or "fma_metadata" in _names(path):
        # First as the path is written: the audio may be a link to another disk.
        for folder in (path.absolute().parent, path.resolve().parent):
            if (folder / _METADATA).is_file():
                return folder / _METADATA
    return None


def load_fma(path: Path) -> Dataset:
    """Read the clips of one subset: 8 top genres in the small one, 16 in the others.

    `path` is a subset's folder (`fma_small`) or the folder that contains it; in the latter case the
    largest subset found is read. `artist` and `album` are FMA's ids, since two artists may share a
    name. A track without a top genre (in the large and full subsets) has no label.

    Raises
    ------
    DatasetError
        If the metadata or the audio folder is missing, or the table is not FMA's, is cut short, or
        contains text instead of a number.
    """
    metadata = find_metadata(path)
    if metadata is None:
        raise DatasetError(f"{path}: {_METADATA} is neither in it nor beside it")
    audio = _audio_folder(path, metadata)
    subset = _subset_of(audio) or SUBSETS[-1]
    try:
        tracks = tuple(_tracks(metadata, audio, subset))
    except UnicodeDecodeError as error:
        raise DatasetError(f"{metadata}: not UTF-8") from error
    except csv.Error as error:
        raise DatasetError(f"{metadata}: {error}") from error
    return Dataset(
        name=f"FMA {subset}",
        root=audio,
        tracks=tracks,
        labels=labels_of(tracks),
        licence="audio: the licence each artist chose; metadata: CC BY 4.0",
        citation="M. Defferrard, K. Benzi, P. Vandergheynst, X. Bresson: FMA: A Dataset for Music "
        "Analysis. ISMIR 2017.",
        layout="fma",
    )


def _audio_folder(path: Path, metadata: Path) -> Path:
    if _subset_of(path):
        return path
    home = metadata.parent.parent
    found = [home / f"fma_{subset}" for subset in SUBSETS if (home / f"fma_{subset}").is_dir()]
    if not found:
        expected = ", ".join(f"fma_{subset}" for subset in SUBSETS)
        raise DatasetError(f"{home}: no audio folder beside fma_metadata (one of {expected})")
    return found[-1]


def _subset_of(path: Path) -> str | None:
    return next((s for name in _names(path) for s in SUBSETS if name == f"fma_{s}"), None)


def _names(path: Path) -> tuple[str, str]:
    """Return the name of a folder as it is written and, if it is a link, that of its target."""
    return path.absolute().name, path.resolve().name


def _tracks(metadata: Path, audio: Path, subset: str) -> list[Track]:
    subsets = SUBSETS[: SUBSETS.index(subset) + 1]
    with metadata.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        try:
            groups, names, _ = next(reader), next(reader), next(reader)
            header = list(zip(groups, names, strict=True))
            columns = {column: header.index(column) for column in _COLUMNS}
        except (StopIteration, ValueError) as error:
            raise DatasetError(
                f"{metadata}: not FMA's table (two header rows such as set/split, then track_id)"
            ) from error
        tracks = []
        for row in reader:
            where = f"{metadata}, line {reader.line_num}"
            if len(row) != len(header):
                raise DatasetError(
                    f"{where}: {len(row)} cells where the header has {len(header)} columns"
                )
            cells = {column: row[index].strip() for column, index in columns.items()}
            if cells["set", "subset"] not in subsets:
                continue
            number = _number(row[0], where)
            tracks.append(
                Track(
                    id=f"{number:06d}",
                    path=audio / f"{number // 1000:03d}" / f"{number:06d}.mp3",
                    label=label_text(cells["track", "genre_top"] or None, where),
                    artist=cells["artist", "id"] or None,
                    title=cells["track", "title"] or None,
                    album=cells["album", "id"] or None,
                    split=part_name(cells["set", "split"] or None),
                    # The table states the length of the whole song, but all subsets except the
                    # full one consist of 30 s clips.
                    duration=seconds(cells["track", "duration"] or None, where)
                    if subset == "full"
                    else None,
                )
            )
    return tracks


def _number(text: str, where: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise DatasetError(f"{where}: track_id {text!r} is not a whole number") from None
