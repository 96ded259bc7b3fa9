"""`tonearm compare`: compare runs on the tracks they have in common."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tonearm.cli.options import BootstrapOption, path_argument
from tonearm.cli.output import table_console, warn
from tonearm.errors import UsageError

if TYPE_CHECKING:
    from tonearm.evaluation.compare import Comparison


WIDE_COLUMNS = ("macro precision", "macro recall", "McNemar p")  # for wider pages


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(compare)


def compare(
    runs: Annotated[
        list[Path],
        path_argument(metavar="RUN...", help="Run or report folders, or predictions.csv files."),
    ],
    as_csv: Annotated[bool, typer.Option("--csv", help="Print every figure as CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print every figure as JSON.")] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table as Markdown.")
    ] = False,
    bootstrap: BootstrapOption = 1000,
) -> None:
    """Compare runs with the first one: figures, differences and their significance.

    Only tracks that every run has predicted count. Intervals and significance are computed over
    artists where these are known; --markdown, --csv and --json also have McNemar's exact test,
    which treats every track as independent.
    """
    if as_csv + as_json + as_markdown > 1:
        raise UsageError("--csv, --json and --markdown exclude each other")
    from tonearm.evaluation import compare as comparing
    from tonearm.evaluation import predictions

    if len(set(runs)) < len(runs):
        raise UsageError("a run was named twice")
    names = list(map(_name, runs))
    if len(set(names)) < len(names):
        names = [str(path) for path in runs]
    loaded = {name: predictions.read(path) for name, path in zip(names, runs, strict=True)}
    comparison = comparing.compare(loaded, bootstrap=bootstrap)
    if as_csv:
        print(comparison.to_csv(), end="")
    elif as_json:
        print(comparison.to_json(), end="")
    elif as_markdown:
        print(comparison.to_markdown(), end="")
    else:
        print_comparison(comparison)
    warn_of_few_groups(comparison)
    for name, count in comparison.left_out.items():
        if count:
            print(f"{name}: {count} left out, not predicted by every run", file=sys.stderr)


def print_comparison(comparison: Comparison) -> None:
    """Print the table for people."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    header, rows = comparison.cells()
    shown = [i for i, name in enumerate(header) if name not in WIDE_COLUMNS]
    for i in shown:
        table.add_column(header[i], justify="right" if i else "left", no_wrap=not i)
    for row in rows:
        table.add_row(*(row[i] for i in shown))
    table_console().print(table)
    spread = f", with 95 % intervals over {comparison.resampling_unit}"
    intervals = spread if comparison.rows[0].metrics.bootstrap else ""
    print(f"\n{comparison.tracks} tracks in common; per cent{intervals}")


def warn_of_few_groups(comparison: Comparison) -> None:
    """Warn in one line that intervals are too narrow, or missing."""
    if comparison.warning:
        warn(comparison.warning)


def _name(run: Path) -> str:
    """Return the name of a run's folder, or of its table if that has a name of its own."""
    where = Path(os.path.realpath(run))
    if where.is_dir():
        return where.name
    return where.parent.name if where.name == "predictions.csv" else run.stem
