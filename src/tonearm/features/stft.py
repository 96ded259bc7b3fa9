"""Compute power spectra of a stream of samples, frame by frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Window = Literal["hann", "hann_symmetric"]
Padding = Literal["reflect", "zeros"]

# Frames transformed at once: frames, spectra and powers of a group then fit in the second-level
# cache. Measured with transforms of 512 to 2048 samples, 32 to 128 frames are equally fast and 512
# take twice as long.
FRAMES_AT_ONCE = 64


class PowerSpectrum:
    """Centred short-time power spectra of float32 samples, as float32.

    Frame `i` is centred on sample ``i * hop_length``, as with ``center=True`` in librosa and
    torch: the signal is padded by half a transform at both ends.

    The transform itself uses double precision, in which NumPy's is no slower. Single precision
    would leave rounding noise 110 dB below the loudest tone, which is visible in silent bands
    (above 8 kHz in a recording once stored at 16 kHz).

    Parameters
    ----------
    n_fft : int
        Length of the Fourier transform in samples, an even number.
    hop_length : int
        Samples from frame to frame, at most `n_fft`.
    win_length : int
        Length of the window, which is centred in the transform.
    window : {"hann", "hann_symmetric"}
        Periodic Hann, the default of librosa and torch, or symmetric Hann.
    padding : {"reflect", "zeros"}
        What the signal is padded with. With "reflect", a signal too short to be mirrored (at most
        half a transform) is first extended with zeros to ``n_fft // 2 + 1`` samples.
    """

    def __init__(
        self,
        n_fft: int,
        hop_length: int,
        win_length: int,
        window: Window,
        padding: Padding,
    ) -> None:
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.window = hann(win_length, window)
        self._padding = padding
        self._half_fft = n_fft // 2

    def __call__(self, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Transform a signal that comes in blocks of any length.

        Yields
        ------
        float32[k, 1 + n_fft // 2]
            Power of the next `k` frames, at most `FRAMES_AT_ONCE`. The array is reused for the
            next group: copy what you want to keep.
        """
        win = len(self.window)
        # A frame needs only the samples under the window. Their position within the transform
        # affects the phase but not the power, so they are put first, followed by zeros.
        first = (self.n_fft - win) // 2
        frames = np.zeros((FRAMES_AT_ONCE, self.n_fft), dtype=np.float64)
        spectrum = np.empty((FRAMES_AT_ONCE, self._half_fft + 1), dtype=np.complex64)
        power = np.empty((FRAMES_AT_ONCE, self._half_fft + 1), dtype=np.float32)

        for segment in self._whole_frames(blocks):
            windows = sliding_window_view(segment, self.n_fft)[:: self.hop_length]
            for start in range(0, len(windows), FRAMES_AT_ONCE):
                group = windows[start : start + FRAMES_AT_ONCE, first : first + win]
                k = len(group)
                np.multiply(group, self.window, out=frames[:k, :win])
                # NumPy rounds to the type of `out`, which its stub does not know.
                np.fft.rfft(frames[:k], out=spectrum[:k])  # type: ignore[arg-type]
                np.square(spectrum.real[:k], out=power[:k])
                power[:k] += np.square(spectrum.imag[:k])
                yield power[:k]

    def _whole_frames(self, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Cut the padded signal into runs of whole frames; each run starts where a frame starts."""
        buffer = np.empty(0, dtype=np.float32)
        started = False
        tail = np.empty(0, dtype=np.float32)  # the last samples, to be mirrored after the end
        for block in blocks:
            if len(block) == 0:
                continue
            tail = np.concatenate([tail, block[-self._half_fft - 1 :]])[-self._half_fft - 1 :]
            buffer = np.concatenate([buffer, block])
            if not started:
                if len(buffer) <= self._half_fft:
                    continue
                buffer = np.concatenate([self._left_padding(buffer), buffer])
                started = True
            whole = self._frames_in(len(buffer))
            if whole:
                yield buffer[: (whole - 1) * self.hop_length + self.n_fft]
                buffer = buffer[whole * self.hop_length :]

        if not started:
            if len(buffer) == 0:
                return
            if self._padding == "reflect":
                tail = buffer = np.pad(buffer, (0, self._half_fft + 1 - len(buffer)))
            buffer = np.concatenate([self._left_padding(buffer), buffer])
        buffer = np.concatenate([buffer, self._right_padding(tail)])
        if self._frames_in(len(buffer)):
            yield buffer

    def _frames_in(self, samples: int) -> int:
        return max(0, 1 + (samples - self.n_fft) // self.hop_length)

    def _left_padding(self, head: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._padding == "zeros":
            return np.zeros(self._half_fft, dtype=np.float32)
        return head[self._half_fft : 0 : -1]

    def _right_padding(self, tail: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._padding == "zeros":
            return np.zeros(self._half_fft, dtype=np.float32)
        return tail[-2::-1][: self._half_fft]


def hann(length: int, window: Window = "hann") -> NDArray[np.float64]:
    """Return a Hann window, float64[length]: periodic ("hann") or symmetric ("hann_symmetric")."""
    periods = length if window == "hann" else max(1, length - 1)
    return np.asarray(0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(length) / periods))
