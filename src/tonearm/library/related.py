"""Which tracks are too closely related to be in both the training and the held-out part."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tonearm.datasets.components import connected_components
from tonearm.datasets.splits import artist_key
from tonearm.datasets.track import Track

# An album of more artists is a compilation: its tracks were recorded separately, and if such albums
# joined their artists, a whole collection could end up as a single group.
MAX_ALBUM_ARTISTS = 3


@dataclass(frozen=True)
class RelatedGroups:
    """The groups of some tracks.

    Attributes
    ----------
    groups
        The group number of each track.
    unknown
        Number of tracks with neither a known artist nor a known album that is no compilation.
    """

    groups: tuple[int, ...]
    unknown: int


def related_groups(tracks: Sequence[Track]) -> RelatedGroups:
    """Group tracks that are by one artist, on one album of few artists, or the same file.

    The album also joins what artist names separate: "Nina Simone" and "Nina Simone & Friends".
    Albums of the same name in different folders are different albums.
    """
    artists = [artist_key(track.artist) for track in tracks]
    albums = [_album_key(track) for track in tracks]
    album_artists: dict[tuple[str, str], set[str]] = defaultdict(set)
    for artist, album in zip(artists, albums, strict=True):
        if album and artist:
            album_artists[album].add(artist)
    keys, unknown = [], 0
    for track, artist, album in zip(tracks, artists, albums, strict=True):
        track_keys: list[tuple[str, ...]] = [("artist", artist)] if artist else []
        if album and len(album_artists[album]) <= MAX_ALBUM_ARTISTS:
            track_keys.append(("album", *album))
        unknown += not track_keys
        if track.path is not None:
            track_keys.append(("file", os.path.realpath(track.path)))
        keys.append(track_keys)
    return RelatedGroups(tuple(connected_components(keys)), unknown)


def _album_key(track: Track) -> tuple[str, str] | None:
    if not track.album or track.path is None:
        return None
    return artist_key(track.album), str(track.path.parent)
