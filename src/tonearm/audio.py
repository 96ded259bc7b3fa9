"""Hearing: turns an audio file of any format into mono samples at the rate one asks for.

FFmpeg (through PyAV, which carries it) opens and decodes; the channels are averaged; FFmpeg's
libswresample changes the rate. Everything streams: a file of three hours needs no more memory than
a song, unless `read` is asked for all of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
import stat
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

from tonearm.errors import TonearmError, UsageError
from tonearm.text import printable

Samples = NDArray[np.float32]
Source = str | os.PathLike[str] | BinaryIO

# Sample rates outside these are damage or a prank: DSD reads as 352.8 kHz, telephones as 8 kHz.
LOWEST_RATE, HIGHEST_RATE = 1_000, 1_000_000  # Hz

# Frames are gathered to this many samples before anything is computed: a frame is about 1000
# samples, and resampling frame by frame in Python costs as much as decoding. Larger blocks gain
# nothing and leave the processor's cache.
GATHERED = 32_768  # samples per channel

# Samples of float files louder than this are no sound but damage (or NaN), and become silence.
LOUDEST = 1e6  # full scale is 1

# A decoder needs what comes before a place to be right there (bit reservoir, overlap, prediction).
PREROLL = 1.0  # seconds decoded before `start` and thrown away
SEEK_TOLERANCE = 0.05  # seconds a seek may land late before the whole file is decoded instead
SEEKS_ASTRAY = ("wmav1", "wmav2", "wmapro", "wmavoice")  # packets share frames: 0.1 s off after it

# A file shorter than its header says by more than both of these breaks off.
SHORTFALL_SECONDS, SHORTFALL_SHARE = 0.25, 0.02

# Default time limit: three hours of MP3 take some 15 s on one core, a hanging file must not take
# the day. Only time spent reading and decoding counts.
LIMIT_SECONDS, LIMIT_SECONDS_PER_MEGABYTE = 60.0, 1.0

OGG_PAGE = 65_536  # bytes, no page is longer
RIFF_UNKNOWN = 0x7FFF_0000  # bytes; sizes from here on are no sizes

DIGEST_LENGTH = 32  # of SHA-256's 64 digits: no two of 10^12 recordings will share them

MAX_READ_FAILURES = 16  # in a row, before the rest of the file is given up

# What PyAV raises on damaged data: FFmpeg's own errors, and those of its Python side where a header
# claims the impossible (an unknown channel layout, a size beyond C's integers, a stream that turns
# up midway).
DECODER_ERRORS = (av.error.FFmpegError, ValueError, OverflowError, MemoryError, IndexError)

# FFmpeg's sample formats, packed or planar, as NumPy reads them, and what full scale is there.
SAMPLE_FORMATS: dict[str, tuple[type[np.generic], float]] = {
    "u8": (np.uint8, 2.0**7),
    "s16": (np.int16, 2.0**15),
    "s32": (np.int32, 2.0**31),
    "s64": (np.int64, 2.0**63),
    "flt": (np.float32, 1.0),
    "dbl": (np.float64, 1.0),
}


class AudioError(TonearmError):
    """A file could not be heard; the text is ``<path>: <reason>``, one line.

    Attributes
    ----------
    path : str
        The path as given (undecodable bytes as surrogates, as `os.fsdecode` has them); of an open
        file its name, or "<file>".
    reason : str
        Why, in a few words.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)  # both, so that the error survives pickling
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{printable(self.path)}: {self.reason}"


class NotAudio(AudioError):
    """There is no audio: no such file, no media file, or none with an audio stream."""


class Undecodable(AudioError):
    """There is an audio stream, but nothing of it can be decoded."""


class TooShort(AudioError):
    """The file decodes, but ends before the part that was asked for."""


