"""Processes that listen for the server, each to one recording at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from tonearm.classifier import Classifier, ClassifierApart, Failure, Prediction
from tonearm.errors import UsageError

Attempt = Callable[[Path], Awaitable[Prediction | Failure]]


class Listeners:
    """Processes that listen; who comes while all are busy waits until one is idle.

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

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Have the processes, from when all are ready until they are no longer needed.

        Raises
        ------
        StartError
            If one dies before it is ready.
        """
        # As many threads, one to wait for each process, and none of those that copy uploads.
        self._threads = anyio.CapacityLimiter(self.processes)
        self._idle: asyncio.Queue[ClassifierApart] = asyncio.Queue()
        crew: list[ClassifierApart] = []
        try:
            for _ in range(self.processes):
                crew.append(self.classifier.apart())
            # Asked for a folder, each refuses as soon as it is ready.
            await asyncio.gather(*(self._ask(listener, Path()) for listener in crew))
            for listener in crew:
                self._idle.put_nowait(listener)
            yield
        finally:
            for listener in crew:
                listener.close()

    @asynccontextmanager
    async def idle(self) -> AsyncIterator[Attempt]:
        """Wait for an idle process, and give what classifies a file in it.

        That does as `Classifier.attempt`, but raises StartError or OSError where the process had
        died and none can take its place.
        """
        listener = await self._idle.get()
        try:
            yield partial(self._ask, listener)
        finally:
            self._idle.put_nowait(listener)

    async def _ask(self, listener: ClassifierApart, path: Path) -> Prediction | Failure:
        return await run_sync(listener.attempt, path, limiter=self._threads)
