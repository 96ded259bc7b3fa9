"""The classical measures of a spectrum's shape, frame by frame: timbre, harmony, brightness.

Definitions and constants are librosa's, so that values can be compared with the literature.
Frames are rows; `power` is float32[frames, bins] as `tonearm.features.stft.PowerSpectrum` yields
it, `magnitude` its square root; both cover 0 Hz to half the sample rate evenly.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

MFCC_COUNT = 20
CHROMA_COUNT = 12
CONTRAST_BANDS = 7

_DYNAMIC_RANGE_DB = 80.0
_POWER_FLOOR = 1e-10
_ROLLOFF_SHARE = 0.85


def mfcc(log_mel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the first mel-frequency cepstral coefficients, float32[frames, MFCC_COUNT].

    Parameters
    ----------
    log_mel : float32[frames, n_mels]
        In dB, already limited in range (`limit_range`).
    """
    return np.asarray(log_mel @ _dct_matrix(log_mel.shape[1]))


def dct_cosines(n_mels: int, count: int) -> NDArray[np.float64]:
    """Return the first columns of a DCT-II, float64[n_mels, count].

    The orthonormal transform has the first column divided by the square root of 2.
    """
    phase = np.pi / n_mels * np.outer(np.arange(n_mels) + 0.5, np.arange(count))
    return np.asarray(np.sqrt(2.0 / n_mels) * np.cos(phase))


