"""Which recordings are too much alike to stand on both sides of a test."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tonearm.datasets.splits import artist_key
from tonearm.datasets.ties import tied
from tonearm.datasets.track import Track

# An album of more artists is a compilation: they were recorded apart, and were such albums to tie
# their artists together, a collection could end as one single group.
ARTISTS_OF_AN_ALBUM = 3


@dataclass(frozen=True)
class Kinship:
    """The groups of some tracks.

    Attributes
    ----------
    groups
        For each track the number of its group.
    unknown
        How many tracks have no known artist or album, and so count as a group of their own.
    """

    groups: tuple[int, ...]
    unknown: int


def kinship(tracks: Sequence[Track]) -> Kinship:
    """Put together what is by one artist, or on one album of few artists.

    The album also joins what the artist's name parts: "Nina Simone" and "Nina Simone & Friends".
    Albums of one name in two folders are two albums.
    """
    artists = [artist_key(track.artist) if track.artist else "" for track in tracks]
    albums = [_album_key(track) for track in tracks]
    billed: dict[tuple[str, str], set[str]] = defaultdict(set)
    for artist, album in zip(artists, albums, strict=True):
        if album and artist:
            billed[album].add(artist)
    keys = []
    for artist, album in zip(artists, albums, strict=True):
        own: list[tuple[str, ...]] = [("artist", artist)] if artist else []
        if album and len(billed[album]) <= ARTISTS_OF_AN_ALBUM:
            own.append(("album", *album))
        keys.append(own)
    return Kinship(
        tuple(tied(keys)),
        sum(not artist and not album for artist, album in zip(artists, albums, strict=True)),
    )


def _album_key(track: Track) -> tuple[str, str] | None:
    if not track.album or track.path is None:
        return None
    return artist_key(track.album), str(track.path.parent)
