"""Ctrl-C where an exception from its handler would be lost: note it, and raise it afterwards."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

Item = TypeVar("Item")


class Noted:
    """Whether there was a Ctrl-C, and how often."""

    def __init__(self) -> None:
        self.count = 0

    def __bool__(self) -> bool:
        return self.count > 0

    def on_interrupt(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        self.count += 1
        if self.count > 1:
            raise KeyboardInterrupt


@contextmanager
def interrupts_noted() -> Iterator[Noted]:
    """Only note the first Ctrl-C within the block; a second one raises at once.

    Nothing changes where Ctrl-C would not raise KeyboardInterrupt: in threads, in background jobs,
    within another such block, and in programs that handle it themselves.
    """
    noted = Noted()
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield noted
        return
    with _noting(noted):
        yield noted


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Treat a Ctrl-C within the block at its end, as if it came then; a second one raises at once.

    Callbacks of C libraries cannot pass exceptions on: PyAV prints and drops them, and a module
    that is being imported turns them into an ImportError. So within a block of `interrupts_noted`
    too, where a Ctrl-C may be the second one, it waits for the end of this block.
    """
    outer = signal.getsignal(signal.SIGINT)
    is_noted = isinstance(getattr(outer, "__self__", None), Noted)
    if not callable(outer) or not (outer is signal.default_int_handler or is_noted):
        yield
        return
    noted = Noted()
    try:
        with _noting(noted):
            yield
    finally:  # also if the block ends with an exception, such as StopIteration
        for _ in range(noted.count):
            outer(signal.SIGINT, None)


@contextmanager
def _noting(noted: Noted) -> Iterator[None]:
    """Note each Ctrl-C within the block, in the main thread: others receive none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, noted.on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def until_interrupted(items: Iterable[Item]) -> Iterator[Item]:
    """Pass items on until Ctrl-C, then raise KeyboardInterrupt before the next one.

    The current item is finished, and nothing that is printed about it is lost.
    """
    with interrupts_noted() as noted:
        for item in items:
            yield item
            if noted:
                raise KeyboardInterrupt
