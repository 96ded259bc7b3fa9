"""Store the features of tracks on disk, so that each is computed only once.

A process may be killed at any moment, and several may use a cache at once: a feature appears under
its name only when it is complete. The name is derived from the audio file's content and the
settings, so a changed file or setting gives a new feature and nothing has to be invalidated.

    <root>/content.sqlite                          file -> hash of its content
    <root>/<kind>-<hash of settings>/settings.json
    <root>/<kind>-<hash of settings>/<2 digits>/<hash of content>.npy
"""

from __future__ import annotations

import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tonearm import audio
from tonearm.atomic import DRAFTS, LEFT_OVER_SECONDS, atomic_write
from tonearm.bundle_descriptors import read_middle
from tonearm.datasets.content import ContentIndex, stamps
from tonearm.datasets.derived import derived
from tonearm.datasets.storage import StoredArray, write_array
from tonearm.datasets.track import Track
from tonearm.errors import TonearmError, reason_of
from tonearm.features.descriptors import (
    DESCRIPTOR_RATE,
    EXCERPT_SECONDS,
    describe,
    descriptor_names,
)
from tonearm.features.logmel import LogMel, LogMelConfig
from tonearm.inputs import SHORTEST_SECONDS, SILENCE_PEAK, check_audible
from tonearm.loudness import Loudness
from tonearm.paths import cache_folder
from tonearm.text import printable

# Increment when a code change alters the numbers for the same audio and settings.
CACHE_VERSION = 1

# Incomplete files: settings, features, and features as earlier versions named them.
_DRAFTS = (f"*/{DRAFTS}", f"*/*/{DRAFTS}", "*/*/*.tmp")


class CacheError(TonearmError):
    """The cache itself failed (a full disk, a folder without write permission)."""


@dataclass(frozen=True)
class FailedTrack:
    """A track that has no features, and the reason; `str` gives both on one line."""

    track: Track
    reason: str

    def __str__(self) -> str:
        return f"{printable(str(self.track.path or self.track.id))}: {self.reason}"


