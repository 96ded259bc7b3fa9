"""`tonearm similar`: find the tracks of a library that sound most like a recording."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tonearm.cli.options import JsonLinesOption, path_option, refuse
from tonearm.cli.output import fitted, note, report_unlisted, warn, warn_of_unknown_paths
from tonearm.text import printable, relative

if TYPE_CHECKING:
    from tonearm.library.similar import Neighbour


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(similar)


def similar(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A recording, in the library or not.")
    ],
    store: Annotated[
        Path,
        path_option("--store", metavar="FILE", help="The store that `tonearm scan` made."),
    ],
    top: Annotated[int, typer.Option("--top", min=1, help="How many tracks to list.")] = 10,
    under: Annotated[
        list[str] | None,
        typer.Option(
            "--under", metavar="FOLDER", help="Search only this folder.", show_default="all"
        ),
    ] = None,
    playlist: Annotated[
        Path | None,
        path_option("--playlist", help="Also write a playlist (M3U8): FILE, then the tracks."),
    ] = None,
    absolute: Annotated[
        bool, typer.Option("--absolute", help="Write absolute paths into the playlist.")
    ] = False,
    as_json: JsonLinesOption = False,
    model: Annotated[
        str,
        typer.Option(
            "--model", help="The model that scanned the store, for a FILE that is not in it."
        ),
    ] = "default",
) -> None:
    """List the tracks of a library that sound most like a recording, most similar first.

    Each comes with a similarity from -1 to 1: the cosine between the two embeddings of the model. A
    FILE that is in the store is not decoded again. The exit code is 1 if there is no other track.
    """
    if playlist is None:
        refuse(context, "absolute", beside="without --playlist")
    from tonearm.library.similar import require_playlist, write_similar
    from tonearm.library.similar import similar as find
    from tonearm.library.store import Store

    left_out: tuple[str, ...] = ()
    with Store(store) as library:
        if under and not warn_of_unknown_paths(library, under):
            raise typer.Exit(1)
        if playlist:  # before a recording that is not in the library is analysed
            require_playlist(playlist, library)
        found = find(library, file, top, model=model, under=under or ())
        if found.neighbours and playlist:
            left_out = write_similar(library, found, playlist, absolute=absolute)
    if found.not_searched:
        warn(
            f"not searched, since another model or excerpt analysed them: {found.not_searched} "
            "of the files (scan them again)"
        )
    if not found.neighbours:
        note("there is no other track")
        raise typer.Exit(1)
    if as_json:
        for neighbour in found.neighbours:
            print(json.dumps(_record(neighbour)))
    else:
        _print_table(found.neighbours)
    report_unlisted(left_out)


def _record(neighbour: Neighbour) -> dict[str, object]:
    entry = neighbour.entry
    return {
        "path": entry.path,
        "similarity": round(neighbour.similarity, 4),
        "genre": entry.genre,
        "confidence": entry.confidence,
        "verdict": entry.verdict,
        "artist": entry.artist,
        "title": entry.title,
        "duration": entry.duration,
    }


def _print_table(neighbours: tuple[Neighbour, ...]) -> None:
    from rich.cells import cell_len

    width = max(cell_len(str(neighbour.entry.genre)) for neighbour in neighbours)
    for neighbour in neighbours:
        entry = neighbour.entry
        path = relative(entry.path)
        genre = fitted(str(entry.genre), width)
        named = path if not path.startswith(os.pardir) else entry.path
        print(f"{neighbour.similarity:5.2f}  {genre}  {printable(named)}")
