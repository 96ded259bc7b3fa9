"""Processes that listen for the server, each to one recording at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from tonearm.classifier import Classifier, ClassifierApart
from tonearm.errors import UsageError
from tonearm.prediction import Failure, Prediction


class Listeners:
    """Processes that listen; who comes while all are busy waits until one is idle.

    Parameters
    ----------
    classifier
        What each of them is to be.
    processes
        Their number.

    Attributes
    ----------
    trouble
        Why the last recording had no process to listen to it; None if it had one.

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
        self.trouble: str | None = None

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Have the processes, from when all are ready until they are no longer needed.

        Raises
        ------
        StartError
            If one dies before it is ready.
        """
        self._idle: asyncio.Queue[ClassifierApart] = asyncio.Queue()
        crew: list[ClassifierApart] = []
        # As many threads, one to wait for each process.
        self._threads = ThreadPoolExecutor(self.processes)
        try:
            for _ in range(self.processes):
                crew.append(self.classifier.apart())
            loop = asyncio.get_running_loop()
            await asyncio.gather(
                *(loop.run_in_executor(self._threads, listener.ready) for listener in crew)
            )
            for listener in crew:
                self._idle.put_nowait(listener)
            yield
        finally:
            for listener in crew:
                listener.close()
            self._threads.shutdown(wait=False)

    async def attempt(self, path: Path) -> Prediction | Failure:
        """Classify a file as `Classifier.attempt` does, as soon as a process is idle.

        Raises
        ------
        StartError, OSError
            If the process had died and none can take its place.
        """
        listener = await self._idle.get()
        loop = asyncio.get_running_loop()
        answer = loop.run_in_executor(self._threads, listener.attempt, path)
        # Whoever asked may be cancelled meanwhile. The process then still listens, and is not idle.
        answer.add_done_callback(partial(self._done, listener))
        return await asyncio.shield(answer)

    def _done(
        self, listener: ClassifierApart, answer: asyncio.Future[Prediction | Failure]
    ) -> None:
        self._idle.put_nowait(listener)
        error = None if answer.cancelled() else answer.exception()
        self.trouble = str(error) if error else None