class FeatureCache:
    """Features of tracks, computed on first use and read from disk after that.

    A track that cannot be decoded does not stop the others: it has no features, and is listed in
    `failures`, which covers the last call only.

    Parameters
    ----------
    root
        The folder to store features in, created if missing; by default
        `tonearm.paths.cache_folder("features")`.

    Attributes
    ----------
    failures
        Tracks of the last call that have no features, each with the reason.

    Raises
    ------
    CacheError
        If the folder cannot be made or read.
    ContentIndexError
        If the file of content hashes in it cannot be read or written.
    TonearmError
        If `root` is not given, and the user has no home folder to make it in.
    """

    def __init__(self, root: str | PathLike[str] | None = None) -> None:
        self.root: Path = cache_folder("features") if root is None else Path(root)
        self.failures: tuple[FailedTrack, ...] = ()
        try:
            self._contents = ContentIndex(self.root / "content.sqlite")
            self._sweep()
        except OSError as error:
            raise CacheError(f"{self.root}: {reason_of(error)}") from error

    def logmels(
        self,
        tracks: Sequence[Track],
        config: LogMelConfig,
        *,
        progress: bool = True,
        workers: int = 2,
    ) -> list[StoredArray | None]:
        """Return the log-mel frames of each track, or `None` for one that failed.

        Parameters
        ----------
        tracks
            The tracks.
        config
            Settings of the frames, such as one of `tonearm.features.logmel.FRONT_ENDS`.
        progress
            Show a progress bar on standard error.
        workers
            Number of processes that compute; with 1, the calling process does.

        Returns
        -------
        list of float16[frames, n_mels]
            Stored on disk; a slice such as `logmel[a:b]` is read when it is taken.

        Raises
        ------
        CacheError
            If a feature cannot be written.
        ContentIndexError
            If the content hashes cannot be read or written.
        StartError
            With several workers, if a process dies or fails before it can begin.
        """
        return self.features(tracks, _LogMels(config), progress=progress, workers=workers)

    def descriptors(
        self, tracks: Sequence[Track], *, progress: bool = True, workers: int = 2
    ) -> NDArray[np.float32]:
        """Return the clip descriptors of each track, float32[tracks, D].

        The columns are `tonearm.features.descriptors.descriptor_names()`, computed over the middle
        `EXCERPT_SECONDS` of a recording. The row of a track that failed is NaN. Errors are those of
        `logmels`.
        """
        return self.table(tracks, Descriptors(), progress=progress, workers=workers)

    def table(
        self, tracks: Sequence[Track], kind: Kind, *, progress: bool = True, workers: int = 2
    ) -> NDArray[np.float32]:
        """Return a kind of feature that has one row per track, float32[tracks, *kind.row_shape].

        The row of a track that failed is NaN. Errors are those of `logmels`.
        """
        rows = self.features(tracks, kind, progress=progress, workers=workers)
        missing = np.full(kind.row_shape, np.nan, dtype=np.float32)
        table = [missing if row is None else np.asarray(row)[0] for row in rows]
        return np.array(table, dtype=np.float32).reshape(len(tracks), *kind.row_shape)

    def features(
        self, tracks: Sequence[Track], kind: Kind, *, progress: bool = True, workers: int = 2
    ) -> list[StoredArray | None]:
        """Return any kind of feature for each track, or `None` for one that failed.

        Errors are those of `logmels`.
        """
        folder = self.root / kind.folder_name()
        try:
            _write_settings(folder, kind)
            found, errors = derived(
                (track.path for track in tracks if track.path is not None),
                self._contents,
                partial(kind.read, folder),
                partial(_maker, folder, kind),
                kind.name,
                processes=workers,
                progress=progress,
            )
        except OSError as error:
            raise CacheError(f"{folder}: {reason_of(error)}") from error
        failures = []
        for track in dict.fromkeys(tracks):
            if track.path is None:
                failures.append(FailedTrack(track, "no audio file is known"))
            elif track.path in errors:
                failures.append(FailedTrack(track, errors[track.path]))
        self.failures = tuple(failures)
        return [None if track.path is None else found.get(track.path) for track in tracks]

    def contents(self, tracks: Iterable[Track]) -> dict[str, str]:
        """Return the content hash of each track that features were computed from, by track id."""
        paths = {track.id: track.path for track in tracks if track.path is not None}
        found, _ = stamps(paths.values())
        known = self._contents.known(found.values())
        return {
            id_: known[stamp] for id_, path in paths.items() if (stamp := found.get(path)) in known
        }

    def _sweep(self) -> None:
        """Remove half-written files left behind by killed processes."""
        now = time.time()
        for path in chain.from_iterable(self.root.glob(pattern) for pattern in _DRAFTS):
            # Another process may be completing or removing it at the same time.
            try:
                if now - path.stat().st_mtime > LEFT_OVER_SECONDS:
                    path.unlink()
            except FileNotFoundError:
                continue


