"""A recording's frames are cut into windows, for training as for classifying."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

PADDED_SECONDS = 1.0  # shorter clips get zeros up to here, so that every network has enough frames
SHORTEST_TAIL_SECONDS = 0.25  # a shorter rest behind the last window is not worth one of its own


def windows(
    frames: Iterable[npt.NDArray[np.float32]], *, length: int, hop: int, shortest_tail: int
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Cut a stream of frames into windows, keeping no more than it needs.

    Parameters
    ----------
    frames
        Pieces of any lengths of float32[frames, mels].
    length, hop
        Of the windows, in frames.
    shortest_tail
        Frames behind the last whole window that are worth one more window, which then ends with
        the recording (so overlaps more than the others).

    Yields
    ------
    int, float32[length, mels]
        The window's first frame and its frames; a recording shorter than a window is one window
        of its own length.
    """
    held: list[npt.NDArray[np.float32]] = []
    begin = end = 0  # the frames held, counted from the recording's first
    following = 0  # where the next window begins
    for piece in frames:
        held.append(piece)
        end += len(piece)
        if end < following + length:
            continue
        joined = np.concatenate(held)
        while following + length <= end:
            yield following, joined[following - begin : following - begin + length]
            following += hop
        begin = end - length
        held = [joined[-length:]]
    covered = following - hop + length if following else 0
    if end - covered >= (shortest_tail if covered else 1):
        tail = np.concatenate(held)[-length:]
        yield end - len(tail), tail
