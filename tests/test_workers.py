from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

from tonearm.workers import Crash, in_order


def _square_or_die() -> Callable[[int], int]:
    def work(number: int) -> int:
        if number == 3:
            os._exit(7)
        time.sleep(0.05 * (number % 2))  # the odd ones finish late
        return number**2

    return work


def test_results_come_in_order_and_a_crash_costs_one_item() -> None:
    results = list(in_order(_square_or_die, range(7), workers=2))
    assert results == [0, 1, 4, Crash(3, 7), 16, 25, 36]


def test_items_are_taken_only_as_they_are_needed() -> None:
    taken = []

    def endless() -> Iterator[int]:
        number = 10
        while True:
            taken.append(number)
            yield number
            number += 2

    results = in_order(_square_or_die, endless(), workers=1)
    assert [next(results), next(results)] == [100, 144]
    results.close()
    assert len(taken) <= 4


def test_nothing_to_do() -> None:
    assert list(in_order(_square_or_die, [], workers=1)) == []
