"""`tonearm explain`: show where in a recording the evidence for its genre lies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tonearm.cli.naming import named_after
from tonearm.cli.options import ModelOption
from tonearm.threads import processors


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(explain)


def explain(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A recording.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            show_default="FILE-explanation.png in the current folder",
            help="Picture to write: .png, .svg, .pdf, .jpg or .webp.",
        ),
    ] = None,
    genre: Annotated[
        str | None,
        typer.Option("--genre", show_default="the answer", help="Genre to explain."),
    ] = None,
    start: Annotated[
        float | None,
        typer.Option(
            "--start", min=0, show_default="around the middle", help="Seconds to leave out."
        ),
    ] = None,
    duration: Annotated[float, typer.Option("--duration", help="Seconds to explain.")] = 30.0,
    model: ModelOption = "default",
    width: Annotated[int, typer.Option("--width", help="Pixels.")] = 1200,
    height: Annotated[int, typer.Option("--height", help="Pixels.")] = 700,
    dark: Annotated[bool, typer.Option("--dark", help="On a dark ground.")] = False,
) -> None:
    """Draw where in a recording the evidence for its genre lies.

    Orange speaks for the genre, blue against it. Below is what each window of the recording was
    answered, beside it the answer.
    """
    from tonearm.classifier import Classifier
    from tonearm.explanation import explain
    from tonearm.explanation_plot import save_plot
    from tonearm.features.plot import check_picture

    output = output or named_after(file, "-explanation.png")
    check_picture(output, width, height)  # before the listening, which takes seconds
    classifier = Classifier.load(model, threads=processors())
    explanation = explain(classifier, file, genre, start=start, duration=duration)
    save_plot(explanation, output, width=width, height=height, dark=dark)
    print(output)
