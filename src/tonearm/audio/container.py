"""An open media file: its audio stream, packets and frames, and what is wrong with it."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import av

from tonearm.audio.errors import NotAudio, ReadFailed, TimedOut, Undecodable
from tonearm.audio.source import (
    Clock,
    LimitedFile,
    Source,
    failure_reason,
    name_of,
    size_of,
    size_within,
    unreadable,
)
from tonearm.errors import UsageError
from tonearm.interrupts import interrupts_deferred

# Sample rates outside this range are damage or a prank: DSD is read at 352.8 kHz, telephony at
# 8 kHz.
LOWEST_RATE, HIGHEST_RATE = 1_000, 1_000_000  # Hz

# Codecs whose packets share frames: a seek lands 0.1 s off.
INACCURATE_SEEK_CODECS = ("wmav1", "wmav2", "wmapro", "wmavoice")
# Here FFmpeg seeks by the header's byte rate, which is inexact: a seek lands whole seconds off.
ADPCM, BYTE_RATE_SEEK_CONTAINERS = "adpcm_", ("wav", "w64")

# A file that is shorter than its header says by more than both of these is truncated.
SHORTFALL_SECONDS, SHORTFALL_SHARE = 0.25, 0.02

# Default time limit: three hours of MP3 take some 15 s on one core, but a file that hangs must not
# block for a day. Only time spent reading and decoding counts.
LIMIT_SECONDS, LIMIT_SECONDS_PER_MEGABYTE = 60.0, 1.0

OGG_PAGE = 65_536  # bytes; no page is longer
OGG_BOS_FLAG = 0x02  # flag of the first page of a stream
OGG_FIRST_PAGES = 4_096  # bytes; enough for the first pages of all streams, each a short header

RIFF_UNKNOWN = 0x7FFF_0000  # bytes; values from here on mean that the size is unknown

MATROSKA = "matroska,webm"
# The tag with the duration of one stream of such a file: "00:03:25.120000000".
MATROSKA_DURATION = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")
# A tag beside it; where present, the duration excludes the time before the stream begins.
BY_MKVMERGE = "_STATISTICS_WRITING_APP"

MAX_READ_FAILURES = 16  # in a row, before the rest of the file is given up

# What PyAV raises on damaged data: FFmpeg's own errors, and those of its Python side if a header
# claims the impossible (an unknown channel layout, a size beyond C's integers, a stream that
# appears midway).
DECODER_ERRORS = (av.error.FFmpegError, ValueError, OverflowError, MemoryError, IndexError)

# For `av.open`: tags need not be UTF-8. PyAV accepts any from 19 on, and before with this option.
_PYAV = int(av.__version__.partition(".")[0])
ANY_TAGS: dict[str, Any] = {"metadata_errors": "replace"} if _PYAV < 19 else {}


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What the header of a file says, unchecked against the sound.

    Attributes
    ----------
    container, codec : str
        FFmpeg's names, such as ``"mov,mp4,m4a,3gp,3g2,mj2"`` and ``"aac"``.
    sample_rate : int
        Hz; 0 if the header does not say.
    channels : int
        0 if the header does not say.
    duration : float or None
        Seconds; an estimate for formats that do not store it, None if there is not even that.
    """

    container: str
    codec: str
    sample_rate: int
    channels: int
    duration: float | None


