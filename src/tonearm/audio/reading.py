"""Read a file, a window of it, or samples in memory at a requested rate."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import av
import numpy as np
from numpy.typing import ArrayLike

from tonearm.audio.container import HIGHEST_RATE, LOWEST_RATE, AudioInfo, OpenFile
from tonearm.audio.errors import AudioError, TooShort, Undecodable
from tonearm.audio.samples import FIFO_SAMPLES, Samples, at_most, downmixed, in_blocks, resampled
from tonearm.audio.source import Source
from tonearm.errors import UsageError
from tonearm.interrupts import interrupts_deferred
from tonearm.mono import checked_mono

# To be correct somewhere, a decoder needs what precedes it (bit reservoir, overlap, prediction).
PREROLL = 1.0  # seconds decoded before `start` and thrown away

SEEK_TOLERANCE = 0.05  # seconds a seek may land late; if later, decoding starts at the beginning


@dataclass(frozen=True, eq=False, slots=True)
class Recording:
    """A piece of sound in memory.

    Attributes
    ----------
    samples : float32[n]
        Mono; full scale is ±1.
    rate : int
        Samples per second.
    truncated : bool
        Whether the file breaks off or is damaged within what was read.
    """

    samples: Samples
    rate: int
    truncated: bool = False

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.rate


def read(
    path: Source,
    rate: int,
    start: float = 0.0,
    duration: float | None = None,
    *,
    time_limit: float | None = None,
) -> Recording:
    """Read a file, or a window of it, into memory; parameters and errors as in `stream`."""
    with stream(path, rate, start, duration, time_limit=time_limit) as sound:
        samples = np.concatenate(list(sound))
        return Recording(samples, rate, sound.truncated)


def blocks(
    path: Source,
    rate: int,
    start: float = 0.0,
    duration: float | None = None,
    *,
    block_seconds: float = 10.0,
    time_limit: float | None = None,
) -> Iterator[Samples]:
    """Yield a file's samples block by block.

    Parameters and errors are those of `stream`, but all errors are raised while iterating.
    """
    with stream(
        path, rate, start, duration, block_seconds=block_seconds, time_limit=time_limit
    ) as sound:
        yield from sound


def stream(
    path: Source,
    rate: int,
    start: float = 0.0,
    duration: float | None = None,
    *,
    block_seconds: float = 10.0,
    time_limit: float | None = None,
) -> AudioStream:
    """Open a file to be read block by block.

    Parameters
    ----------
    path : str, path-like or binary file
        Any file FFmpeg can read; of a video, the sound is read. A file that is already open
        (``io.BytesIO(data)``) is read from its beginning and left open.
    rate : int
        Requested samples per second.
    start : float, default 0
        Seconds to skip at the beginning. If the format supports seeking, they are not decoded, and
        the position is accurate to 50 ms.
    duration : float, optional
        Seconds to read; by default, all. There are fewer if the file ends earlier.
    block_seconds : float, default 10
        Length of a block; only the last one is shorter.
    time_limit : float, optional
        Seconds that may be spent reading and decoding (time between two blocks does not count);
        by default a minute, plus a second for each megabyte of the file.

    Raises
    ------
    NotAudio
        Immediately, if there is no audio.
    Undecodable
        Immediately, if FFmpeg has no decoder for it; while iterating, if nothing could be decoded.
    TooShort
        While iterating, if there is nothing within the window.
    ReadFailed, TimedOut
        Immediately or while iterating. An exception of an open file's own, other than an `OSError`,
        is raised as it is.
    UsageError
        If a parameter is out of range, or `path` is neither a path nor a binary file that can be
        sought in.
    """
    return AudioStream(path, rate, start, duration, block_seconds, time_limit)


def resample(samples: ArrayLike, rate: int, new_rate: int) -> Iterator[Samples]:
    """Yield samples in memory at another rate, in pieces, resampled in the same way as a file.

    Parameters
    ----------
    samples : float[n]
        Mono.
    rate, new_rate : int
        Samples per second before and after.

    Raises
    ------
    UsageError
        If a rate is out of range, or the samples are not mono or are integers.
    """
    signal = checked_mono(samples)
    rate, new_rate = checked_rate("rate", rate), checked_rate("new_rate", new_rate)
    pieces = (
        # Contiguous, which a column is not; and a copy, because at equal rates it is passed on.
        np.array(signal[i : i + FIFO_SAMPLES], np.float32, order="C")
        for i in range(0, len(signal), FIFO_SAMPLES)
    )
    return resampled(((piece, rate) for piece in pieces), new_rate)


def checked_rate(name: str, rate: float) -> int:
    """Return a sample rate as an integer in Hz, or raise `UsageError` if it is not a valid one."""
    is_number = isinstance(rate, int | float | np.number)
    fine = is_number and LOWEST_RATE <= rate <= HIGHEST_RATE and rate == int(rate)
    _check(fine, name, repr(rate), f"a whole number from {LOWEST_RATE} to {HIGHEST_RATE} Hz")
    return int(rate)


class AudioStream:
    """The blocks of one file, which can be iterated once; made by `stream`.

    Attributes
    ----------
    info : AudioInfo
        What the header says.
    rate : int
        Samples per second of the blocks.
    seconds : float
        Seconds delivered so far.
    truncated : bool
        Whether the file is damaged within what was delivered, or ends before the length its header
        announces; final once the iteration has ended.
    """

    def __init__(
        self,
        path: Source,
        rate: int,
        start: float,
        duration: float | None,
        block_seconds: float,
        time_limit: float | None,
    ) -> None:
        rate = checked_rate("rate", rate)
        _check(0 <= start < np.inf, "start", start, "0 s or more")
        _check(duration is None or 0 < duration < np.inf, "duration", duration, "more than 0 s")
        _check(0 < block_seconds < np.inf, "block_seconds", block_seconds, "more than 0 s")
        self.rate = rate
        self.seconds: float = 0.0
        self.truncated: bool = False
        self._start = start
        self._max_samples = None if duration is None else max(1, round(duration * rate))
        self._file = OpenFile(path, time_limit)
        self.info: AudioInfo = self._file.info
        self._blocks = self._read_blocks(max(1, round(block_seconds * rate)))

    def __iter__(self) -> Iterator[Samples]:
        return self

    def __next__(self) -> Samples:
        with interrupts_deferred(), self._file.clock:
            return next(self._blocks)

    def __enter__(self) -> AudioStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file (unless it was passed in open); iteration then ends immediately."""
        self._blocks.close()
        self._file.close()

    def _read_blocks(self, block: int) -> Generator[Samples]:
        delivered = 0
        with contextlib.closing(self._file):
            decoder = _Decoder(self._file, self._start)
            sound = at_most(resampled(decoder.pieces(), self.rate), self._max_samples)
            for samples in in_blocks(sound, block):
                delivered += len(samples)
                self.seconds = delivered / self.rate
                self.truncated = self._file.damaged
                yield samples
            if self._max_samples is None or delivered < self._max_samples:
                self.truncated = self._file.damaged or self._file.breaks_off(decoder.end)
        if not delivered:
            raise self._no_samples_error(decoder.end)

    def _no_samples_error(self, end: float) -> AudioError:
        codec, announced = self.info.codec, self.info.duration
        if end > 0 and self._start > 0:
            reason = f"ends at {end:.2f} s, and was asked for from {self._start:g} s on"
            return TooShort(self._file.path, reason)
        if end > 0:
            return TooShort(self._file.path, f"lasts only {1000 * end:.2g} ms")
        if self._file.last_error:
            reason = f"its {codec} audio does not decode ({self._file.last_error})"
        elif announced:
            reason = f"holds nothing of the {announced:.2f} s of {codec} audio its header announces"
        else:
            reason = f"its {codec} stream holds no samples"
        return Undecodable(self._file.path, reason)


