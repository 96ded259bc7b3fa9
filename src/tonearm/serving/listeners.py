"""Processes that listen for the server, each to one recording at a time."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from tonearm.classifier import Classifier, ClassifierApart
from tonearm.errors import TonearmError, UsageError, unexpected
from tonearm.prediction import Failure, Prediction
from tonearm.serving.limits import ENDING
from tonearm.workers import StartError

SOONEST_SECONDS, LATEST_SECONDS = 1.0, 30.0  # from one try to have a process again to the next

logger = logging.getLogger(__name__)


class NobodyListens(TonearmError):
    """There is no process to listen, and none can be had at the moment."""


class Listeners:
    """Processes that listen; who comes while all are busy waits until one is idle.

    One that has died and cannot be replaced at once is tried again until it can, and the others
    listen meanwhile.

    Parameters
    ----------
    classifier
        What each of them is to be.
    processes
        Their number.

    Raises
    ------
    UsageError
        If there is none.
    """

    def __init__(self, classifier: Classifier, processes: int = 1) -> None:
        if processes < 1:
            raise UsageError(f"workers: expected 1 or more, got {processes}")
        self.classifier = classifier
        self.processes = processes
        self._able = 0  # that listen, or could
        self._reason = "the processes have not been started: the application's lifespan does that"

    @property
    def trouble(self) -> str | None:
        """Why nobody can listen at the moment; None if somebody can."""
        return None if self._able else self._reason

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Have the processes, from when all are ready until they are no longer needed.

        Raises
        ------
        StartError, OSError, UsageError
            If one cannot be started.
        """
        self._idle: deque[ClassifierApart] = deque()
        self._waiting: deque[asyncio.Future[ClassifierApart]] = deque()
        self._revivals: set[asyncio.Task[None]] = set()
        # As many threads, one to wait for each process.
        self._threads = ThreadPoolExecutor(self.processes)
        crew: list[ClassifierApart] = []
        try:
            await self._start(crew)
            yield
        finally:
            if self._able:  # else it says why nobody can listen
                self._able, self._reason = 0, ENDING
            self._send_away()
            for revival in self._revivals:
                revival.cancel()
            for listener in crew:
                listener.kill()
            # Threads see the end of what they wait for, and one may just have begun another.
            with suppress(TimeoutError):
                async with asyncio.timeout(LATEST_SECONDS):
                    await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
            for listener in crew:
                listener.close()

    async def _start(self, crew: list[ClassifierApart]) -> None:
        try:
            for _ in range(self.processes):
                crew.append(self.classifier.apart())
            await asyncio.gather(*map(self._ready, crew))
        except Exception as error:  # whoever serves tells why, also of what nobody foresaw
            self._reason = told(error)
            raise
        self._idle.extend(crew)
        self._able = len(crew)

    async def _ready(self, listener: ClassifierApart) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, listener.ready)

    async def attempt(self, path: Path) -> Prediction | Failure:
        """Classify a file as `Classifier.attempt` does, as soon as a process is idle.

        Raises
        ------
        NobodyListens
            If no process is there, and none can be had.
        """
        while True:
            listener = await self._next()
            loop = asyncio.get_running_loop()
            answer = loop.run_in_executor(self._threads, listener.attempt, path)
            # Whoever asked may be cancelled meanwhile. The process then still listens, and is not
            # idle.
            answer.add_done_callback(partial(self._done, listener))
            with suppress(StartError, OSError):  # not begun with: another process may take it
                return await asyncio.shield(answer)

    async def _next(self) -> ClassifierApart:
        """Give a process as soon as one is idle, to who has waited longest first."""
        if not self._able:
            raise NobodyListens(self._reason)
        if self._idle:
            return self._idle.popleft()
        turn: asyncio.Future[ClassifierApart] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and not turn.exception():
                self._free(turn.result())  # it came just as whoever waited left
            raise

    def _free(self, listener: ClassifierApart) -> None:
        """Pass a process on to who waits for it, or keep it."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(listener)
                return
        self._idle.append(listener)

    def _done(
        self, listener: ClassifierApart, answer: asyncio.Future[Prediction | Failure]
    ) -> None:
        error = None if answer.cancelled() else answer.exception()
        if error is None:
            self._free(listener)
        elif self._able:  # or all of it has ended
            self._able -= 1
            self._reason = told(error)
            logger.warning("a process cannot listen: %s", self._reason)
            revival = asyncio.ensure_future(self._revive(listener))
            self._revivals.add(revival)
            revival.add_done_callback(self._revivals.discard)
            if not self._able:
                self._send_away()

    def _send_away(self) -> None:
        """Tell all who wait that nobody will listen."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(NobodyListens(self._reason))

    async def _revive(self, listener: ClassifierApart) -> None:
        """Try to have a process again until it is there."""
        pause = SOONEST_SECONDS
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LATEST_SECONDS)
            try:
                await self._ready(listener)
                break
            except (StartError, OSError) as error:
                self._reason = told(error)
        self._able += 1
        self._free(listener)


def told(error: BaseException) -> str:
    """Say in a line what is wrong, to those who did not write the program."""
    if isinstance(error, StartError):
        return error.reason
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) if isinstance(error, TonearmError) else unexpected(error)
