"""How long and how loud a recording is, and which windows of it are silent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from tonearm.inputs import SILENCE_PEAK

CELL_SECONDS = 0.1
# Share of a window's cells that must reach `SILENCE_PEAK`: a note now and then is music, a click at
# the edge of a silent window is not.
HEARD_SHARE = 0.05

Floats = npt.NDArray[np.float32]


class Loudness:
    """The length of a recording and the peak of each tenth of a second, as its blocks pass by.

    Parameters
    ----------
    rate
        Sample rate in Hz.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._length = max(1, round(CELL_SECONDS * rate))
        self._peaks: list[float] = []
        self._rest = np.zeros(0, np.float32)  # samples of a cell that is not complete yet

    @property
    def samples(self) -> int:
        """Number of samples so far."""
        return len(self._peaks) * self._length + len(self._rest)

    @property
    def peak(self) -> float:
        """The highest absolute value so far."""
        return max([*self._peaks, float(np.abs(self._rest).max(initial=0.0))])

    def monitor(self, blocks: Iterable[Floats]) -> Iterator[Floats]:
        """Pass blocks of float32[n] on, noting their peaks."""
        for block in blocks:
            samples = np.concatenate([self._rest, block])
            complete = len(samples) // self._length * self._length
            cells = samples[:complete].reshape(-1, self._length)
            self._peaks += np.maximum(cells.max(axis=1), -cells.min(axis=1)).tolist()
            self._rest = samples[complete:]
            yield block

    def is_silent(self, start: float, end: float) -> bool:
        """Whether hardly anything between two times, in seconds, reaches `SILENCE_PEAK`.

        What has not been passed on yet, and what lies behind the end, does not count.
        """
        first = int(start * self._rate) // self._length
        last = math.ceil(end * self._rate / self._length)
        peaks = self._peaks[first:last]
        return sum(peak >= SILENCE_PEAK for peak in peaks) < HEARD_SHARE * len(peaks)
