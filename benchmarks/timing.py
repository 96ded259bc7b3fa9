"""Times pieces of work against each other in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence


def in_turns(jobs: Sequence[Callable[[], object]], runs: int) -> list[float]:
    """Return the CPU seconds of each job's fastest run.

    The jobs take turns, so that load on the machine affects all alike.
    """
    best = [float("inf")] * len(jobs)
    for _ in range(runs):
        for number, job in enumerate(jobs):
            start = time.process_time()
            job()
            best[number] = min(best[number], time.process_time() - start)
    return best
