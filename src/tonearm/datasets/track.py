"""The `Track` and the `Dataset`: the one table that every layout on disk turns into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tonearm.errors import TonearmError
from tonearm.text import composed, is_line

# Other words for the parts of a dataset; a part of any further name keeps it.
SPLITS: Mapping[str, str] = {
    **{"train": "train", "training": "train"},
    **{"valid": "valid", "validation": "valid", "val": "valid", "dev": "valid"},
    **{"test": "test", "testing": "test"},
}


class DatasetError(TonearmError):
    """A folder or table cannot be read as a dataset; the text names it and the reason."""


@dataclass(frozen=True, slots=True)
class Track:
    """One recording and what is known of it; `None` always means unknown.

    Attributes
    ----------
    id
        Unique within the dataset, and stable over the layouts of the same dataset
        (`"blues.00000"` in every edition of GTZAN).
    path
        The audio file. It may be missing on disk: that is for `tonearm.datasets.check` to find.
    label
        The genre.
    split
        The dataset's own partition: `"train"`, `"valid"`, `"test"`, or another name it uses, such
        as the number of a fold.
    duration
        Seconds, as the dataset states them.
    kind
        `"full"` for a recording of the dataset's usual length, `"excerpt"` for a short cut of it.
    picture
        The spectrogram picture that the dataset ships, where it ships one.
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
    """Tracks with where they come from.

    Attributes
    ----------
    root
        The folder, or the manifest's file.
    tracks
        The recordings, in the order of the dataset.
    labels
        Every label that occurs, sorted: the order of a model's outputs.
    layout
        Which loader read it (`tonearm.datasets.LAYOUTS`).
    table
        The table that the tracks were read from, row by row; of other layouts `None`.
    picture_tracks
        Tracks of which only the spectrogram picture is at hand (`path` is `None`); they are in no
        split and in no count unless asked for.
    feature_tables
        Ready-made descriptor tables that came with the dataset, for
        `tonearm.datasets.gtzan.read_feature_table`.
    """

    name: str
    root: Path
    tracks: tuple[Track, ...]
    labels: tuple[str, ...]
    licence: str = "unknown"
    citation: str = ""
    layout: str = ""
    table: Path | None = None
    picture_tracks: tuple[Track, ...] = ()
    feature_tables: tuple[Path, ...] = ()

    def select(self, *, split: str | None = None, kind: str | None = None) -> tuple[Track, ...]:
        """Give the tracks of one split, of one kind, or both; `None` asks for any.

        A split may be named by any word that tables may use for it (`"validation"`).
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
    """Give every label that occurs in some tracks, sorted."""
    return tuple(sorted({track.label for track in tracks if track.label is not None}))


def label_text(text: str | None, where: str) -> str | None:
    """Read a label, with any white space in it as a single blank; `where` it stands begins errors.

    Its letters are composed: "ó" as one character or as "o" with an accent is one genre.

    Here and not when a model is written: by then hours of learning from it may have passed.

    Raises
    ------
    DatasetError
        It is not a line of text even so, and no model could have it.
    """
    if text is None:
        return None
    label = composed(" ".join(text.split()))
    if not is_line(label):
        raise DatasetError(f"{where}: label {text!a} is not a line of text")
    return label


def part_name(text: str | None) -> str | None:
    """Reduce the words for a part of a dataset to one: `"val"` and `"Validation"` are `"valid"`."""
    return None if text is None else SPLITS.get(text.casefold(), text)
