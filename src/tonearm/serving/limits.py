"""Limits on uploads: how many at once, how large, and how slow."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tonearm.errors import UsageError
from tonearm.serving.statistics import Statistics

RETRY_SECONDS = 1
SHUTTING_DOWN = "the server is ending"
# Scope key for the reason of a refusal that is not the request's fault.
REFUSAL_REASON = "tonearm.refusal"
LINGER_SECONDS = 5.0  # how long to keep reading an upload after the response


@dataclass(frozen=True)
class Limits:
    """Limits on uploads.

    Attributes
    ----------
    megabytes
        Maximum size of one upload.
    waiting
        Uploads that may be in transit or waiting, besides those being classified.
    idle_seconds
        How long an upload may stall before it is given up.
    upload_seconds
        How long a whole upload may take.

    Raises
    ------
    UsageError
        If a limit is out of range.
    """

    megabytes: float = 200.0
    waiting: int = 16
    idle_seconds: float = 30.0
    upload_seconds: float = 300.0

    def __post_init__(self) -> None:
        numbers = (self.megabytes, self.idle_seconds, self.upload_seconds)
        if not (all(0 < number < math.inf for number in numbers) and self.waiting >= 0):
            raise UsageError(
                f"limits: expected megabytes and seconds above 0, and waiting from 0, got {self}"
            )


class LimitedUploads:
    """Refuse uploads if the queue is full (503), or if they are too large (413) or too slow (408).

    This is an ASGI application that wraps another one. Only POST requests count as uploads. If a
    request is answered before all of its body has arrived, the connection is closed afterwards;
    otherwise the server would go on reading the body for as long as it comes.

    Parameters
    ----------
    app
        The wrapped application.
    limits
        Limits on each upload, and on how many may wait.
    concurrent
        How many uploads are classified at once.
    statistics
        Where uploads in progress and refusals are counted.
    """

    def __init__(
        self, app: ASGIApp, limits: Limits, concurrent: int, statistics: Statistics
    ) -> None:
        self._app = app
        self._limits = limits
        self._max_uploads = concurrent + limits.waiting
        self._uploads = 0
        self._statistics = statistics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(scope, receive, send, self._limits)
        if scope["method"] != "POST":
            await self._app(scope, body.receive, body.send)
        elif self._uploads >= self._max_uploads:
            scope[REFUSAL_REASON] = "queue"
            headers = {"Retry-After": str(RETRY_SECONDS)}
            await self._refuse(503, f"busy with {self._uploads} recordings", headers, body)
        elif _is_too_large(_content_length(scope), self._limits):
            await self._refuse(413, _too_large(self._limits), None, body)
        else:
            self._uploads += 1
            try:
                with self._statistics.uploads.track_inprogress():
                    await self._app(scope, body.receive, self._counting_send(body))
            finally:
                self._uploads -= 1

    async def _refuse(
        self, status: int, reason: str, headers: dict[str, str] | None, body: _Body
    ) -> None:
        refusal = JSONResponse({"error": reason}, status, headers)
        await refusal(body.scope, body.receive, self._counting_send(body))

    def _counting_send(self, body: _Body) -> Send:
        """Return a `send` that counts refusals; 422, 499 and 500 are for accepted uploads."""

        async def counting_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = message["status"]
                if status >= 400 and status not in (422, 499, 500):
                    default_reason = "request" if status < 500 else "ending"
                    self._statistics.record_refusal(
                        status, body.scope.get(REFUSAL_REASON, default_reason)
                    )
            await body.send(message)

        return counting_send


class _Body:
    """The body of a request, which arrives in pieces, and the response to it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limits: Limits) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self._limits = limits
        self._received = 0
        self._is_complete = not _has_body(scope)
        self._end = asyncio.get_running_loop().time() + limits.upload_seconds

    async def receive(self) -> Message:
        """Return the next piece; raise an `HTTPException` if the body exceeds the limits."""
        if self._is_complete:  # the only message still to come is that the client disconnects
            return await self._receive()
        remaining = self._end - asyncio.get_running_loop().time()
        try:
            message = await asyncio.wait_for(
                self._receive(), min(remaining, self._limits.idle_seconds)
            )
        except TimeoutError:
            raise HTTPException(408, "the upload came too slowly") from None
        except asyncio.CancelledError:  # the server's time to shut down is over
            raise HTTPException(503, SHUTTING_DOWN) from None
        self._count_received(message)
        if _is_too_large(self._received, self._limits):
            raise HTTPException(413, _too_large(self._limits))
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the response; after the last one, keep reading the body for a while.

        Otherwise a client that sends everything before it reads would find the connection closed.
        """
        if self._is_complete:
            await self._send(message)
        elif message["type"] == "http.response.start":
            if self.scope["http_version"].startswith("1"):  # later versions close the stream
                MutableHeaders(scope=message)["Connection"] = "close"
            await self._send(message)
        elif message.get("more_body", False):
            await self._send(message)
        else:
            await self._send({**message, "more_body": True})
            with suppress(TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(LINGER_SECONDS):
                    while not self._is_complete:
                        self._count_received(await self._receive())
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def _count_received(self, message: Message) -> None:
        self._received += len(message.get("body", b""))
        self._is_complete = not message.get("more_body", False)


def _is_too_large(size: int, limits: Limits) -> bool:
    return size > limits.megabytes * 1_000_000


def _too_large(limits: Limits) -> str:
    return f"larger than {limits.megabytes:g} MB"


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    if not scope["http_version"].startswith("1"):  # from 2 on, no header has to announce a body
        return scope["method"] not in ("GET", "HEAD")
    return "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def _content_length(scope: Scope) -> int:
    """Return the announced length of the body in bytes; 0 if the client does not announce it."""
    length = Headers(scope=scope).get("content-length", "")
    return int(length) if length.isdecimal() else 0
