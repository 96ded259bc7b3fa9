"""The networks' log-mel spectrogram, computed from a whole signal or a stream of blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tonearm.errors import UsageError
from tonearm.features.mel import MelNorm, MelScale, band_centres, mel_filterbank
from tonearm.features.stft import Padding, PowerSpectrum, Window
from tonearm.mono import as_mono

Log = Literal["ln", "log10", "db"]

# Settings outside these ranges are damage or a prank: they would exhaust memory or exceed float32.
_INTEGER_RANGES: dict[str, tuple[int, int]] = {
    "sample_rate": (1_000, 1_000_000),
    "n_fft": (1, 16_384),
    "win_length": (1, 16_384),
    "hop_length": (1, 16_384),
    "n_mels": (1, 1_024),
}
_SMALLEST, _LARGEST = 1e-30, 1e12
_FLOAT_SETTINGS = ("f_min", "f_max", "preemphasis", "offset", "gain", "shift", "divisor")

_CHOICES: dict[str, tuple[str | None, ...]] = {
    "window": get_args(Window),
    "padding": get_args(Padding),
    "scale": get_args(MelScale),
    "norm": (*get_args(MelNorm), None),
    "log": get_args(Log),
}


@dataclass(frozen=True, kw_only=True)
class LogMelConfig:
    """Settings of a log-mel front end, stored in a model so that it gets the input it expects.

    The spectrum is centred: sample ``i * hop_length`` is in the middle of frame `i`. A value is
    ``(log(gain * mel) + shift) / divisor``, where `log` is one of

    - "ln": ``ln(gain * mel + offset)``
    - "log10": ``log10(gain * mel + offset)``
    - "db": ``10 * log10(max(gain * mel, offset))``

    Attributes
    ----------
    sample_rate : int
        Rate the samples must have, in Hz.
    n_fft, win_length, hop_length : int
        Length of the transform and of the window, and hop length, in samples. `n_fft` is even, and
        neither of the others exceeds it.
    n_mels : int
        Number of mel bands.
    f_min, f_max : float
        Lower edge of the first and upper edge of the last band, in Hz.
    window : {"hann", "hann_symmetric"}
        Periodic or symmetric Hann.
    padding : {"reflect", "zeros"}
        What the signal is padded with before the first sample and after the last.
    scale : {"slaney", "htk", "kaldi"}
        Mel scale, see `tonearm.features.mel.mel_filterbank`.
    norm : {"slaney"} or None
        Weighting of the bands.
    preemphasis : float
        If not 0, the spectrum is that of ``x[i + 1] - preemphasis * x[i]``, one sample shorter.
    log : {"ln", "log10", "db"}
        The logarithm, see above.
    offset, gain, shift, divisor : float
        The numbers of the formulas above; `offset`, `gain` and `divisor` are above 0.

    Raises
    ------
    UsageError
        If a setting is out of range, of another type or unknown, or two contradict each other.
    """

    sample_rate: int
    n_fft: int
    win_length: int
    hop_length: int
    n_mels: int
    f_min: float
    f_max: float
    window: Window = "hann"
    padding: Padding = "reflect"
    scale: MelScale = "slaney"
    norm: MelNorm | None = "slaney"
    preemphasis: float = 0.0
    log: Log = "ln"
    offset: float = 1e-5
    gain: float = 1.0
    shift: float = 0.0
    divisor: float = 1.0

    def __post_init__(self) -> None:
        self._check_numbers()
        for name, choices in _CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                known = ", ".join(map(repr, choices))
                raise UsageError(f"unknown front end {name} {value!r:.40}: expected {known}")
        if self.win_length > self.n_fft:
            raise UsageError(
                f"a front end needs win_length <= n_fft, got {self.win_length} and {self.n_fft}"
            )
        if self.n_fft % 2 or self.hop_length > self.n_fft:  # as `PowerSpectrum` requires
            raise UsageError(
                "a front end needs an even n_fft and hop_length <= n_fft, got n_fft "
                f"{self.n_fft} and hop_length {self.hop_length}"
            )
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise UsageError(
                f"a front end at {self.sample_rate} Hz needs 0 <= f_min < f_max <= "
                f"{self.sample_rate / 2:g}, got {self.f_min:g} and {self.f_max:g}"
            )

    def _check_numbers(self) -> None:
        for name, (least, most) in _INTEGER_RANGES.items():
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise UsageError(
                    f"front end {name}: expected a whole number from {least} to {most}, "
                    f"got {value!r:.40}"
                )
        for name in _FLOAT_SETTINGS:
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not abs(value) <= _LARGEST:
                raise UsageError(
                    f"front end {name}: expected a number up to {_LARGEST:g}, got {value!r:.40}"
                )
        for name in ("offset", "gain", "divisor"):  # in a logarithm, or a denominator
            if (value := getattr(self, name)) < _SMALLEST:
                raise UsageError(f"front end {name}: expected more than 0, got {value}")

    @property
    def frames_per_second(self) -> float:
        """Frames per second of audio."""
        return self.sample_rate / self.hop_length

    @property
    def band_centres(self) -> NDArray[np.float64]:
        """The frequencies in Hz where the mel bands peak, float64[n_mels]."""
        return band_centres(self.n_mels, self.f_min, self.f_max, self.scale)

    def to_dict(self) -> dict[str, Any]:
        """Return all settings as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> LogMelConfig:
        """Read the settings written by `to_dict`.

        Raises
        ------
        UsageError
            If a setting is unknown or missing, so that a model made by a later version does not
            get a spectrogram it does not expect.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(settings) - known):
            raise UsageError(f"unknown front end settings: {', '.join(unknown)}")
        try:
            return cls(**settings)
        except TypeError as error:
            raise UsageError(f"incomplete front end settings: {error}") from None


# The front end of the taggers of Won et al. 2020 (torchaudio's mel spectrogram in decibels).
_HTK_16K = LogMelConfig(
    sample_rate=16_000,
    n_fft=512,
    win_length=512,
    hop_length=256,
    n_mels=96,
    f_min=0.0,
    f_max=8_000.0,
    scale="htk",
    norm=None,
    log="db",
    offset=1e-10,
)

FRONT_ENDS: dict[str, LogMelConfig] = {
    # The front end of EfficientAT (Schmid et al. 2023), which its published weights expect.
    "efficientat": LogMelConfig(
        sample_rate=32_000,
        n_fft=1024,
        win_length=800,
        hop_length=320,
        n_mels=128,
        f_min=0.0,
        f_max=15_000.0,
        window="hann_symmetric",
        scale="kaldi",
        norm=None,
        preemphasis=0.97,
        log="ln",
        offset=1e-5,
        shift=4.5,
        divisor=5.0,
    ),
    # For networks trained from scratch (settings of musicnn, Pons and Serra 2019). It ends at
    # 8 kHz, so a network cannot tell whether a recording was once stored at 16, 22.05 or 44.1 kHz.
    "mel16k": LogMelConfig(
        sample_rate=16_000,
        n_fft=512,
        win_length=512,
        hop_length=256,
        n_mels=96,
        f_min=0.0,
        f_max=8_000.0,
        log="log10",
        offset=1.0,
        gain=10_000.0,
    ),
    # Also for networks trained from scratch, with three times the resolution at low frequencies:
    # the frames of "librosa", fine enough to tell notes and harmonics from noise, on the log scale
    # of "mel16k". It reaches 11 kHz, so training has to vary the bandwidth.
    "mel22k": LogMelConfig(
        sample_rate=22_050,
        n_fft=2048,
        win_length=2048,
        hop_length=512,
        n_mels=128,
        f_min=0.0,
        f_max=11_025.0,
        log="log10",
        offset=1.0,
        gain=10_000.0,
    ),
    "htk16k": _HTK_16K,
    # The same from samples at twice the rate, so that one decoding serves "efficientat" too. With
    # twice the samples in a window of equal duration, the power is four times as high.
    "htk32k": replace(
        _HTK_16K, sample_rate=32_000, n_fft=1024, win_length=1024, hop_length=512, gain=0.25
    ),
    # librosa.power_to_db(librosa.feature.melspectrogram(), top_db=None): for pictures and MFCC.
    "librosa": LogMelConfig(
        sample_rate=22_050,
        n_fft=2048,
        win_length=2048,
        hop_length=512,
        n_mels=128,
        f_min=0.0,
        f_max=11_025.0,
        padding="zeros",
        log="db",
        offset=1e-10,
    ),
}


class LogMel:
    """Computes log-mel spectrograms: ``LogMel(FRONT_ENDS["mel16k"])(samples)``.

    Parameters
    ----------
    config : LogMelConfig
        Settings, or one of `FRONT_ENDS`.
    """

    def __init__(self, config: LogMelConfig) -> None:
        self.config = config
        self.spectrum: PowerSpectrum = PowerSpectrum(
            config.n_fft, config.hop_length, config.win_length, config.window, config.padding
        )
        self._mel = MelBands(
            mel_filterbank(
                config.sample_rate,
                config.n_fft,
                config.n_mels,
                config.f_min,
                config.f_max,
                config.scale,
                config.norm,
            )
        )

    def __call__(self, samples: ArrayLike) -> NDArray[np.float32]:
        """Compute the log-mel spectrogram of a whole signal.

        Parameters
        ----------
        samples : float32[n]
            Mono at ``config.sample_rate``, in [-1, 1]. A signal of half a transform or less is
            padded with silence; an empty one has no frames.

        Returns
        -------
        float32[frames, n_mels]

        Raises
        ------
        UsageError
            If the samples are not mono, or are integers.
        """
        frames = list(self.stream([samples]))
        return np.concatenate(frames) if frames else np.empty((0, self.config.n_mels), np.float32)

    def stream(self, blocks: Iterable[ArrayLike]) -> Iterator[NDArray[np.float32]]:
        """Yield the log-mel frames of a signal that comes in blocks of any length.

        Joined, the frames equal those of the whole signal; memory grows with the longest block,
        not with the signal.

        Yields
        ------
        float32[k, n_mels]
            The next `k` frames, at most `tonearm.features.stft.FRAMES_AT_ONCE`.

        Raises
        ------
        UsageError
            If the samples of a block are not mono, or are integers.
        """
        signal: Iterable[NDArray[np.float32]] = map(as_mono, blocks)
        if self.config.preemphasis:
            signal = _preemphasised(signal, self.config.preemphasis)
        for power in self.spectrum(signal):
            yield self.of_power(power)

    def of_power(self, power: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return log-mel frames float32[k, n_mels] of power spectra float32[k, 1 + n_fft // 2]."""
        c = self.config
        mel = self._mel(power)
        if c.gain != 1.0:
            mel *= np.float32(c.gain)
        if c.log == "db":
            np.maximum(mel, np.float32(c.offset), out=mel)
            np.log10(mel, out=mel)
            mel *= np.float32(10.0)
        else:
            mel += np.float32(c.offset)
            (np.log if c.log == "ln" else np.log10)(mel, out=mel)
        if c.shift:
            mel += np.float32(c.shift)
        if c.divisor != 1.0:
            mel *= np.float32(1.0 / c.divisor)
        return mel


