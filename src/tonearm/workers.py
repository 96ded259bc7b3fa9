"""One function over many items in several processes, results in order, a crash costing one item."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# A forked child would inherit ONNX Runtime's and BLAS's locks without the threads that hold them.
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Crash(Generic[Item]):
    """Stands for the result of an item whose process died.

    Attributes
    ----------
    item
        What it worked on.
    exit_code
        The process's, negative for the signal that ended it.
    """

    item: Item
    exit_code: int | None


def in_order(
    prepare: Callable[[], Callable[[Item], Result]], items: Iterable[Item], workers: int
) -> Iterator[Result | Crash[Item]]:
    """Yield ``prepare()(item)`` for every item, in the items' order.

    Each process calls ``prepare`` once and then works item by item. When one dies (a decoder that
    runs into a bad pointer, the kernel short of memory), its item yields a `Crash` and a new
    process takes its place. `concurrent.futures` is not used because there a dead process breaks
    the whole pool and every item in it.

    Parameters
    ----------
    prepare
        Picklable; makes the function that each process applies. That function must not raise.
    items
        Picklable; taken one at a time, so the iterable may be endless.
    workers
        The number of processes.
    """
    waiting = enumerate(items)
    finished: dict[int, Result | Crash[Item]] = {}
    following = 0  # position of the next result to yield
    crew: list[_Worker[Item, Result]] = [_Worker(prepare) for _ in range(workers)]
    try:
        for worker in crew:
            worker.start(next(waiting, None))
        while busy := {worker.pipe: worker for worker in crew if worker.task}:
            ready = wait(busy)
            for worker in (busy[pipe] for pipe in busy if pipe in ready):
                position, result = worker.collect()
                finished[position] = result
                if isinstance(result, Crash):
                    worker.stop()
                    crew.remove(worker)
                    crew.append(worker := _Worker(prepare))
                worker.start(next(waiting, None))
            while following in finished:
                yield finished.pop(following)
                following += 1
    finally:
        for worker in crew:
            worker.stop()


class _Worker(Generic[Item, Result]):
    """One process, the pipe to it and the item it works on."""

    def __init__(self, prepare: Callable[[], Callable[[Item], Result]]) -> None:
        self.pipe, theirs = _SPAWN.Pipe()
        self.task: tuple[int, Item] | None = None
        self._process = _SPAWN.Process(target=_serve, args=(prepare, theirs), daemon=True)
        self._process.start()
        theirs.close()  # so that the pipe ends when the process does

    def start(self, task: tuple[int, Item] | None) -> None:
        """Work on an item from now on; None means there is nothing left to do."""
        self.task = task
        if task is not None:
            # Should the process have died idle, `collect` finds the pipe ended and reports it.
            with suppress(BrokenPipeError):
                self.pipe.send(task[1])

    def collect(self) -> tuple[int, Result | Crash[Item]]:
        """Wait for the result of the item in work."""
        assert self.task is not None
        position, item = self.task
        try:
            return position, self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            return position, Crash(item, self._process.exitcode)

    def stop(self) -> None:
        self._process.terminate()
        self._process.join()
        self.pipe.close()


def _serve(prepare: Callable[[], Callable[[Item], Result]], pipe: Connection) -> None:
    """Work until the parent is gone (the body of each process)."""
    # Ctrl-C reaches the whole process group; the parent alone decides and stops its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    work = prepare()
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        pipe.send(work(item))
