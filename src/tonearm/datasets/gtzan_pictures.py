"""Reads the spectrogram pictures that the Kaggle edition of GTZAN ships, back into levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tonearm.datasets.track import DatasetError
from tonearm.errors import MissingExtraError

try:
    import matplotlib
    from matplotlib.image import imread
except ImportError as error:
    raise MissingExtraError("matplotlib", "plot") from error

WIDTH, HEIGHT = 432, 288  # pixels, white margins included
COLOUR_MAP = "magma"
# The plot within the margins, without its outermost pixels: the black frame shines through there.
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
        The file cannot be read, or is not a picture of that edition.
    """
    try:
        pixels = np.atleast_3d(imread(path))
    # Pillow calls a broken PNG a syntax error.
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
    """Give the place in `COLOUR_MAP` of the colour nearest to each, uint8[...] of uint8[..., 3].

    Where the edition's plots were scaled down, colours are mixtures that are not in the map.
    """
    known = np.round(matplotlib.colormaps[COLOUR_MAP](np.arange(256))[:, :3] * 255.0)
    # A picture has few distinct colours: as one number each, they are quickly sorted out.
    numbers = colours.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.int32)
    distinct, place = np.unique(numbers, return_inverse=True)
    parts = distinct[:, np.newaxis] >> np.array([16, 8, 0]) & 255
    apart = ((parts[:, np.newaxis] - known) ** 2).sum(axis=2)
    nearest = apart.argmin(axis=1).astype(np.uint8)
    return np.asarray(nearest[place.reshape(numbers.shape)])
