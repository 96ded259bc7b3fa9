"""`tonearm serve`: genres over HTTP, and a page to drop files on."""

from __future__ import annotations

from typing import Annotated

import typer

from tonearm.cli.options import (
    ModelOption,
    MusicThresholdOption,
    TimeLimitOption,
    UnsureThresholdOption,
)
from tonearm.cli.output import note
from tonearm.errors import TonearmError
from tonearm.extras import needs
from tonearm.threads import processors


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
    with needs("serve"):
        from tonearm.serving import Limits, WorkerPool, create_app
        from tonearm.serving.server import bind, run_server
    from tonearm.classifier import Classifier

    classifier = Classifier.load(
        model,
        music_threshold=music_threshold,
        unsure_threshold=unsure_threshold,
        time_limit=time_limit,
    )
    pool = WorkerPool(classifier, workers or processors())
    app = create_app(pool, Limits(megabytes=max_megabytes, waiting=max_waiting))
    listening = bind(host, port)  # before the model's processes are started in vain
    shown = f"[{host}]" if ":" in host else host

    def announce() -> None:
        address = f"http://{shown}:{listening.getsockname()[1]}"
        note(f"listening at {address} (Ctrl-C ends it)")

    if not run_server(app, listening, announce):
        raise TonearmError(pool.unavailable_reason or "the server could not be started")
