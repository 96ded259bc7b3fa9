"""The server's worker processes, each classifying one recording at a time."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from tonearm.classifier import Classifier
from tonearm.errors import TonearmError, UsageError, reason_of, unexpected
from tonearm.isolation import IsolatedClassifier
from tonearm.prediction import Failure, Prediction
from tonearm.serving.limits import SHUTTING_DOWN
from tonearm.workers import StartError

MIN_RETRY_SECONDS, MAX_RETRY_SECONDS = 1.0, 30.0  # between attempts to restart a process

logger = logging.getLogger(__name__)


class NoWorker(TonearmError):
    """No worker process is running, and none can be started at the moment."""


class WorkerPool:
    """A pool of worker processes; a request waits while all of them are busy.

    If a process has died and cannot be replaced at once, the pool retries until it can; the others
    go on classifying meanwhile.

    Parameters
    ----------
    classifier
        The classifier that each process runs.
    processes
        Number of processes.

    Raises
    ------
    UsageError
        If `processes` is less than 1.
    """

    def __init__(self, classifier: Classifier, processes: int = 1) -> None:
        if processes < 1:
            raise UsageError(f"workers: expected 1 or more, got {processes}")
        self.classifier = classifier
        self.processes = processes
        self._running = 0  # processes that are running, whether busy or idle
        self._reason = "the processes have not been started: the application's lifespan does that"

    @property
    def unavailable_reason(self) -> str | None:
        """Why no process is running at the moment; None if at least one is."""
        return None if self._running else self._reason

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start the processes, yield once all are ready, and end them afterwards.

        Raises
        ------
        StartError, OSError, UsageError
            If a process cannot be started.
        """
        self._idle: deque[IsolatedClassifier] = deque()
        self._waiting: deque[asyncio.Future[IsolatedClassifier]] = deque()
        self._restarts: set[asyncio.Task[None]] = set()
        # One thread to wait for each process.
        self._threads = ThreadPoolExecutor(self.processes)
        workers: list[IsolatedClassifier] = []
        try:
            await self._start(workers)
            yield
        finally:
            if self._running:  # otherwise the reason is already set
                self._running, self._reason = 0, SHUTTING_DOWN
            self._reject_waiting()
            for restart in self._restarts:
                restart.cancel()
            for worker in workers:
                worker.kill()
            # The threads notice that their processes ended; one may just have started another.
            with suppress(TimeoutError):
                async with asyncio.timeout(MAX_RETRY_SECONDS):
                    await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
            for worker in workers:
                worker.close()

    async def _start(self, workers: list[IsolatedClassifier]) -> None:
        try:
            for _ in range(self.processes):
                workers.append(self.classifier.isolated())
            await asyncio.gather(*map(self._ready, workers))
        except Exception as error:  # `serve` reports the reason, even of unforeseen errors
            self._reason = public_reason(error)
            raise
        self._idle.extend(workers)
        self._running = len(workers)

    async def _ready(self, worker: IsolatedClassifier) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, worker.ready)

    async def attempt(self, path: Path) -> Prediction | Failure:
        """Classify a file as `Classifier.attempt` does, as soon as a process is idle.

        Raises
        ------
        NoWorker
            If no process is running, and none can be started.
        """
        while True:
            worker = await self._acquire()
            loop = asyncio.get_running_loop()
            future = loop.run_in_executor(self._threads, worker.attempt, path)
            # If the caller is cancelled meanwhile, the process stays busy: it becomes idle only
            # when its own work is done.
            future.add_done_callback(partial(self._attempt_finished, worker))
            with suppress(StartError, OSError):  # never started: another process may take it
                return await asyncio.shield(future)

    async def _acquire(self) -> IsolatedClassifier:
        """Return a process as soon as one is idle, in the order in which callers came."""
        if not self._running:
            raise NoWorker(self._reason)
        if self._idle:
            return self._idle.popleft()
        waiter: asyncio.Future[IsolatedClassifier] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and not waiter.exception():
                self._release(waiter.result())  # it became idle just as the caller was cancelled
            raise

    def _release(self, worker: IsolatedClassifier) -> None:
        """Hand an idle process to the next waiting caller, or keep it as idle."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(worker)
                return
        self._idle.append(worker)

    def _attempt_finished(
        self, worker: IsolatedClassifier, future: asyncio.Future[Prediction | Failure]
    ) -> None:
        error = None if future.cancelled() else future.exception()
        if error is None:
            self._release(worker)
        elif self._running:  # otherwise the whole pool has ended
            self._running -= 1
            self._reason = public_reason(error)
            logger.warning("a process cannot classify: %s", self._reason)
            restart = asyncio.ensure_future(self._restart(worker))
            self._restarts.add(restart)
            restart.add_done_callback(self._restarts.discard)
            if not self._running:
                self._reject_waiting()

    def _reject_waiting(self) -> None:
        """Raise `NoWorker` for all waiting callers."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(NoWorker(self._reason))

    async def _restart(self, worker: IsolatedClassifier) -> None:
        """Try to restart a process until it is ready."""
        delay = MIN_RETRY_SECONDS
        while True:
            await asyncio.sleep(delay)
            delay = min(2 * delay, MAX_RETRY_SECONDS)
            try:
                await self._ready(worker)
                break
            except (StartError, OSError) as error:
                self._reason = public_reason(error)
        self._running += 1
        self._release(worker)


def public_reason(error: BaseException) -> str:
    """Return one line on what is wrong, for people who did not write the program."""
    if isinstance(error, StartError):
        return error.reason
    if isinstance(error, OSError):
        return reason_of(error)
    return str(error) if isinstance(error, TonearmError) else unexpected(error)