class Kind(ABC):
    """One kind of feature: what it depends on, its type and shape, and how it is computed.

    It is pickled when several processes compute features.

    Attributes
    ----------
    name
        Prefix of its folder's name, also shown beside the progress bar.
    dtype, row_shape
        Type of the array and shape of its rows, of which there may be any number.
    """

    name: str
    dtype: DTypeLike
    row_shape: tuple[int, ...]

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return everything that the numbers depend on besides the audio."""

    @abstractmethod
    def rows(self, path: Path) -> Iterator[NDArray[np.float32]]:
        """Yield the feature of a file in blocks of rows; may raise `AudioError`."""

    def folder_name(self) -> str:
        """Return the name of the folder, which is the same only for the same settings."""
        digest = hashlib.blake2b(_canonical(self.settings()).encode(), digest_size=8)
        return f"{self.name}-{digest.hexdigest()}"

    def feature_path(self, folder: Path, content: str) -> Path:
        """Return the path of the feature for the given content hash."""
        return folder / content[:2] / f"{content}.npy"

    def read(self, folder: Path, content: str) -> StoredArray | None:
        """Return the feature for the given content hash, or None if it is missing or damaged."""
        try:
            stored = StoredArray(self.feature_path(folder, content), self.dtype, self.row_shape)
            # Longer features are too large to be read for a check.
            sound = np.isfinite(stored[:]).all() if len(stored) == 1 else len(stored) > 1
        except (OSError, ValueError):
            return None
        return stored if sound else None

    def compute(self, folder: Path, path: Path, content: str) -> None:
        """Compute the feature of a file, and write it under its content hash."""
        write_array(self.feature_path(folder, content), self.rows(path), self.dtype, self.row_shape)


class _LogMels(Kind):
    name = "logmel"
    # Halves disk space and reading time; its 11 significant bits resolve 0.03 dB at 60 dB.
    dtype = np.float16

    def __init__(self, config: LogMelConfig) -> None:
        self.config = config
        self.row_shape = (config.n_mels,)

    def settings(self) -> dict[str, Any]:
        return {"version": CACHE_VERSION, "kind": self.name, **self.config.to_dict()}

    def rows(self, path: Path) -> Iterator[NDArray[np.float32]]:
        with audio.stream(path, self.config.sample_rate) as stream:
            yield from LogMel(self.config).stream(_audible(stream, self.config.sample_rate, path))


class Descriptors(Kind):
    """The descriptors of a recording's middle; see `tonearm.features.descriptors.describe`."""

    name = "descriptors"
    dtype = np.float32

    def __init__(self) -> None:
        self.row_shape = (len(descriptor_names()),)

    def settings(self) -> dict[str, Any]:
        """Return everything that the numbers depend on besides the audio."""
        return {
            "version": CACHE_VERSION,
            "kind": self.name,
            "rate": DESCRIPTOR_RATE,
            "seconds": EXCERPT_SECONDS,
            "from": "middle",
            "names": list(descriptor_names()),
        }

    def rows(self, path: Path) -> Iterator[NDArray[np.float32]]:
        """Yield the descriptors of a file as one row; may raise `AudioError`."""
        yield describe(middle(path, DESCRIPTOR_RATE))[np.newaxis]


def middle(path: Path, rate: int) -> NDArray[np.float32]:
    """Read the middle `EXCERPT_SECONDS` of a recording; may raise `AudioError`.

    A silent middle is accepted: as in a classifier, only a recording that is silent from end to end
    is refused.
    """
    samples = read_middle(path, rate)
    peak = float(np.abs(samples).max(initial=0.0))
    if len(samples) / rate < SHORTEST_SECONDS or peak < SILENCE_PEAK:
        # Rare enough to decode the whole recording just for this check.
        for _ in _audible(audio.blocks(path, rate), rate, path):
            pass
    return samples


def _audible(
    blocks: Iterable[NDArray[np.float32]], rate: int, path: Path
) -> Iterator[NDArray[np.float32]]:
    """Yield the blocks of a recording, and refuse it at the end if a classifier would.

    Raises
    ------
    AudioError
        If the recording is silent, or too short to be classified.
    """
    loudness = Loudness(rate)
    yield from loudness.monitor(blocks)
    check_audible(loudness.samples / rate, loudness.peak, str(path))


def _maker(folder: Path, kind: Kind) -> Callable[[Path, str], None]:
    return partial(kind.compute, folder)


def _write_settings(folder: Path, kind: Kind) -> None:
    """Record, for people, which settings the hash in the folder's name stands for."""
    path = folder / "settings.json"
    if not path.exists():
        with atomic_write(path) as file:
            file.write(f"{_canonical(kind.settings())}\n".encode())


def _canonical(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True, indent=1)
