"""`tonearm export`: write the contents of a store as a table."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tonearm.cli.options import StoreArgument
from tonearm.cli.output import note, warn_of_unknown_paths
from tonearm.text import printable


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(export)


def export(
    store: StoreArgument,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH...]", help="Only these files and folders.", show_default=False
        ),
    ] = None,
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="FILE", help="File to write; - is standard output."),
    ] = "-",
    format: Annotated[
        Literal["csv", "jsonl", "parquet"] | None,
        typer.Option("--format", show_default="by the suffix of FILE", help="Format of the table."),
    ] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Include files that no longer exist.")
    ] = False,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Include every window of the recordings; not in CSV.")
    ] = False,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Include the embeddings; not in CSV.")
    ] = False,
) -> None:
    """Write the contents of a store as CSV, JSON Lines or Parquet, one row per file.

    The exit code is 1 if there is nothing to write; an existing output file is then left alone.
    """
    from tonearm.library import exporting
    from tonearm.library.store import Store

    with Store(store) as library:
        if paths:
            if not warn_of_unknown_paths(library, paths, missing=missing):
                raise typer.Exit(1)
        elif not any(library.paths(missing=missing)):
            note(f"{printable(store)} knows no file")
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
