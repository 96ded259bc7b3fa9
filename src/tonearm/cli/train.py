"""`tonearm train`: one experiment, from its YAML file to a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tonearm.cli.options import path_option
from tonearm.cli.output import split_warnings, warn
from tonearm.extras import needs

if TYPE_CHECKING:
    from tonearm.training import Run


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(
        "train",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        epilog="Any setting of the YAML file can be overridden, as in --optimiser.lr 1e-3 "
        "--model.settings.dropout 0.5; --print_config prints them all.",
    )(train)


def train(
    context: typer.Context,
    config: Annotated[
        Path | None, path_option("--config", help="YAML file of the experiment.")
    ] = None,
    data: Annotated[
        Path | None, path_option("--data", help="Folder of the dataset: data.path.")
    ] = None,
    run: Annotated[
        Path | None, path_option("--run", help="Folder of the run.", show_default="runs/NAME")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split", help="How to divide the dataset, such as artist-kfold: data.split."
        ),
    ] = None,
    fold: Annotated[
        int | None, typer.Option("--fold", help="The fold to validate on, from 0: data.fold.")
    ] = None,
    resume: Annotated[
        Literal["auto", "never"],
        typer.Option("--resume", help="Continue the run in the folder, if any, or start over."),
    ] = "auto",
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Number of processes that compute features.")
    ] = 1,
) -> None:
    """Train a model; a run that was interrupted continues where it stopped."""
    arguments = [] if config is None else ["--config", str(config)]
    for setting, value in (("data.path", data), ("data.split", split), ("data.fold", fold)):
        if value is not None:
            arguments += [f"--{setting}", str(value)]

    with needs("train"):
        from lightning.pytorch.utilities import rank_zero_only

        from tonearm import training

    experiment = training.parse(arguments + context.args)
    with split_warnings():
        result = training.train(experiment, run, resume, workers=workers)
    # With several devices, each has a process that gets here with the same result.
    rank_zero_only(_show)(result)


def _show(result: Run) -> None:
    for failure in result.failures:
        typer.echo(f"left out: {failure}", err=True)
    if result.metrics is not None:
        metrics = result.metrics
        typer.echo(
            f"validation: accuracy {metrics.accuracy:.1%}, macro F1 {metrics.f1:.1%} "
            f"over {metrics.count} tracks"
        )
    else:
        warn(
            "no tracks to validate on: the model is of the last epoch, uncalibrated and not "
            "evaluated"
        )
    typer.echo(f"model: {result.bundle}")
