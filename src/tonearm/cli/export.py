"""`tonearm export`: what a store knows, as a table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from tonearm.cli.strangers import warn_of_unknown_places
from tonearm.text import printable


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(export)


def export(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="What `tonearm scan` made.")],
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH...]", help="Only these files and folders.", show_default=False
        ),
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to; - is standard output.")
    ] = "-",
    format: Annotated[
        Literal["csv", "jsonl", "parquet"] | None,
        typer.Option("--format", help="By default what the file's suffix says."),
    ] = None,
    missing: Annotated[bool, typer.Option("--missing", help="Files that are gone, too.")] = False,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Every stretch that was heard; not in CSV.")
    ] = False,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="The embeddings; not in CSV.")
    ] = False,
) -> None:
    """Write what a store knows as CSV, JSON Lines or Parquet, a row for each file.

    The exit code is 1 if there is no file to write; then an older table stays as it was.
    """
    from tonearm.library import exporting
    from tonearm.library.store import Store

    with Store(store) as library:
        if paths:
            if not warn_of_unknown_places(library, paths, missing=missing):
                raise typer.Exit(1)
        elif not any(library.paths(missing=missing)):
            print(f"tonearm: {printable(str(store))} knows no file", file=sys.stderr)
            raise typer.Exit(1)
        exporting.export(
            library,
            output,
            format,
            under=paths or (),
            missing=missing,
            timeline=timeline,
            embeddings=embeddings,
        )
