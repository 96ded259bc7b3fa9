"""`tonearm models`: list the available models."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from tonearm.cli.output import note, table_console
from tonearm.text import printable

LISTED_FIGURES = ("accuracy", "macro_f1")  # in the list; `tonearm models NAME` shows all


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(models)


def models(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="A name from the list, a bundle or a run folder."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the available models, or show the details of one.

    Available are those that come with Tonearm and those in the folder $TONEARM_MODELS.
    """
    from tonearm import bundle

    if name is None:
        folder = os.environ.get(bundle.MODELS_VARIABLE)
        if folder and not Path(folder).is_dir():
            note(f"${bundle.MODELS_VARIABLE}: {folder}: no such folder")
        listed = {model_name: _facts(path) for model_name, path in bundle.available().items()}
        if as_json:
            typer.echo(json.dumps(listed))
        else:
            _print_list(listed)
    else:
        facts = _read(bundle.find(name))
        if as_json:
            typer.echo(json.dumps(facts))
        else:
            _print_all(facts)


def _facts(path: Path) -> dict[str, Any]:
    """Return a bundle's metadata or, so that the others are still listed, why it is broken."""
    from tonearm.bundle import BundleError

    try:
        return _read(path)
    except BundleError as error:
        return {"path": str(path), "error": error.reason}


def _read(path: Path) -> dict[str, Any]:
    from tonearm.bundle import Bundle

    metadata = Bundle.load(path).metadata
    return {"path": str(path), "bytes": path.stat().st_size, **json.loads(metadata.to_json())}


def _print_list(listed: dict[str, dict[str, Any]]) -> None:
    from rich.table import Table

    if not listed:
        typer.echo("no models at hand: none in the package, none in the folder $TONEARM_MODELS")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "size", "genres", "figures", "licence"):
        table.add_column(heading, justify="right" if heading == "size" else "left")
    for model_name, facts in listed.items():
        if "error" in facts:
            cells = model_name, "", f"unusable: {facts['error']}", "", ""
        else:
            metrics = facts["metrics"]
            figures = _flat({key: metrics[key] for key in LISTED_FIGURES if key in metrics})
            figures_text = ", ".join(f"{key} {value}" for key, value in figures)
            labels = ", ".join(facts["labels"])
            cells = model_name, _megabytes(facts["bytes"]), labels, figures_text, facts["licence"]
        table.add_row(*map(printable, cells))
    table_console().print(table)


def _print_all(facts: dict[str, Any]) -> None:
    size = _megabytes(facts.pop("bytes"))
    lines = [("file", f"{facts.pop('path')} ({size})"), *_flat(facts)]
    entries = [(printable(key), value) for key, value in lines if value]
    width = max(len(key) for key, _ in entries)
    for key, value in entries:
        typer.echo(f"{key:<{width}}  {printable(value)}")


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested values as pairs of (dotted key, text)."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield prefix + key, ", ".join(map(str, value))
        else:
            yield prefix + key, f"{value:.6g}" if isinstance(value, float) else str(value)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
