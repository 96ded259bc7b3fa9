"""The manifest: a CSV or Parquet table with a row per track."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tonearm.csvrows import csv_writer
from tonearm.datasets.splits import Fold
from tonearm.datasets.track import Dataset, DatasetError, Track, labels_of
from tonearm.errors import MissingExtraError
from tonearm.whole import whole

SUFFIXES = (".csv", ".parquet", ".pq")

# The first name of each row is Tonearm's own; the others are accepted as well.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "path": ("path", "file", "filename"),
    "label": ("label", "genre"),
    "id": ("id", "track", "track_id"),
    "artist": ("artist",),
    "title": ("title",),
    "album": ("album",),
    "split": ("split",),
    "duration": ("duration", "seconds"),
    "kind": ("kind",),
    "picture": ("picture",),
}


def load_manifest(path: Path) -> Dataset:
    """Read a table with at least a `path` column, and best a `label` column.

    `artist`, `title`, `album`, `split`, `id`, `duration` (seconds), `kind` and `picture` are read
    where present, other columns are left alone, and an empty cell means unknown. Relative paths
    are relative to the folder of the manifest. Without an `id` column the path is the id.

    Raises
    ------
    DatasetError
        The table cannot be read, has no rows, has no `path` column, or repeats an id.
    MissingExtraError
        The table is Parquet and pyarrow is not installed.
    """
    tracks = read_tracks(path)
    return Dataset(
        name=path.stem,
        root=path.parent,
        tracks=tracks,
        labels=labels_of(tracks),
        layout="manifest",
    )


def write_folds(path: Path, folds: Sequence[Fold]) -> None:
    """Write the division of tracks as a manifest that `load_manifest` reads again.

    One fold gives the column `split` (train, valid, test). Several give the column `fold`: the
    number of the fold, from 1, in which a track is judged, and trained on in all others.
    """
    column = "split" if len(folds) == 1 else "fold"
    if len(folds) == 1:
        parts = {"train": folds[0].train, "valid": folds[0].valid, "test": folds[0].test}
    else:
        parts = {str(number): fold.valid for number, fold in enumerate(folds, start=1)}
    table = io.StringIO()
    writer = csv_writer(table)
    writer.writerow(["path", "label", "id", "artist", "kind", column])
    for part, tracks in parts.items():
        for track in tracks:
            assert track.path is not None  # a track without audio is in no fold
            place = os.path.relpath(track.path, path.parent)
            artist, kind = track.artist or "", track.kind or ""
            writer.writerow([place, track.label, track.id, artist, kind, part])
    try:
        with whole(path) as file:
            file.write(table.getvalue().encode())
    except OSError as error:
        raise DatasetError(f"{path}: {_reason(error)}") from error


def read_tracks(path: Path) -> tuple[Track, ...]:
    """Read the tracks of one manifest."""
    rows = _read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else read_rows(path)
    if not rows:
        raise DatasetError(f"{path}: the table has no rows")
    columns = {
        field: next((name for name in names if name in rows[0]), None)
        for field, names in COLUMNS.items()
    }
    if columns["path"] is None:
        raise DatasetError(
            f"{path}: no column of paths (one of {', '.join(COLUMNS['path'])}) among "
            f"{', '.join(rows[0])}"
        )
    tracks = tuple(
        _track(row, columns, path.parent, f"{path}, row {number}")
        for number, row in enumerate(rows, start=1)
    )
    require_unique_ids(tracks, path)
    return tracks


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV file with a header row into one dictionary a row.

    Raises
    ------
    DatasetError
        The file cannot be opened, is not UTF-8, or a row is longer than the header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            rows = []
            for row in reader:
                if None in row:
                    raise DatasetError(
                        f"{path}, line {reader.line_num}: more cells than the header has columns"
                    )
                rows.append(row)
            return rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: {_reason(error)}") from error


def require_unique_ids(tracks: Iterable[Track], where: Path) -> None:
    """Refuse tracks of which two have the same id: everything downstream keys by it."""
    seen: set[str] = set()
    for track in tracks:
        if track.id in seen:
            raise DatasetError(f"{where}: track id {track.id!r} occurs more than once")
        seen.add(track.id)


def _read_parquet(path: Path) -> list[dict[str, str]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "data") from error
    try:
        rows = parquet.read_table(path).to_pylist()
    except (OSError, ArrowException) as error:
        raise DatasetError(f"{path}: {_reason(error)}") from error
    return [
        {name: "" if value is None else str(value) for name, value in row.items()} for row in rows
    ]


def _track(
    row: Mapping[str, str], columns: Mapping[str, str | None], folder: Path, where: str
) -> Track:
    def cell(field: str) -> str | None:
        column = columns[field]
        return (row[column].strip() or None) if column is not None else None

    path, picture = cell("path"), cell("picture")
    if path is None:
        raise DatasetError(f"{where}: the path is empty")
    return Track(
        id=cell("id") or path,
        path=folder / path,
        label=cell("label"),
        artist=cell("artist"),
        title=cell("title"),
        album=cell("album"),
        split=cell("split"),
        duration=_seconds(cell("duration"), where),
        kind=cell("kind"),
        picture=folder / picture if picture is not None else None,
    )


def _seconds(text: str | None, where: str) -> float | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        raise DatasetError(f"{where}: duration {text!r} is not a number of seconds") from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or type(error).__name__).splitlines()[0]
