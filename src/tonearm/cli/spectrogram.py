"""`tonearm spectrogram`: draw the spectrogram of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tonearm.cli.naming import named_after


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(spectrogram)


def spectrogram(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A recording.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            show_default="FILE-spectrogram.png in the current folder",
            help="Picture to write: .png, .svg, .pdf, .jpg or .webp.",
        ),
    ] = None,
    start: Annotated[float, typer.Option("--start", min=0, help="Seconds to leave out.")] = 0.0,
    duration: Annotated[
        float | None,
        typer.Option("--duration", show_default="to the end", help="Seconds to draw."),
    ] = None,
    mels: Annotated[int, typer.Option("--mels", help="Number of mel bands.")] = 128,
    width: Annotated[int, typer.Option("--width", help="Pixels.")] = 1200,
    height: Annotated[int, typer.Option("--height", help="Pixels.")] = 600,
    dark: Annotated[bool, typer.Option("--dark", help="On a dark ground.")] = False,
) -> None:
    """Draw the spectrogram of a recording, with its waveform."""
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
    print(output)
