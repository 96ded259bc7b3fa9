"""Cut a recording's frames into windows, for training and classifying alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

PADDED_SECONDS = 1.0  # shorter clips are zero-padded to this, so that any network has enough frames
SHORTEST_TAIL_SECONDS = 0.25  # a shorter rest after the last window gets no window of its own


def windows(
    frames: Iterable[npt.NDArray[np.float32]], *, length: int, hop: int, shortest_tail: int
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Cut a stream of frames into windows, holding no more frames than needed.

    Parameters
    ----------
    frames
        Pieces of any length of float32[frames, mels].
    length, hop
        Length and hop of the windows, in frames.
    shortest_tail
        Fewest frames after the last whole window for which one more is yielded. That one ends
        with the recording, so it overlaps its predecessor more than the others do.

    Yields
    ------
    int, float32[length, mels]
        The index of the window's first frame, and its frames; a recording shorter than a window
        yields one window of its own length.
    """
    held: list[npt.NDArray[np.float32]] = []
    begin = end = 0  # the range of the frames held, counted from the start of the recording
    following = 0  # first frame of the next window
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
