"""Samples written to files in the encodings that music comes in."""

from __future__ import annotations

from itertools import chain, takewhile
from math import inf
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from tonearm import synth

RATE = 44_100
# Suffix, FFmpeg's encoder, bits per second: the formats that shops sell.
COMMON = ((".mp3", "libmp3lame", 320_000), (".m4a", "aac", 256_000))


def encode(
    path: Path,
    stereo: NDArray[np.float32],
    codec: str,
    bitrate: int,
    options: dict[str, str] | None = None,
) -> Path:
    """Write float32[2, samples] at 44.1 kHz to a file, and return its path."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(
            codec, rate=RATE, layout="stereo", bit_rate=bitrate, options=options or {}
        )
        frame = av.AudioFrame.from_ndarray(stereo, format="fltp", layout="stereo")
        frame.sample_rate = RATE
        frame.pts = 0  # FFmpeg's Vorbis encoder would guess a wrong one
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def transcode(source: Path, target: Path, codec: str, bitrate: int, seconds: float = inf) -> Path:
    """Re-encode the first seconds of a recording as 44.1 kHz stereo, and return the new path."""
    resampler = av.AudioResampler("fltp", "stereo", RATE)
    with av.open(str(source)) as music, av.open(str(target), "w") as output:
        stream = output.add_stream(codec, rate=RATE, layout="stereo", bit_rate=bitrate)
        frames = takewhile(lambda frame: frame.time < seconds, music.decode(audio=0))
        for frame in chain(frames, [None]):  # None flushes the resampler
            for resampled in resampler.resample(frame):
                output.mux(stream.encode(resampled))
        output.mux(stream.encode(None))
    return target


def piece(number: int, seconds: float) -> NDArray[np.float32]:
    """Render a piece as float32[2, samples]; every number sounds different."""
    style = synth.STYLES[number % len(synth.STYLES)]
    mono = synth.render(style, seconds, RATE, seed=number)
    noise = np.random.default_rng(number).normal(0, 0.01, (2, len(mono)))  # so that bits are needed
    return (mono + noise).astype(np.float32)
