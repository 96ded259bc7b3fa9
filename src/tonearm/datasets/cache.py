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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tonearm import audio, workers
from tonearm.datasets.content import ContentIndex, Stamp, content_hash
from tonearm.datasets.progress import shown
from tonearm.datasets.storage import TEMPORARY_SUFFIX, StoredArray, write_array
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
from tonearm.whole import whole

# Raise it when a change of the code changes the numbers for the same audio and settings.
CACHE_VERSION = 1

_ABANDONED_AFTER = 24 * 3600.0  # seconds after which a half-written file has no writer any more


class CacheError(TonearmError):
    """The cache itself failed (a full disk, a folder without write permission)."""


@dataclass(frozen=True)
class Failure:
    """A track that has no features, and the reason in one line."""

    track: Track
    reason: str


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
        found: dict[Track, StoredArray] = {}
        reasons: dict[Track, str] = {}
        tasks: list[_Task] = []
        stamps = {track: _stamp(track) for track in dict.fromkeys(tracks)}
        known = self._contents.known(s for s in stamps.values() if isinstance(s, Stamp))
        for track, stamp in stamps.items():
            if isinstance(stamp, _Refused):
                reasons[track] = stamp.reason
            elif stamp in known and kind.has(folder, known[stamp]):
                found[track] = kind.open(folder, known[stamp])
            else:
                tasks.append(_Task(track, stamp, known.get(stamp)))

        for task, result in zip(
            tasks,
            shown(
                _computed(partial(_worker, folder, kind), tasks, workers),
                len(tasks),
                kind.name,
                show=progress and bool(tasks),
            ),
            strict=True,
        ):
            if isinstance(result, OSError):
                raise CacheError(f"{folder}: {result.strerror or result}")
            if isinstance(result, _Refused):
                reasons[task.track] = result.reason
            else:
                self._contents.record(task.stamp, result)
                found[task.track] = kind.open(folder, result)
        self.failures = tuple(Failure(track, reason) for track, reason in reasons.items())
        return [found.get(track) for track in tracks]

    def _sweep(self) -> None:
        """Remove what killed processes left half-written."""
        now = time.time()
        for path in self.root.glob(f"*/*/*{TEMPORARY_SUFFIX}"):
            # Another process may be writing it, or removing it as well.
            try:
                if now - path.stat().st_mtime > _ABANDONED_AFTER:
                    path.unlink()
            except FileNotFoundError:
                continue


@dataclass(frozen=True)
class _Task:
    """A track to compute; `content` is its hash where that is known already."""

    track: Track
    stamp: Stamp
    content: str | None


@dataclass(frozen=True)
class _Refused:
    """Why a track has no features, in one line."""

    reason: str


# The hash of the track's content, or why there is none; an OSError is the cache's own.
_Result = str | _Refused | OSError


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

    def open(self, folder: Path, content: str) -> StoredArray:
        """Open the feature of some content; raises as `StoredArray` does."""
        return StoredArray(self.place(folder, content), self.dtype, self.row_shape)

    def has(self, folder: Path, content: str) -> bool:
        """Whether the feature is there and whole."""
        try:
            self.open(folder, content)
        except (OSError, ValueError):
            return False
        return True

    def compute(self, folder: Path, content: str, path: Path) -> None:
        """Compute the feature of a file and write it."""
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
            yield from LogMel(self.config).stream(stream)


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
        length = audio.probe(path).duration or 0.0
        recording = audio.read(path, DESCRIPTOR_RATE, described_from(length), DESCRIBED_SECONDS)
        yield describe(recording.samples, DESCRIPTOR_RATE)[np.newaxis]


def _computed(
    prepare: Callable[[], Callable[[_Task], _Result]], tasks: Sequence[_Task], processes: int
) -> Iterator[_Result]:
    """Yield a result for every task, in order; a process that dies refuses its task alone."""
    if processes <= 1:
        yield from map(prepare(), tasks)
        return
    for result in workers.in_order(prepare, tasks, min(processes, len(tasks))):
        if isinstance(result, workers.Crash):
            path = result.item.track.path
            yield _Refused(f"{path}: decoding it ended the process (exit {result.exit_code})")
        else:
            yield result


def _worker(folder: Path, kind: Kind) -> Callable[[_Task], _Result]:
    """Give the function that computes the feature of one track; it never raises."""

    def work(task: _Task) -> _Result:
        path = Path(task.stamp.path)
        try:
            content = task.content or content_hash(path)
        except OSError as error:
            return _Refused(f"{path}: {error.strerror or error}")
        try:
            # Another track, or another process, may have brought the same content.
            if not kind.has(folder, content):
                kind.compute(folder, content, path)
        except TonearmError as error:
            return _Refused(str(error))
        except OSError as error:
            return error
        return content

    return work


def _stamp(track: Track) -> Stamp | _Refused:
    if track.path is None:
        return _Refused(f"{track.id}: no audio file is known")
    try:
        return Stamp.of(track.path)
    except OSError as error:
        return _Refused(f"{track.path}: {error.strerror or error}")


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
