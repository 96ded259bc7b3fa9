"""The manifest: a CSV or Parquet table with a row per track."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from tonearm.atomic import write_csv
from tonearm.datasets.splits import Fold
from tonearm.datasets.track import Dataset, DatasetError, Track, label_text, labels_of, part_name
from tonearm.errors import reason_of
from tonearm.extras import needs
from tonearm.text import enumerated, not_utf8, relative

PARQUET_SUFFIXES = (".parquet", ".pq")
SUFFIXES = (".csv", *PARQUET_SUFFIXES)

# The first name of each row is Tonearm's own; the others are accepted as well.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "path": ("path", "file", "filename", "file_name"),
    "label": ("label", "genre"),
    "id": ("id", "track_id", "track"),
    "artist": ("artist",),
    "title": ("title",),
    "album": ("album",),
    "split": ("split", "fold"),
    "duration": ("duration", "seconds"),
    "kind": ("kind",),
    "picture": ("picture",),
}


# A quoted cell and the blanks after it, which csv does not accept where it is strict.
_QUOTED_CELL = re.compile(r'((?:^|[,\r\n]) *"[^"]*(?:""[^"]*)*")[ \t]*')


def load_manifest(path: Path) -> Dataset:
    """Read a table with at least a `path` column, and best a `label` column.

    `artist`, `title`, `album`, `split`, `id`, `duration` (seconds), `kind` and `picture` are read
    where present, other columns are left alone, and an empty cell means unknown. Relative paths
    are relative to the folder of the manifest. Without an `id` column the path is the id. Case and
    blanks in the names of columns do not count.

    Raises
    ------
    DatasetError
        The table cannot be read, has no rows, has no `path` column, has a column twice, or repeats
        an id.
    MissingExtraError
        The table is Parquet and pyarrow is not installed.
    """
    tracks = read_tracks(path)
    return Dataset(
        name=path.stem,
        root=path,
        tracks=tracks,
        labels=labels_of(tracks),
        layout="manifest",
        table=path,
    )


def write_folds(
    path: Path, folds: Sequence[Fold], others: Mapping[str, Mapping[str, str]] | None = None
) -> None:
    """Write the division of tracks as a manifest that `load_manifest` reads again.

    One fold gives the column `split` (train, valid, test). Several give the column `fold`: the
    number of the fold, from 1, that holds a track out; all others train on it.

    Parameters
    ----------
    others
        Further columns by track id, as `other_columns` gives them.

    Raises
    ------
    TonearmError
        If it cannot be written.
    """
    column = "split" if len(folds) == 1 else "fold"
    if len(folds) == 1:
        parts = {"train": folds[0].train, "valid": folds[0].valid, "test": folds[0].test}
    else:
        parts = {str(number): fold.valid for number, fold in enumerate(folds, start=1)}
    rows = []
    for part, tracks in parts.items():
        for track in tracks:
            assert track.path is not None  # a track without audio is in no fold
            standard = {
                "path": relative(str(track.path.absolute()), str(path.parent)),
                "label": track.label,
                "id": track.id,
                "artist": track.artist,
                "title": track.title,
                "album": track.album,
                "duration": track.duration,
                "kind": track.kind,
                "picture": track.picture
                and relative(str(track.picture.absolute()), str(path.parent)),
                column: part,
            }
            rows.append({**standard, **(others or {}).get(track.id, {})})
    # Columns without a value are left out, except those that every manifest has.
    names = [
        name
        for name in dict.fromkeys(name for row in rows for name in row)
        if name in ("path", "label", "id", column) or any(row.get(name) for row in rows)
    ]
    cells = [[str(cell) if (cell := row.get(name)) else "" for name in names] for row in rows]
    write_csv(path, [names, *cells])


def other_columns(dataset: Dataset) -> dict[str, dict[str, str]]:
    """Return the columns of a dataset's table that `write_folds` does not write, by track id.

    The result is empty for a dataset without a table.
    """
    if dataset.table is None:
        return {}
    rows = _read_table(dataset.table)
    standard = {*COLUMNS, *COLUMNS["split"], *_columns(rows).values()}
    return {
        track.id: {name: cell for name, cell in row.items() if name not in standard}
        for track, (_, row) in zip(dataset, rows, strict=True)
    }


def read_tracks(path: Path) -> tuple[Track, ...]:
    """Read the tracks of one manifest; errors as in `load_manifest`."""
    rows = _read_table(path)
    if not rows:
        raise DatasetError(f"{path}: the table has no rows")
    columns = _columns(rows)
    if columns["path"] is None:
        raise DatasetError(
            f"{path}: no column of paths (one of {', '.join(COLUMNS['path'])}) among "
            f"{', '.join(rows[0][1])}"
        )
    tracks = tuple(
        _track(row, columns, path.parent, f"{path}, {position}") for position, row in rows
    )
    require_unique_ids(tracks, path)
    return tracks


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV file with a header row into one dictionary a row, by `column_name`.

    Raises
    ------
    DatasetError
        The file cannot be opened, is not UTF-8, has a column twice or a quote that is not closed,
        or a row is longer than the header.
    """
    return [row for _, row in _read_csv(path)]


