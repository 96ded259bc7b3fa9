"""`Track` and `Dataset`: the common form that every layout on disk is read into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tonearm.errors import TonearmError
from tonearm.text import composed, is_line

# Synonyms for the parts of a dataset; a part with any other name keeps it.
SPLITS: Mapping[str, str] = {
    **{"train": "train", "training": "train"},
    **{"valid": "valid", "validation": "valid", "val": "valid", "dev": "valid"},
    **{"test": "test", "testing": "test"},
}

# The columns beside the classes in a table of predictions, so no names for a class.
PREDICTION_COLUMNS = ("track", "label", "fold", "seed", "artist")


class DatasetError(TonearmError):
    """A folder or table cannot be read as a dataset; the message names it and the reason."""


@dataclass(frozen=True, slots=True)
class Track:
    """One recording and what is known about it; `None` always means unknown.

    Attributes
    ----------
    id
        Unique within the dataset, and the same in all layouts of one dataset
        (`"blues.00000"` in every edition of GTZAN).
    path
        The audio file. It may be missing on disk, which `tonearm.datasets.check` detects.
    label
        The genre.
    artist, title, album
        Names as the dataset has them.
    split
        The track's part in the dataset's own partition: `"train"`, `"valid"`, `"test"`, or another
        name it uses, such as a fold number.
    duration
        Seconds, as stated by the dataset.
    kind
        `"full"` for a recording of the dataset's usual length, `"excerpt"` for a short part of one.
    picture
        The spectrogram picture shipped with the dataset, if there is one.
    """

    id: str
    path: Path | None
    label: str | None
    artist: str | None = None
    title: str | None = None
    album: str | None = None
    split: str | None = None
    duration: float | None = None
    kind: str | None = None
    picture: Path | None = None


@dataclass(frozen=True)
class Dataset:
    """Tracks and where they come from.

    Attributes
    ----------
    name
        Its name, for tables and models trained on it.
    root
        The folder, or the manifest file.
    tracks
        The recordings, in the order of the dataset.
    labels
        Every label that occurs, sorted; also the order of a model's outputs.
    licence, citation
        Terms of use of the recordings, and the publication to cite, where known.
    layout
        The layout it was read from, a key of `tonearm.datasets.LAYOUTS`.
    table
        The manifest the tracks were read from, with a row for each in their order; `None` for
        layouts without one.
    picture_tracks
        Tracks for which only the spectrogram picture is available (`path` is `None`); they are in
        no split and in no count unless requested.
    feature_tables
        Ready-made descriptor tables that came with the dataset, for
        `tonearm.datasets.gtzan.read_feature_table`.
    """

    name: str
    root: Path
    tracks: tuple[Track, ...] = field(repr=False)  # hundreds, or hundreds of thousands
    labels: tuple[str, ...]
    licence: str = "unknown"
    citation: str = ""
    layout: str = ""
    table: Path | None = None
    picture_tracks: tuple[Track, ...] = field(default=(), repr=False)
    feature_tables: tuple[Path, ...] = ()

    @cached_property
    def is_partitioned(self) -> bool:
        """Whether the dataset has a partition of its own; tracks without a split are outside it."""
        return any(track.split is not None for track in self.tracks)

    def select(self, *, split: str | None = None, kind: str | None = None) -> tuple[Track, ...]:
        """Return the tracks of one split, of one kind, or both; `None` matches any.

        A split may be given by any synonym that tables may use for it (`"validation"`).
        """
        part = part_name(split)
        return tuple(
            track
            for track in self.tracks
            if (part is None or part_name(track.split) == part)
            and (kind is None or track.kind == kind)
        )

    def __len__(self) -> int:
        return len(self.tracks)

    def __iter__(self) -> Iterator[Track]:
        return iter(self.tracks)


def labels_of(tracks: tuple[Track, ...]) -> tuple[str, ...]:
    """Return every label that occurs in the tracks, sorted."""
    return tuple(sorted({track.label for track in tracks if track.label is not None}))


def label_text(text: str | None, where: str) -> str | None:
    """Return a label with white space and Unicode normalised; error messages begin with `where`.

    Letters are composed, so "ó" as one character and as "o" with an accent are the same genre.

    Labels are checked here, not when a model is written: by then, training may have taken hours.

    Raises
    ------
    DatasetError
        If it is still not a line of text, so that no model could store it, or the name of another
        column of predictions.
    """
    if text is None:
        return None
    label = composed(" ".join(text.split()))
    if not is_line(label):
        raise DatasetError(f"{where}: label {text!a} is not a line of text")
    if label in PREDICTION_COLUMNS:
        raise DatasetError(
            f"{where}: a genre may not be called {label!r}: tables of predictions have a column of "
            "that name"
        )
    return label


def part_name(text: str | None) -> str | None:
    """Return the standard name of a dataset part: `"valid"` for `"val"` and `"Validation"`.

    A number of a fold is a whole one: `"2"` for `"2.0"`, as tables with empty cells have it.
    """
    if text is None:
        return None
    whole, point, rest = text.partition(".")
    if point and whole.isdecimal() and not rest.strip("0"):
        return whole
    return SPLITS.get(text.casefold(), text)
