"""The spectrogram as a picture: bytes for a network, or a bounded number of columns for a plot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tonearm.features.logmel import LogMel, LogMelConfig
from tonearm.features.mel import hz_to_mel
from tonearm.mono import as_mono

RANGE_DB = 80.0  # from black to the brightest

# The loudest band of music at full scale is around +30 dB. If nothing reaches the level below, the
# picture stays dark instead of magnifying silence.
_SILENT_DB = -20.0
_SHORTEST_HOP, _LONGEST_HOP = 32, 512  # samples
_SHORTEST_FFT = 2048  # samples


def render(decibels: NDArray[np.float32], range_db: float = RANGE_DB) -> NDArray[np.uint8]:
    """Render a spectrogram in 256 shades of grey relative to its own maximum.

    Parameters
    ----------
    decibels : float32[frames, n_mels]
        As computed by ``LogMel(FRONT_ENDS["librosa"])``.
    range_db : float, default 80
        Levels this far or further below the maximum become 0; the maximum becomes 255.

    Returns
    -------
    uint8[n_mels, frames]
        An upright picture: time runs to the right, the highest band is the first row.
    """
    shades = (relative(decibels) / range_db + 1.0) * 255.0
    return np.asarray(np.round(np.clip(shades.T[::-1], 0.0, 255.0)), dtype=np.uint8)


def relative(decibels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return levels in dB relative to the loudest; silence stays far below 0."""
    loudest = max(float(decibels.max(initial=-np.inf)), _SILENT_DB)
    return np.asarray(decibels - np.float32(loudest))


@dataclass(frozen=True, eq=False)
class Overview:
    """A recording of any length in a bounded number of columns.

    Attributes
    ----------
    decibels : float32[columns, n_mels]
        Mean power of each column in dB.
    column_seconds : float
        Distance between columns; the first is centred at 0 s.
    low, high : float32[steps]
        Least and greatest sample of each step.
    step_seconds : float
        Length of a step; the first begins at 0 s.
    seconds : float
        Length of the recording.
    config : LogMelConfig
        Settings of the spectrogram.
    """

    decibels: NDArray[np.float32]
    column_seconds: float
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    step_seconds: float
    seconds: float
    config: LogMelConfig


def overview(blocks: Iterable[ArrayLike], config: LogMelConfig, columns: int) -> Overview:
    """Summarise a signal that comes in blocks, in memory that does not grow with its length.

    Parameters
    ----------
    blocks : iterable of float32[n]
        Mono samples at ``config.sample_rate``.
    config : LogMelConfig
        Settings for a spectrogram in dB, such as those of `plot_config`.
    columns : int
        As soon as there are four times this many columns, they are averaged in pairs.
    """
    spectra = _BoundedRows(4 * columns, config.n_mels, np.mean)
    extremes = _BoundedRows(4 * columns, 2, np.max)
    samples = 0

    def with_extremes() -> Iterator[NDArray[np.float32]]:
        nonlocal samples
        rest = np.empty(0, dtype=np.float32)
        for block in map(as_mono, blocks):
            samples += len(block)
            rest = np.concatenate([rest, block])
            whole = len(rest) - len(rest) % config.hop_length
            extremes.add(_extremes(rest[:whole].reshape(-1, config.hop_length)))
            rest = rest[whole:]
            yield block
        if len(rest):
            extremes.add(_extremes(rest[None]))

    for frames in LogMel(config).stream(with_extremes()):
        spectra.add(np.power(np.float32(10.0), frames / np.float32(10.0)))

    hop_seconds = 1.0 / config.frames_per_second
    merged_extremes = extremes.rows()
    return Overview(
        decibels=np.float32(10.0) * np.log10(np.maximum(spectra.rows(), np.float32(config.offset))),
        column_seconds=spectra.merged * hop_seconds,
        low=-merged_extremes[:, 0],
        high=merged_extremes[:, 1],
        step_seconds=extremes.merged * hop_seconds,
        seconds=samples / config.sample_rate,
        config=config,
    )


def plot_config(
    rate: int, seconds: float | None = None, n_mels: int = 128, columns: int = 1200
) -> LogMelConfig:
    """Return settings that display a recording well, all the way up to half its rate.

    Parameters
    ----------
    rate : int
        Samples per second.
    seconds : float, optional
        Length, if known: a short recording gets a shorter hop, so that it fills the columns.
    n_mels : int, default 128
        With many bands, the transform is longer, so that even the lowest, narrowest bands contain
        a bin.
    columns : int, default 1200
        Width of the picture.
    """
    hop = _LONGEST_HOP
    while seconds is not None and hop > _SHORTEST_HOP and seconds * rate < hop * columns:
        hop //= 2
    bands_per_hz = (n_mels + 1) / float(hz_to_mel(rate / 2)) * float(hz_to_mel(1.0))
    n_fft = _SHORTEST_FFT
    while n_fft < rate * bands_per_hz:
        n_fft *= 2
    return LogMelConfig(
        sample_rate=rate,
        n_fft=n_fft,
        win_length=n_fft,
        hop_length=hop,
        n_mels=n_mels,
        f_min=0.0,
        f_max=rate / 2,
        norm=None,
        log="db",
        offset=1e-10,
    )


class _BoundedRows:
    """Rows that are merged in pairs whenever they reach a limit, an even number."""

    def __init__(self, limit: int, width: int, merge: Callable[..., Any]) -> None:
        self.merged = 1  # rows added for each row kept
        self._stored = np.empty((limit, width), dtype=np.float32)
        self._count = 0
        self._pending = np.empty((0, width), dtype=np.float32)
        self._merge = merge

    def add(self, rows: NDArray[np.float32]) -> None:
        """Add more rows, float32[k, width]."""
        self._pending = np.concatenate([self._pending, rows])
        while count := min(len(self._pending) // self.merged, len(self._stored) - self._count):
            groups = self._pending[: count * self.merged]
            self._stored[self._count : self._count + count] = self._merge_groups(
                groups, self.merged
            )
            self._count += count
            self._pending = self._pending[len(groups) :]
            if self._count == len(self._stored):
                self._count //= 2
                self._stored[: self._count] = self._merge_groups(self._stored, 2)
                self.merged *= 2

    def rows(self) -> NDArray[np.float32]:
        """Return all rows; the last may stand for fewer added rows than the others."""
        stored = self._stored[: self._count]
        if len(self._pending) == 0:
            return stored
        return np.concatenate([stored, self._merge_groups(self._pending, len(self._pending))])

    def _merge_groups(self, rows: NDArray[np.float32], size: int) -> NDArray[np.float32]:
        merged = self._merge(rows.reshape(-1, size, rows.shape[1]), axis=1)
        return np.asarray(merged, dtype=np.float32)


def _extremes(steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the negated minimum and the maximum of each row, so that `max` merges both."""
    return np.stack([-steps.min(axis=1), steps.max(axis=1)], axis=1)
