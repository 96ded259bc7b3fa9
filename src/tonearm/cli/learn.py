"""`tonearm learn`: train a model of the user's own genres."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tonearm.cli.options import AnalysisWorkersOption, CacheOption, listed, path_option
from tonearm.cli.output import (
    fitted,
    note,
    split_warnings,
    table_console,
    warn,
    warn_unreadable,
)
from tonearm.errors import UsageError
from tonearm.text import enumerated, printable

if TYPE_CHECKING:
    from tonearm.datasets.cache import FailedTrack
    from tonearm.library.examples import Examples
    from tonearm.library.forecast import Forecast, GenreForecast
    from tonearm.library.learn import Learned

LISTED_MISTAKES = 2  # in the table; all in --json


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(learn)


def learn(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="A folder with one folder per genre, or a table with the columns path and label; "
            "with --from-tags, files or folders.",
        ),
    ],
    out: Annotated[
        Path,
        path_option(
            "--output", "--out", "-o", metavar="FILE", help="Bundle to write, such as mine.onnx."
        ),
    ],
    tags: Annotated[
        bool, typer.Option("--from-tags", help="Take the genres from the files' tags.")
    ] = False,
    genres: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B,C", help="Learn only these; may be repeated.", show_default="all"
        ),
    ] = None,
    min_files: Annotated[
        int, typer.Option("--min-files", min=2, help="Leave out genres with fewer files.")
    ] = 5,
    model: Annotated[
        str,
        typer.Option("--model", help="The model to build on, as for `classify`."),
    ] = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    workers: AnalysisWorkersOption = 1,
    cache: CacheOption = None,
) -> None:
    """Learn your own genres from examples; ten files of each are enough to begin with.

    The result is a model that every command accepts as --model. It is tested on artists and albums
    it did not learn from, as far as the tags or the table name them, and genres that need more
    examples are listed.
    """
    from tonearm.datasets.cache import FeatureCache
    from tonearm.library import learn as learning
    from tonearm.library.examples import keep_genres

    examples = _examples(sources, tags=tags)
    selected = listed(genres or (), {str(track.label) for track in examples.tracks})
    tracks = keep_genres(examples.tracks, selected) if selected else examples.tracks
    try:
        learned = learning.learn(
            tracks,
            out,
            model=model,
            min_files=min_files,
            cache=FeatureCache(cache),
            workers=workers,
            progress=sys.stderr.isatty(),
        )
    except learning.TooFewExamples as error:
        _report_left_out(examples, error.failures)
        raise
    _report_left_out(examples, learned.failures)
    if learned.warning:
        warn(learned.warning)
    if as_json:
        print(json.dumps(_record(learned, (*examples.failures, *learned.failures)), indent=2))
    else:
        _print(learned)


def _report_left_out(examples: Examples, failures: tuple[FailedTrack, ...]) -> None:
    """Report the files that are not learned from; `failures` are those that do not decode."""
    for failure in (*examples.failures, *failures):
        note(f"left out: {failure}")
    if examples.held_back:
        note(
            f"left out: {examples.held_back} files that the dataset's partition (its column split, "
            "or folders train and test) puts into its test part, or into none"
        )
    if examples.unlabelled:
        note(f"left out: {examples.unlabelled} files without a genre")
    if examples.written:
        note(f"left out: {examples.written} files whose genre Tonearm wrote")


def _examples(sources: list[str], *, tags: bool) -> Examples:
    from tonearm import datasets
    from tonearm.library.examples import from_dataset, from_tags
    from tonearm.media import recordings

    if tags:
        return from_tags(recordings(sources, warn_unreadable))
    if len(sources) > 1:
        raise UsageError(f"expected one folder or table without --from-tags, got {len(sources)}")
    with split_warnings():
        dataset = datasets.load(sources[0])
    return from_dataset(dataset)


def _record(learned: Learned, failures: tuple[FailedTrack, ...]) -> dict[str, Any]:
    from dataclasses import asdict

    from tonearm.library.advice import advise

    forecast = learned.forecast
    return {
        "bundle": str(learned.path),
        "tracks": learned.tracks,
        "accuracy": forecast.metrics and forecast.metrics.accuracy,
        "accuracy_interval": forecast.metrics and forecast.metrics.intervals.get("accuracy"),
        "macro_f1": forecast.metrics and forecast.metrics.f1,
        "folds": forecast.folds,
        "without_artist_or_album": forecast.unknown,
        "warning": learned.warning,
        "genres": [asdict(genre) for genre in forecast.genres],
        "needs_more": advise(forecast),
        "left_out": dict(learned.left_out),
        "failures": [
            {"path": str(failure.track.path), "error": failure.reason} for failure in failures
        ],
    }


def _print(learned: Learned) -> None:
    from rich.cells import cell_len
    from rich.table import Table

    from tonearm.library.advice import advise

    forecast = learned.forecast
    table = Table(box=None, pad_edge=False)
    table.add_column("genre")
    for heading in ("files", "groups", "precision", "recall", "F1"):
        table.add_column(heading, justify="right")
    table.add_column("taken for")
    for genre in forecast.genres:
        table.add_row(printable(genre.label), str(genre.files), str(genre.groups), *_figures(genre))
    table_console().print(table)
    print()
    for line in _summary(forecast):
        print(line)
    if needs := advise(forecast):
        print("\nMore examples would help:")
        width = max(cell_len(printable(label)) for label in needs)
        for label, reasons in needs.items():
            print(f"  {fitted(printable(label), width)}  {printable(reasons)}")
    if learned.left_out:
        small_genres = enumerated(f"{printable(label)} {n}" for label, n in learned.left_out)
        print(f"\nLeft out, with too few files (--min-files): {small_genres}")
    size = learned.path.stat().st_size / 1e6
    print(f"\n{printable(learned.path)}: {len(learned.labels)} genres, {size:.1f} MB")


def _figures(genre: GenreForecast) -> list[str]:
    if not genre.evaluated:
        return ["-", "-", "-", "not evaluated"]
    mistakes = (f"{label} {count}" for label, count in genre.confused_with[:LISTED_MISTAKES])
    shares = (f"{share:.0%}" for share in (genre.precision, genre.recall, genre.f1))
    return [*shares, ", ".join(mistakes)]


def _summary(forecast: Forecast) -> list[str]:
    """Return lines on what accuracy to expect, and how far to trust it."""
    files = sum(genre.files for genre in forecast.genres)
    if forecast.metrics is None:
        return ["Expected accuracy: unknown. Every genre is the music of one artist or album."]
    from tonearm.evaluation.grouping import too_few

    interval = forecast.metrics.intervals.get("accuracy")
    spread = f" (95 % interval {interval.low:.0%} to {interval.high:.0%})" if interval else ""
    lines = [
        f"Expected accuracy {forecast.metrics.accuracy:.0%}{spread}, "
        f"from {forecast.metrics.count} of {files} files in {forecast.folds} folds."
    ]
    if caution := too_few(forecast.metrics.groups, "group"):
        lines.append(f"{caution.capitalize()}.")
    if forecast.unknown == files:
        lines.append(
            "Neither artist nor album is known of any file: songs of one artist stood on both "
            "sides, so this is too optimistic."
        )
    elif forecast.unknown:
        lines.append(
            "No artist or album, compilations aside, stood on both sides, but of "
            f"{forecast.unknown} files neither is known: this may be too optimistic."
        )
    else:
        lines.append("No artist and no album, compilations aside, stood on both sides.")
    return lines
