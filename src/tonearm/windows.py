"""Cut a recording's frames into windows, for training and classifying alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

PADDED_SECONDS = 1.0  # shorter clips are zero-padded to this, so that any network has enough frames
SHORTEST_HOP_SECONDS = 0.1  # below, windows would hardly differ, or not move at all
# By how much a recording may exceed the requested length and still be taken as a whole: clips of
# 30 s are often some milliseconds longer, and their middle would be cut into other windows.
LENGTH_TOLERANCE_SECONDS = 1.0
SHORTEST_TAIL_SECONDS = 0.25  # a shorter rest after the last window gets no window of its own


def model_windows(
    frames: Iterable[npt.NDArray[np.float32]],
    frames_per_second: float,
    window_seconds: float,
    hop_seconds: float,
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Cut a stream of frames as a model with these windows does; see `windows`."""
    return windows(
        frames,
        length=round(window_seconds * frames_per_second),
        hop=round(hop_seconds * frames_per_second),
        shortest_tail=round(SHORTEST_TAIL_SECONDS * frames_per_second),
    )


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
    buffer: list[npt.NDArray[np.float32]] = []
    buffer_start = buffer_end = 0  # in frames from the start of the recording
    next_start = 0  # first frame of the next window
    for piece in frames:
        buffer.append(piece)
        buffer_end += len(piece)
        if buffer_end < next_start + length:
            continue
        joined = np.concatenate(buffer)
        while next_start + length <= buffer_end:
            yield next_start, joined[next_start - buffer_start : next_start - buffer_start + length]
            next_start += hop
        buffer_start = buffer_end - length
        buffer = [joined[-length:]]
    covered = next_start - hop + length if next_start else 0
    if buffer_end - covered >= (shortest_tail if covered else 1):
        tail = np.concatenate(buffer)[-length:]
        yield buffer_end - len(tail), tail
