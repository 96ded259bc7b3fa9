"""Summarise the tracks of each genre in a dataset."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from tonearm import audio
from tonearm.datasets.splits import artist_key
from tonearm.datasets.track import Dataset, Track

UNLABELLED = "(no label)"
OUTSIDE = "(none)"  # in none of the dataset's own splits


@dataclass(frozen=True)
class GenreSummary:
    """Counts for one genre.

    Attributes
    ----------
    tracks
        Number of tracks by split and kind (`None` if unknown).
    seconds
        Total length of the tracks; those of unknown length count as 0.
    artists
        Number of different known artists.
    with_artist
        Number of tracks whose artist is known.
    """

    label: str
    tracks: Counter[tuple[str | None, str | None]]
    seconds: float
    artists: int
    with_artist: int


def summarise(dataset: Dataset) -> tuple[GenreSummary, ...]:
    """Summarise each genre; lengths that the dataset does not state are read from file headers."""
    members: dict[str, list[Track]] = {label: [] for label in dataset.labels}
    for track in dataset:
        members.setdefault(track.label or UNLABELLED, []).append(track)
    return tuple(
        GenreSummary(
            label,
            Counter((track.split, track.kind) for track in tracks),
            sum(_seconds(track) for track in tracks),
            len({artist_key(track.artist) for track in tracks} - {""}),
            sum(artist_key(track.artist) != "" for track in tracks),
        )
        for label, tracks in members.items()
    )


def to_dict(dataset: Dataset, genres: tuple[GenreSummary, ...]) -> dict[str, Any]:
    """Return a summary as plain values, ready for JSON."""
    return {
        "name": dataset.name,
        "layout": dataset.layout,
        "root": str(dataset.root),
        "licence": dataset.licence,
        "citation": dataset.citation,
        "tracks": len(dataset),
        "pictures": sum(track.picture is not None for track in dataset),
        "picture_tracks": len(dataset.picture_tracks),
        "feature_tables": [path.name for path in dataset.feature_tables],
        "genres": [
            {
                "label": genre.label,
                "tracks": [
                    {"split": split, "kind": kind, "count": count}
                    for (split, kind), count in genre.tracks.items()
                ],
                "seconds": round(genre.seconds, 2),
                "artists": genre.artists,
                "with_artist": genre.with_artist,
            }
            for genre in genres
        ],
    }


def _seconds(track: Track) -> float:
    if track.duration is not None:
        return track.duration
    if track.path is None:
        return 0.0
    try:
        return audio.probe(track.path).duration or 0.0
    except audio.AudioError:
        return 0.0
