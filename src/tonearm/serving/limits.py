"""What the server lets in: so many uploads at once, of so many bytes, and none that dawdles."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tonearm.errors import UsageError
from tonearm.serving.statistics import Statistics

RETRY_SECONDS = 1
LINGER_SECONDS = 5.0

# Otherwise what is left of an upload that has no end would still be taken in.
_GOODBYE = {"Connection": "close"}


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
    upload_seconds
        How long all of it may take.

    Raises
    ------
    UsageError
        If one of them is out of range.
    """

    megabytes: float = 200.0
    waiting: int = 16
    idle_seconds: float = 30.0
    upload_seconds: float = 300.0

    def __post_init__(self) -> None:
        numbers = (self.megabytes, self.idle_seconds, self.upload_seconds)
        if not (all(0 < number < math.inf for number in numbers) and self.waiting >= 0):
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
        end = asyncio.get_running_loop().time() + self._limits.upload_seconds

        async def limited() -> Message:
            nonlocal received, is_whole
            if is_whole:  # all that may still come is that the client has left
                return await receive()
            left = end - asyncio.get_running_loop().time()
            try:
                message = await asyncio.wait_for(receive(), min(left, self._limits.idle_seconds))
            except TimeoutError:
                self._statistics.refused(408)
                raise HTTPException(408, "the upload came too slowly", _GOODBYE) from None
            received += len(message.get("body", b""))
            if received > self._most_bytes:
                self._statistics.refused(413)
                await _let_end(message, receive)
                raise HTTPException(413, self._too_large, _GOODBYE)
            is_whole = not message.get("more_body", False)
            return message

        return limited


async def _let_end(message: Message, receive: Receive) -> None:
    """Throw the rest of an upload away, if it ends soon.

    Who reads the answer only after having sent everything would otherwise find the connection gone.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while message.get("more_body", False):
                message = await receive()


def _announced(scope: Scope) -> int:
    """Bytes the client says it will send; 0 where it does not say."""
    length = Headers(scope=scope).get("content-length", "")
    return int(length) if length.isdecimal() else 0
