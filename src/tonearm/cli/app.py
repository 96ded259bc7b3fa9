"""The `tonearm` program: gathers the commands and turns errors into one line and an exit code."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Annotated

import typer

from tonearm import __version__
from tonearm.cli.output import note
from tonearm.errors import TonearmError, UsageError, reason_of, with_file
from tonearm.threads import keep_blas_single

_OUTPUT_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

# A module of `tonearm.cli` for each, in the order of `tonearm --help`. It imports nothing heavy at
# its top (no NumPy, no ONNX Runtime, no torch): start-up time is paid on every call.
COMMANDS = (
    "classify",
    "scan",
    "report",
    "playlists",
    "similar",
    "export",
    "tag",
    "learn",
    "serve",
    "explain",
    "spectrogram",
    "models",
    "data",
    "train",
    "distill",
    "evaluate",
    "compare",
    "benchmark",
)


def create_app(commands: Iterable[str] = COMMANDS) -> typer.Typer:
    """Return the program with these commands."""
    app = typer.Typer(
        name="tonearm",
        help="Listens to music and says its genre.",
        no_args_is_help=True,
        rich_markup_mode="markdown",  # so that paragraphs flow, whatever the terminal's width
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for command in commands:
        import_module(f"tonearm.cli.{command}").register(app)
    return app


def _needed(arguments: Sequence[str]) -> Sequence[str]:
    """Return the commands to build: the one that is called, or all for help and completion.

    To build all of them takes half as long as to classify a clip.
    """
    called = arguments[:1]
    return called if called and called[0] in COMMANDS else COMMANDS


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"tonearm {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Listens to music and says its genre."""


def main() -> None:
    """Run the program, with the exit codes of docs/classify.md: 0, 1, 2, and 130 if interrupted.

    Typer itself ends quietly on a closed pipe and on Ctrl-C.
    """
    keep_blas_single()
    _reopen_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal's encoding lacks must not end the program.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Its complaints about a home folder that it cannot write its cache to are no news of a picture.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        try:
            create_app(_needed(sys.argv[1:]))()
        finally:
            sys.stdout.flush()
    except TonearmError as error:
        note(error)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except OSError as error:  # such as a full disk that the output goes to
        if not _is_closed_pipe(error):
            note(_error_text(error))
        # Otherwise flushing what is still buffered would fail again when Python exits.
        with suppress(OSError):  # a stream without a file has no descriptor
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _reopen_closed_streams() -> None:
    """Open the null device in place of standard streams that were closed (``>&-``).

    Otherwise the next file to be opened, such as a playlist, would take a closed stream's
    descriptor, and what is printed would be written into it.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)  # so that child processes have them too
    os.close(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115


def _is_closed_pipe(error: OSError) -> bool:
    """Return whether the reader of the output has gone, as Windows tells it; Typer knows EPIPE."""
    return os.name == "nt" and error.errno == errno.EINVAL and error.filename is None


def _error_text(error: OSError) -> str:
    """Return what failed, as far as it is known, and why."""
    if isinstance(error.filename, str | bytes):
        return with_file(error)
    reason = reason_of(error)
    try:
        os.getcwd()  # noqa: PTH109
    except OSError:
        return f"the current folder: {reason}"
    # Errors in writing a file are reported by the code that writes it.
    return f"output: {reason}" if error.errno in _OUTPUT_ERRNOS else reason
