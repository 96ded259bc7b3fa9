"""`tonearm data`: inspect, check, split and download datasets."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tonearm.cli.options import (
    SINGLE_DIVISIONS,
    FileWorkersOption,
    ProtocolOption,
    path_argument,
    path_option,
    refuse,
)
from tonearm.cli.output import split_warnings, table_console
from tonearm.errors import UsageError
from tonearm.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from tonearm.datasets import Dataset
    from tonearm.datasets.check import Report
    from tonearm.datasets.summary import GenreSummary

_SPLIT_ORDER: dict[str | None, int] = {"train": 0, "valid": 1, "test": 2}

PathArgument = Annotated[
    Path, path_argument(metavar="PATH", help="Folder of a dataset, or a manifest file.")
]
LayoutOption = Annotated[
    str | None, typer.Option("--layout", help="Layout of PATH; detected by default.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    data = typer.Typer(
        name="data", help="Inspect, check, divide and download datasets.", no_args_is_help=True
    )
    for command in (info, check, split, download):
        data.command()(command)
    app.add_typer(data)


def info(path: PathArgument, layout: LayoutOption = None, as_json: JsonOption = False) -> None:
    """Count the tracks of a dataset by genre, split and kind."""
    from tonearm.datasets import load
    from tonearm.datasets.summary import summarise, to_dict

    with split_warnings():
        dataset = load(path, layout)
    genres = summarise(dataset)
    if as_json:
        print(json.dumps(to_dict(dataset, genres)))
    else:
        _print_info(dataset, genres)


def check(
    path: PathArgument,
    layout: LayoutOption = None,
    as_json: JsonOption = False,
    shortest: Annotated[
        float,
        typer.Option("--shortest", min=0.0, help="Report files shorter than this, in seconds."),
    ] = 1.0,
    workers: FileWorkersOption = 2,
) -> None:
    """Decode every track and look for faults.

    Finds files that are missing, undecodable, truncated, silent or too short, and recordings that
    occur twice, with conflicting labels or across splits. The exit code is 0 if there are no
    faults, 1 if there are.
    """
    from tonearm.datasets import load
    from tonearm.datasets.check import check as check_dataset

    with split_warnings():
        dataset = load(path, layout)
    report = check_dataset(dataset, shortest=shortest, processes=workers)
    if as_json:
        print(json.dumps(report.to_dict()))
    else:
        _print_report(report)
    if report.faults:
        raise typer.Exit(1)


def split(
    context: typer.Context,
    path: PathArgument,
    protocol: ProtocolOption = "artist-kfold",
    output: Annotated[
        Path | None,
        path_option("--output", "-o", help="Manifest (CSV) of the parts to write."),
    ] = None,
    folds: Annotated[int, typer.Option("--folds", help="Number of folds.")] = 5,
    seed: Annotated[int, typer.Option("--seed", help="Seed for the random division.")] = 0,
    layout: LayoutOption = None,
) -> None:
    """Divide a dataset into tracks to train on and tracks to test on."""
    from tonearm.datasets import load
    from tonearm.datasets import split as split_dataset
    from tonearm.datasets.manifest import other_columns, write_folds

    if protocol in SINGLE_DIVISIONS:
        refuse(context, "folds", "seed", beside=f"with --protocol {protocol}")
    with split_warnings():
        dataset = load(path, layout)
    if output is not None:
        _require_safe_output(output, dataset)
    with split_warnings():
        parts = split_dataset(dataset, protocol, folds, seed)
    if output is not None:
        write_folds(output, parts, other_columns(dataset))
    for part in parts:
        sizes = f"{len(part.train)} train, {len(part.valid)} valid"
        print(f"{part.name}: {sizes}" + (f", {len(part.test)} test" if part.test else ""))
    divided = {track.id for part in parts for track in (*part.train, *part.valid, *part.test)}
    if left_out := len(dataset) - len(divided):
        print(f"left out, without a label or in no part of this split: {left_out} tracks")


def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Only gtzan so far.")],
    to: Annotated[Path, path_option("--to", help="Folder to download to.")] = Path("data/gtzan"),
    edition: Annotated[
        str,
        typer.Option("--edition", help="Either full (1,000 tracks, 1.2 GB) or mini (100 tracks)."),
    ] = "full",
) -> None:
    """Download a dataset and verify its checksums."""
    from tonearm.datasets.download import download_gtzan

    if name != "gtzan":
        raise UsageError(f"dataset {name!r} is unknown; there is gtzan")
    result = download_gtzan(to, edition)
    for path in result.missing:
        print(f"missing: {printable(path)}")
    for path in result.altered:
        print(f"altered: {printable(path)}")
    faulty = len(result.missing) + len(result.altered)
    root = printable(result.root)
    print(f"{root}: {result.tracks - faulty} of {result.tracks} files as they should be")
    if not result.whole:
        raise typer.Exit(1)


def _require_safe_output(output: Path, dataset: Dataset) -> None:
    """Refuse to write a manifest under another kind of file's name, or over the dataset's tables.

    Raises
    ------
    UsageError
        If the output, or the target of a link there, is one of them.
    """
    from tonearm.datasets.gtzan import PARTITION_TABLE, TRACK_TABLE
    from tonearm.datasets.manifest import PARQUET_SUFFIXES
    from tonearm.media import is_recording

    target, shown = Path(os.path.realpath(output)), printable(output)
    if any(is_recording(name) for name in (output.name, target.name)):
        raise UsageError(f"{shown} is the name of a recording, and a CSV file is written")
    if {output.suffix.lower(), target.suffix.lower()} & set(PARQUET_SUFFIXES):
        raise UsageError(f"{shown} is the name of a Parquet file, and a CSV file is written")
    if output.suffix.lower() != ".csv":
        raise UsageError(f"{shown}: a manifest is a CSV file: expected a name ending in .csv")
    tables = [dataset.root, *dataset.feature_tables]
    if dataset.layout == "gtzan-shared":
        tables += [dataset.root / TRACK_TABLE, dataset.root / PARTITION_TABLE]
    if str(target) in map(os.path.realpath, tables):
        raise UsageError(f"{shown} is of the dataset itself, and would be written over")


def _print_info(dataset: Dataset, genres: tuple[GenreSummary, ...]) -> None:
    table_console().print(_genre_table(dataset, genres))
    pictures = sum(track.picture is not None for track in dataset)
    if pictures or dataset.picture_tracks:
        more = len(dataset.picture_tracks)
        print(f"pictures: {pictures} beside audio, {more} of tracks without audio")
    if dataset.feature_tables:
        print(f"tables:   {', '.join(printable(path.name) for path in dataset.feature_tables)}")
    print(f"licence:  {dataset.licence}")
    if dataset.citation:
        print(f"cite:     {dataset.citation}")


def _genre_table(dataset: Dataset, genres: tuple[GenreSummary, ...]) -> Table:
    """Return a table with a row for each genre, and a column for each split."""
    from rich import box
    from rich.table import Table

    from tonearm.datasets.summary import OUTSIDE

    splits = sorted(
        {split for genre in genres for split, _ in genre.tracks},
        key=lambda split: (_SPLIT_ORDER.get(split, len(_SPLIT_ORDER)), str(split)),
    )
    kinds = sorted(
        {kind for genre in genres for _, kind in genre.tracks},
        key=lambda kind: (kind != "full", str(kind)),
    )

    def cell(split: str | None, summaries: Sequence[GenreSummary]) -> str:
        counts = [sum(genre.tracks[split, kind] for genre in summaries) for kind in kinds]
        return " + ".join(map(str, counts)) if any(counts) else ""

    named = " + ".join(kind or "of unknown kind" for kind in kinds)
    counted = f"tracks, {named}" if any(kinds) else "tracks"
    table = Table(
        title=f"{printable(dataset.name)} ({dataset.layout}): {counted}", box=box.SIMPLE_HEAD
    )
    table.add_column("genre")
    for heading in (*(split or OUTSIDE for split in splits), "all", "hours", "artists", "known"):
        table.add_column(heading, justify="right")
    for genre in genres:
        count = genre.tracks.total()
        table.add_row(
            genre.label,
            *(cell(split, [genre]) for split in splits),
            str(count),
            f"{genre.seconds / 3600:.2f}",
            str(genre.artists),
            f"{genre.with_artist / max(1, count):.0%}",
        )
    table.add_section()
    table.add_row(
        "all",
        *(cell(split, genres) for split in splits),
        str(len(dataset)),
        f"{sum(genre.seconds for genre in genres) / 3600:.2f}",
        "",
        f"{sum(genre.with_artist for genre in genres) / max(1, len(dataset)):.0%}",
    )
    return table


def _print_report(report: Report) -> None:
    for fault in report.faults:
        print(f"{fault.kind}: {fault.detail}")
    counts = Counter(fault.kind for fault in report.faults)
    listed = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    print(f"{report.checked} tracks checked: {listed or 'no faults'}")
