"""Apply a function to many items in several processes, so that a crash or hang costs one item."""

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

# How far `in_order` lets the others run ahead of a slow item; their results wait in memory.
LOOKAHEAD = 1000  # items

# A forked child would inherit ONNX Runtime's and BLAS's locks without the threads that hold them.
_SPAWN = multiprocessing.get_context("spawn")
_READY = None  # a process's first message; a string instead is the reason why it cannot start
# Time limit for that message. It takes seconds on an idle machine, and for ever if what the process
# loads is on a network drive that is gone.
START_SECONDS = 180.0
# Ctrl-C, closing a terminal and systemd's stop signal every process of a group. Only the parent
# decides what happens to its workers, which end with it in any case.
_PARENT_SIGNALS = {
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
}
_JOIN_SECONDS = 5.0  # to wait for a killed process; one stuck on a dead network drive does not end


class StartError(TonearmError):
    """A process died before it began its first item, or did not start in time.

    Parameters
    ----------
    exit_code
        The process's exit code, negative for the signal that ended it; None if it was given up.
    message
        The process's own error message.

    Attributes
    ----------
    reason : str
        The message without the advice to the author of the script.
    """

    def __init__(self, exit_code: int | None, message: str = "") -> None:
        super().__init__(exit_code, message)  # both, so that the error survives pickling
        self.reason: str
        if message:
            self.reason = f"a worker process could not start: {message}"
        elif exit_code is None:
            self.reason = f"a worker process did not start within {START_SECONDS:g} s"
        else:
            self.reason = f"a worker process died while starting (exit code {exit_code})"
        # Without the guard, a process ends by itself and sends no message.
        self._may_lack_guard = not message and (exit_code is None or exit_code >= 0)

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
        The item the process was working on.
    exit_code
        The process's exit code, negative for the signal that ended it; None if it was killed for
        taking too long.
    limit
        Seconds that the item was allowed to take.
    """

    item: Item
    exit_code: int | None
    limit: float

    @property
    def reason(self) -> str:
        """Why the item, which is a file, failed: in one line."""
        if self.exit_code is None:
            return f"given up after {self.limit:.0f} s"
        return f"the process died reading it ({self.exit_code})"


def in_order(
    prepare: Callable[[], Callable[[Item], Result]],
    items: Iterable[Item],
    workers: int,
    *,
    time_limit: Callable[[Item], float] | None = None,
) -> Iterator[Result | Crash[Item]]:
    """Yield ``prepare()(item)`` for every item, in the items' order.

    Parameters and errors are as in `as_finished`. While an item is slow, at most `LOOKAHEAD` of
    those after it are started and their results kept.
    """
    finished: dict[int, Result | Crash[Item]] = {}
    next_position = 0  # position of the next result to yield
    for position, result in _results(prepare, items, workers, time_limit, LOOKAHEAD):
        finished[position] = result
        while next_position in finished:
            yield finished.pop(next_position)
            next_position += 1


def as_finished(
    prepare: Callable[[], Callable[[Item], Result]],
    items: Iterable[Item],
    workers: int,
    *,
    time_limit: Callable[[Item], float] | None = None,
) -> Iterator[Result | Crash[Item]]:
    """Yield ``prepare()(item)`` for every item, each as soon as it is finished.

    Each process calls ``prepare`` once and then processes one item at a time. If a process dies (a
    decoder follows a bad pointer, the kernel runs out of memory) or takes too long, its item yields
    a `Crash` and a new process replaces it. In `concurrent.futures`, a dead process would break the
    whole pool and every item in it.

    Parameters
    ----------
    prepare
        Picklable; makes the function that each process applies. That function must not raise.
    items
        Picklable; taken one at a time, so the iterable may be endless.
    workers
        The number of processes.
    time_limit
        Returns the seconds an item may take, in wall-clock time; by default there is no limit.

    Raises
    ------
    StartError
        If a process dies in ``prepare``, or ``prepare`` raises a `TonearmError`.
    UsageError
        If this process may not start others.
    OSError
        If the system cannot start a process.
    """
    for _, result in _results(prepare, items, workers, time_limit, inf):
        yield result


class IsolatedWorker(Generic[Item, Result]):
    """A function in a process of its own, which is kept between calls and replaced if it dies.

    Parameters and errors are as in `as_finished`.
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
        """Apply the function to an item; return a `Crash` if the process dies or takes too long."""
        self._worker = _usable_worker(self._worker, self._prepare)
        self._worker.start((0, item), self._time_limit(item))
        while True:
            if outcomes := _collect([self._worker]):
                return outcomes[0][1]

    def ready(self) -> None:
        """Wait until the process can take an item at once, replacing the process if it has ended.

        Raises
        ------
        StartError
            If it dies before that.
        """
        self._worker = _usable_worker(self._worker, self._prepare)
        self._worker.wait_until_ready()

    def kill(self) -> None:
        """End the process while another thread waits for it; that thread gets a `Crash`.

        If the process has not begun the item yet, that thread gets a `StartError`.
        """
        self._worker.end_process()

    def close(self) -> None:
        """End the process; no other thread may be waiting for it."""
        self._worker.stop()


