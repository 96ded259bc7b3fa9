"""Options that several commands take, in the same words."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Literal

import typer

from tonearm.errors import UsageError

ModelOption = Annotated[
    str, typer.Option("--model", help="A name `tonearm models` lists, a bundle or a run folder.")
]
WordsOption = Annotated[
    Path | None,
    typer.Option("--mapping", help="Your words for the labels: a .toml, .json or .csv file."),
]
SharingOption = Annotated[
    int, typer.Option("--workers", min=1, help="Processes that share the files.")
]
ListeningOption = Annotated[
    int, typer.Option("--workers", min=1, help="Processes that share the listening.")
]
# Spelled out, since `tonearm.datasets` is slow to import for a program that only shows its help.
ProtocolName = Literal["builtin", "filtered", "stratified", "artist-kfold", "random-kfold"]
ProtocolOption = Annotated[ProtocolName, typer.Option("--protocol", help="How to divide.")]
TimeLimitOption = Annotated[
    float | None,
    typer.Option(
        "--time-limit",
        min=1,
        metavar="SECONDS",
        help="What one file may take.",
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
        help="Less probably music is 'not music'; 0 turns that off.",
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
        help="A less probable best genre is 'unsure'; 0 turns that off.",
    ),
]


def refuse(context: typer.Context, *names: str, beside: str) -> None:
    """Refuse options that would be ignored.

    Parameters
    ----------
    names
        Of the command's parameters.
    beside
        What they mean nothing with, or without.

    Raises
    ------
    UsageError
        If one of them was given.
    """
    parameters = {str(parameter.name): parameter for parameter in context.command.params}
    assert parameters.keys() >= set(names), set(names) - parameters.keys()
    for name in names:
        source = context.get_parameter_source(name)
        if source and source.name == "COMMANDLINE":
            raise UsageError(f"{parameters[name].opts[0]} means nothing {beside}")


def listed(options: Iterable[str], known: Collection[str] = ()) -> list[str]:
    """Give the names in options of the kind `a,b,c`; one that is known whole may have commas.

    Blanks around a name do not count, and a name given twice is taken once.
    """
    names: list[str] = []
    for option in options:
        names += [option] if option in known else [name.strip() for name in option.split(",")]
    return [name for name in dict.fromkeys(names) if name]
