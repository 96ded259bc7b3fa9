"""Run the application until a signal ends it, without losing requests or leaving their files."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from tonearm.errors import TonearmError, reason_of

BACKLOG = 128  # connections not yet accepted; asyncio tries to accept as many in a row
SHUTDOWN_SECONDS = 30  # for recordings in progress when the server is asked to stop
# How long a connection may be idle: longer than proxies keep theirs (nginx 60 s, Traefik 90 s,
# Caddy 120 s, Google's load balancer 600 s). A proxy that sends a request on a connection just as
# it is closed answers 502.
KEEP_ALIVE_SECONDS = 620

Handler = Callable[[int, FrameType | None], None]

_LOG = logging.getLogger("uvicorn.error")


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address.

    Raises
    ------
    TonearmError
        If it cannot: the address is taken, or there is none of that name.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )[0]
        # `socket.create_server` leaves the protocol unset. Then asyncio does not recognise TCP,
        # and each response waits 40 ms for an acknowledgement.
        server_socket = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":  # elsewhere this would let others share the address
                server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server_socket.bind(address)
            server_socket.listen()  # or another server could take the address
        except OSError:
            server_socket.close()
            raise
    except (OSError, UnicodeError) as error:
        raise TonearmError(f"{host}, port {port}: {reason_of(error)}") from None
    return server_socket


def run_server(app: ASGIApp, listening: socket.socket, on_start: Callable[[], None]) -> bool:
    """Serve an application on a socket until a signal ends it; return whether it ever started.

    Parameters
    ----------
    listening
        A socket as `bind` returns it.
    on_start
        Called once requests are accepted.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        server_header=False,
        lifespan="on",  # a failure in it ends the server
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        backlog=BACKLOG,
    )
    logging.getLogger("uvicorn.access").setLevel(logging.INFO)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of every odd form
    server = _Server(config, on_start)
    with _graceful_signals(), suppress(KeyboardInterrupt):  # Ctrl-C is the normal way to stop
        try:
            server.run([listening])
        except SystemExit:
            if server.started:
                raise
    return server.started


class _Server(uvicorn.Server):
    """A server that logs no tracebacks of what ends it, and ends at a second signal at once."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        _LOG.disabled = True  # no traceback: the caller reports the error in one line
        await super().startup(sockets)
        _LOG.disabled = self.force_exit
        if self.started:
            self._on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        is_second = self.should_exit
        super().handle_exit(sig, frame)
        if is_second:
            self.force_exit = True  # at any signal; uvicorn does so only at Ctrl-C
            _LOG.disabled = True  # no tracebacks of aborted requests
            # From Python 3.12 on, a server is not closed while a connection is open.
            for connection in list(self.server_state.connections):
                loop = asyncio.get_running_loop()  # which this signal interrupts
                loop.call_soon_threadsafe(connection.transport.abort)


@contextmanager
def _graceful_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end requests and delete their files before they end the program.

    uvicorn shuts down and then raises the signal again: without this, that would happen while
    unfinished requests still have files.
    """
    if threading.current_thread() is not threading.main_thread():  # only it receives signals
        yield
        return

    def hang_up(number: int, frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGTERM)  # which uvicorn handles

    def end(number: int, frame: FrameType | None) -> None:
        for each in handlers:  # the cleanup must not be interrupted
            signal.signal(each, signal.SIG_IGN)
        raise _Ended(number)

    # On Windows, closing the console raises SIGBREAK.
    names = [name for name in ("SIGTERM", "SIGBREAK") if hasattr(signal, name)]
    handlers: dict[int, Handler] = {getattr(signal, name): end for name in names}
    if os.name == "posix" and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # not under nohup
        handlers[signal.SIGHUP] = hang_up
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    signal_number = None
    try:
        yield
    except _Ended as signalled:
        signal_number = signalled.number
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal_number is not None:
        signal.raise_signal(signal_number)


class _Ended(BaseException):
    """Raised by a signal that is to end the program, so that cleanup comes first."""

    def __init__(self, number: int) -> None:
        self.number = number
