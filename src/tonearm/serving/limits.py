"""What the server lets in: so many uploads at once, of so many bytes, and none that dawdles."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tonearm.errors import UsageError
from tonearm.serving.statistics import Statistics

RETRY_SECONDS = 1


@dataclass(frozen=True)
class Limits:
    """How much is let in.

    Attributes
    ----------
    megabytes
        Of one upload.
    waiting
        Uploads that may be on their way or wait, beside those that are listened to.
    idle_seconds
        How long nothing may come of an upload before it is given up.

    Raises
    ------
    UsageError
        If one of them is out of range.
    """

    megabytes: float = 200.0
    waiting: int = 16
    idle_seconds: float = 30.0

    def __post_init__(self) -> None:
        if not (self.megabytes > 0 and self.waiting >= 0 and self.idle_seconds > 0):
            raise UsageError(f"limits: expected megabytes and seconds above 0, got {self}")


class LimitedUploads:
    """Refuses an upload that would fill the queue (503) or the disk (413), or dawdles (408).

    It is an ASGI application around another one. What is not posted is no upload.

    Parameters
    ----------
    app
        What is behind it.
    limits
        Of each upload, and of how many may wait.
    listening
        How many are listened to at once.
    statistics
        Where what it does is noted.
    """

    def __init__(
        self, app: ASGIApp, limits: Limits, listening: int, statistics: Statistics
    ) -> None:
        self._app = app
        self._limits = limits
        self._most_bytes = round(limits.megabytes * 1_000_000)
        self._most_inside = listening + limits.waiting
        self._inside = 0
        self._statistics = statistics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, if it may pass."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
        elif self._inside >= self._most_inside:
            await self._refuse(503, f"busy with {self._inside} recordings", scope, receive, send)
        elif _announced(scope) > self._most_bytes:
            await self._refuse(413, self._too_large, scope, receive, send)
        else:
            self._inside += 1
            self._statistics.inside.set(self._inside)
            try:
                await self._app(scope, self._limited(receive), send)
            finally:
                self._inside -= 1
                self._statistics.inside.set(self._inside)

    @property
    def _too_large(self) -> str:
        return f"larger than {self._limits.megabytes:g} MB"

    async def _refuse(
        self, status: int, reason: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._statistics.refused(status)
        headers = {"Retry-After": str(RETRY_SECONDS)} if status == 503 else None
        await JSONResponse({"error": reason}, status, headers)(scope, receive, send)

    def _limited(self, receive: Receive) -> Receive:
        """Wrap what brings an upload piece by piece; its errors are answered by the application."""
        received = 0
        is_whole = False

        async def limited() -> Message:
            nonlocal received, is_whole
            if is_whole:  # all that may still come is that the client has left
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self._limits.idle_seconds)
            except TimeoutError:
                self._statistics.refused(408)
                seconds = f"{self._limits.idle_seconds:g}"
                raise HTTPException(408, f"nothing came for {seconds} s") from None
            received += len(message.get("body", b""))
            if received > self._most_bytes:
                self._statistics.refused(413)
                raise HTTPException(413, self._too_large)
            is_whole = not message.get("more_body", False)
            return message

        return limited


def _announced(scope: Scope) -> int:
    """Bytes the client says it will send; 0 where it does not say."""
    length = Headers(scope=scope).get("content-length", "")
    return int(length) if length.isdecimal() else 0
