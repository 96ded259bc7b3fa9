"""Keeps the features of tracks on disk, so that each is computed once.

A cache may be killed at any moment and used by several processes at once: a feature appears under
its name only when it is whole. Its name is made of the content of the audio file and of the
settings, so that a changed file or setting is a new feature and nothing has to be invalidated.

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
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tonearm import audio
from tonearm.audible import SHORTEST_SECONDS, SILENCE_PEAK, refuse_inaudible
from tonearm.datasets.content import ContentIndex, Stamp
from tonearm.datasets.derived import derived
from tonearm.datasets.storage import StoredArray, write_array
from tonearm.datasets.track import Track
from tonearm.errors import TonearmError
from tonearm.features.descriptors import (
    DESCRIBED_SECONDS,
    DESCRIPTOR_RATE,
    describe,
    described_from,
    descriptor_names,
)
from tonearm.features.logmel import LogMel, LogMelConfig
from tonearm.paths import cache_folder
from tonearm.text import printable
from tonearm.whole import DRAFTS, whole

# Raise it when a change of the code changes the numbers for the same audio and settings.
CACHE_VERSION = 1

# Files that are not yet whole: settings, features, and features as earlier versions named them.
_DRAFTS = (f"*/{DRAFTS}", f"*/*/{DRAFTS}", "*/*/*.tmp")
_ABANDONED_AFTER = 24 * 3600.0  # seconds after which a half-written file has no writer any more


class CacheError(TonearmError):
    """The cache itself failed (a full disk, a folder without write permission)."""


@dataclass(frozen=True)
class Failure:
    """A track that has no features, and why; as text both, in one line."""

    track: Track
    reason: str

    def __str__(self) -> str:
        return f"{printable(str(self.track.path or self.track.id))}: {self.reason}"


class FeatureCache:
    """Features of tracks, computed where they are missing and read from disk after that.

    A track that cannot be decoded does not stop the others: it has no features, and is listed in
    `failures`, which is of the last call.

    Parameters
    ----------
    root
        The folder to keep them in, made if it is not there; by default
        `tonearm.paths.cache_folder("features")`.
    """

    def __init__(self, root: str | PathLike[str] | None = None) -> None:
        self.root = cache_folder("features") if root is None else Path(root)
        self.failures: tuple[Failure, ...] = ()
        try:
            self._contents = ContentIndex(self.root / "content.sqlite")
            self._sweep()
        except OSError as error:
            raise CacheError(f"{self.root}: {error.strerror or error}") from error

    def logmels(
        self,
        tracks: Sequence[Track],
        config: LogMelConfig,
        *,
        progress: bool = True,
        workers: int = 2,
    ) -> list[StoredArray | None]:
        """Give the log-mel spectrogram of each track, or `None` for one that failed.

        Parameters
        ----------
        progress
            Show a bar on standard error.
        workers
            Processes that compute; with 1, this process does.

        Returns
        -------
        list of float16[frames, n_mels]
            On disk; a slice such as `logmel[a:b]` is read when it is taken.

        Raises
        ------
        CacheError
            A feature cannot be written.
        """
        return self.features(tracks, _LogMels(config), progress=progress, workers=workers)

    def descriptors(
        self, tracks: Sequence[Track], *, progress: bool = True, workers: int = 2
    ) -> NDArray[np.float32]:
        """Give the clip descriptors of each track, float32[tracks, D].

        The columns are `tonearm.features.descriptors.descriptor_names()`; the middle
        `DESCRIBED_SECONDS` of a recording are described. The row of a track that failed is NaN.

        Raises
        ------
        CacheError
            A feature cannot be written.
        """
        return self.table(tracks, Descriptors(), progress=progress, workers=workers)

    def table(
        self, tracks: Sequence[Track], kind: Kind, *, progress: bool = True, workers: int = 2
    ) -> NDArray[np.float32]:
        """Give a kind of feature that has one row a track, float32[tracks, *kind.row_shape].

        The row of a track that failed is NaN.

        Raises
        ------
        CacheError
            A feature cannot be written.
        """
        rows = self.features(tracks, kind, progress=progress, workers=workers)
        missing = np.full(kind.row_shape, np.nan, dtype=np.float32)
        table = [missing if row is None else np.asarray(row)[0] for row in rows]
        return np.array(table, dtype=np.float32).reshape(len(tracks), *kind.row_shape)

    def features(
        self, tracks: Sequence[Track], kind: Kind, *, progress: bool = True, workers: int = 2
    ) -> list[StoredArray | None]:
        """Give any kind of feature of each track, or `None` for one that failed.

        Raises
        ------
        CacheError
            A feature cannot be written.
        """
        folder = self.root / kind.folder_name()
        _write_settings(folder, kind)
        try:
            found, refused = derived(
                (track.path for track in tracks if track.path is not None),
                self._contents,
                partial(kind.read, folder),
                partial(_maker, folder, kind),
                kind.name,
                processes=workers,
                progress=progress,
            )
        except OSError as error:
            raise CacheError(f"{folder}: {error.strerror or error}") from error
        failures = []
        for track in dict.fromkeys(tracks):
            if track.path is None:
                failures.append(Failure(track, "no audio file is known"))
            elif track.path in refused:
                failures.append(Failure(track, refused[track.path]))
        self.failures = tuple(failures)
        return [None if track.path is None else found.get(track.path) for track in tracks]

    def contents(self, tracks: Iterable[Track]) -> dict[str, str]:
        """Give the hash of the audio of each track that features were computed of, by its id."""
        stamps: dict[str, Stamp] = {}
        for track in tracks:
            if track.path is not None:
                with suppress(OSError):  # it is gone by now
                    stamps[track.id] = Stamp.of(track.path)
        known = self._contents.known(stamps.values())
        return {id_: known[stamp] for id_, stamp in stamps.items() if stamp in known}

    def _sweep(self) -> None:
        """Remove what killed processes left half-written."""
        now = time.time()
        for path in chain.from_iterable(self.root.glob(pattern) for pattern in _DRAFTS):
            # Another process may be writing it, or removing it as well.
            try:
                if now - path.stat().st_mtime > _ABANDONED_AFTER:
                    path.unlink()
            except FileNotFoundError:
                continue


class Kind(ABC):
    """One kind of feature: what it depends on, what it looks like, and how it is computed.

    It is pickled where several processes compute.

    Attributes
    ----------
    name
        Begins the name of its folder, and is shown as the work goes on.
    dtype, row_shape
        Of the array: its rows have this shape, and there is any number of them.
    """

    name: str
    dtype: DTypeLike
    row_shape: tuple[int, ...]

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Give all that the numbers depend on, besides the audio."""

    @abstractmethod
    def rows(self, path: Path) -> Iterator[NDArray[np.float32]]:
        """Compute the feature of a file, in blocks of rows; may raise `AudioError`."""

    def folder_name(self) -> str:
        """Give the name of the folder, the same for the same settings alone."""
        digest = hashlib.blake2b(_canonical(self.settings()).encode(), digest_size=8)
        return f"{self.name}-{digest.hexdigest()}"

    def place(self, folder: Path, content: str) -> Path:
        """Give where the feature of some content lies."""
        return folder / content[:2] / f"{content}.npy"

    def read(self, folder: Path, content: str) -> StoredArray | None:
        """Open the feature of some content, or give None if it is not there or not whole."""
        try:
            return StoredArray(self.place(folder, content), self.dtype, self.row_shape)
        except (OSError, ValueError):
            return None

    def compute(self, folder: Path, path: Path, content: str) -> None:
        """Compute the feature of a file and write it under its content's name."""
        write_array(self.place(folder, content), self.rows(path), self.dtype, self.row_shape)


