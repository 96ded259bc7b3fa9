"""Turn decoded frames into mono samples at one rate, in blocks of one length."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import av
import numpy as np
from av.audio.plane import AudioPlane
from numpy.typing import NDArray

Samples = NDArray[np.float32]

# Frames are gathered to this many samples before anything is computed: a frame has about 1000
# samples, and resampling frame by frame in Python costs as much as decoding. Larger blocks gain
# nothing and do not fit in the processor's cache.
FIFO_SAMPLES = 32_768  # samples per channel

# Samples of float files louder than this (or NaN) are damage rather than sound, and are set to 0.
LOUDEST = 1e6  # full scale is 1

# FFmpeg's sample formats, packed or planar: the NumPy type and the value of full scale.
SAMPLE_FORMATS: dict[str, tuple[type[np.generic], float]] = {
    "u8": (np.uint8, 2.0**7),
    "s16": (np.int16, 2.0**15),
    "s32": (np.int32, 2.0**31),
    "s64": (np.int64, 2.0**63),
    "flt": (np.float32, 1.0),
    "dbl": (np.float64, 1.0),
}


def downmixed(frames: Iterable[av.AudioFrame]) -> Iterator[tuple[Samples, int]]:
    """Gather frames of the same format, and yield their channels' mean with its sample rate."""
    current_format = None
    fifo = av.AudioFifo()
    for frame in frames:
        frame_format = (frame.sample_rate, frame.format.name, frame.layout.nb_channels)
        if frame_format != current_format:  # the first frame, or a file concatenated from several
            if fifo.samples:
                yield _mean_channel(fifo)
            fifo = av.AudioFifo()
            current_format = frame_format
        frame.pts = None  # otherwise the queue insists on gapless time stamps
        fifo.write(frame)
        if fifo.samples >= FIFO_SAMPLES:
            yield _mean_channel(fifo)
    if fifo.samples:
        yield _mean_channel(fifo)


def _mean_channel(fifo: av.AudioFifo) -> tuple[Samples, int]:
    frame = fifo.read()
    assert frame is not None  # only called on a queue that holds something
    name = frame.format.name
    dtype, full_scale = SAMPLE_FORMATS[name.removesuffix("p")]
    count, width = frame.samples, frame.layout.nb_channels
    if frame.format.is_planar:
        channels = [_plane(frame, channel, dtype)[:count] for channel in range(width)]
    else:
        packed = _plane(frame, 0, dtype)
        channels = [packed[channel : count * width : width] for channel in range(width)]
    # Damaged samples may have any value; those that end up as NaN or too loud are zeroed below.
    with np.errstate(over="ignore", invalid="ignore"):
        mean = channels[0].astype(np.float32)
        for channel in channels[1:]:
            np.add(mean, channel, out=mean, casting="same_kind")
    if dtype is np.uint8:
        mean -= full_scale * width
    mean *= np.float32(1 / (full_scale * width))
    if not max(mean.max(), -mean.min()) <= LOUDEST:  # negated, so that NaN counts as too loud
        mean[~(np.abs(mean) <= LOUDEST)] = 0
    return mean, frame.sample_rate


def resampled(sound: Iterable[tuple[Samples, int]], rate: int) -> Iterator[Samples]:
    """Resample mono pieces, each given with its sample rate, to one rate."""
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
        yield _plane(frame, 0, np.float32)[: frame.samples]


def _plane(frame: av.AudioFrame, number: int, dtype: type[np.generic]) -> NDArray[Any]:
    # Not `frame.planes`: it counts planes up to a null pointer, and finds nine for eight channels.
    return np.frombuffer(memoryview(AudioPlane(frame, number)), dtype)


def at_most(sound: Iterable[Samples], count: int | None) -> Iterator[Samples]:
    """Pass on at most `count` samples of a sound, or all if `count` is None."""
    for samples in sound:
        if count is None:
            yield samples
        else:
            yield samples[:count]
            count -= len(samples)
            if count <= 0:
                return


def in_blocks(sound: Iterable[Samples], size: int) -> Iterator[Samples]:
    """Cut a sound into blocks of one size; only the last one is shorter."""
    block = np.empty(size, np.float32)
    filled = 0
    for samples in sound:
        used = 0
        while used < len(samples):
            part = samples[used : used + size - filled]
            block[filled : filled + len(part)] = part
            used += len(part)
            filled += len(part)
            if filled == size:
                yield block
                block = np.empty(size, np.float32)
                filled = 0
    if filled:
        yield block[:filled]
