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
    """Whether there was a Ctrl-C."""

    def __init__(self) -> None:
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1:
            raise KeyboardInterrupt


@contextmanager
def interrupts_noted() -> Iterator[Noted]:
    """Only note the first Ctrl-C within the block; a second one raises at once.

    Nothing changes where Ctrl-C would not raise KeyboardInterrupt: in threads, in background jobs,
    within another such block, and in programs that handle it themselves.
    """
    noted = Noted()
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield noted
        return
    signal.signal(signal.SIGINT, noted._on_interrupt)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Raise KeyboardInterrupt at the end of the block for a Ctrl-C within it.

    Callbacks of C libraries cannot pass exceptions on: PyAV prints and drops them, and a module
    that is being imported turns them into an ImportError.
    """
    with interrupts_noted() as noted:
        try:
            yield
        finally:  # also if the block ends with an exception, such as StopIteration
            if noted:
                raise KeyboardInterrupt


def until_interrupted(items: Iterable[Item]) -> Iterator[Item]:
    """Pass items on until Ctrl-C, then raise KeyboardInterrupt before the next one.

    The current item is finished, and nothing that is printed about it is lost.
    """
    with interrupts_noted() as noted:
        for item in items:
            yield item
            if noted:
                raise KeyboardInterrupt
