"""Vary recording conditions in training: level, tone, bandwidth, noise, tempo and pitch.

A recording's age, medium and mastering do not decide its genre, but in a small old dataset they
correlate with it. Everything is done on batches of log-mel frames of the student's front end, and
more strongly than `tonearm.training.augment` does for networks trained from scratch: the student
must still predict what its teachers predicted for the unmodified recording.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tonearm.training.mel_power import from_power, to_power
from tonearm.training.recipe import ConditionSettings
from tonearm.training.teachers import STUDENT_FRONT_END

Floats = NDArray[np.float32]


def vary_conditions(
    logmel: Tensor, settings: ConditionSettings, rng: np.random.Generator
) -> Tensor:
    """Apply random conditions to every example of a batch independently.

    Parameters
    ----------
    logmel
        float32[batch, frames, mels] of `STUDENT_FRONT_END`.

    Returns
    -------
    float32[batch, frames, mels]
    """
    if rng.random() < settings.warp_probability:
        logmel = _warped(logmel, settings, rng)
    size, _, mels = logmel.shape
    device = logmel.device
    curves = torch.from_numpy(_filters(size, mels, settings, rng)).to(device)
    noise = 10.0 ** rng.uniform(settings.noise_low, settings.noise_high, (size, 1, 1))
    noise *= rng.random((size, 1, 1)) < settings.noise_probability
    power = to_power(logmel, STUDENT_FRONT_END) * torch.pow(10.0, curves[:, None, :] / 10.0)
    floor = torch.from_numpy(noise.astype(np.float32)).to(device)
    return from_power(power + floor, STUDENT_FRONT_END)


def mix(logmel: Tensor, share: float, partner: Tensor) -> Tensor:
    """Mix each example with its partner in power: `share` of its own, the rest of the partner's.

    Parameters
    ----------
    logmel
        float32[batch, frames, mels].
    partner
        int64[batch], each partner's index in the batch.
    """
    power = to_power(logmel, STUDENT_FRONT_END)
    return from_power(share * power + (1 - share) * power[partner], STUDENT_FRONT_END)


def mask_bands(logmel: Tensor, low: int, high: int, rng: np.random.Generator) -> Tensor:
    """Replace at least `low` and fewer than `high` adjacent bands by the mean of the batch."""
    mels = logmel.shape[2]
    width = int(rng.integers(low, high))
    start = int(rng.integers(0, max(1, mels - high)))
    masked = logmel.clone()
    masked[:, :, start : start + width] = logmel.mean()
    return masked


def _filters(size: int, mels: int, settings: ConditionSettings, rng: np.random.Generator) -> Floats:
    """Draw a filter for each example: float32[size, mels], in decibels."""
    curves = np.repeat(rng.uniform(settings.gain_low, settings.gain_high, (size, 1)), mels, axis=1)
    tilts = rng.normal(0, settings.tilt_deviation, (size, 1)) * np.linspace(-1, 1, mels)
    curves += tilts * (rng.random((size, 1)) < settings.tilt_probability)
    points = settings.equaliser_points
    heights = rng.normal(0, settings.equaliser_deviation, (size, points))
    places = np.linspace(0, points - 1, mels)
    equalisers = np.stack([np.interp(places, np.arange(points), row) for row in heights])
    curves += equalisers * (rng.random((size, 1)) < settings.equaliser_probability)
    lowest, highest = np.log2([settings.lowpass_low_hz, settings.lowpass_high_hz])
    cutoff = rng.uniform(lowest, highest, (size, 1))
    slope = rng.uniform(settings.lowpass_slope_low, settings.lowpass_slope_high, (size, 1))
    octaves = np.maximum(np.log2(STUDENT_FRONT_END.band_centres) - cutoff, 0.0)
    curves -= slope * octaves * (rng.random((size, 1)) < settings.lowpass_probability)
    return curves.astype(np.float32)


def _warped(logmel: Tensor, settings: ConditionSettings, rng: np.random.Generator) -> Tensor:
    """Resample each example at a lower tempo and on shifted, stretched mel bands."""
    size, frames, mels = logmel.shape
    # Each row gives an old coordinate (band, frame) in terms of the new ones, all from -1 to 1.
    transform = np.zeros((size, 2, 3), dtype=np.float32)
    transform[:, 0, 0] = rng.uniform(1 - settings.warp_bands, 1 + settings.warp_bands, size)
    transform[:, 0, 2] = rng.uniform(-1, 1, size) * settings.warp_shift * 2 / mels
    # Only slower: a faster tempo would need more frames than there are.
    transform[:, 1, 1] = rng.uniform(1 - settings.warp_tempo, 1, size)
    grid = functional.affine_grid(
        torch.from_numpy(transform).to(logmel.device), [size, 1, frames, mels], align_corners=False
    )
    warped = functional.grid_sample(
        logmel[:, None], grid, padding_mode="border", align_corners=False
    )
    return warped[:, 0]
