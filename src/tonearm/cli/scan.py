"""`tonearm scan`: classify a whole library, and store the results."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from tonearm.cli.options import ModelOption, path_option, refuse
from tonearm.cli.output import note, warn
from tonearm.interrupts import until_interrupted
from tonearm.text import printable

if TYPE_CHECKING:
    from tonearm.library.excerpt import Excerpt
    from tonearm.library.scan import Scan, Tally

REPORT_SECONDS = 60.0  # between lines on progress where there is no terminal
LISTED = 12  # genres, errors and folders in the summary


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(scan)


def scan(
    context: typer.Context,
    paths: Annotated[
        list[str], typer.Argument(metavar="FOLDER...", help="Folders of recordings, or files.")
    ],
    store: Annotated[
        Path | None,
        path_option(
            "--store", metavar="FILE", help="File to keep the results in; created if missing."
        ),
    ] = None,
    excerpt: Annotated[
        str,
        typer.Option(
            "--excerpt", metavar="SECONDS|all", help="How much of a long file to analyse."
        ),
    ] = "30",
    model: ModelOption = "default",
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", min=1, help="Number of processes.", show_default="one for each processor"
        ),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            "--time-limit",
            min=1,
            metavar="SECONDS",
            help="Time limit for one reading of a file, in seconds; a process that hangs is killed "
            "after twice that.",
            show_default="2 min and 4 s/MB",
        ),
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Retry files that failed, even if unchanged.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Forget files that no longer exist.")
    ] = False,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option("--engine", help="Use this machine, or a Ray cluster."),
    ] = "local",
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            metavar="FOLDER",
            help="With --engine ray: folder for Parquet files, instead of --store.",
        ),
    ] = None,
    partition: Annotated[
        int,
        typer.Option(
            "--partition",
            min=1,
            metavar="N",
            help="With --engine ray: recordings per Parquet file.",
        ),
    ] = 250,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as one JSON object.")
    ] = False,
) -> None:
    """Classify every recording in some folders, and keep the results in a store.

    Files that have not changed since they were stored are skipped, so a scan that was interrupted
    (or killed) continues where it stopped. The exit code is 0 if the store then holds the genre of
    any file in the folders, 1 if it holds none, 130 after Ctrl-C.

    With --engine ray the results are Parquet files in a folder, the folders and the output may be
    addresses (s3://bucket/music), and RAY_ADDRESS names the cluster.
    """
    from tonearm.errors import UsageError
    from tonearm.library.excerpt import Excerpt
    from tonearm.library.scan import error_kind

    start = time.monotonic()
    options = _ScanOptions(model, Excerpt.parse(excerpt), workers, time_limit)
    if engine == "ray":
        refuse(context, "store", "retry", "prune", beside="with --engine ray")
        if output is None:
            raise UsageError("--engine ray needs --output")
        tally, genres, reasons = _scan_on_cluster(paths, output, options, partition)
    else:
        refuse(context, "output", "partition", beside="without --engine ray")
        if store is None:
            raise UsageError("expected --store (or --engine ray and --output)")
        tally, genres, reasons = _scan_locally(paths, store, options, retry=retry, prune=prune)
    elapsed = time.monotonic() - start
    errors: Counter[str] = Counter()
    for error, count in reasons.items():
        errors[error_kind(error)] += count
    if as_json:
        ranked = {"genres": dict(genres.most_common()), "errors": dict(errors.most_common())}
        summary = {"elapsed": elapsed, **ranked}
        print(json.dumps(asdict(tally) | summary))
    else:
        _print_summary(tally, elapsed, genres, errors)
    if not genres:
        raise typer.Exit(1)


class _ScanOptions(NamedTuple):
    """The options that both engines take; the fields are named after their parameters."""

    model: str
    excerpt: Excerpt
    workers: int | None
    time_limit: float | None


def _scan_locally(
    paths: list[str], store: Path, options: _ScanOptions, *, retry: bool, prune: bool
) -> tuple[Tally, Counter[str], Counter[str]]:
    """Scan with this machine's processes; return the tally, and the store's genres and errors."""
    from tonearm import bundle
    from tonearm.library.scan import Scan
    from tonearm.library.sources import deduplicate_paths
    from tonearm.library.store import Store

    # Report mistyped names before a store is created.
    deduplicate_paths(paths)
    bundle.find(options.model)
    with Store(store, create=True) as library:
        run = Scan(library, paths, retry=retry, prune=prune, **options._asdict())
        tally = _show(_tallies(run))
        return tally, library.genres(run.paths), library.errors(run.paths)


def _scan_on_cluster(
    paths: list[str], output: str, options: _ScanOptions, partition: int
) -> tuple[Tally, Counter[str], Counter[str]]:
    """Scan with a cluster; return the tally, and the output's counts of genres and errors."""
    from tonearm.library.cluster import scan_cluster
    from tonearm.library.partitions import Partitions

    common = options._asdict()
    with redirect_stdout(sys.stderr):  # where Ray prints that a node was lost, among the JSON
        tally = _show(scan_cluster(paths, output, partition_files=partition, **common))
    return tally, *Partitions(output).counts()


def _tallies(run: Scan) -> Iterator[Tally]:
    """Run a scan, yielding its tally before the first file and after each one."""
    run.survey()
    yield run.tally
    for _ in run:
        yield run.tally


def _show(tallies: Iterator[Tally]) -> Tally:
    """Run a scan, with a progress bar if standard error is a terminal; return the last tally."""
    from rich.console import Console
    from rich.progress import TimeElapsedColumn

    from tonearm.progress import bar

    console = Console(stderr=True)
    with console.status("looking for recordings"):
        tally = next(tallies)
    if tally.replaced:
        warn(
            f"results of another model or excerpt are replaced, for {tally.replaced} of the files "
            "(--model and --excerpt as in the last scan keep them)"
        )
    columns = ("{task.description}", TimeElapsedColumn(), "left")
    progress = bar(console, after=columns, transient=True)
    task = progress.add_task("", total=tally.due)
    start = reported = time.monotonic()
    try:
        with progress if console.is_terminal and tally.due else nullcontext():
            for tally in until_interrupted(tallies):
                speed = tally.done / (time.monotonic() - start)
                description = f"{speed:.1f} files/s, {_hours(tally.seconds_of_music)} of music"
                progress.update(task, completed=tally.done, description=description)
                if not console.is_terminal and time.monotonic() - reported >= REPORT_SECONDS:
                    reported = time.monotonic()
                    note(f"{tally.done} of {tally.due} files, {description}")
    except KeyboardInterrupt:
        note(
            f"interrupted after {tally.done} of {tally.due} files; the next scan goes on from there"
        )
        raise typer.Exit(130) from None
    return tally


def _print_summary(
    tally: Tally, elapsed: float, genres: Counter[str], errors: Counter[str]
) -> None:
    counts = {
        "classified": tally.classified,
        "recognised by their audio": tally.recognised,
        "failed": tally.failed,
        "unchanged": tally.found - tally.due,
        "moved": tally.moved,
        "missing": tally.missing,
        "forgotten": tally.pruned,
    }
    counted = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    recordings = "1 recording" if tally.found == 1 else f"{tally.found} recordings"
    print(recordings + (f": {counted}" if counted else ""))
    if tally.seconds_of_music:
        print(
            f"{_hours(tally.seconds_of_music)} of music in {elapsed:.1f} s: "
            f"{tally.done / elapsed:.1f} files/s, "
            f"{tally.seconds_of_music / elapsed:.0f} times real time"
        )
    unreadable = (f"{printable(path)}: {why}" for path, why in tally.unreadable.items())
    _print_counts("genres", genres)
    _print_counts("errors", errors)
    _print_counts("unreadable folders", Counter(unreadable))


def _print_counts(title: str, counts: Counter[str]) -> None:
    """Print the most frequent items under a title, if there are any."""
    if not counts:
        return
    print(f"{title}:")
    width = len(str(max(counts.values())))
    for name, count in counts.most_common(LISTED):
        print(f"  {count:>{width}}  {count / counts.total():>4.0%}  {name}")
    if len(counts) > LISTED:
        print(f"  and {len(counts) - LISTED} more")


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h"
