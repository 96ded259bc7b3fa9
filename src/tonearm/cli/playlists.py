"""`tonearm playlists`: write a playlist for each genre of a library."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from tonearm.cli.options import WordsOption, refuse
from tonearm.cli.strangers import warn_of_strangers
from tonearm.text import printable


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(playlists)


def playlists(
    context: typer.Context,
    store: Annotated[
        Path, typer.Argument(metavar="STORE", help="What `tonearm scan` has written.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FOLDER", help="Where to; made if not there."),
    ],
    min_confidence: Annotated[
        float,
        typer.Option("--min-confidence", min=0, max=1, help="How probable the genre must be."),
    ] = 0.0,
    top: Annotated[
        int,
        typer.Option(
            "--top", min=1, help="Of how many of its most probable genres a track is in the lists."
        ),
    ] = 1,
    sort: Annotated[
        Literal["confidence", "path", "artist", "random"],
        typer.Option("--sort", help="The order of the tracks."),
    ] = "confidence",
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="Tracks in each list.", show_default="all"),
    ] = None,
    mapping: WordsOption = None,
    absolute: Annotated[
        bool, typer.Option("--absolute", help="Write whole paths, not those from the folder.")
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Of --sort random.", show_default="another each time"),
    ] = None,
) -> None:
    """Write a playlist (M3U8) for each genre that was heard.

    The most probable genre of a track is its genre; --top 2 puts it also into the list of the
    second, if that is as probable as --min-confidence asks. The exit code is 1 if there is
    nothing to write.
    """
    from tonearm.library.mapping import read_mapping
    from tonearm.library.playlists import Choice, write_playlists
    from tonearm.library.store import Store

    if sort != "random":
        refuse(context, "seed", beside="without --sort random")
    words = read_mapping(mapping) if mapping else {}
    choice = Choice(min_confidence, top, sort, limit, words, seed)
    with Store(store) as library:
        warn_of_strangers(words, library.labels())
        written = write_playlists(library, output, choice, absolute=absolute)
    width = max((len(str(playlist.tracks)) for playlist in written), default=0)
    for playlist in written:
        print(f"{playlist.tracks:>{width}}  {printable(str(playlist.path))}")
    for path in dict.fromkeys(path for playlist in written for path in playlist.left_out):
        print(
            f"tonearm: left out, as an M3U8 file cannot hold its name: {printable(path)}",
            file=sys.stderr,
        )
    if not written:
        print("tonearm: no genre stands for any track, or none is so probable", file=sys.stderr)
        raise typer.Exit(1)