def chroma(power: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Return the strength of the pitch classes C to B, float32[frames, 12]; the strongest is 1.

    Octaves around 880 Hz count most, and the tuning is assumed to be A = 440 Hz (Ellis 2007, as in
    librosa with ``tuning=0``).
    """
    strength = power @ _chroma_filterbank(rate, 2 * (power.shape[1] - 1)).T
    peak = strength.max(axis=1, keepdims=True)
    np.divide(strength, peak, out=strength, where=peak > np.finfo(np.float32).tiny)
    return np.asarray(strength)


def contrast_extremes(
    magnitude: NDArray[np.float32], rate: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the means of the strongest and of the weakest 2 % of bins in each octave band.

    Returns
    -------
    peaks, valleys : float32[frames, 7]
        The band below 200 Hz, then one per octave, the last one extending to half the rate.
    """
    peaks = np.empty((len(magnitude), CONTRAST_BANDS), dtype=np.float32)
    valleys = np.empty_like(peaks)
    for band, (first, last, count) in enumerate(_contrast_bands(rate, magnitude.shape[1])):
        bins = magnitude[:, first:last]
        if count == 1:
            bins.min(axis=1, out=valleys[:, band])
            bins.max(axis=1, out=peaks[:, band])
            continue
        ordered = np.partition(bins, (count - 1, last - first - count), axis=1)
        ordered[:, :count].mean(axis=1, out=valleys[:, band])
        ordered[:, -count:].mean(axis=1, out=peaks[:, band])
    return peaks, valleys


def spectral_contrast(
    peaks: NDArray[np.float32], valleys: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the spectral contrast (Jiang et al. 2002) of extremes, float32[frames, 7].

    As in librosa, it is ten times the decimal logarithm of a ratio of magnitudes: half as many dB
    as the level differs by.
    """
    return limit_range(_decibels(peaks)) - limit_range(_decibels(valleys))


def centroid_and_bandwidth(
    magnitude: NDArray[np.float32], rate: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each frame's mean frequency and the spread around it in Hz; both 0 for silence."""
    frequencies = np.linspace(0.0, rate / 2, magnitude.shape[1])
    moments = magnitude.astype(np.float64) @ np.stack(
        [np.ones_like(frequencies), frequencies, frequencies**2], axis=1
    )
    total = moments[:, :1]
    moments = np.divide(moments, total, out=np.zeros_like(moments), where=total > 0)
    centroid = moments[:, 1]
    return centroid, np.sqrt(np.maximum(moments[:, 2] - centroid**2, 0.0))


def rolloff(magnitude: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Return the frequency in Hz below which 85 % of each frame's magnitude lies."""
    cumulative = np.cumsum(magnitude, axis=1, dtype=np.float64)
    first = np.argmax(cumulative >= _ROLLOFF_SHARE * cumulative[:, -1:], axis=1)
    return np.asarray(first * (rate / 2 / (magnitude.shape[1] - 1)))


def zero_crossing_rate(samples: NDArray[np.float32], frame: int, hop: int) -> NDArray[np.float64]:
    """Return the share of each centred frame's samples where the sign changes, float64[frames]."""
    padded = np.pad(samples, frame // 2, mode="edge")
    negative = padded < -1e-10  # as in librosa, values closer to zero have no sign
    crossing = np.empty(len(padded), dtype=np.float64)
    crossing[0] = 0.0
    np.not_equal(negative[1:], negative[:-1], out=crossing[1:], casting="unsafe")
    sums = _frame_sums(crossing, frame, hop)
    # A sign change at the first sample of a frame belongs to what precedes the frame.
    return (sums - crossing[: len(sums) * hop : hop]) / frame


def rms(samples: NDArray[np.float32], frame: int, hop: int) -> NDArray[np.float64]:
    """Return the root mean square of each centred frame, float64[frames]."""
    padded = np.pad(samples.astype(np.float64), frame // 2)
    return np.asarray(np.sqrt(_frame_sums(np.square(padded), frame, hop) / frame))


def limit_range(decibels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Raise all levels more than 80 dB below the maximum of the whole array to that floor."""
    floor = decibels.max() - np.float32(_DYNAMIC_RANGE_DB)
    return np.asarray(np.maximum(decibels, floor))


def _decibels(power: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.float32(10.0) * np.log10(np.maximum(power, np.float32(_POWER_FLOOR))))


def _frame_sums(values: NDArray[np.float64], frame: int, hop: int) -> NDArray[np.float64]:
    """Sum each whole frame; hops are summed first, so `frame` must be a multiple of `hop`."""
    frames = 1 + (len(values) - frame) // hop
    hops = frame // hop
    sums = values[: (frames + hops - 1) * hop].reshape(-1, hop).sum(axis=1)
    return np.asarray(sliding_window_view(sums, hops).sum(axis=1))


@cache
def _dct_matrix(n_mels: int) -> NDArray[np.float32]:
    """Return the first columns of an orthonormal DCT-II, float32[n_mels, MFCC_COUNT]."""
    cosines = dct_cosines(n_mels, MFCC_COUNT)
    cosines[:, 0] /= np.sqrt(2.0)
    return np.asarray(cosines, dtype=np.float32)


@cache
def _chroma_filterbank(rate: int, n_fft: int) -> NDArray[np.float32]:
    """Return Gaussian bumps around the pitches of each class, float32[12, 1 + n_fft // 2]."""
    semitones = np.empty(n_fft)  # above A at 27.5 Hz
    semitones[1:] = 12.0 * np.log2(np.arange(1, n_fft) * (rate / n_fft) / 27.5)
    semitones[0] = semitones[1] - 18.0  # 0 Hz has no pitch: put it far below, between two
    width = np.append(np.maximum(np.diff(semitones), 1.0), 1.0)
    distance = semitones - np.arange(CHROMA_COUNT)[:, None]
    distance = (distance + 6.0) % 12.0 - 6.0
    weights = np.exp(-0.5 * (2.0 * distance / width) ** 2)
    weights /= np.linalg.norm(weights, axis=0)
    octave = semitones / 12.0
    weights *= np.exp(-0.5 * ((octave - 5.0) / 2.0) ** 2)
    from_c = np.roll(weights, -3, axis=0)
    return np.asarray(from_c[:, : 1 + n_fft // 2], dtype=np.float32)


@cache
def _contrast_bands(rate: int, bins: int) -> tuple[tuple[int, int, int], ...]:
    """Return the first bin, the end bin and the number of extreme bins of each contrast band.

    As in librosa, a band extends one bin below its lower edge, and all bands but the last omit
    their uppermost bin, although it counts towards the 2 %.
    """
    frequencies = np.linspace(0.0, rate / 2, bins)
    edges = [0.0, *(200.0 * 2.0**octave for octave in range(CONTRAST_BANDS))]
    bands = []
    for band in range(CONTRAST_BANDS):
        inside = np.flatnonzero((frequencies >= edges[band]) & (frequencies <= edges[band + 1]))
        first = max(0, int(inside[0]) - 1)
        last = bins if band == CONTRAST_BANDS - 1 else int(inside[-1]) + 1
        count = max(1, round(0.02 * (last - first)))
        bands.append((first, last if band == CONTRAST_BANDS - 1 else last - 1, count))
    return tuple(bands)
