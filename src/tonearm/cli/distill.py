"""`tonearm distill`: teachers, labelled clips and unlabelled music in, a small model out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tonearm.cli.options import CacheOption, path_option
from tonearm.cli.output import split_warnings
from tonearm.extras import needs


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command(
        "distill",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        epilog="Any setting of the YAML file can be overridden, as in --tuning.steps 800 "
        "--student.audioset_weight 0.2; --print_config prints them all.",
    )(distill)


def distill(
    context: typer.Context,
    config: Annotated[Path | None, path_option("--config", help="YAML file of the recipe.")] = None,
    data: Annotated[
        Path | None, path_option("--data", help="Folder of the labelled dataset: data.path.")
    ] = None,
    unlabelled: Annotated[
        list[Path] | None,
        path_option(
            "--unlabelled",
            show_default="$TONEARM_UNLABELLED",
            help="Folder of unlabelled music; may be repeated: data.unlabelled.",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        path_option("--run", help="Folder of the run.", show_default="runs/NAME"),
    ] = None,
    fold: Annotated[
        int | None,
        typer.Option("--fold", help="Fold to hold out and test on, from 0: data.fold."),
    ] = None,
    cache: CacheOption = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Number of processes that run the teachers and classify.")
    ] = 1,
) -> None:
    """Distil large networks into a small model; an interrupted run resumes where it stopped."""
    arguments = [] if config is None else ["--config", str(config)]
    if data is not None:
        arguments += ["--data.path", str(data)]
    if fold is not None:
        arguments += ["--data.fold", str(fold)]
    for folder in unlabelled or ():
        arguments += ["--data.unlabelled+", str(folder)]

    with needs("train"):
        from tonearm.training.distill import distill_dataset
        from tonearm.training.recipe import parse_recipe
    from tonearm.paths import cache_folder

    recipe = parse_recipe(arguments + context.args)
    if run is None:
        part = "" if recipe.data.fold is None else f"-fold{recipe.data.fold}"
        run = Path("runs") / f"{recipe.name}{part}"
    with split_warnings():
        result = distill_dataset(recipe, run, cache or cache_folder("features"), workers=workers)
    if result.metrics is not None:
        metrics = result.metrics
        typer.echo(
            f"held out: accuracy {metrics.accuracy:.1%}, macro F1 {metrics.f1:.1%} "
            f"over {metrics.count} tracks"
        )
    typer.echo(f"model: {result.bundle}")
