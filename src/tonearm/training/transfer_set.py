"""The transfer set of a distillation: segments of music with the teachers' outputs, on disk.

A transfer set is what a student learns from in place of labels (Hinton et al. 2015). Running the
teachers takes a second per ten seconds of music, so each recording is processed once. Segments are
stored beside the features of `tonearm.datasets.cache`, under the same rules: they are named after
the content of their recording and all settings, and appear only when complete, so the work can be
interrupted and resumed at any time, and shared between processes.

    <root>/content.sqlite                           file -> hash of its content
    <root>/transfer-<hash of settings>/<2 digits>/<hash of content>.npy    log-mel frames
    <root>/transfer-<hash of settings>/<2 digits>/<hash of content>.npz    the teachers' outputs
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tonearm import audio
from tonearm.atomic import atomic_write
from tonearm.datasets.cache import CacheError
from tonearm.datasets.content import ContentIndex
from tonearm.datasets.derived import derived
from tonearm.datasets.storage import StoredArray, write_array
from tonearm.errors import FileError, reason_of
from tonearm.features.logmel import LogMel
from tonearm.inputs import check_audible
from tonearm.training import fcn, musicnn
from tonearm.training.recipe import TransferSettings
from tonearm.training.teachers import (
    STUDENT_FRONT_END,
    TEACHER_RATE,
    TeacherOutputs,
    load_teachers,
    teachers_fingerprint,
)

Floats = NDArray[np.float32]

# Increase it when a code change alters the numbers for the same audio and settings.
TRANSFER_VERSION = 1

_QUIETEST = 1e-3  # mean absolute sample value; a quieter segment counts as silent
_FIRST_SECOND = 1.0  # seconds skipped at the start of an unlabelled recording, often silence


@dataclass(frozen=True)
class TransferSegment:
    """A segment of music and the teachers' outputs for it.

    Attributes
    ----------
    recording
        Hash of the content of the file it is from.
    stored
        The log-mel frames of all segments of the recording.
    first
        Index of the segment's first frame in `stored`.
    length
        Number of its log-mel frames.
    outputs
        The teachers' outputs.
    """

    recording: str
    stored: StoredArray
    first: int
    length: int
    outputs: TeacherOutputs

    def logmel(self, start: int = 0, frames: int | None = None) -> Floats:
        """Read float32[frames, mels] from frame `start` on; past its end, the segment repeats."""
        frames = self.length - start if frames is None else frames
        held = min(frames, self.length - start)
        first = self.first + start
        stretch = np.asarray(self.stored[first : first + held], dtype=np.float32)
        if held == frames:
            return stretch
        own = np.asarray(self.stored[self.first : self.first + self.length], dtype=np.float32)
        repeated: Floats = np.take(own, start + np.arange(frames), axis=0, mode="wrap")
        return repeated


# Returns the start and length in seconds of each part of a recording that becomes a segment.
# Picklable, its `repr` is part of the stored segments' names, and it may raise `TonearmError`.
Plan = Callable[[Path], list[tuple[float, float]]]


@dataclass(frozen=True)
class WholeClip:
    """One segment: the beginning of the recording, up to `seconds`."""

    seconds: float

    def __call__(self, path: Path) -> list[tuple[float, float]]:
        """Return the one segment, which may extend past the end of the recording."""
        return [(0.0, self.seconds)]


@dataclass(frozen=True)
class EvenlySpaced:
    """Evenly spaced segments of equal length."""

    settings: TransferSettings

    def __call__(self, path: Path) -> list[tuple[float, float]]:
        """Return the segments; a recording that is too short has none."""
        settings = self.settings
        duration = audio.probe(path).duration
        if duration is None or duration < settings.shortest_seconds:
            return []
        duration = min(duration, settings.longest_seconds)
        count = min(settings.segments, int(duration / settings.spacing_seconds))
        # A margin, since headers round durations and a resampler ends a little early.
        last = duration - settings.segment_seconds - _FIRST_SECOND / 2
        starts = np.linspace(_FIRST_SECOND, max(_FIRST_SECOND, last), max(1, count))
        return [(float(start), settings.segment_seconds) for start in starts]


class TransferStore:
    """Segments of recordings, computed if missing and read from disk afterwards.

    A recording that cannot be decoded does not stop the others: it has no segments, and is listed
    in `refused`, which covers the last call only.

    Parameters
    ----------
    root
        Folder of the feature cache, which also holds the segments; created if missing.
    processes
        Number of processes that run the teachers; with 1, this process does.
    progress
        Whether to show a progress bar on standard error.
    """

    def __init__(self, root: Path, *, processes: int = 1, progress: bool = True) -> None:
        self.root = root
        self.processes = processes
        self.progress = progress
        self.refused: tuple[FileError, ...] = ()
        try:
            self._contents = ContentIndex(root / "content.sqlite")
        except OSError as error:
            raise CacheError(f"{root}: {reason_of(error)}") from error

    def of_clips(self, paths: Sequence[Path], seconds: float) -> list[TransferSegment | None]:
        """Return one segment per clip, from its start, or None for a clip without one.

        Raises
        ------
        CacheError
            If a segment cannot be written.
        MusicnnError, CheckpointError, FcnError, PretrainedError
            If a teacher's weights are missing or invalid.
        """
        segments = self._segments(paths, WholeClip(seconds), "segments of clips")
        return [found[0] if found else None for found in segments]

    def of_music(self, paths: Sequence[Path], settings: TransferSettings) -> list[TransferSegment]:
        """Return the segments of unlabelled recordings, each recording once even if listed twice.

        Their order depends only on the recordings' content. Raises the same errors as `of_clips`.
        """
        segments = self._segments(paths, EvenlySpaced(settings), "segments of music")
        distinct = {found[0].recording: found for found in segments if found}
        return [segment for _, found in sorted(distinct.items()) for segment in found]

    def _segments(
        self, paths: Sequence[Path], plan: Plan, what: str
    ) -> list[list[TransferSegment]]:
        folder = self.root / f"transfer-{_settings_hash(plan)}"
        # Several processes with several threads each would slow each other down.
        threads = 1 if self.processes > 1 else None
        try:
            found, refused = derived(
                paths,
                self._contents,
                partial(_read, folder),
                partial(_maker, folder, plan, threads),
                what,
                processes=self.processes,
                progress=self.progress,
            )
        except OSError as error:
            raise CacheError(f"{folder}: {reason_of(error)}") from error
        self.refused = tuple(FileError(path, reason) for path, reason in refused.items())
        return [found.get(path, []) for path in paths]


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Return a short hash of settings that JSON can express, whatever their order."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def transfer_digest(segments: Iterable[TransferSegment]) -> str:
    """Return a hash that changes with the recordings, or with any of the teachers' outputs."""
    digest = hashlib.blake2b(digest_size=16)
    for segment in segments:
        digest.update(f"{segment.recording} {segment.first} {segment.length} ".encode())
        for array in segment.outputs:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _maker(folder: Path, plan: Plan, threads: int | None) -> Callable[[Path, str], None]:
    """Return the function that computes and stores the segments of one recording."""
    if threads is not None:
        torch.set_num_threads(threads)
    teachers = load_teachers()
    logmel = LogMel(STUDENT_FRONT_END)

    def segments(path: Path) -> Iterator[tuple[Floats, TeacherOutputs]]:
        for start, seconds in plan(path):
            student_samples = audio.read(
                path, STUDENT_FRONT_END.sample_rate, start, seconds
            ).samples
            teacher_samples = audio.read(path, TEACHER_RATE, start, seconds).samples
            # Too short a piece would have no features to train on. Silence is only skipped, below.
            check_audible(len(student_samples) / STUDENT_FRONT_END.sample_rate, np.inf, str(path))
            if np.abs(teacher_samples).mean() >= _QUIETEST:
                frames = logmel(student_samples)
                yield frames, teachers(teacher_samples, frames)

    def make(path: Path, content: str) -> None:
        _write(folder, content, list(segments(path)))

    return make


