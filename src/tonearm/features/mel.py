"""Mel filterbanks: the triangular weights that turn a power spectrum into mel bands."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

MelScale = Literal["slaney", "htk", "kaldi"]
MelNorm = Literal["slaney"]

# Slaney's scale (Auditory Toolbox, 1998) is linear up to 1 kHz and logarithmic above.
_SLANEY_HZ_PER_MEL = 200.0 / 3.0
_SLANEY_BREAK_HZ = 1000.0
_SLANEY_BREAK_MEL = _SLANEY_BREAK_HZ / _SLANEY_HZ_PER_MEL
_SLANEY_LOG_STEP = np.log(6.4) / 27.0


def mel_filterbank(
    sample_rate: int,
    n_fft: int,
    n_mels: int,
    f_min: float,
    f_max: float,
    scale: MelScale = "slaney",
    norm: MelNorm | None = "slaney",
) -> NDArray[np.float32]:
    """Return triangular mel weights, one row per band.

    Parameters
    ----------
    sample_rate : int
        In Hz.
    n_fft : int
        Length of the Fourier transform in samples.
    n_mels : int
        Number of bands.
    f_min, f_max : float
        Lower edge of the first and upper edge of the last band in Hz.
    scale : {"slaney", "htk", "kaldi"}
        With "slaney" and "htk", the triangles are linear in Hz, as in librosa and torchaudio; with
        "kaldi", they are linear in mel and omit the bin at half the rate, as in Kaldi's
        ``compute-fbank-feats``.
    norm : {"slaney"} or None
        "slaney" gives every triangle the same area in Hz, `None` a height of 1.

    Returns
    -------
    float32[n_mels, 1 + n_fft // 2]
    """
    bins = np.arange(1 + n_fft // 2, dtype=np.float64) * (sample_rate / n_fft)
    edges = _edges(n_mels, f_min, f_max, scale)
    edges_hz = mel_to_hz(edges, scale)
    if scale == "kaldi":
        weights = _triangles(hz_to_mel(bins, scale), edges)
        weights[:, -1] = 0.0
    else:
        weights = _triangles(bins, edges_hz)
    if norm == "slaney":
        weights *= (2.0 / (edges_hz[2:] - edges_hz[:-2]))[:, None]
    return weights.astype(np.float32)


def band_centres(n_mels: int, f_min: float, f_max: float, scale: MelScale) -> NDArray[np.float64]:
    """Return the frequencies in Hz where `mel_filterbank`'s triangles peak, float64[n_mels]."""
    return mel_to_hz(_edges(n_mels, f_min, f_max, scale)[1:-1], scale)


def hz_to_mel(hz: ArrayLike, scale: MelScale = "slaney") -> NDArray[np.float64]:
    """Convert frequencies from Hz to mel."""
    hz = np.asarray(hz, dtype=np.float64)
    if scale == "htk":
        return np.asarray(2595.0 * np.log10(1.0 + hz / 700.0))
    if scale == "kaldi":
        return np.asarray(1127.0 * np.log(1.0 + hz / 700.0))
    above = np.log(np.maximum(hz, _SLANEY_BREAK_HZ) / _SLANEY_BREAK_HZ) / _SLANEY_LOG_STEP
    return np.where(hz < _SLANEY_BREAK_HZ, hz / _SLANEY_HZ_PER_MEL, _SLANEY_BREAK_MEL + above)


def mel_to_hz(mel: ArrayLike, scale: MelScale = "slaney") -> NDArray[np.float64]:
    """Convert frequencies from mel to Hz."""
    mel = np.asarray(mel, dtype=np.float64)
    if scale == "htk":
        return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0))
    if scale == "kaldi":
        return np.asarray(700.0 * (np.exp(mel / 1127.0) - 1.0))
    above = np.exp(np.maximum(mel - _SLANEY_BREAK_MEL, 0.0) * _SLANEY_LOG_STEP)
    return np.where(mel < _SLANEY_BREAK_MEL, mel * _SLANEY_HZ_PER_MEL, _SLANEY_BREAK_HZ * above)


def _edges(n_mels: int, f_min: float, f_max: float, scale: MelScale) -> NDArray[np.float64]:
    """Return the edges of the triangles in mel, float64[n_mels + 2]; each peaks at the next one."""
    lowest, highest = float(hz_to_mel(f_min, scale)), float(hz_to_mel(f_max, scale))
    return np.linspace(lowest, highest, n_mels + 2)


def _triangles(bins: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the height of triangle i (edges i, i+1, i+2) at every bin, float64[bands, bins]."""
    widths = np.diff(edges)
    rising = (bins - edges[:-2, None]) / widths[:-1, None]
    falling = (edges[2:, None] - bins) / widths[1:, None]
    triangles: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    return triangles
