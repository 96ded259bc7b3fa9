"""Cuts a few recordings into thousands of short ones, without encoding anything anew."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
from av.packet import Packet

from encoding import COMMON, encode, piece

PIECES = 3
PIECE_SECONDS = 240.0
SECONDS = 5.0  # of each clip
IN_FOLDER = 100  # clips

# With a bit reservoir, MP3 frames cannot be decoded without the frames before them.
_ENCODINGS = (*COMMON, (".ogg", "vorbis", 192_000))
_OPTIONS = {"libmp3lame": {"reservoir": "0"}, "vorbis": {"strict": "experimental"}}


class _Recording(NamedTuple):
    """The packets of a recording, and what it needs to be decoded."""

    path: Path
    packets: list[bytes]
    times: list[int]  # when each begins, in units of `time_base`
    time_base: Fraction

    @property
    def in_clip(self) -> int:
        """Number of packets in a clip."""
        length = (self.times[-1] - self.times[0]) * self.time_base
        return round(SECONDS / length * len(self.packets))


def rendered(folder: Path) -> list[Path]:
    """Render some pieces, each in every encoding."""
    folder.mkdir()
    files = []
    for number in range(PIECES):
        sound = piece(number, PIECE_SECONDS)
        for suffix, codec, bitrate in _ENCODINGS:
            path = folder / f"{number}{suffix}"
            files.append(encode(path, sound, codec, bitrate, _OPTIONS.get(codec)))
    return files


def cut(sources: Sequence[Path], folder: Path, count: int) -> list[Path]:
    """Fill folders with `count` clips, and return the folders.

    No two clips of a source begin with the same packet, so that each clip is different; if there
    are many, they overlap.
    """
    recordings = [_read(path) for path in sources]
    each = -(-count // len(recordings))  # clips of one recording
    folders = []
    for number, (index, recording) in enumerate(
        itertools.islice(itertools.product(range(each), recordings), count)
    ):
        home = folder / f"{number // IN_FOLDER:04}"
        if number % IN_FOLDER == 0:
            home.mkdir(parents=True)
            folders.append(home)
        step = (len(recording.packets) - recording.in_clip) // each
        if step < 1:
            raise SystemExit(f"{recording.path}: too short for {each} clips")
        _write(recording, index * step, home / f"{number:06}{recording.path.suffix}")
    return folders


def _read(path: Path) -> _Recording:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        return _Recording(
            path,
            [bytes(packet) for packet in packets],
            [packet.pts for packet in packets],
            stream.time_base,
        )


def _write(recording: _Recording, start: int, path: Path) -> None:
    with av.open(str(recording.path)) as source, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(source.streams.audio[0])
        for i in range(start, start + recording.in_clip):
            packet = Packet(recording.packets[i])
            packet.stream, packet.time_base = stream, recording.time_base
            packet.pts = packet.dts = recording.times[i] - recording.times[start]
            packet.duration = recording.times[i + 1] - recording.times[i]
            output.mux(packet)