class TimedOut(AudioError):
    """The time limit for one file passed."""


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What the header of a file says; none of it is checked against the sound.

    Attributes
    ----------
    container, codec : str
        FFmpeg's names, such as ``"mov,mp4,m4a,3gp,3g2,mj2"`` and ``"aac"``.
    sample_rate : int
        Hz; 0 where the header does not say.
    channels : int
        0 where the header does not say.
    duration : float or None
        Seconds; an estimate for formats that do not store it, None where there is none.
    """

    container: str
    codec: str
    sample_rate: int
    channels: int
    duration: float | None


@dataclass(frozen=True, slots=True)
class Identity:
    """What sound a file holds, whatever its name and its tags.

    Attributes
    ----------
    digest : str
        32 hexadecimal digits, a hash of the compressed packets: equal for copies and retagged
        files, different for the same music encoded twice.
    duration : float or None
        Seconds: the header's word, or where that is none or a guess, the packets' own.
    truncated : bool
        Whether the file breaks off before its end.
    """

    digest: str
    duration: float | None
    truncated: bool


@dataclass(frozen=True, slots=True)
class Recording:
    """A piece of sound in memory.

    Attributes
    ----------
    samples : float32[n]
        Mono, full scale is ±1.
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
        """Seconds."""
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
    """Yield a file's samples block by block; parameters and errors as in `stream`."""
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
    """Open a file to be heard block by block.

    Parameters
    ----------
    path : str, path-like or binary file
        Any file FFmpeg can read; of a video, the sound is heard. A file that is open already
        (``io.BytesIO(data)``) is read from its beginning and left open.
    rate : int
        Samples per second wanted.
    start : float, default 0
        Seconds to leave out at the beginning. Where the format can seek, what comes before is not
        decoded; the place is right to 50 ms.
    duration : float, optional
        Seconds wanted, by default all. Fewer come if the file ends before.
    block_seconds : float, default 10
        Length of a block; only the last one is shorter.
    time_limit : float, optional
        Seconds that may be spent reading and decoding (the time between two blocks does not
        count); by default a minute and a second more for each megabyte of the file.

    Raises
    ------
    NotAudio
        At once, if there is nothing to hear.
    Undecodable, TooShort
        While iterating, if nothing could be decoded, or nothing lies in the window.
    TimedOut
        At once or while iterating.
    UsageError
        If a parameter is out of range.
    """
    return AudioStream(path, rate, start, duration, block_seconds, time_limit)


