"""Options that several commands share, worded alike."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from tonearm.errors import UsageError

LONGEST_NAME = 255  # bytes, in nearly every file system

# By default Typer checks that a path can be read, even an output path, and exits with code 2 if it
# cannot. The commands themselves report the problem in one line, and exit with 1.
path_argument = partial(typer.Argument, readable=False)
path_option = partial(typer.Option, readable=False)

StoreArgument = Annotated[
    Path, path_argument(metavar="STORE", help="The store that `tonearm scan` made.")
]
CacheOption = Annotated[
    Path | None,
    path_option("--cache", show_default=False, help="Folder of the feature cache."),
]
PictureOption = Annotated[
    Path | None,
    path_option(
        "--output",
        "-o",
        show_default="named after FILE, in the current folder",
        help="Picture to write: .png, .svg, .pdf, .jpg or .webp.",
    ),
]
JsonLinesOption = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]
MappingOption = Annotated[
    Path | None,
    path_option("--mapping", help="Your own words for the labels: a .toml, .json or .csv file."),
]
ModelOption = Annotated[
    str,
    typer.Option("--model", help="A name that `tonearm models` lists, a bundle or a run folder."),
]
FileWorkersOption = Annotated[
    int, typer.Option("--workers", min=1, help="Number of processes that share the files.")
]
AnalysisWorkersOption = Annotated[
    int, typer.Option("--workers", min=1, help="Number of processes that classify.")
]
BootstrapOption = Annotated[
    int,
    typer.Option(
        "--bootstrap", min=0, help="Bootstrap samples for the 95 % intervals; 0 for none."
    ),
]
# Spelled out, since `tonearm.datasets` is slow to import for a program that only shows its help.
ProtocolName = Literal["builtin", "filtered", "stratified", "artist-kfold", "random-kfold"]
SINGLE_DIVISIONS = ("builtin", "filtered")  # protocols without a choice of folds and seed
ProtocolOption = Annotated[
    ProtocolName, typer.Option("--protocol", help="How to divide the dataset.")
]
TimeLimitOption = Annotated[
    float | None,
    typer.Option(
        "--time-limit",
        min=1,
        metavar="SECONDS",
        help="Time limit for each file, in seconds.",
        show_default="2 min and 4 s/MB",
    ),
]

MusicThresholdOption = Annotated[
    float | None,
    typer.Option(
        "--music-threshold",
        metavar="P",
        min=0.0,
        max=1.0,
        show_default="the model's",
        help="Below this probability of being music, the verdict is 'not music'; 0 turns that off.",
    ),
]
UnsureThresholdOption = Annotated[
    float | None,
    typer.Option(
        "--unsure-threshold",
        metavar="P",
        min=0.0,
        max=1.0,
        show_default="the model's",
        help="Below this probability of the best genre, the verdict is 'unsure'; 0 turns that off.",
    ),
]


def refuse(context: typer.Context, *names: str, beside: str) -> None:
    """Refuse options that would be ignored.

    Parameters
    ----------
    names
        Names of the command's parameters.
    beside
        What makes them meaningless, for the message: 'with --undo', 'without --protocol'.

    Raises
    ------
    UsageError
        If one of these options was given.
    """
    parameters = {str(parameter.name): parameter for parameter in context.command.params}
    assert parameters.keys() >= set(names), set(names) - parameters.keys()
    for name in names:
        source = context.get_parameter_source(name)
        if source and source.name == "COMMANDLINE":
            raise UsageError(f"{parameters[name].opts[0]} means nothing {beside}")


def listed(options: Iterable[str], known: Collection[str] = ()) -> list[str]:
    """Return the names in options such as `a,b,c`; an option that is a known name is not split.

    Spaces around a name are stripped, and duplicates are dropped.
    """
    names: list[str] = []
    for option in options:
        names += [option] if option in known else [name.strip() for name in option.split(",")]
    return [name for name in dict.fromkeys(names) if name]


def named_after(file: str | os.PathLike[str], ending: str) -> Path:
    """Return the name of a file with its suffix replaced by an ending, in the current folder.

    A name that leaves no room for the ending is shortened at its end.
    """
    stem = Path(file).stem
    while len(os.fsencode(stem + ending)) > LONGEST_NAME:
        stem = stem[:-1]
    return Path(stem + ending)
