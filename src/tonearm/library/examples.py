"""Tracks to learn from, with the genres that people assigned to them."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tonearm.datasets.cache import FailedTrack
from tonearm.datasets.track import Dataset, Track
from tonearm.errors import UsageError
from tonearm.library.own_tags import OwnTags
from tonearm.library.tag_words import normalised_spelling
from tonearm.library.tags import Names, TagError, read_names
from tonearm.media import require_several
from tonearm.text import enumerated

TEST_SPLIT = "test"  # the part of a dataset that is for evaluation, not for learning


@dataclass(frozen=True)
class Examples:
    """What there is to learn from.

    Attributes
    ----------
    tracks
        Each with a path and a label.
    failures
        Files whose tags cannot be read, and why.
    unlabelled
        Number of files without a genre.
    written
        Number of files with no other genre than `tonearm tag` wrote.
    held_back
        Number of files that the dataset's own partition excludes from learning: those in its test
        part and those in no part.
    """

    tracks: tuple[Track, ...]
    failures: tuple[FailedTrack, ...] = ()
    unlabelled: int = 0
    written: int = 0
    held_back: int = 0


def from_dataset(dataset: Dataset) -> Examples:
    """Return the labelled tracks of a dataset that have a file.

    If the dataset has its own partition, tracks in none of its parts are left out (in GTZAN mostly
    repetitions), and so is its test part. If the dataset names neither artist nor album of a track,
    both are read from the file's tags.
    """
    files = [track for track in dataset if track.path is not None]
    usable = [
        track
        for track in files
        if track.split != TEST_SPLIT and not (dataset.is_partitioned and track.split is None)
    ]
    labelled = [track for track in usable if track.label is not None]
    return Examples(
        tuple(map(_with_tag_names, labelled)),
        unlabelled=len(usable) - len(labelled),
        held_back=len(files) - len(usable),
    )


def from_tags(paths: Iterable[str | Path]) -> Examples:
    """Return the tracks whose tags name a genre; if there are several genres, the first counts.

    Spellings that differ only in case, accents, blanks and punctuation ("Hip-Hop", "hip hop") are
    one genre, whose label is the spelling that most of the files use. A file counts once, however
    many of the paths lead to it. Genres that `tonearm tag` wrote do not count: learning them would
    be to learn from the other model's mistakes.

    Raises
    ------
    UsageError
        If `paths` is a single path.
    """
    require_several("paths", paths)
    tracks, failures = [], []
    unlabelled = written = 0
    own_tags = OwnTags()
    for path in {os.path.realpath(path): Path(path) for path in paths}.values():
        track = Track(str(path), path, None)
        try:
            names = read_names(path)
        except TagError as error:
            failures.append(FailedTrack(track, error.reason))
            continue
        if genres := own_tags.without(path, names.genres):
            tracks.append(_with_artist_and_album(replace(track, label=genres[0]), names))
        elif names.genres:
            written += 1
        else:
            unlabelled += 1
    return Examples(_with_common_spellings(tracks), tuple(failures), unlabelled, written)


def with_enough(
    tracks: Sequence[Track], min_files: int
) -> tuple[tuple[Track, ...], tuple[tuple[str, int], ...]]:
    """Separate the genres that have enough files from those that do not.

    Returns
    -------
    tracks, left_out
        The tracks of the former; name and number of files of each of the latter.
    """
    files = Counter(str(track.label) for track in tracks)
    too_few = tuple((label, count) for label, count in sorted(files.items()) if count < min_files)
    dropped = {label for label, _ in too_few}
    return tuple(track for track in tracks if track.label not in dropped), too_few


def keep_genres(tracks: Sequence[Track], genres: Collection[str]) -> tuple[Track, ...]:
    """Keep the tracks of the given genres, however these are spelled.

    Raises
    ------
    UsageError
        If one of the genres has no track.
    """
    known = {normalised_spelling(str(track.label)): str(track.label) for track in tracks}
    if unknown := [genre for genre in genres if normalised_spelling(genre) not in known]:
        available = enumerated(sorted(known.values())) or "none"
        raise UsageError(f"no example of {', '.join(unknown)}: the genres are {available}")
    selected = set(map(normalised_spelling, genres))
    return tuple(track for track in tracks if normalised_spelling(str(track.label)) in selected)


def _with_tag_names(track: Track) -> Track:
    """Add artist and album from the file's tags if neither is known."""
    if track.path is None or track.artist is not None or track.album is not None:
        return track
    try:
        return _with_artist_and_album(track, read_names(track.path))
    except TagError:
        return track


def _with_artist_and_album(track: Track, names: Names) -> Track:
    return replace(track, artist=names.artist, album=names.album)


def _with_common_spellings(tracks: Sequence[Track]) -> tuple[Track, ...]:
    """Give every genre its most frequent spelling."""
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for track in tracks:
        spellings[normalised_spelling(str(track.label))][str(track.label)] += 1
    most_common = {key: counts.most_common(1)[0][0] for key, counts in spellings.items()}
    return tuple(
        replace(track, label=most_common[normalised_spelling(str(track.label))]) for track in tracks
    )
