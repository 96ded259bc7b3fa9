"""Check the labels of tracks before a network learns from them."""

from __future__ import annotations

from collections.abc import Sequence

from tonearm.datasets.track import DatasetError, Track
from tonearm.text import enumerated


def require_labels(tracks: Sequence[Track], labels: Sequence[str]) -> None:
    """Raise `DatasetError` if a track's label is not among `labels`."""
    stranger = next((track for track in tracks if track.label not in labels), None)
    if stranger is not None:
        raise DatasetError(
            f"track {stranger.id}: label {stranger.label!r} is not among {enumerated(labels)}"
        )


def require_genres(tracks: Sequence[Track]) -> None:
    """Raise `DatasetError` if all of the tracks, at least one, have the same label."""
    known = sorted({str(track.label) for track in tracks})
    if len(known) < 2:
        raise DatasetError(f"at least two genres are needed, and all tracks are {known[0]}")