class _Decoder:
    """Finds the starting point in a file, and tracks the position of the decoder.

    Attributes
    ----------
    end : float
        End of the sound decoded so far, in seconds from the beginning of the file.
    """

    def __init__(self, file: OpenFile, start: float) -> None:
        self.end = 0.0
        self._file = file
        self._start = start

    def pieces(self) -> Iterator[tuple[Samples, int]]:
        """Yield mono pieces from the start on, each with its sample rate."""
        skip: int | None = None
        for samples, rate in downmixed(self._frames_near_start()):
            if skip is None:
                skip = max(0, round((self._start - self.end) * rate))
            self.end += len(samples) / rate
            if skip < len(samples):
                yield samples[skip:], rate
            skip = max(0, skip - len(samples))

    def _frames_near_start(self) -> Iterator[av.AudioFrame]:
        if self._start <= PREROLL:
            return self._file.frames()
        if self._file.seek(self._start - PREROLL):
            frames = self._file.frames()
            first = next(frames, None)
            if first is not None and first.time is not None:
                position = first.time - self._file.origin
                if position <= self._start + SEEK_TOLERANCE:
                    self.end = position
                    return itertools.chain((first,), frames)
        # The seek failed or went too far: decode from the beginning. A seek that fails in a damaged
        # file may have moved to its end.
        self._file.reopen()
        return self._file.frames()


def _check(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise UsageError(f"{name} must be {expected}, not {value}")