def _results(
    prepare: Callable[[], Callable[[Item], Result]],
    items: Iterable[Item],
    workers: int,
    time_limit: Callable[[Item], float] | None,
    lookahead: float,
) -> Iterator[tuple[int, Result | Crash[Item]]]:
    """Yield every item's position and result, each as soon as it is finished.

    An item is started only if it is fewer than `lookahead` positions after the oldest unfinished
    one.
    """
    tasks = enumerate(items)
    started = 0
    outcomes: list[tuple[int, Result | Crash[Item]]] = []
    pool: list[_Worker[Item, Result]] = [_Worker(prepare) for _ in range(workers)]
    try:
        while True:
            for index in range(workers):
                oldest = min((worker.task[0] for worker in pool if worker.task), default=started)
                if pool[index].task or started - oldest >= lookahead:
                    continue
                task = next(tasks, None)
                if task is None:
                    break
                pool[index] = _usable_worker(pool[index], prepare)
                pool[index].start(task, time_limit(task[1]) if time_limit else inf)
                started += 1
            yield from outcomes  # only now: the processes are busy again meanwhile
            busy = [worker for worker in pool if worker.task]
            if not busy:
                return
            outcomes = _collect(busy)
    finally:
        for worker in pool:
            worker.stop()


def _collect(
    busy: Sequence[_Worker[Item, Result]],
) -> list[tuple[int, Result | Crash[Item]]]:
    """Wait for an event from one of the workers, and return what is finished by then."""
    remaining = min(worker.deadline for worker in busy) - time.monotonic()
    pipes = [worker.pipe for worker in busy]
    try:
        ready = wait(pipes, None if remaining == inf else max(0.0, remaining))
    except InterruptedError:  # on Windows, by a Ctrl-C whose handler raised nothing
        ready = []
    outcomes: list[tuple[int, Result | Crash[Item]]] = []
    for worker in busy:
        if worker.pipe in ready:
            outcomes += worker.collect()
        elif worker.deadline <= time.monotonic():
            outcomes.append(worker.give_up())
    return outcomes


