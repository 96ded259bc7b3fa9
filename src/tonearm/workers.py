"""One function over many items in several processes, a crash or a hang costing one item."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeVar

from tonearm.errors import TonearmError, UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")

# How far `in_order` lets the others run ahead of a slow item: their results wait in memory.
AHEAD = 1000  # items

# A forked child would inherit ONNX Runtime's and BLAS's locks without the threads that hold them.
_SPAWN = multiprocessing.get_context("spawn")
_READY = None  # the first thing a process says; a text is why it cannot begin
# For a process to say so: seconds on an idle machine, and for ever where what it loads lies on a
# network drive that is gone.
START_SECONDS = 180.0
# Ctrl-C, the closing of a terminal and systemd's stop reach every process of a group. The parent
# alone decides what becomes of its workers, which end with it in any case.
_FOR_PARENT = {
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
}
_JOIN_SECONDS = 5.0  # for a killed process to end; one that waits for a dead network drive does not


class StartError(TonearmError):
    """A process died before it had begun with any item, or was given up.

    Parameters
    ----------
    exit_code
        The process's, negative for the signal that ended it; None if it was given up.
    told
        What the process itself said was wrong.

    Attributes
    ----------
    reason : str
        The same without advice to who wrote the program.
    """

    def __init__(self, exit_code: int | None, told: str = "") -> None:
        super().__init__(exit_code, told)  # both, so that the error survives pickling
        if told:
            self.reason = f"a worker process could not start: {told}"
        elif exit_code is None:
            self.reason = f"a worker process did not start within {START_SECONDS:g} s"
        else:
            self.reason = f"a worker process died while starting (exit code {exit_code})"
        # Without the guard a process ends by itself, and says nothing.
        self._may_lack_guard = not told and (exit_code is None or exit_code >= 0)

    def __str__(self) -> str:
        if not self._may_lack_guard:
            return self.reason
        return (
            f'{self.reason}; a script needs `if __name__ == "__main__":` above what starts workers'
        )


@dataclass(frozen=True)
class Crash(Generic[Item]):
    """Stands for the result of an item whose process died or was killed.

    Attributes
    ----------
    item
        What it worked on.
    exit_code
        The process's, negative for the signal that ended it; None if it was killed for taking
        too long.
    """

    item: Item
    exit_code: int | None

    def reason(self, allowed: float) -> str:
        """Say in one line what became of a file that could take so many seconds."""
        if self.exit_code is None:
            return f"given up after {allowed:.0f} s"
        return f"the process died reading it ({self.exit_code})"


def in_order(
    prepare: Callable[[], Callable[[Item], Result]],
    items: Iterable[Item],
    workers: int,
    *,
    time_limit: Callable[[Item], float] | None = None,
) -> Iterator[Result | Crash[Item]]:
    """Yield ``prepare()(item)`` for every item, in the items' order.

    Parameters and errors as in `as_finished`. Behind a slow item at most `AHEAD` others are worked
    on, and their results kept.
    """
    finished: dict[int, Result | Crash[Item]] = {}
    following = 0  # position of the next result to yield
    for position, result in _finished(prepare, items, workers, time_limit, AHEAD):
        finished[position] = result
        while following in finished:
            yield finished.pop(following)
            following += 1


def as_finished(
    prepare: Callable[[], Callable[[Item], Result]],
    items: Iterable[Item],
    workers: int,
    *,
    time_limit: Callable[[Item], float] | None = None,
) -> Iterator[Result | Crash[Item]]:
    """Yield ``prepare()(item)`` for every item, each as soon as it is there.

    Each process calls ``prepare`` once and then works item by item. When one dies (a decoder that
    runs into a bad pointer, the kernel short of memory) or takes too long, its item yields a
    `Crash` and a new process takes its place. `concurrent.futures` is not used because there a dead
    process breaks the whole pool and every item in it.

    Parameters
    ----------
    prepare
        Picklable; makes the function that each process applies. That function must not raise.
    items
        Picklable; taken one at a time, so the iterable may be endless.
    workers
        The number of processes.
    time_limit
        Gives the seconds an item may take, on the clock; by default as long as it likes.

    Raises
    ------
    StartError
        If a process dies in ``prepare``, or that raises a `TonearmError`.
    UsageError
        If this process cannot have others.
    """
    for _, result in _finished(prepare, items, workers, time_limit, inf):
        yield result


class Apart(Generic[Item, Result]):
    """A function in a process of its own, which lives from call to call and is replaced if it dies.

    Parameters and errors as in `as_finished`.
    """

    def __init__(
        self,
        prepare: Callable[[], Callable[[Item], Result]],
        *,
        time_limit: Callable[[Item], float],
    ) -> None:
        self._prepare = prepare
        self._time_limit = time_limit
        self._worker: _Worker[Item, Result] = _Worker(prepare)

    def __call__(self, item: Item) -> Result | Crash[Item]:
        """Apply the function, or say what became of the process in it."""
        self._worker = _able(self._worker, self._prepare)
        self._worker.start((0, item), self._time_limit(item))
        while True:
            if outcomes := _collect([self._worker]):
                return outcomes[0][1]

    def ready(self) -> None:
        """Wait until the process, a new one if it has ended, can begin with an item at once.

        Raises
        ------
        StartError
            If it dies before.
        """
        self._worker = _able(self._worker, self._prepare)
        self._worker.wait_until_ready()

    def kill(self) -> None:
        """End the process while another thread waits for it, whose item is a `Crash` then.

        Before the process has begun with the item, the other thread gets a `StartError`.
        """
        self._worker.end_process()

    def close(self) -> None:
        """End the process, while no other thread waits for it."""
        self._worker.stop()


def _finished(
    prepare: Callable[[], Callable[[Item], Result]],
    items: Iterable[Item],
    workers: int,
    time_limit: Callable[[Item], float] | None,
    ahead: float,
) -> Iterator[tuple[int, Result | Crash[Item]]]:
    """Yield every item's position and result, each as soon as it is there.

    An item is begun only if fewer than `ahead` follow the oldest one in work.
    """
    waiting = enumerate(items)
    begun = 0
    outcomes: list[tuple[int, Result | Crash[Item]]] = []
    crew: list[_Worker[Item, Result]] = [_Worker(prepare) for _ in range(workers)]
    try:
        while True:
            for place in range(workers):
                oldest = min((worker.task[0] for worker in crew if worker.task), default=begun)
                if crew[place].task or begun - oldest >= ahead:
                    continue
                task = next(waiting, None)
                if task is None:
                    break
                crew[place] = _able(crew[place], prepare)
                crew[place].start(task, time_limit(task[1]) if time_limit else inf)
                begun += 1
            yield from outcomes  # now that the processes have something to do meanwhile
            busy = [worker for worker in crew if worker.task]
            if not busy:
                return
            outcomes = _collect(busy)
    finally:
        for worker in crew:
            worker.stop()


def _collect(
    busy: Sequence[_Worker[Item, Result]],
) -> list[tuple[int, Result | Crash[Item]]]:
    """Wait until something happens to one of the workers, and return what is finished by then."""
    soonest = min(worker.deadline for worker in busy) - time.monotonic()
    pipes = [worker.pipe for worker in busy]
    ready = wait(pipes, None if soonest == inf else max(0.0, soonest))
    outcomes: list[tuple[int, Result | Crash[Item]]] = []
    for worker in busy:
        if worker.pipe in ready:
            outcomes += worker.collect()
        elif worker.deadline <= time.monotonic():
            outcomes.append(worker.give_up())
    return outcomes


class _Worker(Generic[Item, Result]):
    """One process, the pipe to it and the item it works on.

    Attributes
    ----------
    task
        The item and its position; None if there is nothing in work.
    deadline
        When the item must be done, on the monotonic clock.
    """

    def __init__(self, prepare: Callable[[], Callable[[Item], Result]]) -> None:
        _check_may_start()
        self.pipe, theirs = _SPAWN.Pipe()
        self.task: tuple[int, Item] | None = None
        self.deadline = inf
        self._is_over = False
        self._limit = inf
        self._is_ready = False
        self._process = _SPAWN.Process(target=_serve, args=(prepare, theirs), daemon=True)
        with _held_back():
            self._process.start()
        theirs.close()  # so that the pipe ends when the process does

    def start(self, task: tuple[int, Item], limit: float) -> None:
        """Work on an item from now on, or from when the process is ready; `limit` in seconds."""
        self.task = task
        self._limit = limit
        self.deadline = time.monotonic() + (limit if self._is_ready else START_SECONDS)
        # Should the process die at this moment, `collect` finds the pipe ended and reports it.
        with suppress(BrokenPipeError):
            self.pipe.send(task[1])

    @property
    def has_ended(self) -> bool:
        """Whether another process must take its place: it was given up, or has died idle."""
        return self._is_over or not self._process.is_alive()

    def wait_until_ready(self) -> None:
        """Take the first thing the process says; raises StartError if it cannot begin."""
        if self._is_ready:
            return
        try:
            if not self.pipe.poll(START_SECONDS):
                self.stop()
                raise StartError(None)
            told = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            exit_code = self._process.exitcode
            self.stop()
            raise StartError(exit_code) from None
        if told is not _READY:
            self.stop()
            raise StartError(None, told)
        self._is_ready = True

    def collect(self) -> list[tuple[int, Result | Crash[Item]]]:
        """Take what the process says: the result of its item, or nothing but that it is ready."""
        assert self.task is not None
        position, item = self.task
        if not self._is_ready:
            self.wait_until_ready()
            self.deadline = time.monotonic() + self._limit
            return []
        try:
            result = self.pipe.recv()
        except (EOFError, OSError):  # it ended before its answer, or in the middle of it
            self._process.join()
            result = Crash(item, self._process.exitcode)
            self.stop()
        self.task = None
        return [(position, result)]

    def give_up(self) -> tuple[int, Crash[Item]]:
        """Give an item up, and its process; raises StartError if it had not begun with it."""
        assert self.task is not None
        position, item = self.task
        self.stop()
        if not self._is_ready:
            raise StartError(None)
        return position, Crash(item, None)

    def end_process(self) -> None:
        """Kill the process, which may hang where no request reaches it, and no more than that."""
        self._process.kill()

    def stop(self) -> None:
        """End the process, if it has not ended."""
        self.task = None
        self._is_over = True
        self.end_process()
        self._process.join(_JOIN_SECONDS)
        self.pipe.close()


def _able(
    worker: _Worker[Item, Result], prepare: Callable[[], Callable[[Item], Result]]
) -> _Worker[Item, Result]:
    """Give a worker that can take an item, a new one if this one has ended."""
    if not worker.has_ended:
        return worker
    worker.stop()
    return _Worker(prepare)


def _check_may_start() -> None:
    """Raise UsageError where `multiprocessing` would fail, there or in the new process."""
    if multiprocessing.current_process().daemon:
        raise UsageError(
            "workers: this process is a daemonic one (of a multiprocessing pool?) and may not "
            "start others; use one worker in each"
        )
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script and script.endswith("<stdin>"):
        raise UsageError(
            "workers: each reads the script that starts it, and standard input is read only once; "
            "save the script as a file"
        )


@contextmanager
def _held_back() -> Iterator[None]:
    """Let signals for the parent wait; a process that is started meanwhile does so too.

    While it imports what it needs, a process cannot say yet that they are not meant for it.
    """
    if os.name != "posix":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_PARENT)
    # It begins with the first process, holds them back too, and lets some of them through here.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_PARENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(prepare: Callable[[], Callable[[Item], Result]], pipe: Connection) -> None:
    """Work until the parent is gone (the body of each process)."""
    for number in _FOR_PARENT:
        signal.signal(number, signal.SIG_IGN)
    if os.name == "posix":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FOR_PARENT)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work = prepare()
    except TonearmError as error:  # the parent says it, once for all processes
        with suppress(ConnectionError):
            pipe.send(str(error))
        return
    with suppress(EOFError, ConnectionError):  # the parent is gone, perhaps while this one worked
        pipe.send(_READY)
        while True:
            pipe.send(work(pipe.recv()))


def _end_with_parent() -> None:
    """End this process as soon as its parent is gone, whatever it does.

    A parent killed by SIGKILL stops nobody, and a worker that hangs in a decoder never comes to
    read that its pipe has ended. This reaches it wherever C code has released the interpreter's
    lock, as FFmpeg, ONNX Runtime and system calls do; not where C code keeps it, and not while
    the kernel waits for a dead network drive.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
