"""`tonearm classify`: classify files and folders by genre."""

from __future__ import annotations

from typing import Annotated

import typer

from tonearm.cli.options import (
    FileWorkersOption,
    JsonLinesOption,
    ModelOption,
    MusicThresholdOption,
    TimeLimitOption,
    UnsureThresholdOption,
)
from tonearm.cli.output import note, warn_unreadable
from tonearm.cli.piped import STANDARD_INPUT, classify_files
from tonearm.cli.results import LISTED_GENRES, CsvRows, JsonLines, Output, Table
from tonearm.errors import UsageError
from tonearm.interrupts import until_interrupted
from tonearm.text import printable


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(classify)


def classify(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Files or folders; - is standard input."),
    ],
    as_json: JsonLinesOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a CSV table.")] = False,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Add every window of the recording.")
    ] = False,
    top: Annotated[
        int | None,
        typer.Option(
            "--top",
            min=1,
            show_default=False,
            help=f"How many genres to list ({LISTED_GENRES} in the table, all in --json).",
        ),
    ] = None,
    model: ModelOption = "default",
    music_threshold: MusicThresholdOption = None,
    unsure_threshold: UnsureThresholdOption = None,
    workers: FileWorkersOption = 1,
    time_limit: TimeLimitOption = None,
) -> None:
    """Classify recordings by genre.

    Every file gets a line: its genre, or the reason why it has none. Recordings that are not music,
    or of uncertain genre, are marked as such; --json and --csv name the most probable genre anyway.
    The exit code is 0 if any file was classified, 1 if none was.
    """
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other")
    if as_csv and top is not None:
        raise UsageError("--csv always has a column for every genre: --top does not go with it")
    from tonearm.classifier import Classifier
    from tonearm.media import recordings
    from tonearm.prediction import Failure

    files = [
        file
        for path in paths  # a folder of that name is ./-
        for file in ([path] if path == STANDARD_INPUT else recordings([path], warn_unreadable))
    ]
    if not files:
        note(f"no audio files in {printable(', '.join(paths))}")
        raise typer.Exit(1)
    classifier = Classifier.load(
        model,
        music_threshold=music_threshold,
        unsure_threshold=unsure_threshold,
        time_limit=time_limit,
    )
    output: Output
    if as_json:
        output = JsonLines(top, timeline)
    elif as_csv:
        output = CsvRows(classifier.labels, timeline)
    else:
        output = Table(files, classifier.labels, top or LISTED_GENRES, timeline)
    done = classified = 0
    try:
        results = until_interrupted(classify_files(classifier, files, workers))
        for name, result in zip(files, results, strict=True):
            output.add(name, result)
            done += 1
            classified += not isinstance(result, Failure)
    except KeyboardInterrupt:
        note(f"interrupted after {done} of {len(files)} files")
        raise typer.Exit(130) from None
    finally:
        output.close()
    if not classified:
        raise typer.Exit(1)
