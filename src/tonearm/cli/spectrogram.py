"""`tonearm spectrogram`: draw the spectrogram of a file."""

from __future__ import annotations

from typing import Annotated

import typer

from tonearm.cli.options import PictureOption, named_after
from tonearm.text import printable


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(spectrogram)


def spectrogram(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A recording.")],
    output: PictureOption = None,
    start: Annotated[
        float, typer.Option("--start", min=0, help="Start of the excerpt, in seconds.")
    ] = 0.0,
    duration: Annotated[
        float | None,
        typer.Option(
            "--duration", show_default="to the end", help="Length of the excerpt, in seconds."
        ),
    ] = None,
    mels: Annotated[int, typer.Option("--mels", help="Number of mel bands.")] = 128,
    width: Annotated[int, typer.Option("--width", help="Width in pixels.")] = 1200,
    height: Annotated[int, typer.Option("--height", help="Height in pixels.")] = 600,
    dark: Annotated[bool, typer.Option("--dark", help="Use a dark background.")] = False,
) -> None:
    """Draw the spectrogram and the waveform of a recording."""
    from tonearm.features.plot import save_plot

    output = output or named_after(file, "-spectrogram.png")
    save_plot(
        file,
        output,
        start=start,
        duration=duration,
        n_mels=mels,
        width=width,
        height=height,
        dark=dark,
    )
    print(printable(output))
