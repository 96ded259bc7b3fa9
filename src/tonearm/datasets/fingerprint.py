"""Recognises the same recording in two files, whatever their codec, level and cut.

Method: J. Haitsma, T. Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002. A frame
becomes a word of 32 bits, the signs of how the energy difference of neighbouring bands changes in
time. Two files with some words in common at one distance in time are compared in full there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

RATE = 8000  # Hz, twice the bandwidth of a telephone: what survives every codec
FRAME = 2048  # samples, 0.26 s: long, so that two cuts of a recording give nearly the same frames
HOP = 128  # samples, 16 ms
BANDS = 33  # between 300 and 2,000 Hz, evenly on a logarithmic scale

MAX_ERROR = 0.25  # share of bits that differ; strangers differ in half of them
MIN_OVERLAP = 1.5  # seconds
_AT_ONCE = 64  # frames whose spectra are computed together: they fit the processor's cache

MIN_HITS = 3  # equal words before two tracks are compared
MAX_SHARED = 16  # tracks with one word in common; a commoner word says nothing

Words = NDArray[np.uint32]


@dataclass(frozen=True)
class Repeat:
    """Two tracks that hold the same recording; `offset` seconds of `first` come before `second`."""

    first: int
    second: int
    offset: float
    error: float


def fingerprint(samples: NDArray[np.float32]) -> Words:
    """Give the words of a mono signal at `RATE`, uint32[frames]; none if it is below two frames."""
    count = (len(samples) - FRAME) // HOP + 1
    if count < 2:
        return np.empty(0, np.uint32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP]
    energy = np.empty((count, BANDS), np.float32)
    window, bands = np.hanning(FRAME).astype(np.float32), _bands()
    for first in range(0, count, _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        spectrum = np.fft.rfft(frames[part] * window)[:, : len(bands)]
        energy[part] = (spectrum.real**2 + spectrum.imag**2) @ bands
    slope = np.diff(np.log(energy + 1e-9), axis=1)
    bits = np.diff(slope, axis=0) > 0
    words: Words = np.packbits(bits, axis=1).view(">u4")[:, 0].astype(np.uint32)
    return words


def repeats(prints: Sequence[Words]) -> list[Repeat]:
    """Find every two of some tracks that hold the same recording for `MIN_OVERLAP` seconds."""
    found = []
    for first, second, offset in _candidates(prints):
        a, b = prints[first], prints[second]
        a, b = (a[offset:], b) if offset >= 0 else (a, b[-offset:])
        overlap = min(len(a), len(b))
        if overlap * HOP < MIN_OVERLAP * RATE:
            continue
        differing = np.bitwise_count(a[:overlap] ^ b[:overlap]).sum(dtype=np.int64)
        error = float(differing) / (32 * overlap)
        if error <= MAX_ERROR:
            found.append(Repeat(first, second, offset * HOP / RATE, error))
    return found


def _candidates(prints: Sequence[Words]) -> list[tuple[int, int, int]]:
    """Give (track, track, distance in frames) with at least `MIN_HITS` equal words, one a pair."""
    lengths = [len(words) for words in prints]
    words = np.concatenate([np.empty(0, np.uint32), *prints])
    track = np.repeat(np.arange(len(prints)), lengths)
    frame = np.concatenate([np.empty(0, np.int64), *(np.arange(n) for n in lengths)])
    order = np.argsort(words, kind="stable")
    words, track, frame = words[order], track[order], frame[order]
    # Only a word's first frames in a track count, or a sustained tone would be many hits.
    fresh = np.ones(len(words), bool)
    fresh[1:] = (words[1:] != words[:-1]) | (track[1:] != track[:-1])
    words, track, frame = words[fresh], track[fresh], frame[fresh]

    hits = []
    for lag in range(1, MAX_SHARED):
        same = np.flatnonzero(words[lag:] == words[:-lag])
        pair = np.stack([track[same], track[same + lag], frame[same] - frame[same + lag]], axis=1)
        hits.append(pair)
    pairs, counts = np.unique(np.concatenate(hits), axis=0, return_counts=True)
    best: dict[tuple[int, int], tuple[int, int]] = {}
    for (a, b, offset), count in zip(pairs.tolist(), counts.tolist(), strict=True):
        if count >= MIN_HITS:
            best[a, b] = max(best.get((a, b), (0, 0)), (count, offset))
    return [(a, b, offset) for (a, b), (_, offset) in best.items()]


@cache
def _bands() -> NDArray[np.float32]:
    """Which bins each band sums, float32[bins up to the last band, BANDS]."""
    edges = np.geomspace(300, 2000, BANDS + 1) * FRAME / RATE
    bins = np.arange(int(np.ceil(edges[-1])))[:, np.newaxis]
    inside = (bins >= np.floor(edges[:-1])) & (bins < np.ceil(edges[1:]))
    return inside.astype(np.float32)