class _Worker(Generic[Item, Result]):
    """One process, the pipe to it and the item it is working on.

    Attributes
    ----------
    task
        The item and its position; None if the worker is idle.
    deadline
        Time by which the item must be done, on the monotonic clock.
    """

    def __init__(self, prepare: Callable[[], Callable[[Item], Result]]) -> None:
        _check_may_start()
        self.pipe, child_pipe = _SPAWN.Pipe()
        self.task: tuple[int, Item] | None = None
        self.deadline = inf
        self._has_stopped = False
        self._limit = inf
        self._is_ready = False
        self._parent = os.getpid()
        self._process = _SPAWN.Process(target=_serve, args=(prepare, child_pipe), daemon=True)
        with _signals_blocked():
            self._process.start()
        child_pipe.close()  # so that the pipe closes when the process ends

    def start(self, task: tuple[int, Item], limit: float) -> None:
        """Assign an item, whose `limit` in seconds runs from now or once the process is ready."""
        self.task = task
        self._limit = limit
        self.deadline = time.monotonic() + (limit if self._is_ready else START_SECONDS)
        # If the process dies at this moment, `collect` finds the pipe closed and reports it.
        with suppress(BrokenPipeError):
            self.pipe.send(task[1])

    @property
    def has_ended(self) -> bool:
        """Whether the process must be replaced: given up, dead, or another process's.

        After a fork, the child has the objects of its parent's workers, but not the workers.
        """
        return self._has_stopped or not self._is_child or not self._process.is_alive()

    @property
    def _is_child(self) -> bool:
        return self._parent == os.getpid()

    def wait_until_ready(self) -> None:
        """Receive the process's first message; raises `StartError` if the process cannot start."""
        if self._is_ready:
            return
        try:
            if not self.pipe.poll(START_SECONDS):
                self.stop()
                raise StartError(None)
            message = self.pipe.recv()
        except (EOFError, ConnectionError):  # BrokenPipeError on Windows
            self._process.join()
            exit_code = self._process.exitcode
            self.stop()
            raise StartError(exit_code) from None
        if message is not _READY:
            self.stop()
            raise StartError(None, message)
        self._is_ready = True

    def collect(self) -> list[tuple[int, Result | Crash[Item]]]:
        """Receive a message: return the item's result, or nothing if the process became ready."""
        assert self.task is not None
        position, item = self.task
        if not self._is_ready:
            self.wait_until_ready()
            self.deadline = time.monotonic() + self._limit
            return []
        try:
            result = self.pipe.recv()
        except (EOFError, OSError):  # it died before or while sending the result
            self._process.join()
            result = Crash(item, self._process.exitcode, self._limit)
            self.stop()
        self.task = None
        return [(position, result)]

    def give_up(self) -> tuple[int, Crash[Item]]:
        """Give up an item and its process; raises `StartError` if the process was not ready."""
        assert self.task is not None
        position, item = self.task
        self.stop()
        if not self._is_ready:
            raise StartError(None)
        return position, Crash(item, None, self._limit)

    def end_process(self) -> None:
        """Kill the process at once, since it may hang where no request reaches it."""
        if self._is_child:
            self._process.kill()

    def stop(self) -> None:
        """End the process, if it is still running, and close the pipe."""
        self.task = None
        self._has_stopped = True
        self.end_process()
        if self._is_child:
            self._process.join(_JOIN_SECONDS)
        self.pipe.close()


def _usable_worker(
    worker: _Worker[Item, Result], prepare: Callable[[], Callable[[Item], Result]]
) -> _Worker[Item, Result]:
    """Return the worker if it can take an item, otherwise a new one."""
    if not worker.has_ended:
        return worker
    worker.stop()
    return _Worker(prepare)


def _check_may_start() -> None:
    """Raise `UsageError` where `multiprocessing` would fail, here or in the new process."""
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
def _signals_blocked() -> Iterator[None]:
    """Block signals meant for the parent; a process started meanwhile inherits the mask.

    Until its imports are done, a new process cannot yet declare that it ignores them.
    """
    if os.name != "posix":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _PARENT_SIGNALS)
    # Started with the first process, it unblocks some of these signals here: block them again.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, _PARENT_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(prepare: Callable[[], Callable[[Item], Result]], pipe: Connection) -> None:
    """Process items until the parent is gone (the body of each process)."""
    for number in _PARENT_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if os.name == "posix":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PARENT_SIGNALS)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        function = prepare()
    except TonearmError as error:  # the parent reports it, once for all processes
        with suppress(ConnectionError):
            pipe.send(str(error))
        return
    with suppress(EOFError, ConnectionError):  # the parent has gone, perhaps in mid-item
        pipe.send(_READY)
        while True:
            pipe.send(function(pipe.recv()))


def _end_with_parent() -> None:
    """End this process as soon as its parent is gone, whatever it is doing.

    A parent killed by SIGKILL cannot stop its workers, and a worker that hangs in a decoder never
    notices that its pipe has closed. This thread works wherever C code has released the
    interpreter's lock, as FFmpeg, ONNX Runtime and system calls do, but not where C code keeps it
    nor while the kernel waits for a dead network drive.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
