"""`tonearm evaluate`: evaluate a model on a labelled dataset."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tonearm.cli.options import (
    BootstrapOption,
    FileWorkersOption,
    ProtocolName,
    listed,
    path_argument,
    path_option,
    refuse,
)
from tonearm.cli.output import split_warnings, table_console, warn
from tonearm.errors import UsageError
from tonearm.text import composed, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tonearm.datasets import Dataset, Fold
    from tonearm.evaluation.inference import Inference
    from tonearm.evaluation.metrics import Metrics
    from tonearm.prediction import Failure

LISTED_FAILURES = 5


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(evaluate)


def evaluate(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(help="A name that `tonearm models` lists, a bundle or a run folder.")
    ],
    data: Annotated[Path, path_argument(help="Folder of a dataset, or a manifest file.")],
    split: Annotated[
        str | None, typer.Option(help="Test only on this part of the dataset's own partition.")
    ] = None,
    protocol: Annotated[
        ProtocolName | None, typer.Option(help="Test on a held-out fold of this division.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="With --protocol: number of folds.")] = 5,
    fold: Annotated[
        int | None, typer.Option(min=0, help="With --protocol: the fold to test on, from 0.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Only this kind: full or excerpt.")] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B,C", help="Test only on these labels; may be repeated."),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="DATA=MODEL", help="The model's name for a label; may be repeated."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        path_option(help="Folder for report.html, metrics.json and predictions.csv."),
    ] = None,
    explained: Annotated[
        int,
        typer.Option(
            "--explain",
            min=0,
            metavar="N",
            help="Explain the N worst errors in the report; takes some seconds each.",
        ),
    ] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print every figure as JSON.")] = False,
    bootstrap: BootstrapOption = 1000,
    layout: Annotated[
        str | None, typer.Option(help="Layout of the dataset; detected by default.")
    ] = None,
    workers: FileWorkersOption = 1,
) -> None:
    """Test a model on labelled recordings, processed exactly as by `tonearm classify`.

    --protocol and --fold select what a run of `tonearm train` with the same --split and --fold held
    out. Without --split, tracks outside the dataset's own partition (such as repetitions) are left
    out. Files that cannot be decoded are listed and not counted in any figure.
    """
    from tonearm import datasets
    from tonearm.classifier import Classifier
    from tonearm.evaluation.grouping import too_few
    from tonearm.evaluation.inference import evaluable_tracks, run_inference
    from tonearm.evaluation.training_overlap import overlap_warning

    if report is None:
        refuse(context, "explained", beside="without --report")
    else:
        from tonearm.atomic import require_writable_folder
        from tonearm.evaluation.report import Subject, explain_errors, write_report

        require_writable_folder(report)  # now, rather than after all tracks are classified
    renamed = dict(_pair(text) for text in rename or ())
    with split_warnings():
        dataset = datasets.load(data, layout)
    test_fold = None
    if protocol is not None:
        test_fold = _fold(dataset, protocol, folds, fold)
        dataset = replace(dataset, tracks=test_fold.held_out)
    else:
        refuse(context, "fold", "folds", beside="without --protocol")
    selected = listed(map(composed, labels or ()), dataset.labels)
    tracks = evaluable_tracks(dataset, split, kind, selected or None)
    # A label that --labels leaves out may still be renamed.
    test_labels = {track.label for track in tracks}
    renamed = {
        label: name
        for label, name in renamed.items()
        if label in test_labels or label not in dataset.labels
    }
    classifier = Classifier.load(model)
    overlap = overlap_warning(classifier.bundle, tracks, dataset.name)
    if overlap:
        warn(overlap)
    inference = run_inference(classifier, tracks, renamed, workers, progress=sys.stderr.isatty())
    metrics = inference.predictions.metrics(bootstrap)
    if as_json:
        failures = [{"path": str(f.path), "error": f.error} for f in inference.failures]
        run_info = {"model": model, "data": str(data), "warning": overlap, "failures": failures}
        print(json.dumps(run_info | metrics.to_dict(), indent=2))
    else:
        _print(metrics, inference)
    caution = too_few(metrics.groups, inference.predictions.unit) if bootstrap else None
    if caution:
        warn(caution)
    if report is not None:
        metadata = classifier.bundle.metadata
        size = classifier.bundle.path.stat().st_size / 1e6
        subject = Subject(
            model=f"{model} ({metadata.name})" if metadata.name != model else model,
            data=f"{dataset.name}, {metrics.count} tracks of "
            f"{sum(row.support > 0 for row in metrics.per_class)} genres",
            protocol=_protocol(test_fold, split, kind, selected),
            command=f"tonearm {shlex.join(sys.argv[1:])}",
            facts={
                "Model file": f"{classifier.bundle.path.name}, {size:.1f} MB"
                + (f", {metadata.licence}" if metadata.licence else ""),
                "Listening": f"{inference.seconds / len(tracks):.2f} s a track, decoding included",
            },
            warning=overlap or "",
            left_out=tuple(map(_line, inference.failures)),
        )
        paths = {track.id: track.path for track in tracks if track.path is not None}
        pictures = explain_errors(classifier, inference.predictions, paths, explained)
        page = write_report(report, inference.predictions, metrics, subject, pictures)
        print(f"report: {printable(page)}", file=sys.stderr)


def _pair(text: str) -> tuple[str, str]:
    data, equals, model = text.partition("=")
    if not (data and equals and model):
        raise UsageError(f"--map {text!r}: expected the data's label=the model's label")
    return composed(data), composed(model)


def _fold(dataset: Dataset, protocol: ProtocolName, folds: int, number: int | None) -> Fold:
    """Divide the dataset as `tonearm train` does, and return the fold with this number."""
    from tonearm.datasets import split
    from tonearm.datasets.splits import fold_at

    with split_warnings():
        parts = split(dataset, protocol, folds, seed=0, chosen=number)
    if number is None and len(parts) > 1:
        raise UsageError(f"--protocol {protocol} makes {len(parts)} folds: choose one with --fold")
    return fold_at(parts, number or 0, "--fold")


def _protocol(fold: Fold | None, split: str | None, kind: str | None, labels: Sequence[str]) -> str:
    parts = [f"held out by {fold.name}"] if fold else []
    parts += [f"split {split}"] if split else []
    parts = parts or ["all tracks of the partition"]
    parts += [f"kind {kind}"] if kind else []
    parts += [f"labels {', '.join(labels)}"] if labels else []
    return ", ".join(parts)


def _line(failure: Failure) -> str:
    return f"{printable(failure.path)}: {failure.error}"


def _print(metrics: Metrics, inference: Inference) -> None:
    from rich.table import Table
    from rich.text import Text

    console = table_console()
    table = Table(box=None, pad_edge=False)
    for column in ("genre", "tracks", "precision", "recall", "F1"):
        table.add_column(column, justify="left" if column == "genre" else "right")
    for row in metrics.per_class:
        if row.support:
            shares = (f"{100 * share:.1f}" for share in (row.precision, row.recall, row.f1))
            table.add_row(row.label, str(row.support), *shares)
    console.print(table)
    console.print()
    summary = Table(box=None, pad_edge=False, show_header=False)
    for name, figure in (
        ("accuracy", "accuracy"),
        ("macro precision", "precision"),
        ("macro recall", "recall"),
        ("macro F1", "f1"),
        ("top 3", "top3"),
    ):
        interval = metrics.intervals.get(figure)
        spread = f"({100 * interval.low:.1f} to {100 * interval.high:.1f})" if interval else ""
        summary.add_row(name, Text(f"{100 * getattr(metrics, figure):.1f} %", "bold"), spread)
    chance = f"({100 * metrics.ece_by_chance:.1f} by chance)"
    summary.add_row("calibration error", Text(f"{100 * metrics.ece:.1f} %", "bold"), chance)
    console.print(summary)
    counted = f"{metrics.count} tracks in {inference.seconds:.1f} s"
    if not inference.failures:
        console.print(f"\n{counted}")
        return
    console.print(
        f"\n{counted}, {len(inference.failures)} could not be classified:", style="yellow"
    )
    for failure in inference.failures[:LISTED_FAILURES]:
        console.print(f"  {_line(failure)}", soft_wrap=True)
    if len(inference.failures) > LISTED_FAILURES:
        console.print(f"  and {len(inference.failures) - LISTED_FAILURES} more")
