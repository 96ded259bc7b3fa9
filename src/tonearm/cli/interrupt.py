"""Ctrl-C between two files: the current one is finished, and nothing printed is lost."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar

Item = TypeVar("Item")


def until_interrupted(items: Iterable[Item]) -> Iterator[Item]:
    """Pass items on until Ctrl-C, then raise KeyboardInterrupt before the next one.

    An exception raised by the signal handler could land in an FFmpeg callback, where it would be
    printed and lost. So the first Ctrl-C is only noted, and a second one raises at once.
    """
    interrupted = False

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True

    previous = signal.getsignal(signal.SIGINT)
    if previous is not signal.SIG_IGN:  # Ctrl-C is not meant for a background job
        signal.signal(signal.SIGINT, on_interrupt)
    try:
        for item in items:
            yield item
            if interrupted:
                raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, previous)