class OpenFile:
    """A file with its audio stream open, and the faults found while reading it.

    Raises
    ------
    UsageError
        If the time limit is not above 0, or an open file is not binary or cannot be sought in.
    NotAudio, Undecodable
        If it is not a media file, holds no audio, or FFmpeg has no decoder for its audio.
    ReadFailed, TimedOut
        Here or in any method that reads. An exception of an open file's own, other than an
        `OSError`, is raised as it is.
    """

    def __init__(self, source: Source, time_limit: float | None) -> None:
        if time_limit is not None and not time_limit > 0:
            raise UsageError(f"time_limit must be more than 0 s, not {time_limit}")
        self.path = name_of(source)
        self._borrowed: BinaryIO | None = None
        if isinstance(source, str | os.PathLike):
            size = size_of(self.path)
        else:
            self._borrowed, size = source, size_within(source)
        self.clock = Clock(
            time_limit or LIMIT_SECONDS + LIMIT_SECONDS_PER_MEGABYTE * size / 1_000_000
        )
        self.size = size
        with interrupts_deferred(), self.clock:
            self._open()
        self._is_stream_duration, duration = self._header_duration()
        self.info = self._info(duration)

    def reopen(self) -> None:
        """Go back to the beginning, as if nothing had been read."""
        self.close()
        self._open()

    def close(self) -> None:
        """Close the file; one that was passed in open stays open."""
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
        """Seek to a position at or before `seconds`; return False if the format cannot seek."""
        if not self._stream.time_base or self._seeks_inaccurately():
            return False
        stamp = int((seconds + self.origin) / self._stream.time_base)
        try:
            self._container.seek(stamp, stream=self._stream)
        except DECODER_ERRORS:
            self._check_source()
            return False
        self._check_source()
        return True

    def frames(self) -> Iterator[av.AudioFrame]:
        """Decode from the current position on, skipping damaged packets.

        An error counts as damage only if there is sound both before and after it: many intact files
        have junk at either end (tags, a packet cut off at the start of a stream).
        """
        decoded = failed = False
        for packet in self._packets():
            frames: list[av.AudioFrame] = []
            try:
                frames = packet.decode()
            except DECODER_ERRORS as error:
                self.last_error = failure_reason(error)
                failed = True
            if frames and not LOWEST_RATE <= frames[0].sample_rate <= HIGHEST_RATE:
                self.last_error = f"a sample rate of {frames[0].sample_rate} Hz"
                failed = True
            elif frames:
                self.damaged |= decoded and failed
                decoded, failed = True, False
                yield from frames

    def hash_packets(self, update: Callable[[av.Packet[av.AudioStream]], object]) -> float:
        """Feed every packet to a hash; return the end of the last one, in seconds of the file."""
        total = 0
        for packet in self._packets():
            if packet.size:
                update(packet)
                total += packet.duration or 0
        return max(self._last_end, total * float(self._stream.time_base or 0))

    def length(self, end: float) -> float | None:
        """Return the file's length in seconds, given that its last packet ends at `end`."""
        header_duration = self.info.duration
        if header_duration is None or self._is_estimate(header_duration) or self._is_chained():
            return end or header_duration
        return header_duration

    def breaks_off(self, end: float) -> bool:
        """Check whether a file whose sound ended at `end` seconds should have continued."""
        if self._last_packet_damaged:
            return True
        if self.info.container == "ogg" and self._ends_within_ogg_page():
            return True
        if self.info.container == "wav" and self._is_riff_truncated():
            return True
        header_duration = self.info.duration
        if header_duration is None or self._is_estimate(header_duration):
            return False
        if self.info.container == MATROSKA:  # which may have gaps; elsewhere a gap is damage
            end = max(end, self._last_end)
        return header_duration - end > max(SHORTFALL_SECONDS, SHORTFALL_SHARE * header_duration)

    def _open(self) -> None:
        self.damaged = False
        self.last_error = ""
        self._last_packet_damaged = False
        self._first_byte: int | None = None
        self._last_stamp = 0  # end of the last packet
        try:
            self._file = io.FileIO(self.path) if self._borrowed is None else self._borrowed
            self._file.seek(0)
        except OSError as error:
            raise unreadable(self.path, error) from None
        self._source = LimitedFile(self._file, self.path, self.clock)
        try:
            self._container = av.open(
                self._source,
                mode="r",
                container_options={"protocol_whitelist": "none"},  # playlists open no other files
                timeout=self.clock.limit,
                **ANY_TAGS,
            )
        except DECODER_ERRORS as error:
            self._close_file()
            self._check_source()
            if isinstance(error, av.error.InvalidDataError | av.error.EOFError):
                unknown = "is not a media file, or damaged beyond recognition"
                raise NotAudio(self.path, unknown) from None
            raise NotAudio(self.path, failure_reason(error)) from None
        try:
            self._check_source()
            self._stream = self._choose_stream()
        except BaseException:
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

    def _info(self, duration: float | None) -> AudioInfo:
        context = self._stream.codec_context
        return AudioInfo(
            container=self._container.format.name,
            codec=context.codec.canonical_name,
            sample_rate=context.sample_rate,
            channels=context.layout.nb_channels,
            duration=duration if duration and duration > 0 else None,
        )

    def _header_duration(self) -> tuple[bool, float | None]:
        """Return whether the header's duration is the sound's, not the file's, and its value."""
        stream = self._stream
        if stream.duration and stream.time_base:
            return True, float(stream.duration * stream.time_base)
        if not self._container.duration:
            return False, None
        file_duration = self._container.duration / av.time_base
        is_only_stream = all(
            other is stream or other.disposition & av.stream.Disposition.attached_pic
            for other in self._container.streams
        )
        if self._container.format.name != MATROSKA:
            return is_only_stream, file_duration
        # In Matroska, a duration counts from the beginning of the file, wherever the sound begins.
        stream_start = max(0.0, self.origin)
        if is_only_stream:
            return True, file_duration - stream_start
        tag = MATROSKA_DURATION.fullmatch(stream.metadata.get("DURATION", ""))
        if tag is None:
            return False, file_duration - stream_start
        hours, minutes, seconds = map(float, tag.groups())
        tagged = 3600 * hours + 60 * minutes + seconds
        return True, tagged if BY_MKVMERGE in stream.metadata else tagged - stream_start

    def _packets(self) -> Iterator[av.Packet[av.AudioStream]]:
        failures = 0
        while failures < MAX_READ_FAILURES:
            try:
                for packet in self._container.demux(self._stream):
                    self._check_source()
                    failures = 0
                    self._last_packet_damaged = packet.is_corrupt
                    if self._first_byte is None:
                        self._first_byte = packet.pos
                    if packet.pts is not None:
                        self._last_stamp = max(
                            self._last_stamp, packet.pts + (packet.duration or 0)
                        )
                    yield packet
                break
            except DECODER_ERRORS as error:
                self.last_error = failure_reason(error)
                self._last_packet_damaged = True
                failures += 1
        self._check_source()

    def _seeks_inaccurately(self) -> bool:
        """Check whether a seek would land in the wrong place."""
        container, codec = self.info.container, self.info.codec
        if container in BYTE_RATE_SEEK_CONTAINERS and codec.startswith(ADPCM):
            return True
        return codec in INACCURATE_SEEK_CODECS or self._is_chained()

    def _check_source(self) -> None:
        """Raise why the source has ended early; to FFmpeg, it looks like the end of the file."""
        if self.clock.expired:
            raise TimedOut(self.path, f"took longer than the limit of {self.clock.limit:g} s")
        if isinstance(self._source.error, OSError):
            raise ReadFailed(self.path, failure_reason(self._source.error)) from self._source.error
        if self._source.error is not None:  # from the code behind a file object
            raise self._source.error

    @property
    def _last_end(self) -> float:
        """End of the last packet so far, in seconds of the file."""
        return self._last_stamp * float(self._stream.time_base or 0) - self.origin

    def _is_estimate(self, duration: float) -> bool:
        """Check whether a duration is unreliable as the length of the sound.

        It may be that of a video stream beside the sound. And if the format does not store it
        (ADTS, MP3 without a Xing header), FFmpeg guesses it from the size of the file and the bit
        rate of the first frames.
        """
        if not self._is_stream_duration:
            return True
        rate = self._stream.codec_context.bit_rate
        if not rate:
            return False
        estimate = 8 * (self.size - (self._first_byte or 0)) / rate
        return abs(estimate - duration) <= SHORTFALL_SHARE * duration

    def _ends_within_ogg_page(self) -> bool:
        """Check whether the file ends within an Ogg page (RFC 3533, 6), silently lost by FFmpeg."""
        page = self._last_ogg_page(2 * OGG_PAGE)
        lengths = page[27 : 27 + page[26]] if len(page) > 26 else b""
        return len(page) < 27 or len(page) < 27 + page[26] + sum(lengths)

    def _is_chained(self) -> bool:
        """Check whether an Ogg file is a chain of several (RFC 3533, 4).

        From the beginning, FFmpeg reads them all; after a seek, only the one it lands in. Each has
        serial numbers of its own, so the last page has none of those that the file begins with.
        """
        if self.info.container != "ogg":
            return False
        head = self._bytes(0, OGG_FIRST_PAGES)
        serials = set()
        page = max(0, head.find(b"OggS"))
        while len(head) > page + 27 and head[page + 5] & OGG_BOS_FLAG:
            serials.add(head[page + 14 : page + 18])
            lengths = head[page + 27 : page + 27 + head[page + 26]]
            page += 27 + len(lengths) + sum(lengths)
        return self._last_ogg_page(OGG_PAGE)[14:18] not in serials

    def _last_ogg_page(self, reach: int) -> bytes:
        """Return the data from the last page header on within the last `reach` bytes."""
        tail = self._bytes(max(0, self.size - reach), reach)
        return tail[tail.rfind(b"OggS") :]

    def _is_riff_truncated(self) -> bool:
        """Check whether a WAV file is shorter than its header says, which FFmpeg does not report.

        Programs that write to a pipe leave a size of 0 or about 2 or 4 GB.
        """
        head = self._bytes(0, 8)
        riff_size = int.from_bytes(head[4:8], "little")
        return head[:4] == b"RIFF" and self.size + 1 < riff_size + 8 < RIFF_UNKNOWN

    def _bytes(self, position: int, count: int) -> bytes:
        previous = self._source.tell()  # to restore it for FFmpeg, which reads on from there
        self._source.seek(position)
        data = self._source.read(count)
        self._source.seek(previous)
        self._check_source()
        return data