class _LogMels(Kind):
    name = "logmel"
    # Half the disk and the reading; its 11 bits resolve 0.03 dB at 60 dB.
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
    """The descriptors of a recording's middle, see `tonearm.features.descriptors.describe`."""

    name = "descriptors"
    dtype = np.float32

    def __init__(self) -> None:
        self.row_shape = (len(descriptor_names()),)

    def settings(self) -> dict[str, Any]:
        """Give all that the numbers depend on, besides the audio."""
        return {
            "version": CACHE_VERSION,
            "kind": self.name,
            "rate": DESCRIPTOR_RATE,
            "seconds": DESCRIBED_SECONDS,
            "from": "middle",
            "names": list(descriptor_names()),
        }

    def rows(self, path: Path) -> Iterator[NDArray[np.float32]]:
        """Describe a file; may raise `AudioError`."""
        yield describe(middle(path, DESCRIPTOR_RATE))[np.newaxis]


def middle(path: Path, rate: int) -> NDArray[np.float32]:
    """Read the middle `DESCRIBED_SECONDS` of a recording; may raise `AudioError`.

    A silent middle is described as it is: a classifier refuses what is silent from end to end.
    """
    start = described_from(audio.identify(path).duration or 0.0)  # as a classifier finds it
    samples = audio.read(path, rate, start, DESCRIBED_SECONDS).samples
    if len(samples) / rate < SHORTEST_SECONDS or _peak(samples) < SILENCE_PEAK:
        # Seldom so, which is why all of it is decoded for this alone.
        for _ in _audible(audio.blocks(path, rate), rate, path):
            pass
    return samples


def _audible(
    blocks: Iterable[NDArray[np.float32]], rate: int, path: Path
) -> Iterator[NDArray[np.float32]]:
    """Hand a recording on, and refuse it at its end if a classifier would: it has nothing to hear.

    Raises
    ------
    AudioError
        It is shorter than a genre can be told from, or silent.
    """
    samples, peak = 0, 0.0
    for block in blocks:
        samples += len(block)
        peak = max(peak, _peak(block))
        yield block
    refuse_inaudible(samples / rate, peak, str(path))


def _peak(samples: NDArray[np.float32]) -> float:
    return float(np.abs(samples).max(initial=0.0))


def _maker(folder: Path, kind: Kind) -> Callable[[Path, str], None]:
    return partial(kind.compute, folder)


def _write_settings(folder: Path, kind: Kind) -> None:
    """Leave a note for people of what the hash in the folder's name stands for."""
    note = folder / "settings.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not note.exists():
            with whole(note) as file:
                file.write(f"{_canonical(kind.settings())}\n".encode())
    except OSError as error:
        raise CacheError(f"{folder}: {error.strerror or error}") from error


def _canonical(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True, indent=1)
