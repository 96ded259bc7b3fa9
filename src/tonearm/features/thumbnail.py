"""Describe the picture of a spectrogram with a fixed number of values, whatever its size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tonearm.errors import UsageError

ROWS, COLUMNS = 32, 32  # of the thumbnail; for a clip of 30 s, a column is about a second
BANDS = 64  # that are summarised over time
NUMBERS = ROWS * COLUMNS + 2 * BANDS


def describe_picture(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Describe a picture by its thumbnail, and by how bright and how variable each band is.

    The thumbnail shows where in the clip something is; the mean and deviation of a band show what
    the clip contains wherever it occurs, which is more relevant to genre.

    Parameters
    ----------
    picture : uint8[rows, columns]
        Shades of a spectrogram, as `tonearm.features.picture.render` makes them: time runs to the
        right. The whole picture is described, so one second of a short clip takes more columns.

    Returns
    -------
    float32[NUMBERS]
        `ROWS` times `COLUMNS` shades row by row, then the means over time of `BANDS` bands, then
        their standard deviations.

    Raises
    ------
    UsageError
        If the picture has no pixels or is not two-dimensional.
    """
    if picture.ndim != 2 or picture.size == 0:
        raise UsageError(f"expected a picture of one shade a pixel, got shape {picture.shape}")
    shades = picture.astype(np.float32)
    small = _average_rows(_average_rows(shades, ROWS).T, COLUMNS).T
    bands = _average_rows(shades, BANDS)
    return np.concatenate([small.ravel(), bands.mean(axis=1), bands.std(axis=1)])


def _average_rows(shades: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """Average neighbouring rows to get `rows` of them; if there are too few, repeat some."""
    starts = np.arange(rows) * len(shades) // rows
    sizes = np.maximum(np.diff(starts, append=len(shades)), 1)
    means: NDArray[np.float32] = np.add.reduceat(shades, starts, axis=0)
    means /= sizes[:, np.newaxis].astype(np.float32)
    return means
