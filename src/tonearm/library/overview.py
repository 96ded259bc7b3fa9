"""Summarise a whole library from its store."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from urllib.parse import quote

import numpy as np

from tonearm.errors import TonearmError
from tonearm.library import projection
from tonearm.library.entry import VERDICTS, Entry
from tonearm.library.own_tags import OwnTags
from tonearm.library.scan import error_kind
from tonearm.library.similarity import unit_vectors
from tonearm.library.store import Floats, Store
from tonearm.library.tag_words import TagWords, normalised_spelling
from tonearm.text import printable, relative

GRID = 65535  # the largest coordinate on the map: sixteen bits


@dataclass
class Tracks:
    """The files that have a genre, as columns of equal length: a page holds fifty thousand.

    Attributes
    ----------
    folder, name
        Index of the folder in `Overview.folders`, and the file's name in it, printable.
    artist, title
        From the tags; empty if absent.
    seconds
        Length; 0 if unknown.
    genre, second
        Indices of the most and the second most probable label; -1 if there is no second.
    confidence, runner_up
        Their probabilities in thousandths.
    verdict
        Indices into `VERDICTS`.
    x, y
        Coordinates on the map, from 0 to `GRID`; -1 for files that are not on it.
    spelled
        By a track's index, the URL-quoted path of its file below the root, where the printable
        path differs from the actual one.
    """

    folder: list[int] = field(default_factory=list)
    name: list[str] = field(default_factory=list)
    artist: list[str] = field(default_factory=list)
    title: list[str] = field(default_factory=list)
    seconds: list[int] = field(default_factory=list)
    genre: list[int] = field(default_factory=list)
    second: list[int] = field(default_factory=list)
    confidence: list[int] = field(default_factory=list)
    runner_up: list[int] = field(default_factory=list)
    verdict: list[int] = field(default_factory=list)
    x: list[int] = field(default_factory=list)
    y: list[int] = field(default_factory=list)
    spelled: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.name)


@dataclass
class Tags:
    """The genres in the tags, compared with the predicted ones of tracks whose verdict is "music".

    Attributes
    ----------
    untagged
        How many tracks have no genre in their tags.
    written
        How many have only what `tonearm tag` wrote, which proves nothing. (Where it replaced or
        added to genres, the old ones are compared.)
    agreeing
        How many have one that means the predicted genre.
    disagreeing
        The others whose tags mean some label: the track's index, the tags, the labels meant.
        The most confident predictions come first.
    foreign
        Tags that mean no label: the tag, how many tracks have it, and the genre most often
        predicted for them. The most frequent come first.
    """

    untagged: int = 0
    written: int = 0
    agreeing: int = 0
    disagreeing: list[tuple[int, str, list[str]]] = field(default_factory=list)
    foreign: list[tuple[str, int, str]] = field(default_factory=list)


@dataclass
class ModelUsage:
    """A model that analysed some of the files: its name, its excerpt and the number of files."""

    name: str
    excerpt: str
    files: int


@dataclass
class Overview:
    """Everything that the page of a library shows.

    Attributes
    ----------
    root
        The folder that contains all files, printable.
    root_address
        Its ``file:`` URL; empty if the files were analysed on a system whose paths are others, such
        as ``C:\\Music``.
    first, last
        Times of the first and the last analysis, in seconds since 1970; None if there is none.
    models
        The models that analysed the files, the busiest first.
    labels
        All their genres.
    folders
        Paths of the folders below the root, printable; "" for the root itself.
    tracks, tags
        See `Tracks` and `Tags`.
    errors
        For each kind, the most frequent first: the files, as paths below the root, each with the
        full error.
    missing
        How many known files were missing at the last scan.
    map
        How reliable the map is; None if there is nothing on it.
    landmarks
        How many tracks the map was computed from; None if from all that are on it.
    """

    root: str = ""
    root_address: str = ""
    first: float | None = None
    last: float | None = None
    models: list[ModelUsage] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    tracks: Tracks = field(default_factory=Tracks)
    tags: Tags = field(default_factory=Tags)
    errors: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)
    missing: int = 0
    map: projection.Faithfulness | None = None
    landmarks: int | None = None


def overview(store: Store, mapping: Mapping[str, Sequence[str]] | None = None) -> Overview:
    """Summarise the present files of a store.

    Parameters
    ----------
    mapping
        From labels to the words that the user's tags use for them.

    Raises
    ------
    TonearmError
        If the store knows no files.
    """
    view = Overview()
    with store.snapshot():  # a scan may add another model meanwhile
        view.missing = store.count_missing()
        for model, files in store.models().items():
            if files:
                view.models.append(ModelUsage(model.name, model.excerpt, files))
                view.labels += [label for label in model.labels if label not in view.labels]
        root = _common_folder(store)
        view.root = printable(root)
        if Path(root).is_absolute():
            view.root_address = Path(root).as_uri()
        builder = _OverviewBuilder(view, root, TagWords(view.labels, mapping))
        for entry in store.entries(details=False):
            builder.add(entry)
        paths, embeddings = store.embeddings()
    builder.finish()
    if paths:
        _draw_map(view, embeddings, [builder.track_indices[path] for path in paths])
    return view


class _OverviewBuilder:
    """Adds the entries of a store to an overview, one by one."""

    def __init__(self, view: Overview, root: str, words: TagWords) -> None:
        self.track_indices: dict[str, int] = {}  # indices of the tracks, by path
        self._view = view
        self._root = root
        self._words = words
        self._own_tags = OwnTags()
        self._label_indices = {label: index for index, label in enumerate(view.labels)}
        self._folders: dict[str, int] = {}
        self._errors: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self._foreign: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)

    def add(self, entry: Entry) -> None:
        view = self._view
        view.first = min(view.first or entry.scanned_at, entry.scanned_at)
        view.last = max(view.last or entry.scanned_at, entry.scanned_at)
        relative_path = PurePath(relative(entry.path, self._root)).as_posix()
        if entry.genre is None:
            reason = entry.error or "no genre"
            self._errors[error_kind(reason)].append((printable(relative_path), reason))
            return
        self._add_track(entry, relative_path)
        if VERDICTS[view.tracks.verdict[-1]] == "music":
            self._compare_tags(entry)

    def finish(self) -> None:
        tags = self._view.tags
        confidence = self._view.tracks.confidence
        tags.disagreeing.sort(key=lambda row: -confidence[row[0]])
        tags.foreign = sorted(
            map(_summarise_foreign, self._foreign.values()), key=lambda row: (-row[1], row[0])
        )
        self._view.errors = sorted(self._errors.items(), key=lambda kind: (-len(kind[1]), kind[0]))

    def _add_track(self, entry: Entry, relative_path: str) -> None:
        tracks = self._view.tracks
        index = len(tracks)
        self.track_indices[entry.path] = index
        folder, _, name = relative_path.rpartition("/")
        folder_index = self._folders.setdefault(folder, len(self._folders))
        if folder_index == len(self._view.folders):
            self._view.folders.append(printable(folder))
        if printable(relative_path) != relative_path:
            tracks.spelled[index] = quote(os.fsencode(relative_path))
        ranked = [*entry.probabilities.items(), ("", 0.0)]
        tracks.folder.append(folder_index)
        tracks.name.append(printable(name))
        tracks.artist.append(entry.artist or "")
        tracks.title.append(entry.title or "")
        tracks.seconds.append(round(entry.duration or 0))
        tracks.genre.append(self._label_indices[str(entry.genre)])
        tracks.second.append(self._label_indices.get(ranked[1][0], -1))
        tracks.confidence.append(round(1000 * (entry.confidence or 0)))
        tracks.runner_up.append(round(1000 * ranked[1][1]))
        tracks.verdict.append(VERDICTS.index(entry.verdict or "music"))
        tracks.x.append(-1)
        tracks.y.append(-1)

    def _compare_tags(self, entry: Entry) -> None:
        tags, predicted = self._view.tags, str(entry.genre)
        if not entry.tagged:
            tags.untagged += 1
            return
        tagged = self._own_tags.without(entry.path, entry.tagged)
        if not tagged:
            tags.written += 1
            return
        meant = self._words.meant(tagged)
        tag_text = "; ".join(tagged)
        if predicted in meant:
            tags.agreeing += 1
        elif meant:
            tags.disagreeing.append((self.track_indices[entry.path], tag_text, sorted(meant)))
        else:
            self._foreign[normalised_spelling(tag_text)][tag_text, predicted] += 1


def _summarise_foreign(tracks: Counter[tuple[str, str]]) -> tuple[str, int, str]:
    """Summarise a tag for `Tags.foreign`, given its tracks by spelling and predicted genre."""
    spellings, predicted = Counter[str](), Counter[str]()
    for (tag_text, genre), count in tracks.items():
        spellings[tag_text] += count
        predicted[genre] += count
    return spellings.most_common(1)[0][0], tracks.total(), predicted.most_common(1)[0][0]


def _common_folder(store: Store) -> str:
    """Return the deepest folder that contains all files.

    Raises
    ------
    TonearmError
        If there are no files.
    """
    root: str | None = None
    for path in store.paths():
        folder = os.path.dirname(path)  # noqa: PTH120
        try:
            root = folder if root is None else os.path.commonpath([root, folder])
        except ValueError:  # on several drives
            root = os.path.splitdrive(path)[0] + os.sep
    if root is None:
        raise TonearmError(f"{store.path}: no file is known, so nothing to show")
    return root


def _draw_map(view: Overview, embeddings: Floats, track_indices: Sequence[int]) -> None:
    """Place tracks on the map by the embeddings of the model that analysed the most files."""
    vectors = unit_vectors(embeddings)
    points = projection.lay_out(vectors)
    view.map = projection.faithfulness(vectors, points)
    if len(track_indices) > projection.LANDMARKS:
        view.landmarks = projection.LANDMARKS
    coordinates = np.rint(np.clip(points, 0, 1) * GRID).astype(int).tolist()
    for index, (x, y) in zip(track_indices, coordinates, strict=True):
        view.tracks.x[index], view.tracks.y[index] = x, y
