"""`tonearm explain`: show where in a recording the evidence for its genre lies."""

from __future__ import annotations

from typing import Annotated

import typer

from tonearm.cli.options import ModelOption, PictureOption, named_after
from tonearm.text import printable
from tonearm.threads import processors


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(explain)


def explain(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A recording.")],
    output: PictureOption = None,
    genre: Annotated[
        str | None,
        typer.Option("--genre", show_default="the most probable", help="Genre to explain."),
    ] = None,
    start: Annotated[
        float | None,
        typer.Option(
            "--start",
            min=0,
            show_default="around the middle",
            help="Start of the excerpt, in seconds.",
        ),
    ] = None,
    duration: Annotated[
        float, typer.Option("--duration", help="Length of the excerpt, in seconds.")
    ] = 30.0,
    model: ModelOption = "default",
    width: Annotated[int, typer.Option("--width", help="Width in pixels.")] = 1200,
    height: Annotated[int, typer.Option("--height", help="Height in pixels.")] = 700,
    dark: Annotated[bool, typer.Option("--dark", help="Use a dark background.")] = False,
) -> None:
    """Draw where in a recording the evidence for its genre lies.

    Orange speaks for the genre, blue against it. Below it are the answers for each window of the
    excerpt, beside it the answer for all of it.
    """
    from tonearm.classifier import Classifier
    from tonearm.explanation import explain
    from tonearm.explanation_plot import save_plot
    from tonearm.features.plot import check_picture

    output = output or named_after(file, "-explanation.png")
    check_picture(output, width, height)  # before classifying, which takes seconds
    classifier = Classifier.load(model, threads=processors())
    explanation = explain(classifier, file, genre, start=start, duration=duration)
    save_plot(explanation, output, width=width, height=height, dark=dark)
    print(printable(output))
