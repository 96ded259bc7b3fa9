"""The descriptors that some models take beside the spectrogram: of the middle of a recording."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tonearm import audio
from tonearm.bundle import Bundle, BundleError
from tonearm.features.descriptors import (
    DESCRIPTOR_RATE,
    EXCERPT_SECONDS,
    describe,
    descriptor_names,
    excerpt_start,
)

Floats = npt.NDArray[np.float32]


def read_middle(source: audio.Source, rate: int, time_limit: float | None = None) -> Floats:
    """Read the middle `EXCERPT_SECONDS` of a recording, as training and classifying both do.

    Parameters
    ----------
    rate
        Sample rate to resample to, in Hz.
    time_limit
        Seconds that each of two readings may take; see `audio.stream`.

    Returns
    -------
    float32[n]

    Raises
    ------
    AudioError
        If it cannot be decoded.
    """
    # Not the length that the header states, which may be far too long.
    length = audio.identify(source, time_limit=time_limit).duration or 0.0
    start = excerpt_start(length)
    return audio.read(source, rate, start, EXCERPT_SECONDS, time_limit=time_limit).samples


class BundleDescriptors:
    """Computes the descriptors that a bundle names.

    Raises
    ------
    BundleError
        If this version does not compute one of them.
    """

    def __init__(self, model: Bundle) -> None:
        columns = {name: column for column, name in enumerate(descriptor_names())}
        if unknown := [name for name in model.metadata.descriptors if name not in columns]:
            raise BundleError(model.path, f"takes unknown descriptors: {', '.join(unknown)}")
        self._columns = [columns[name] for name in model.metadata.descriptors]

    def of_file(self, source: audio.Source, time_limit: float | None) -> Floats | None:
        """Return the descriptors of a file, float32[1, D], or None if it cannot be read.

        The network is trained to do without descriptors; if the file is at fault, computing the
        frames will raise the error.

        Raises
        ------
        ReadFailed
            If the system failed to read the file: the next reading may succeed.
        """
        try:
            return self._of(read_middle(source, DESCRIPTOR_RATE, time_limit))
        except audio.ReadFailed:
            raise
        except audio.AudioError:
            return None

    def of_samples(self, samples: Floats, rate: int) -> Floats | None:
        """Return the descriptors of samples, float32[1, D], or None if there are none."""
        start = round(excerpt_start(len(samples) / rate) * rate)
        excerpt = samples[start : start + round(EXCERPT_SECONDS * rate)]
        resampled = list(audio.resample(excerpt, rate, DESCRIPTOR_RATE))
        return self._of(np.concatenate(resampled)) if resampled else None

    def _of(self, samples: Floats) -> Floats:
        return describe(samples)[np.newaxis, self._columns]