def read_header(reader: Iterator[list[str]]) -> list[str]:
    """Return the names of the columns, which are in the first row that is not blank."""
    return next((list(map(column_name, row)) for row in reader if any(map(str.strip, row))), [])


def column_name(text: str) -> str:
    """Reduce the spellings of a column's name to one."""
    return text.strip().casefold()


def require_unique_ids(tracks: Iterable[Track], where: Path) -> None:
    """Raise `DatasetError` if two tracks have the same id: everything downstream keys by it."""
    seen: set[str] = set()
    for track in tracks:
        if track.id in seen:
            raise DatasetError(f"{where}: track id {track.id!r} occurs more than once")
        seen.add(track.id)


def _columns(rows: Sequence[tuple[str, Mapping[str, str]]]) -> dict[str, str | None]:
    """Return the name of the column of each field of `COLUMNS`, or `None` if there is none."""
    names = set(rows[0][1])
    if "track" in names and len({row["track"] for _, row in rows}) < len(rows):
        names.remove("track")  # no id, but the number on an album, as tag editors write it
    return {
        field: next((name for name in accepted if name in names), None)
        for field, accepted in COLUMNS.items()
    }


def _read_table(path: Path) -> list[tuple[str, dict[str, str]]]:
    """Return each row with its position in the file, for error messages."""
    if path.suffix.lower() in PARQUET_SUFFIXES:
        return [(f"row {number}", row) for number, row in enumerate(_read_parquet(path), start=1)]
    return [(f"line {number}", row) for number, row in _read_csv(path)]


def _read_csv(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return each row with the number of the line it ends in."""
    text = _QUOTED_CELL.sub(r"\1", _read_text(path))
    # Strict, or a quote that is never closed would take in all rows that follow.
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    rows, begin = [], 1
    try:
        names = _column_names(read_header(reader), path)
        begin = reader.line_num + 1
        for cells in reader:
            if len(cells) > len(names):
                raise DatasetError(
                    f"{path}, line {reader.line_num}: more cells than the header has columns "
                    f"({enumerated(names)})"
                )
            if cells:
                row = dict(zip_longest(names, cells, fillvalue=""))
                rows.append((reader.line_num, row))
            begin = reader.line_num + 1
    except csv.Error as error:
        raise DatasetError(f"{path}, line {begin}: {error} (is a quote not closed?)") from error
    return rows


def _read_text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read()  # as a whole, so that an error can name the line
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: {_reason(error)}") from error


def _column_names(header: Iterable[str], path: Path) -> list[str]:
    names = [column_name(name) for name in header]
    repeated = next((name for name in names if name and names.count(name) > 1), None)
    if repeated is not None:
        raise DatasetError(f"{path}: there is more than one column {repeated!r}")
    return names


def _read_parquet(path: Path) -> list[dict[str, str]]:
    with needs("data"):
        from pyarrow import ArrowException, parquet
    try:
        table = parquet.read_table(path)
        names = _column_names(table.column_names, path)
    except (OSError, UnicodeDecodeError, ArrowException) as error:
        raise DatasetError(f"{path}: {_reason(error)}") from error
    columns = []
    for name, column in zip(names, table.columns, strict=True):
        try:
            columns.append(["" if cell is None else str(cell) for cell in column.to_pylist()])
        except (ArithmeticError, ValueError, ArrowException) as error:  # such as the year 10000
            reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else reason_of(error)
            raise DatasetError(f"{path}: column {name!r} cannot be read: {reason}") from error
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


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
        label=label_text(cell("label"), where),
        artist=cell("artist"),
        title=cell("title"),
        album=cell("album"),
        split=part_name(cell("split")),
        duration=seconds(cell("duration"), where),
        kind=cell("kind"),
        picture=folder / picture if picture is not None else None,
    )


def seconds(text: str | None, where: str) -> float | None:
    """Read a duration, or raise a `DatasetError` that begins with `where`."""
    if text is None:
        return None
    try:
        duration = float(text)
    except ValueError:
        duration = math.nan
    if not 0 <= duration < math.inf:
        raise DatasetError(f"{where}: duration {text!r} is not a number of seconds")
    return duration


def _reason(error: Exception) -> str:
    return not_utf8(error) if isinstance(error, UnicodeDecodeError) else reason_of(error)
