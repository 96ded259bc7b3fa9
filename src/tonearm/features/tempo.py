"""Rhythm: how strong the note onsets in each frame are, and how regularly they recur.

Methods and constants are librosa's (onset strength by spectral flux, Böck and Widmer 2013; tempo
by a log-normal prior over the autocorrelation tempogram, Ellis 2007 and Grosche et al. 2010).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tonearm.features.stft import hann

WINDOW_SECONDS = 8.0
SLOWEST_BPM, FASTEST_BPM = 40.0, 320.0

_PRIOR_BPM = 120.0
_FRAMES_AT_ONCE = 128


def onset_strength(log_mel: NDArray[np.float32], centre_delay: int) -> NDArray[np.float32]:
    """Return the mean rise of the mel bands from frame to frame in dB, float32[frames].

    Parameters
    ----------
    log_mel : float32[frames, n_mels]
        In dB, limited in range.
    centre_delay : int
        Frames by which rises are delayed, because a centred frame includes what follows:
        ``n_fft // (2 * hop_length)``.
    """
    rise = np.maximum(log_mel[1:] - log_mel[:-1], np.float32(0.0)).mean(axis=1)
    return np.pad(rise, (1 + centre_delay, 0))[: len(log_mel)]


def mean_tempogram(onsets: NDArray[np.float32], frames_per_second: float) -> NDArray[np.float64]:
    """Average the autocorrelation of the onset strength in 8-second windows around every frame.

    Returns
    -------
    float64[lags]
        For lags of 0, 1, 2 ... frames; normalised to 1 at lag 0 in each window. All 0 without
        onsets.
    """
    window = int(WINDOW_SECONDS * frames_per_second)
    taper = hann(window)
    padded = np.pad(onsets.astype(np.float64), window // 2, mode="linear_ramp", end_values=0.0)
    windows = sliding_window_view(padded, window)[: len(onsets)]
    n_fft = _fast_length(2 * window - 1)
    total = np.zeros(window)
    for start in range(0, len(windows), _FRAMES_AT_ONCE):
        spectrum = np.fft.rfft(windows[start : start + _FRAMES_AT_ONCE] * taper, n_fft)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        # Dividing each window by its autocorrelation at lag 0 (its energy, by Parseval) leaves a
        # weighted sum of power spectra: one inverse transform serves all windows.
        energy = 2.0 * power.sum(axis=1) - power[:, 0]
        if n_fft % 2 == 0:
            energy -= power[:, -1]
        energy /= n_fft
        weights = np.divide(1.0, energy, out=np.zeros_like(energy), where=energy > 1e-30)
        total += np.fft.irfft(weights @ power, n_fft)[:window]
    return total / len(onsets)


def tempo(tempogram: NDArray[np.float64], frames_per_second: float) -> float:
    """Return the beats per minute at which a mean tempogram is strongest, weighted towards 120.

    The beat of music can often be counted twice or half as fast, so take this single number as a
    description rather than as the truth.
    """
    lags = np.arange(1, len(tempogram))
    bpm = 60.0 * frames_per_second / lags
    prior = -0.5 * np.log2(bpm / _PRIOR_BPM) ** 2
    prior[bpm >= FASTEST_BPM] = -np.inf
    return float(bpm[np.argmax(np.log1p(1e6 * np.maximum(tempogram[1:], 0.0)) + prior)])


def tempo_profile(
    onsets: NDArray[np.float32], frames_per_second: float, bands: int
) -> NDArray[np.float64]:
    """Return how regularly onsets recur in bands of equal tempo ratio, 40 to 320 BPM, slow first.

    The value of a band is the maximum autocorrelation of the mean-centred onset strength, so 1
    means exact repetition and 0 no more than chance. Lags at which less than a quarter of the clip
    overlaps itself count as 0.
    """
    n = len(onsets)
    centred = onsets.astype(np.float64) - onsets.mean()
    edges = SLOWEST_BPM * (FASTEST_BPM / SLOWEST_BPM) ** (np.arange(bands + 1) / bands)
    lags = 60.0 * frames_per_second / edges
    n_fft = _fast_length(n + int(lags[0]) + 1)
    products = np.fft.irfft(np.abs(np.fft.rfft(centred, n_fft)) ** 2, n_fft)[: int(lags[0]) + 1]
    overlap = (n - np.arange(len(products))) / n
    correlation = np.zeros_like(products)
    if products[0] > 1e-12 * n:
        has_overlap = overlap >= 0.25
        correlation[has_overlap] = products[has_overlap] / overlap[has_overlap] / products[0]
    profile = [
        # At least one lag, because the fastest bands are narrower than a frame.
        correlation[min(int(shortest) + 1, int(longest)) : int(longest) + 1].max()
        for longest, shortest in pairwise(lags)
    ]
    return np.asarray(np.clip(profile, -1.0, 1.0))


def _fast_length(at_least: int) -> int:
    """Return the next length whose only prime factors are 2, 3 and 5, for a fast transform."""
    length = at_least
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1
