"""`tonearm report`: show a whole library on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tonearm.cli.options import StoreArgument, named_after, path_option
from tonearm.cli.output import warn_of_unknown_labels
from tonearm.text import printable


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(report)


def report(
    store: StoreArgument,
    output: Annotated[
        Path | None,
        path_option(
            "--output",
            "-o",
            help="HTML file to write.",
            show_default="STORE.html in the current folder",
        ),
    ] = None,
    mapping: Annotated[
        Path | None,
        path_option("--mapping", help="Your tags' words for the labels: .toml, .json or .csv."),
    ] = None,
    title: Annotated[
        str | None,
        typer.Option("--title", help="Title of the page.", show_default="the store's name"),
    ] = None,
) -> None:
    """Write a web page about a library: its genres, a map of its tracks, what the tags say.

    The page is a single HTML file that works offline. It contains the names of files and what
    their tags say.
    """
    from rich.console import Console

    from tonearm.library.mapping import read_mapping
    from tonearm.library.report import write_report
    from tonearm.library.store import Store

    page = output or named_after(store, ".html")
    words = read_mapping(mapping) if mapping else {}
    with Store(store) as library:
        warn_of_unknown_labels(words, library.labels())
        with Console(stderr=True).status("drawing the map"):
            write_report(library, page, words, printable(title) if title else None)
    print(printable(page))