def size_of(path: str | os.PathLike[str]) -> int:
    """Return how many bytes a file has, if it is one that may be opened.

    Raises
    ------
    NotAudio
        If it is not there, empty, a folder, or a pipe or a device, which could go on for ever.
    """
    name = os.fsdecode(path)
    try:
        status = os.stat(name)  # noqa: PTH116 (a Path makes "" the current folder)
    except (OSError, ValueError) as error:
        raise NotAudio(name, _reason(error)) from None
    if stat.S_ISDIR(status.st_mode):
        raise NotAudio(name, "is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise NotAudio(name, "is not a regular file")
    if not status.st_size:
        raise NotAudio(name, "is empty")
    return status.st_size


def probe(path: Source, *, time_limit: float | None = None) -> AudioInfo:
    """Read what a file's header says of its sound, without decoding it.

    Raises
    ------
    NotAudio, Undecodable, TimedOut
        As `stream` does.
    """
    with contextlib.closing(_OpenFile(path, time_limit)) as file:
        return file.info


def identify(path: Source, *, time_limit: float | None = None) -> Identity:
    """Tell a file's sound from all others, without decoding it.

    All its packets are read: that takes about a fifth of the time of decoding them.

    Raises
    ------
    NotAudio, Undecodable, TimedOut
        As `stream` does.
    """
    with contextlib.closing(_OpenFile(path, time_limit)) as file, file.clock:
        info = file.info
        # The same numbers at another rate are another sound; all else a decoder needs is in the
        # packets, or cannot change while they stay the same.
        sound = hashlib.sha256(f"{info.codec} {info.sample_rate} {info.channels}\n".encode())
        end = file.hash_packets(sound.update)
        return Identity(
            digest=sound.hexdigest()[:DIGEST_LENGTH],
            duration=file.length(end),
            truncated=file.breaks_off(end),
        )


def resample(samples: Samples, rate: int, new_rate: int) -> Iterator[Samples]:
    """Yield samples in memory at another rate, in pieces, by the same means as a file's.

    Parameters
    ----------
    samples : float32[n]
        Mono.
    rate, new_rate : int
        Samples per second as they are, and as they are wanted.

    Raises
    ------
    UsageError
        If a rate is out of range.
    """
    rate, new_rate = checked_rate("rate", rate), checked_rate("new_rate", new_rate)
    pieces = (
        np.ascontiguousarray(samples[i : i + GATHERED], np.float32)  # a column, or backwards
        for i in range(0, len(samples), GATHERED)
    )
    return _resample(((piece, rate) for piece in pieces), new_rate)


def checked_rate(name: str, rate: float) -> int:
    """Return a sample rate as a whole number of Hz; raises `UsageError` if it cannot be one."""
    is_number = isinstance(rate, int | float | np.number)
    fine = is_number and LOWEST_RATE <= rate <= HIGHEST_RATE and rate == int(rate)
    _check(fine, name, repr(rate), "a whole number from 1000 to 1000000 Hz")
    return int(rate)


class AudioStream:
    """The blocks of one file, to be iterated once; made by `stream`.

    Attributes
    ----------
    info : AudioInfo
        What the header says.
    rate : int
        Samples per second of the blocks.
    seconds : float
        Delivered so far.
    truncated : bool
        Known at the end: whether the file is damaged within what was delivered, or breaks off
        before the length its header announces.
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
        _check(time_limit is None or time_limit > 0, "time_limit", time_limit, "more than 0 s")
        self.rate = rate
        self.seconds = 0.0
        self.truncated = False
        self._start = start
        self._wanted = None if duration is None else max(1, round(duration * rate))
        self._file = _OpenFile(path, time_limit)
        self.info = self._file.info
        self._blocks = self._deliver(max(1, round(block_seconds * rate)))

    def __iter__(self) -> Iterator[Samples]:
        return self

    def __next__(self) -> Samples:
        with self._file.clock:
            return next(self._blocks)

    def __enter__(self) -> AudioStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; iterating after this ends at once."""
        self._blocks.close()
        self._file.close()

    def _deliver(self, block: int) -> Generator[Samples]:
        delivered = 0
        with contextlib.closing(self._file):
            place = _Place(self._file, self._start)
            sound = _at_most(_resample(place.sound(), self.rate), self._wanted)
            for samples in _in_blocks(sound, block):
                delivered += len(samples)
                self.seconds = delivered / self.rate
                self.truncated = self._file.damaged
                yield samples
            if self._wanted is None or delivered < self._wanted:
                self.truncated = self._file.damaged or self._file.breaks_off(place.end)
        if not delivered:
            raise self._nothing(place.end)

    def _nothing(self, end: float) -> AudioError:
        codec, announced = self.info.codec, self.info.duration
        if end > 0 and self._start > 0:
            reason = f"ends at {end:.2f} s, and was asked for from {self._start:g} s on"
            return TooShort(self._file.path, reason)
        if end > 0:
            return TooShort(self._file.path, f"lasts only {1000 * end:.2g} ms")
        if self._file.complaint:
            reason = f"its {codec} audio does not decode ({self._file.complaint})"
        elif announced:
            reason = f"holds nothing of the {announced:.2f} s of {codec} audio its header announces"
        else:
            reason = f"its {codec} stream holds no samples"
        return Undecodable(self._file.path, reason)


def name_of(source: Source) -> str:
    """Return what errors call a file."""
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "<file>"


def _check(fine: bool, name: str, value: object, expected: str) -> None:
    if not fine:
        raise UsageError(f"{name} must be {expected}, not {value}")


class _Clock:
    """Counts the time spent inside its `with` blocks against a limit."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._left = limit
        self._deadline = np.inf

    def __enter__(self) -> _Clock:
        self._deadline = time.monotonic() + self._left
        return self

    def __exit__(self, *_: object) -> None:
        self._left = self._deadline - time.monotonic()

    @property
    def passed(self) -> bool:
        return time.monotonic() > self._deadline


class _Source:
    """An open file that ends when its time is up, or where the disk fails.

    FFmpeg gets its bytes only from here. So any name will do (a path with a colon is no address),
    and a demuxer that reads round in circles meets an end. Nothing is raised into FFmpeg: PyAV
    would print what it cannot pass on.
    """

    def __init__(self, file: BinaryIO | io.FileIO, name: str, clock: _Clock) -> None:
        self.name = name  # its suffix helps FFmpeg to tell formats apart
        self._file = file
        self._clock = clock
        self.failed = False

    def read(self, size: int = -1, /) -> bytes:
        if self._clock.passed:
            return b""
        try:
            return self._file.read(size) or b""
        except Exception:  # of the disk, or whatever the file is made of
            self.failed = True
            return b""

    def seek(self, position: int, whence: int = os.SEEK_SET, /) -> int:
        try:
            return self._file.seek(position, whence)
        except Exception:
            return -1  # a damaged header led to a place before the file: FFmpeg takes this as no

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


class _OpenFile:
    """A file with its audio stream open, the packets of it, and what was found wrong on the way."""

    def __init__(self, source: Source, time_limit: float | None) -> None:
        self.path = name_of(source)
        self._borrowed = None if isinstance(source, str | os.PathLike) else source
        size = size_of(self.path) if self._borrowed is None else _size_within(self._borrowed)
        self.clock = _Clock(
            time_limit or LIMIT_SECONDS + LIMIT_SECONDS_PER_MEGABYTE * size / 1_000_000
        )
        self.size = size
        with self.clock:
            self._open()
        self.info = self._info()

    def reopen(self) -> None:
        """Go back to the beginning, as if nothing had been read."""
        self.close()
        self._open()

    def close(self) -> None:
        self._container.close()
        self._close_file()

    def _close_file(self) -> None:
        if self._borrowed is None:
            self._file.close()

    @property
    def origin(self) -> float:
        """The time stamp of the first sample, in seconds."""
        return float((self._stream.start_time or 0) * (self._stream.time_base or 0))

    def seek(self, seconds: float) -> bool:
        """Go to a place at or before `seconds`; False if the format cannot."""
        if not self._stream.time_base or self.info.codec in SEEKS_ASTRAY:
            return False
        stamp = int((seconds + self.origin) / self._stream.time_base)
        try:
            self._container.seek(stamp, stream=self._stream)
        except DECODER_ERRORS:
            return False
        return True

    def frames(self) -> Iterator[av.AudioFrame]:
        """Decode on from here, over damaged packets.

        An error counts as damage only if sound came before it and comes after it: junk at either
        end (tags, a packet cut off at the start of a stream) is the habit of many good files.
        """
        decoded = failed = False
        for packet in self._packets():
            frames: list[av.AudioFrame] = []
            try:
                frames = packet.decode()
            except DECODER_ERRORS as error:
                self.complaint = _reason(error)
                failed = True
            if frames and not LOWEST_RATE <= frames[0].sample_rate <= HIGHEST_RATE:
                self.complaint = f"a sample rate of {frames[0].sample_rate} Hz"
                failed = True
            elif frames:
                self.damaged |= decoded and failed
                decoded, failed = True, False
                yield from frames

    def hash_packets(self, update: Callable[[av.Packet[av.AudioStream]], object]) -> float:
        """Feed every packet to a hash; return where the last one ends, in seconds of the file."""
        end = total = 0
        for packet in self._packets():
            if packet.size:
                update(packet)
                length = packet.duration or 0
                total += length
                end = max(end, (packet.pts or 0) + length)
        base = float(self._stream.time_base or 0)
        return max(end * base - self.origin, total * base)

    def length(self, end: float) -> float | None:
        """The file's length in seconds, if its last packet ends at `end`."""
        announced = self.info.duration
        if announced is None or self._estimated(announced):
            return end or announced
        return announced

    def breaks_off(self, end: float) -> bool:
        """Whether a file whose sound ended at `end` seconds should have gone on."""
        if self._source.failed or self._cut_packet:
            return True
        if self.info.container == "ogg" and self._ogg_page_cut():
            return True
        if self.info.container == "wav" and self._riff_cut():
            return True
        announced = self.info.duration
        if announced is None or self._estimated(announced):
            return False
        return announced - end > max(SHORTFALL_SECONDS, SHORTFALL_SHARE * announced)

    def _open(self) -> None:
        self.damaged = False
        self.complaint = ""
        self._cut_packet = False
        self._first_byte: int | None = None
        try:
            self._file = io.FileIO(self.path) if self._borrowed is None else self._borrowed
            self._file.seek(0)
        except OSError as error:
            raise NotAudio(self.path, _reason(error)) from None
        self._source = _Source(self._file, self.path, self.clock)
        try:
            self._container = av.open(
                self._source,
                mode="r",
                metadata_errors="replace",
                container_options={"protocol_whitelist": "none"},  # a playlist opens no other file
                timeout=self.clock.limit,
            )
        except DECODER_ERRORS as error:
            self._close_file()
            self._check_time()
            if isinstance(error, av.error.InvalidDataError | av.error.EOFError):
                unknown = "is not a media file, or damaged beyond recognition"
                raise NotAudio(self.path, unknown) from None
            raise NotAudio(self.path, _reason(error)) from None
        try:
            self._check_time()
            self._stream = self._choose_stream()
        except AudioError:
            self.close()
            raise
        self._stream.codec_context.thread_count = 1
        for other in self._container.streams:
            if other is not self._stream:
                other.discard = av.stream.Discard.all

    def _choose_stream(self) -> av.AudioStream:
        streams = self._container.streams
        if not streams.audio:
            others = ", ".join(sorted({other.type for other in streams}))
            raise NotAudio(
                self.path, f"holds no audio, only {others}" if others else "holds no audio"
            )
        best = streams.best("audio")
        for candidate in (best, *streams.audio):
            if isinstance(candidate, av.AudioStream) and candidate.codec_context is not None:
                return candidate
        raise Undecodable(self.path, "FFmpeg has no decoder for its audio")

    def _info(self) -> AudioInfo:
        stream, context = self._stream, self._stream.codec_context
        duration = None
        if stream.duration and stream.time_base:
            duration = float(stream.duration * stream.time_base)
        elif self._container.duration:
            duration = self._container.duration / av.time_base
        return AudioInfo(
            container=self._container.format.name,
            codec=context.codec.canonical_name,
            sample_rate=context.sample_rate,
            channels=context.layout.nb_channels,
            duration=duration if duration and duration > 0 else None,
        )

    def _packets(self) -> Iterator[av.Packet[av.AudioStream]]:
        failures = 0
        while failures < MAX_READ_FAILURES:
            try:
                for packet in self._container.demux(self._stream):
                    self._check_time()
                    failures = 0
                    self._cut_packet = packet.is_corrupt
                    if self._first_byte is None:
                        self._first_byte = packet.pos
                    yield packet
                break
            except DECODER_ERRORS as error:
                self.complaint = _reason(error)
                self._cut_packet = True
                failures += 1
        self._check_time()

    def _check_time(self) -> None:
        if self.clock.passed:
            raise TimedOut(self.path, f"took longer than the limit of {self.clock.limit:g} s")

    def _estimated(self, duration: float) -> bool:
        """Whether FFmpeg guessed the duration from the size of the file.

        It does so where the format does not store it (ADTS, MP3 without a Xing header), from the
        bit rate of the first frames: no evidence of anything.
        """
        rate = self._stream.codec_context.bit_rate
        if not rate:
            return False
        guess = 8 * (self.size - (self._first_byte or 0)) / rate
        return abs(guess - duration) <= SHORTFALL_SHARE * duration

    def _ogg_page_cut(self) -> bool:
        """Whether the file ends within an Ogg page (RFC 3533, 6), which FFmpeg drops silently."""
        tail = self._bytes(max(0, self.size - 2 * OGG_PAGE), 2 * OGG_PAGE)
        page = tail[tail.rfind(b"OggS") :]
        lengths = page[27 : 27 + page[26]] if len(page) > 26 else b""
        return len(page) < 27 or len(page) < 27 + page[26] + sum(lengths)

    def _riff_cut(self) -> bool:
        """Whether a WAV file is shorter than it says; FFmpeg goes by the size it finds.

        Programs that write to a pipe leave a size of 0 or about 2 or 4 GB.
        """
        head = self._bytes(0, 8)
        announced = int.from_bytes(head[4:8], "little")
        return head[:4] == b"RIFF" and self.size + 1 < announced + 8 < RIFF_UNKNOWN

    def _bytes(self, position: int, count: int) -> bytes:
        self._source.seek(position)
        return self._source.read(count)


def _size_within(file: BinaryIO) -> int:
    """Bytes of an open file; raises where it cannot be read from any place, as FFmpeg wants to."""
    try:
        file.seek(0)
        is_binary = isinstance(file.read(0), bytes)
        size = file.seek(0, os.SEEK_END)
    except (OSError, ValueError, AttributeError) as error:  # a pipe, a closed file, something else
        raise UsageError(
            f"{printable(name_of(file))}: expected a file that can be sought in (io.BytesIO holds "
            f"what cannot), got {_reason(error)}"
        ) from None
    if not is_binary:
        raise UsageError(
            f"{printable(name_of(file))}: expected a file opened as binary, got a text"
        )
    if not size:
        raise NotAudio(name_of(file), "is empty")
    return size


def _reason(error: BaseException) -> str:
    """Why, in a few words: what FFmpeg or the system said, without their numbers and names."""
    if isinstance(error, av.error.InvalidDataError):
        return "damaged data"
    if isinstance(error, av.error.UndefinedError):
        return "FFmpeg gives no reason"
    if isinstance(error, UnicodeError) or not isinstance(error, OSError | av.error.FFmpegError):
        text = str(error) or type(error).__name__
    else:
        text = error.strerror or type(error).__name__
    line = " ".join(text.split())
    return line[:1].lower() + line[1:]


class _Place:
    """Finds the place in a file where to begin, and counts where it ends.

    Attributes
    ----------
    end : float
        Where the sound decoded so far ends, in seconds of the file.
    """

    def __init__(self, file: _OpenFile, start: float) -> None:
        self.end = 0.0
        self._file = file
        self._start = start

    def sound(self) -> Iterator[tuple[Samples, int]]:
        """Yield mono pieces from the start on, each with its sample rate."""
        skip: int | None = None
        for samples, rate in _downmix(self._begin()):
            if skip is None:
                skip = max(0, round((self._start - self.end) * rate))
            self.end += len(samples) / rate
            if skip < len(samples):
                yield samples[skip:], rate
            skip = max(0, skip - len(samples))

    def _begin(self) -> Iterator[av.AudioFrame]:
        if self._start <= PREROLL or not self._file.seek(self._start - PREROLL):
            return self._file.frames()
        frames = self._file.frames()
        first = next(frames, None)
        if first is not None and first.time is not None:
            landed = first.time - self._file.origin
            if landed <= self._start + SEEK_TOLERANCE:
                self.end = landed
                return itertools.chain((first,), frames)
        self._file.reopen()  # it went nowhere or too far: decode all that comes before instead
        return self._file.frames()


def _downmix(frames: Iterable[av.AudioFrame]) -> Iterator[tuple[Samples, int]]:
    """Gather frames of one kind, and yield the mean of their channels with its sample rate."""
    kind = None
    gathered = av.AudioFifo()
    for frame in frames:
        frame_kind = (frame.sample_rate, frame.format.name, frame.layout.nb_channels)
        if frame_kind != kind:  # the first, or a file put together from several
            if gathered.samples:
                yield _mean_channel(gathered)
            gathered = av.AudioFifo()
            kind = frame_kind
        frame.pts = None  # the queue would insist on unbroken time stamps
        gathered.write(frame)
        if gathered.samples >= GATHERED:
            yield _mean_channel(gathered)
    if gathered.samples:
        yield _mean_channel(gathered)


def _mean_channel(gathered: av.AudioFifo) -> tuple[Samples, int]:
    frame = gathered.read()
    assert frame is not None  # only called on a queue that holds something
    name = frame.format.name
    dtype, full_scale = SAMPLE_FORMATS[name.removesuffix("p")]
    count, width = frame.samples, frame.layout.nb_channels
    # PyAV counts the planes up to a null pointer, and of eight channels it finds nine.
    planes = [np.frombuffer(memoryview(plane), dtype) for plane in frame.planes[:width]]
    if frame.format.is_planar:
        channels = [plane[:count] for plane in planes]
    else:
        channels = [planes[0][channel : count * width : width] for channel in range(width)]
    # Damaged samples may be anything; what is no number in the end is silenced below.
    with np.errstate(over="ignore", invalid="ignore"):
        mean = channels[0].astype(np.float32)
        for channel in channels[1:]:
            np.add(mean, channel, out=mean, casting="same_kind")
    if dtype is np.uint8:
        mean -= full_scale * width
    mean *= np.float32(1 / (full_scale * width))
    if not max(mean.max(), -mean.min()) <= LOUDEST:  # so put, NaN counts as too loud
        mean[~(np.abs(mean) <= LOUDEST)] = 0
    return mean, frame.sample_rate


def _resample(sound: Iterable[tuple[Samples, int]], rate: int) -> Iterator[Samples]:
    for source_rate, run in itertools.groupby(sound, key=lambda piece: piece[1]):
        if source_rate == rate:
            yield from (samples for samples, _ in run)
            continue
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
        for samples, _ in run:
            frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="fltp", layout="mono")
            frame.sample_rate = source_rate
            yield from _arrays(resampler.resample(frame))
        yield from _arrays(resampler.resample(None))


def _arrays(frames: Iterable[av.AudioFrame]) -> Iterator[Samples]:
    for frame in frames:
        yield np.frombuffer(memoryview(frame.planes[0]), np.float32)[: frame.samples]


def _at_most(sound: Iterable[Samples], count: int | None) -> Iterator[Samples]:
    for samples in sound:
        if count is None:
            yield samples
        else:
            yield samples[:count]
            count -= len(samples)
            if count <= 0:
                return


def _in_blocks(sound: Iterable[Samples], size: int) -> Iterator[Samples]:
    block = np.empty(size, np.float32)
    filled = 0
    for samples in sound:
        used = 0
        while used < len(samples):
            taken = samples[used : used + size - filled]
            block[filled : filled + len(taken)] = taken
            used += len(taken)
            filled += len(taken)
            if filled == size:
                yield block
                block = np.empty(size, np.float32)
                filled = 0
    if filled:
        yield block[:filled]
