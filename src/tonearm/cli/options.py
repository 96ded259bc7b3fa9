"""Options that several commands take, in the same words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
