"""The feature sets of the traditional baselines: one row of numbers per track."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tonearm.datasets.cache import CACHE_VERSION, Descriptors, FeatureCache, Kind, middle
from tonearm.datasets.track import Track
from tonearm.errors import TonearmError
from tonearm.features.descriptors import EXCERPT_SECONDS, mfcc_columns
from tonearm.features.logmel import FRONT_ENDS, LogMel
from tonearm.features.picture import RANGE_DB, render
from tonearm.features.thumbnail import BANDS, COLUMNS, NUMBERS, ROWS, describe_picture

Floats = NDArray[np.float32]

# Increment when a code change alters the numbers for the same picture.
PICTURES_VERSION = 1

_FRONT_END = FRONT_ENDS["librosa"]


@dataclass(frozen=True)
class FeatureSet:
    """How to compute one kind of feature; see `FEATURE_SETS`.

    Attributes
    ----------
    read
        Returns float32[tracks, D], using the given number of processes. The row of a track that
        could not be read is NaN, and the cache lists the track in its `failures`.
    fingerprint
        Returns a string that changes with the meaning of the columns and the code behind them.
    """

    read: Callable[[FeatureCache, Sequence[Track], int], Floats]
    fingerprint: Callable[[], str]


def _descriptors(cache: FeatureCache, tracks: Sequence[Track], workers: int) -> Floats:
    return cache.descriptors(tracks, workers=workers)


def _mfcc(cache: FeatureCache, tracks: Sequence[Track], workers: int) -> Floats:
    return cache.descriptors(tracks, workers=workers)[:, mfcc_columns()]


def _pictures(cache: FeatureCache, tracks: Sequence[Track], workers: int) -> Floats:
    return cache.table(tracks, _Picture(), workers=workers)


def _kaggle_pictures(cache: FeatureCache, tracks: Sequence[Track], workers: int) -> Floats:
    """Describe the published pictures.

    A track without one has a row of NaN but does not count as failed: the Kaggle edition lacks a
    picture that its authors could not make, and a classifier must still predict that track.

    Raises
    ------
    TonearmError
        If no track has a picture.
    """
    with_picture = [i for i, track in enumerate(tracks) if track.picture is not None]
    if not with_picture:
        raise TonearmError(
            "kaggle-picture baselines need the published spectrogram pictures of GTZAN: expected "
            "images_original/blues/blues00000.png and so on beside the recordings, found none"
        )
    table = np.full((len(tracks), NUMBERS), np.nan, dtype=np.float32)
    # The picture takes the place of the audio as the file the cached feature is computed from.
    sources = [replace(tracks[i], path=tracks[i].picture) for i in with_picture]
    table[with_picture] = cache.table(sources, _PublishedPicture(), workers=workers)
    return table


class _Picture(Kind):
    """The description of our own picture of the middle of a recording."""

    name = "picture"
    dtype = np.float32
    row_shape = (NUMBERS,)

    def settings(self) -> dict[str, Any]:
        return {
            "version": PICTURES_VERSION,
            "features": CACHE_VERSION,
            "kind": self.name,
            "seconds": EXCERPT_SECONDS,
            "from": "middle",
            "range_db": RANGE_DB,
            "thumbnail": [ROWS, COLUMNS],
            "bands": BANDS,
            **_FRONT_END.to_dict(),
        }

    def rows(self, path: Path) -> Iterator[Floats]:
        samples = middle(path, _FRONT_END.sample_rate)
        yield describe_picture(render(LogMel(_FRONT_END)(samples)))[np.newaxis]


class _PublishedPicture(Kind):
    """The description of a picture of the Kaggle edition."""

    name = "kaggle-picture"
    dtype = np.float32
    row_shape = (NUMBERS,)

    def __init__(self) -> None:
        # Imported here because it needs matplotlib, which the other baselines do without.
        from tonearm.datasets.gtzan_pictures import read_picture

        self._read = read_picture

    def settings(self) -> dict[str, Any]:
        return {
            "version": PICTURES_VERSION,
            "kind": self.name,
            "thumbnail": [ROWS, COLUMNS],
            "bands": BANDS,
        }

    def rows(self, path: Path) -> Iterator[Floats]:
        yield describe_picture(self._read(path))[np.newaxis]


FEATURE_SETS = {
    "mfcc": FeatureSet(_mfcc, lambda: f"{Descriptors().folder_name()} {mfcc_columns()}"),
    "descriptors": FeatureSet(_descriptors, lambda: Descriptors().folder_name()),
    "picture": FeatureSet(_pictures, lambda: _Picture().folder_name()),
    "kaggle-picture": FeatureSet(_kaggle_pictures, lambda: _PublishedPicture().folder_name()),
}
