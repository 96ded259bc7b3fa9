"""Ctrl-C between two files: the current one is finished, and nothing printed is lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from tonearm.interrupts import interrupts_noted

Item = TypeVar("Item")


def until_interrupted(items: Iterable[Item]) -> Iterator[Item]:
    """Pass items on until Ctrl-C, then raise KeyboardInterrupt before the next one."""
    with interrupts_noted() as noted:
        for item in items:
            yield item
            if noted:
                raise KeyboardInterrupt
