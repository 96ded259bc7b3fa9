"""`tonearm playlists`: write a playlist for each genre of a library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tonearm.cli.options import MappingOption, StoreArgument, path_option, refuse
from tonearm.cli.output import note, report_unlisted, warn_of_unknown_labels
from tonearm.text import printable


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(playlists)


def playlists(
    context: typer.Context,
    store: StoreArgument,
    output: Annotated[
        Path,
        path_option(
            "--output", "-o", metavar="FOLDER", help="Folder to write to; created if missing."
        ),
    ],
    min_confidence: Annotated[
        float,
        typer.Option("--min-confidence", min=0, max=1, help="Lowest probability of the genre."),
    ] = 0.0,
    top: Annotated[
        int,
        typer.Option(
            "--top", min=1, metavar="N", help="List each track under its N most probable genres."
        ),
    ] = 1,
    sort: Annotated[
        Literal["confidence", "path", "artist", "random"],
        typer.Option("--sort", help="Order of the tracks."),
    ] = "confidence",
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="Most tracks per playlist.", show_default="all"),
    ] = None,
    mapping: MappingOption = None,
    absolute: Annotated[
        bool, typer.Option("--absolute", help="Write absolute paths, not relative ones.")
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Seed for --sort random.", show_default="different each time"),
    ] = None,
) -> None:
    """Write a playlist (M3U8) for each genre that was found.

    A track is listed under its most probable genre; with --top 2 also under the second, if that is
    at least as probable as --min-confidence. The exit code is 1 if there is nothing to write.
    """
    from tonearm.library.mapping import read_mapping
    from tonearm.library.playlists import Choice, write_playlists
    from tonearm.library.store import Store

    if sort != "random":
        refuse(context, "seed", beside="without --sort random")
    words = read_mapping(mapping) if mapping else {}
    choice = Choice(min_confidence, top, sort, limit, words, seed)
    with Store(store) as library:
        warn_of_unknown_labels(words, library.labels())
        written = write_playlists(library, output, choice, absolute=absolute)
    width = max((len(str(playlist.tracks)) for playlist in written), default=0)
    for playlist in written:
        print(f"{playlist.tracks:>{width}}  {printable(playlist.path)}")
    report_unlisted(dict.fromkeys(path for playlist in written for path in playlist.left_out))
    if not written:
        note("no track has a trusted genre of that probability")
        raise typer.Exit(1)
