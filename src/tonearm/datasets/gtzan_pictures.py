"""Convert the spectrogram pictures in the Kaggle edition of GTZAN back to levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tonearm.datasets.track import DatasetError
from tonearm.extras import needs

with needs("plot"):
    import matplotlib
    from matplotlib.image import imread

WIDTH, HEIGHT = 432, 288  # pixels, white margins included
COLOUR_MAP = "magma"
# The plot within the margins, without its outermost pixels, where the black frame shows through.
_ROWS, _COLUMNS = slice(36, 252), slice(55, 389)


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read the levels of one picture, such as `images_original/blues/blues00000.png`.

    Returns
    -------
    uint8[216, 334]
        Time (30 s) runs to the right, the highest band is the first row; the mel scale is Slaney's
        and ends at 11 025 Hz. 0 is the quietest shade of the colour map, 255 the loudest.

    Raises
    ------
    DatasetError
        If the file cannot be read, or is not a picture from that edition.
    """
    try:
        pixels = np.atleast_3d(imread(path))
    # Pillow raises SyntaxError for a broken PNG.
    except (OSError, SyntaxError, ValueError) as error:
        raise DatasetError(f"{path}: not readable as a picture ({error})") from error
    if pixels.shape[:2] != (HEIGHT, WIDTH) or pixels.shape[2] < 3:
        height, width, channels = pixels.shape
        raise DatasetError(
            f"{path}: expected a colour picture of {WIDTH}x{HEIGHT} pixels as in Kaggle's "
            f"images_original, got {width}x{height} of {channels} channels"
        )
    plot = pixels[_ROWS, _COLUMNS, :3]
    return levels(np.round(plot * 255.0).astype(np.uint8))


def levels(colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the index of the nearest colour in `COLOUR_MAP`, uint8[...] of uint8[..., 3].

    The edition's plots were scaled down in places, mixing colours into ones not in the map.
    """
    palette = np.round(matplotlib.colormaps[COLOUR_MAP](np.arange(256))[:, :3] * 255.0)
    # A picture has few distinct colours; packed into one number each, they are found quickly.
    numbers = colours.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)
    distinct, inverse = np.unique(numbers, return_inverse=True)
    channels = distinct[:, np.newaxis] >> np.array([16, 8, 0]) & 255
    distances = ((channels[:, np.newaxis] - palette) ** 2).sum(axis=2)
    nearest = distances.argmin(axis=1).astype(np.uint8)
    return np.asarray(nearest[inverse.reshape(numbers.shape)])
