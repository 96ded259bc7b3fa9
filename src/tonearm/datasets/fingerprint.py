"""Recognise the same recording in two files, whatever their codec, level and cut.

Method: J. Haitsma, T. Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002. A frame
becomes a word of 32 bits, the signs of the change over time in the energy differences between
neighbouring bands. Two files with some words in common are compared in full at the offsets that
align these words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

RATE = 8000  # Hz, twice the bandwidth of a telephone, which survives every codec
FRAME = 2048  # samples, 0.26 s: long, so that two cuts of a recording give nearly the same frames
HOP = 128  # samples, 16 ms
BANDS = 33  # between 300 and 2,000 Hz, evenly on a logarithmic scale

MAX_ERROR = 0.25  # share of bits that differ; unrelated recordings differ in half of them
MIN_OVERLAP = 1.5  # seconds
_BATCH_FRAMES = 64  # frames transformed together, few enough for the processor's cache

MIN_SHARED = 3  # different words that two tracks must share to be compared
MAX_TIMES = 64  # occurrences of a word in a track; commoner ones (silence, held tones) fix no time
OFFSETS = 8  # offsets at which two tracks are compared; a loop matches at several
# Tracks with a word in common are paired in runs this long: common words prove nothing.
MAX_SHARED = 16

Words = NDArray[np.uint32]


@dataclass(frozen=True)
class Repeat:
    """Two tracks of the same recording; `second` begins `offset` seconds into `first`."""

    first: int
    second: int
    offset: float
    error: float


def fingerprint(samples: NDArray[np.float32]) -> Words:
    """Return the words of a mono signal at `RATE`, uint32[frames - 1]; none below two frames."""
    count = (len(samples) - FRAME) // HOP + 1
    if count < 2:
        return np.empty(0, np.uint32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP]
    energy = np.empty((count, BANDS), np.float32)
    window, bands = np.hanning(FRAME).astype(np.float32), _bands()
    for start in range(0, count, _BATCH_FRAMES):
        batch = slice(start, start + _BATCH_FRAMES)
        spectrum = np.fft.rfft(frames[batch] * window)[:, : len(bands)]
        energy[batch] = (spectrum.real**2 + spectrum.imag**2) @ bands
    slope = np.diff(np.log(energy + 1e-9), axis=1)
    bits = np.diff(slope, axis=0) > 0
    words: Words = np.packbits(bits, axis=1).view(">u4")[:, 0].astype(np.uint32)
    return words


def repeats(fingerprints: Sequence[Words]) -> list[Repeat]:
    """Return the pairs of tracks that share a recording for at least `MIN_OVERLAP` seconds."""
    found = []
    for first, second in _candidates(fingerprints):
        a, b = fingerprints[first], fingerprints[second]
        compared = [(_error(a, b, offset), offset) for offset in _offsets(a, b)]
        error, offset = min(compared, default=(1.0, 0))
        if error <= MAX_ERROR:
            found.append(Repeat(first, second, offset * HOP / RATE, error))
    return found


def _candidates(fingerprints: Sequence[Words]) -> list[tuple[int, int]]:
    """Return the pairs of tracks that share at least `MIN_SHARED` different words."""
    lengths = [len(words) for words in fingerprints]
    track = np.repeat(np.arange(len(fingerprints)), lengths)
    word = np.concatenate([np.empty(0, np.uint32), *fingerprints])
    # Each word counts once per track, because music repeats itself.
    word, track = np.unique(np.stack([word.astype(np.int64), track]), axis=1)
    # Tracks with a word in common are now adjacent.
    shared = []
    for step in range(1, MAX_SHARED):
        same = np.flatnonzero(word[step:] == word[:-step])
        shared.append(np.stack([track[same], track[same + step]], axis=1))
    pairs, counts = np.unique(np.concatenate(shared), axis=0, return_counts=True)
    return [(int(a), int(b)) for a, b in pairs[counts >= MIN_SHARED]]


def _offsets(a: Words, b: Words) -> list[int]:
    """Return the offsets, in frames, at which the most words of two tracks are equal."""
    distances = [np.empty(0, np.int64)]
    for word in np.intersect1d(a, b):
        at_a, at_b = np.flatnonzero(a == word), np.flatnonzero(b == word)
        if max(len(at_a), len(at_b)) <= MAX_TIMES:
            distances.append(np.subtract.outer(at_a, at_b).ravel())
    offsets, counts = np.unique(np.concatenate(distances), return_counts=True)
    return [int(offset) for offset in offsets[np.argsort(-counts, kind="stable")[:OFFSETS]]]


def _error(a: Words, b: Words, offset: int) -> float:
    """Return the share of bits that differ where two tracks overlap; 1 if they hardly do."""
    a, b = (a[offset:], b) if offset >= 0 else (a, b[-offset:])
    overlap = min(len(a), len(b))
    if overlap * HOP < MIN_OVERLAP * RATE:
        return 1.0
    differing = np.bitwise_count(a[:overlap] ^ b[:overlap]).sum(dtype=np.int64)
    return float(differing) / (32 * overlap)


@cache
def _bands() -> NDArray[np.float32]:
    """Return which bins each band sums, float32[bins up to the last band, BANDS]."""
    edges = np.geomspace(300, 2000, BANDS + 1) * FRAME / RATE
    bins = np.arange(int(np.ceil(edges[-1])))[:, np.newaxis]
    inside = (bins >= np.floor(edges[:-1])) & (bins < np.ceil(edges[1:]))
    return inside.astype(np.float32)
