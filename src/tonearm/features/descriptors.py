"""Traditional descriptors of a clip: statistics of timbre, harmony, brightness and rhythm."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tonearm.errors import UsageError
from tonearm.features import spectral, tempo
from tonearm.features.logmel import FRONT_ENDS, LogMel
from tonearm.mono import as_mono

DESCRIPTOR_RATE = FRONT_ENDS["librosa"].sample_rate
# Of a longer recording only the middle is described, in training and prediction alike, because some
# of the statistics depend on the length.
EXCERPT_SECONDS = 30.0
FRAMES_PER_SECOND = FRONT_ENDS["librosa"].frames_per_second
TEMPO_BANDS = 12

_PITCHES = ("c", "cs", "d", "ds", "e", "f", "fs", "g", "gs", "a", "as", "b")


def excerpt_start(seconds: float) -> float:
    """Return the start, in seconds, of the stretch to describe in a recording of this length."""
    return max(0.0, (seconds - EXCERPT_SECONDS) / 2)


def describe(samples: ArrayLike) -> NDArray[np.float32]:
    """Describe a clip with one number per name in `descriptor_names`.

    Mean and standard deviation over time of 20 MFCCs, 12 chroma, 7 spectral contrasts, centroid,
    bandwidth, roll-off (Hz), zero-crossing rate, RMS and onset strength; standard deviation of the
    MFCCs' change from frame to frame; tempo (BPM); how regularly onsets recur in twelve bands of
    tempo, and the maximum of these as pulse clarity.

    Parameters
    ----------
    samples : float32[n]
        Mono in [-1, 1] at `DESCRIPTOR_RATE`; at least one sample. Silence yields finite numbers.

    Returns
    -------
    float32[len(descriptor_names())]

    Raises
    ------
    UsageError
        If there are no samples, or they are not mono or are integers.
    """
    frames = describe_frames(samples)
    tempogram = tempo.mean_tempogram(frames.onsets, FRAMES_PER_SECOND)
    profile = tempo.tempo_profile(frames.onsets, FRAMES_PER_SECOND, TEMPO_BANDS)
    change = np.diff(frames.mfcc, axis=0) if len(frames.mfcc) > 1 else np.zeros_like(frames.mfcc)
    values = [
        frames.mfcc.mean(axis=0),
        frames.mfcc.std(axis=0),
        change.std(axis=0),
        frames.chroma.mean(axis=0),
        frames.chroma.std(axis=0),
        frames.contrast.mean(axis=0),
        frames.contrast.std(axis=0),
    ]
    for series in (
        frames.centroid,
        frames.bandwidth,
        frames.rolloff,
        frames.zero_crossing_rate,
        frames.rms,
        frames.onsets,
    ):
        values.append(np.array([series.mean(), series.std()]))
    values.append(np.array([tempo.tempo(tempogram, FRAMES_PER_SECOND), profile.max()]))
    values.append(profile)
    return np.concatenate(values).astype(np.float32)


@cache
def descriptor_names() -> tuple[str, ...]:
    """Return the names of the numbers that `describe` returns, in the same order."""
    mfcc = [f"mfcc{i:02d}" for i in range(1, spectral.MFCC_COUNT + 1)]
    chroma = [f"chroma_{pitch}" for pitch in _PITCHES]
    contrast = [f"contrast{i}" for i in range(1, spectral.CONTRAST_BANDS + 1)]
    names = [f"{name}_{statistic}" for statistic in ("mean", "std", "change_std") for name in mfcc]
    for group in (chroma, contrast):
        names += [f"{name}_{statistic}" for statistic in ("mean", "std") for name in group]
    for name in ("centroid", "bandwidth", "rolloff", "zero_crossing_rate", "rms", "onset"):
        names += [f"{name}_mean", f"{name}_std"]
    names += ["tempo", "pulse_clarity"]
    names += [f"tempogram{i:02d}" for i in range(1, TEMPO_BANDS + 1)]
    return tuple(names)


def mfcc_columns() -> tuple[int, ...]:
    """Return the positions of the MFCC statistics in a description, for timbre-only models."""
    return tuple(i for i, name in enumerate(descriptor_names()) if name.startswith("mfcc"))


@dataclass(frozen=True, eq=False)
class FrameDescriptors:
    """Descriptors of every frame (2048 samples, hop length 512) of a clip, frames first."""

    log_mel: NDArray[np.float32]  # [frames, 128] dB, limited to 80 dB
    mfcc: NDArray[np.float32]  # [frames, 20]
    chroma: NDArray[np.float32]  # [frames, 12]
    contrast: NDArray[np.float32]  # [frames, 7], half dB (see `spectral_contrast`)
    centroid: NDArray[np.float64]  # [frames] Hz
    bandwidth: NDArray[np.float64]  # [frames] Hz
    rolloff: NDArray[np.float64]  # [frames] Hz
    zero_crossing_rate: NDArray[np.float64]  # [frames]
    rms: NDArray[np.float64]  # [frames]
    onsets: NDArray[np.float32]  # [frames] dB


def describe_frames(samples: ArrayLike) -> FrameDescriptors:
    """Compute the descriptors of every frame, all in one pass over the spectrum.

    Parameters
    ----------
    samples : float32[n]
        Mono at `DESCRIPTOR_RATE`.

    Raises
    ------
    UsageError
        If there are no samples, or they are not mono or are integers.
    """
    signal = as_mono(samples)
    if len(signal) == 0:
        raise UsageError("there are no samples to describe")
    front_end = _front_end()
    rate, n_fft, hop = DESCRIPTOR_RATE, front_end.config.n_fft, front_end.config.hop_length

    columns: list[tuple[NDArray[np.floating], ...]] = []
    for power in front_end.spectrum([signal]):
        magnitude = np.sqrt(power)
        columns.append(
            (
                front_end.of_power(power),
                spectral.chroma(power, rate),
                *spectral.contrast_extremes(magnitude, rate),
                *spectral.centroid_and_bandwidth(magnitude, rate),
                spectral.rolloff(magnitude, rate),
            )
        )
    log_mel, chroma, peaks, valleys, centroid, bandwidth, rolloff = (
        np.concatenate(parts) for parts in zip(*columns, strict=True)
    )
    log_mel = spectral.limit_range(log_mel)
    return FrameDescriptors(
        log_mel=log_mel,
        mfcc=spectral.mfcc(log_mel),
        chroma=chroma,
        contrast=spectral.spectral_contrast(peaks, valleys),
        centroid=centroid,
        bandwidth=bandwidth,
        rolloff=rolloff,
        zero_crossing_rate=spectral.zero_crossing_rate(signal, n_fft, hop),
        rms=spectral.rms(signal, n_fft, hop),
        onsets=tempo.onset_strength(log_mel, n_fft // (2 * hop)),
    )


@cache
def _front_end() -> LogMel:
    return LogMel(FRONT_ENDS["librosa"])