def _write(folder: Path, content: str, segments: list[tuple[Floats, TeacherOutputs]]) -> None:
    """Store a recording's segments; the teachers' outputs, stored last, mark them complete."""
    path = _path(folder, content)
    rows = (STUDENT_FRONT_END.n_mels,)
    write_array(path.with_suffix(".npy"), (frames for frames, _ in segments), np.float16, rows)
    arrays: dict[str, NDArray[Any]] = {
        "lengths": np.array([len(frames) for frames, _ in segments], dtype=np.int64)
    }
    for number, (_, outputs) in enumerate(segments):
        arrays |= {f"{name}.{number}": array for name, array in outputs._asdict().items()}
    with atomic_write(path.with_suffix(".npz")) as file:
        np.savez(file, allow_pickle=False, **arrays)


def _read(folder: Path, content: str) -> list[TransferSegment] | None:
    """Read the segments of a recording, or return None if they are missing or incomplete."""
    path = _path(folder, content)
    segments = []
    first = 0
    try:
        stored = StoredArray(path.with_suffix(".npy"), np.float16, (STUDENT_FRONT_END.n_mels,))
        with np.load(path.with_suffix(".npz")) as arrays:
            for number, length in enumerate(arrays["lengths"].tolist()):
                outputs = TeacherOutputs(
                    *(arrays[f"{name}.{number}"] for name in TeacherOutputs._fields)
                )
                segments.append(TransferSegment(content, stored, first, length, outputs))
                first += length
    except Exception:  # a damaged file fails in many ways
        return None
    return segments


def _path(folder: Path, content: str) -> Path:
    return folder / content[:2] / content


def _settings_hash(plan: Plan) -> str:
    settings = {
        "version": TRANSFER_VERSION,
        "plan": repr(plan),
        "teachers": teachers_fingerprint(),
        "front_ends": [
            STUDENT_FRONT_END.to_dict(),
            musicnn.FRONT_END.to_dict(),
            fcn.FRONT_END.to_dict(),
        ],
    }
    return settings_digest(settings)
