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

from tonearm.classifier import Classifier, IsolatedClassifier
from tonearm.errors import TonearmError, UsageError, unexpected
from tonearm.prediction import Failure, Prediction
from tonearm.serving.limits import ENDING
from tonearm.workers import StartError

SOONEST_SECONDS, LATEST_SECONDS = 1.0, 30.0  # between attempts to restart a process

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
        self._able = 0  # processes that are running, whether busy or idle
        self._reason = "the processes have not been started: the application's lifespan does that"

    @property
    def trouble(self) -> str | None:
        """Why no process is running at the moment; None if at least one is."""
        return None if self._able else self._reason

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Start the processes, yield once all are ready, and end them afterwards.

        Raises
        ------
        StartError, OSError, UsageError
            If a process cannot be started.
        """
        self._idle: deque[IsolatedClassifier] = deque()
        self._waiting: deque[asyncio.Future[IsolatedClassifier]] = deque()
        self._revivals: set[asyncio.Task[None]] = set()
        # One thread to wait for each process.
        self._threads = ThreadPoolExecutor(self.processes)
        crew: list[IsolatedClassifier] = []
        try:
            await self._start(crew)
            yield
        finally:
            if self._able:  # otherwise the reason is already set
                self._able, self._reason = 0, ENDING
            self._send_away()
            for revival in self._revivals:
                revival.cancel()
            for listener in crew:
                listener.kill()
            # The threads notice that their processes ended; one may just have started another.
            with suppress(TimeoutError):
                async with asyncio.timeout(LATEST_SECONDS):
                    await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
            for listener in crew:
                listener.close()

    async def _start(self, crew: list[IsolatedClassifier]) -> None:
        try:
            for _ in range(self.processes):
                crew.append(self.classifier.isolated())
            await asyncio.gather(*map(self._ready, crew))
        except Exception as error:  # `serve` reports the reason, even of unforeseen errors
            self._reason = reason_of(error)
            raise
        self._idle.extend(crew)
        self._able = len(crew)

    async def _ready(self, listener: IsolatedClassifier) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, listener.ready)

    async def attempt(self, path: Path) -> Prediction | Failure:
        """Classify a file as `Classifier.attempt` does, as soon as a process is idle.

        Raises
        ------
        NobodyListens
            If no process is running, and none can be started.
        """
        while True:
            listener = await self._next()
            loop = asyncio.get_running_loop()
            answer = loop.run_in_executor(self._threads, listener.attempt, path)
            # If the caller is cancelled meanwhile, the process stays busy: it becomes idle only
            # when its own work is done.
            answer.add_done_callback(partial(self._done, listener))
            with suppress(StartError, OSError):  # never started: another process may take it
                return await asyncio.shield(answer)

    async def _next(self) -> IsolatedClassifier:
        """Return a process as soon as one is idle, in the order in which callers came."""
        if not self._able:
            raise NoWorker(self._reason)
        if self._idle:
            return self._idle.popleft()
        turn: asyncio.Future[IsolatedClassifier] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and not turn.exception():
                self._free(turn.result())  # it became idle just as the caller was cancelled
            raise

    def _free(self, listener: IsolatedClassifier) -> None:
        """Hand an idle process to the next waiting caller, or keep it as idle."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(listener)
                return
        self._idle.append(listener)

    def _done(
        self, listener: IsolatedClassifier, answer: asyncio.Future[Prediction | Failure]
    ) -> None:
        error = None if answer.cancelled() else answer.exception()
        if error is None:
            self._free(listener)
        elif self._able:  # otherwise the whole pool has ended
            self._able -= 1
            self._reason = reason_of(error)
            logger.warning("a process cannot listen: %s", self._reason)
            revival = asyncio.ensure_future(self._revive(listener))
            self._revivals.add(revival)
            revival.add_done_callback(self._revivals.discard)
            if not self._able:
                self._send_away()

    def _send_away(self) -> None:
        """Raise `NoWorker` for all waiting callers."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(NoWorker(self._reason))

    async def _revive(self, listener: IsolatedClassifier) -> None:
        """Try to restart a process until it is ready."""
        pause = SOONEST_SECONDS
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LATEST_SECONDS)
            try:
                await self._ready(listener)
                break
            except (StartError, OSError) as error:
                self._reason = reason_of(error)
        self._able += 1
        self._free(listener)


def reason_of(error: BaseException) -> str:
    """Return one line on what is wrong, for people who did not write the program."""
    if isinstance(error, StartError):
        return error.reason
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) if isinstance(error, TonearmError) else unexpected(error)