class MelBands:
    """Applies a filterbank to power spectra.

    A mel band covers few adjacent bins, so a product with the whole matrix would mostly multiply
    zeros. Instead, each group of neighbouring bands is a small dense product over the bins that it
    covers.
    """

    GROUPS = 8

    def __init__(self, filterbank: NDArray[np.float32]) -> None:
        self.n_mels = len(filterbank)
        self._groups: list[tuple[slice, slice, NDArray[np.float32]]] = []
        edges = [round(i * self.n_mels / self.GROUPS) for i in range(self.GROUPS + 1)]
        for first, last in pairwise(edges):
            used = np.flatnonzero(filterbank[first:last].any(axis=0))
            if len(used) == 0:
                continue
            bins = slice(int(used[0]), int(used[-1]) + 1)
            weights = np.ascontiguousarray(filterbank[first:last, bins].T)
            self._groups.append((slice(first, last), bins, weights))

    def __call__(self, power: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mel power float32[frames, n_mels] of power spectra float32[frames, bins]."""
        mel = np.zeros((len(power), self.n_mels), dtype=np.float32)
        for bands, bins, weights in self._groups:
            np.matmul(power[:, bins], weights, out=mel[:, bands])
        return mel


def _preemphasised(
    blocks: Iterable[NDArray[np.float32]], coefficient: float
) -> Iterator[NDArray[np.float32]]:
    """Yield ``x[i + 1] - coefficient * x[i]`` of a signal that comes in blocks.

    A signal of a single sample has no such difference; it yields one zero, so that it counts as
    silence rather than as empty.
    """
    factor = np.float32(coefficient)
    previous: NDArray[np.float32] | None = None
    differences = 0
    for block in blocks:
        if len(block) == 0:
            continue
        joined = block if previous is None else np.concatenate([previous, block])
        previous = joined[-1:]
        differences += len(joined) - 1
        yield joined[1:] - factor * joined[:-1]
    if previous is not None and differences == 0:
        yield np.zeros(1, dtype=np.float32)
