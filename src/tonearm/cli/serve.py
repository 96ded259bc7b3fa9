"""`tonearm serve`: genres over HTTP, and a page to drop files on."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from tonearm.cli.options import (
    ModelOption,
    MusicThresholdOption,
    TimeLimitOption,
    UnsureThresholdOption,
)
from tonearm.errors import TonearmError
from tonearm.extras import needs
from tonearm.threads import keep_blas_single, processors

if TYPE_CHECKING:
    import socket
    from types import FrameType

    Handler = Callable[[int, FrameType | None], None]

BACKLOG = 128  # connections not yet accepted; asyncio tries to accept as many in a row
SHUTDOWN_SECONDS = 30  # for recordings in progress when the server is asked to stop


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(serve)


def serve(
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 for every network.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 for a free one.")
    ] = 8000,
    model: ModelOption = "default",
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            show_default="one for each processor",
            help="Recordings to classify at once, each in its own process.",
        ),
    ] = None,
    max_megabytes: Annotated[
        float, typer.Option("--max-megabytes", min=0.001, help="Largest upload, in MB.")
    ] = 200,
    max_waiting: Annotated[
        int, typer.Option("--max-waiting", min=0, help="Most uploads waiting for a process.")
    ] = 16,
    music_threshold: MusicThresholdOption = None,
    unsure_threshold: UnsureThresholdOption = None,
    time_limit: TimeLimitOption = None,
) -> None:
    """Classify recordings over HTTP.

    POST a file to /classify to get the JSON that `tonearm classify --json` prints, or drop files on
    the page at /. There is no password: put a proxy that has one in front before others use it.
    """
    import asyncio
    import logging

    keep_blas_single()
    with needs("serve"):
        import uvicorn

        from tonearm.serving import Limits, WorkerPool, create_app
    from tonearm.classifier import Classifier

    classifier = Classifier.load(
        model,
        music_threshold=music_threshold,
        unsure_threshold=unsure_threshold,
        time_limit=time_limit,
    )
    pool = WorkerPool(classifier, workers or processors())
    app = create_app(pool, Limits(megabytes=max_megabytes, waiting=max_waiting))
    server_socket = _bind(host, port)
    shown = f"[{host}]" if ":" in host else host

    log = logging.getLogger("uvicorn.error")

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            log.disabled = True  # no traceback: the error is reported below in one line
            await super().startup(sockets)
            log.disabled = self.force_exit
            if self.started:
                address = f"http://{shown}:{server_socket.getsockname()[1]}"
                typer.echo(f"tonearm: listening at {address} (Ctrl-C ends it)", err=True)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            is_second = self.should_exit
            super().handle_exit(sig, frame)
            if is_second:
                self.force_exit = True  # at any signal; uvicorn does so only at Ctrl-C
                log.disabled = True  # no tracebacks of aborted requests
                # From Python 3.12 on, a server is not closed while a connection is open.
                for connection in list(self.server_state.connections):
                    loop = asyncio.get_running_loop()  # which this signal interrupts
                    loop.call_soon_threadsafe(connection.transport.abort)

    config = uvicorn.Config(
        app,
        log_level="warning",
        server_header=False,
        lifespan="on",  # a failure in it ends the server
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        backlog=BACKLOG,
    )
    logging.getLogger("uvicorn.access").setLevel(logging.INFO)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of every odd form
    server = Server(config)
    with _graceful_signals(), suppress(KeyboardInterrupt):  # Ctrl-C is the normal way to stop
        try:
            server.run([server_socket])
        except SystemExit:
            if server.started:
                raise
    if not server.started:
        raise TonearmError(pool.unavailable_reason or "the server could not be started")


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


def _bind(host: str, port: int) -> socket.socket:
    """Bind to an address, before the model's processes are started in vain."""
    import socket

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
        reason = error.strerror if isinstance(error, OSError) else None
        raise TonearmError(f"{host}, port {port}: {reason or error}") from None
    return server_socket
