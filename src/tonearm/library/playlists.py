"""A playlist for each genre of a library."""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from tonearm.datasets.splits import artist_key
from tonearm.errors import UsageError
from tonearm.library.entry import Entry
from tonearm.library.m3u import Item, can_hold, names_of, write_playlist
from tonearm.library.store import Store

SUFFIX = ".m3u8"

Order = Literal["confidence", "path", "artist", "random"]


@dataclass(frozen=True)
class Choice:
    """Which tracks go into the playlist of a genre, and in which order.

    Attributes
    ----------
    min_confidence
        Minimum probability of the genre.
    top
        How many of a track's most probable genres may list it.
    sort
        The most confident first; by path; by artist, album and path; or at random.
    limit
        Maximum number of tracks, taken in that order.
    mapping
        From labels to the user's words. Each word has a playlist; a label mapped to no words has
        none. Labels that share a word share its playlist, and their probabilities are added.
    seed
        Seed of the random order; by default, a different one each time.

    Raises
    ------
    UsageError
        If a number is out of range, or the order is unknown.
    """

    min_confidence: float = 0.0
    top: int = 1
    sort: Order = "confidence"
    limit: int | None = None
    mapping: Mapping[str, Sequence[str]] = field(default_factory=dict)
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise UsageError(f"min-confidence: expected 0 to 1, got {self.min_confidence:g}")
        if self.top < 1:
            raise UsageError(f"top: expected 1 or more, got {self.top}")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"limit: expected 1 or more, got {self.limit}")
        if self.sort not in get_args(Order):
            raise UsageError(f"sort: expected {', '.join(get_args(Order))}, got {self.sort!r}")


@dataclass(frozen=True)
class Playlist:
    """A playlist that was written.

    Attributes
    ----------
    genre
        In the user's words.
    path
        The playlist's file.
    tracks
        How many tracks it has.
    left_out
        Paths that no playlist can hold, as they are not valid text or contain line breaks.
    """

    genre: str
    path: Path
    tracks: int
    left_out: tuple[str, ...]


class _Member(NamedTuple):
    """A track in a playlist."""

    item: Item
    album: str
    confidence: float


def write_playlists(
    store: Store,
    folder: str | os.PathLike[str],
    choice: Choice | None = None,
    *,
    absolute: bool = False,
) -> list[Playlist]:
    """Write a playlist for each genre of the present files; return the playlists by genre.

    Tracks whose verdict is "unsure" or "not music" are left out, and copies of the same audio are
    listed once. Playlists of the same names are replaced, each in one step; other files in the
    folder are left alone.

    Parameters
    ----------
    store
        The store of a scan.
    folder
        The folder to write to, created if it does not exist.
    choice
        Which tracks to list; by default those of `Choice`.
    absolute
        Whether the playlists contain absolute paths, instead of paths relative to the folder.

    Raises
    ------
    TonearmError
        If a playlist cannot be written.
    """
    choice = choice or Choice()
    fits = partial(can_hold, os.path.join(folder, SUFFIX), absolute=absolute)  # noqa: PTH118
    members_by_genre = _members_by_genre(store.entries(details=False), choice, fits)
    lists = {
        genre: _sorted(members, choice)[: choice.limit]
        for genre, members in sorted(members_by_genre.items())
    }
    written = []
    for (genre, members), name in zip(lists.items(), names_of(list(lists)), strict=True):
        path = Path(folder) / f"{name}{SUFFIX}"
        items = [member.item for member in members]
        left_out = write_playlist(path, items, title=genre, absolute=absolute)
        written.append(Playlist(genre, path, len(items) - len(left_out), left_out))
    return written


def _members_by_genre(
    entries: Iterable[Entry], choice: Choice, fits: Callable[[str], bool]
) -> dict[str, list[_Member]]:
    """Return the tracks of each genre, preferring copies whose names a playlist can hold."""
    members: dict[str, list[_Member]] = defaultdict(list)
    seen_audio: set[str] = set()
    for entry in _defer(entries, lambda entry: not fits(entry.path)):
        if entry.genre is None or entry.verdict not in (None, "music"):
            continue
        if entry.audio is not None and entry.audio in seen_audio:
            continue
        seen_audio.add(entry.audio or "")
        for genre, confidence in _genre_probabilities(entry.probabilities, choice).items():
            members[genre].append(_Member(Item.of(entry), entry.album or "", confidence))
    return members


def _defer(entries: Iterable[Entry], is_deferred: Callable[[Entry], bool]) -> Iterator[Entry]:
    """Yield entries, with the few for which `is_deferred` is true after all others."""
    deferred = []
    for entry in entries:
        if is_deferred(entry):
            deferred.append(entry)
        else:
            yield entry
    yield from deferred


def _genre_probabilities(probabilities: Mapping[str, float], choice: Choice) -> dict[str, float]:
    """Return a track's genres for the playlists, in the user's words, with probabilities."""
    totals: dict[str, float] = defaultdict(float)
    selected = set()
    for rank, (label, probability) in enumerate(probabilities.items()):
        for word in choice.mapping.get(label, (label,)):
            totals[word] += probability
            if rank < choice.top:
                selected.add(word)
    return {word: totals[word] for word in selected if totals[word] >= choice.min_confidence}


def _sorted(members: list[_Member], choice: Choice) -> list[_Member]:
    if choice.sort == "random":
        return random.Random(choice.seed).sample(members, len(members))
    keys: dict[str, Callable[[_Member], tuple[object, ...]]] = {
        "confidence": lambda member: (-member.confidence, member.item.path),
        "path": lambda member: (member.item.path,),
        "artist": lambda member: (
            not artist_key(member.item.artist),  # tracks without an artist come last
            artist_key(member.item.artist),
            member.album.casefold(),
            member.item.path,
        ),
    }
    return sorted(members, key=keys[choice.sort])
