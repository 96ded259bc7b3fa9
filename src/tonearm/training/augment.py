"""Augment training examples on log-mel frames, so that features are computed only once.

A recording's level, bandwidth, equalisation, speed and key should not decide its genre, so each is
varied. `crop` draws a stretch of one clip at another tempo and pitch; `vary` filters and masks a
batch; `mixup` blends its examples.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tonearm.datasets.storage import StoredArray
from tonearm.features import mel
from tonearm.features.logmel import LogMelConfig
from tonearm.training.experiment import AugmentSettings
from tonearm.training.mel_power import from_power, to_power

Floats = NDArray[np.float32]

# Depth and steepness of a low-pass: full attenuation within a sixth of an octave, as in a codec or
# a resampler.
_LOWPASS_FLOOR_DB = -100.0
_LOWPASS_OCTAVES = 1.0 / 6.0
# Looped pieces are at least this share of the crop.
_SHORTEST_PIECE = 0.6


class Batch(NamedTuple):
    """Training examples."""

    logmel: Tensor  # float32[batch, frames, mels]
    descriptors: Tensor | None  # float32[batch, descriptors], NaN rows where missing
    target: Tensor  # float32[batch, classes], a distribution per example


def crop(
    logmel: StoredArray | NDArray[np.floating],
    frames: int,
    front_end: LogMelConfig,
    settings: AugmentSettings,
    loop_probability: float,
    rng: np.random.Generator,
) -> Floats:
    """Draw a random stretch of a clip, at a random tempo and pitch.

    A clip shorter than the stretch is repeated, starting at a random point. With probability
    `loop_probability` a piece of a longer clip is repeated too, so that seams do not reveal which
    clips are short.

    Parameters
    ----------
    logmel
        float[clip_frames, mels].
    frames
        Length of the stretch.

    Returns
    -------
    float32[frames, mels]
    """
    speed = math.exp(rng.uniform(-1, 1) * math.log1p(settings.stretch))
    length = max(2, round(frames * speed))
    piece = length
    if rng.random() < loop_probability:
        piece = round(length * rng.uniform(_SHORTEST_PIECE, 1.0))
    piece = min(piece, len(logmel))
    start = int(rng.integers(len(logmel) - piece + 1))
    order = (int(rng.integers(piece)) if piece < length else 0) + np.arange(length)
    stretch = logmel[start : start + piece][order % piece].astype(np.float32)
    if length != frames:
        stretch = _resample(stretch, np.linspace(0, length - 1, frames))
    semitones = rng.uniform(-1, 1) * settings.transpose
    if semitones:
        stretch = _resample(stretch.T, _transposed_bands(front_end, semitones)).T
    return np.ascontiguousarray(stretch)


def vary(
    logmel: Tensor, front_end: LogMelConfig, settings: AugmentSettings, rng: np.random.Generator
) -> Tensor:
    """Filter every example of a batch at random, then mask stretches of time and bands.

    The filters act on mel power: gain, a tilt around 1 kHz, and a low-pass in some examples. The
    masks are SpecAugment's (Park et al. 2019), filled with each band's mean over the batch.

    Parameters
    ----------
    logmel
        float32[batch, frames, mels].

    Returns
    -------
    float32[batch, frames, mels]
    """
    curve = _filter_curves(len(logmel), front_end, settings, rng)
    varied = apply_gain(logmel, torch.from_numpy(curve)[:, None, :].to(logmel.device), front_end)
    return _masked(varied, front_end, settings, rng)


def mixup(batch: Batch, alpha: float, rng: np.random.Generator) -> Batch:
    """Blend every example with another one of the batch (mixup, Zhang et al. 2018).

    The shares are drawn from Beta(alpha, alpha); the example itself gets the larger one.
    """
    if alpha <= 0:
        return batch
    size = len(batch.target)
    device = batch.target.device
    partner = torch.from_numpy(rng.permutation(size)).to(device)
    drawn = rng.beta(alpha, alpha, size=size)
    share = torch.from_numpy(np.maximum(drawn, 1 - drawn).astype(np.float32)).to(device)

    def blend(x: Tensor) -> Tensor:
        shares = share.reshape(-1, *[1] * (x.ndim - 1))
        return shares * x + (1 - shares) * x[partner]

    descriptors = None if batch.descriptors is None else blend(batch.descriptors)
    return Batch(blend(batch.logmel), descriptors, blend(batch.target))


def apply_gain(logmel: Tensor, gain_db: Tensor, front_end: LogMelConfig) -> Tensor:
    """Return log-mel frames with the gain of each mel band changed by `gain_db`.

    Parameters
    ----------
    logmel
        float32[batch, frames, mels] of the front end.
    gain_db
        Gain in decibels of power; broadcasts to the shape of `logmel`.
    """
    factor = torch.exp(gain_db * (math.log(10.0) / 10.0))
    return from_power(to_power(logmel, front_end) * factor, front_end)


def _transposed_bands(front_end: LogMelConfig, semitones: float) -> NDArray[np.float64]:
    """Return for each band the (fractional) source band that transposition moves to it."""
    centres = front_end.band_centres
    scale = front_end.scale
    mels = mel.hz_to_mel(centres, scale)
    sources = mel.hz_to_mel(centres * 2.0 ** (-semitones / 12.0), scale)
    return np.asarray((sources - mels[0]) / (mels[1] - mels[0]))


def _resample(x: Floats, positions: NDArray[np.float64]) -> Floats:
    """Interpolate rows linearly at fractional positions, clamped to the first and last row."""
    positions = np.clip(positions, 0, len(x) - 1)
    below = np.minimum(positions.astype(np.int64), len(x) - 2)
    share = (positions - below).astype(np.float32)[:, None]
    resampled: Floats = x[below] * (1 - share) + x[below + 1] * share
    return resampled


def _filter_curves(
    size: int, front_end: LogMelConfig, settings: AugmentSettings, rng: np.random.Generator
) -> Floats:
    """Draw a filter for each example: float32[size, mels], in decibels."""
    centres = front_end.band_centres
    octaves = np.log2(np.maximum(centres, 50.0) / 1000.0)
    gain = rng.uniform(-1, 1, (size, 1)) * settings.gain_db
    tilt = rng.uniform(-1, 1, (size, 1)) * settings.tilt_db
    curves = gain + tilt * octaves
    lowest, highest = np.log2([min(settings.lowpass_hz, front_end.f_max), front_end.f_max])
    cutoff = rng.uniform(lowest, highest, (size, 1))
    beyond = np.clip((np.log2(np.maximum(centres, 1.0)) - cutoff) / _LOWPASS_OCTAVES, 0, 1)
    dulled = rng.random((size, 1)) < settings.lowpass_probability
    filtered: Floats = (curves + dulled * beyond * _LOWPASS_FLOOR_DB).astype(np.float32)
    return filtered


def _masked(
    logmel: Tensor, front_end: LogMelConfig, settings: AugmentSettings, rng: np.random.Generator
) -> Tensor:
    size, frames, mels = logmel.shape
    longest = round(settings.time_mask_seconds * front_end.frames_per_second)
    widest = round(settings.band_mask_share * mels)
    in_time = _stretches(size, frames, settings.time_masks, longest, rng)
    in_bands = _stretches(size, mels, settings.band_masks, widest, rng)
    masked = torch.from_numpy(in_time[:, :, None] | in_bands[:, None, :]).to(logmel.device)
    return torch.where(masked, logmel.mean(dim=(0, 1)), logmel)


def _stretches(
    size: int, length: int, count: int, longest: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Mark up to `count` random runs of up to `longest` entries in each row: bool[size, length]."""
    longest = min(longest, length)
    widths = rng.integers(0, longest + 1, (size, count, 1))
    starts = rng.integers(0, length - widths + 1)
    places = np.arange(length)
    marked = (places >= starts) & (places < starts + widths)
    return np.asarray(marked.any(axis=1))
