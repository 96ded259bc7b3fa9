"""`tonearm tag`: write genres to the tags of files, and take them back."""

from __future__ import annotations

import json
import os
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tonearm.cli.options import (
    AnalysisWorkersOption,
    JsonLinesOption,
    MappingOption,
    ModelOption,
    path_option,
    refuse,
)
from tonearm.cli.output import (
    fitted,
    note,
    print_row,
    warn_of_unknown_labels,
    warn_unreadable,
)
from tonearm.errors import UsageError
from tonearm.interrupts import until_interrupted
from tonearm.text import printable

if TYPE_CHECKING:
    from tonearm.library.journal import Journal
    from tonearm.library.mapping import GenreWords
    from tonearm.library.suggestions import SuggestionSource
    from tonearm.library.tagging import Change
    from tonearm.library.undo import Restoration

NARROWEST_NAME = 16  # columns
GENRES_WIDTH = 16
COLOURS = {"write": "green", "restore": "green", "keep": "dim", "fail": "yellow"}
DONE = {"write": "written", "restore": "restored", "keep": "kept", "fail": "failed"}


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(tag)


def tag(
    context: typer.Context,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH...",
            help="Files or folders; with --undo, journals.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, without changing it.")
    ] = False,
    predictions: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="FILE", help="Use the output of `classify --json`; - for stdin."
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="FILE", help="Use the store that `tonearm scan` made."),
    ] = None,
    policy: Annotated[
        Literal["missing", "replace", "append"],
        typer.Option(
            "--policy", help="Write where there is no genre, replace genres, or add to them."
        ),
    ] = "missing",
    above: Annotated[
        float, typer.Option("--above", min=0, max=1, help="Lowest confidence to write.")
    ] = 0.0,
    below: Annotated[
        float | None,
        typer.Option(
            "--below", min=0, max=1, help="Write only below this confidence.", show_default=False
        ),
    ] = None,
    mapping: MappingOption = None,
    keep_mtime: Annotated[
        bool, typer.Option("--keep-mtime", help="Keep the modification time of files.")
    ] = False,
    journal: Annotated[
        Path | None,
        path_option("--journal", help="Journal file for --undo.", show_default="a new file"),
    ] = None,
    undo: Annotated[
        bool,
        typer.Option("--undo", help="Restore the files of a journal, by default the latest."),
    ] = False,
    as_json: JsonLinesOption = False,
    model: ModelOption = "default",
    workers: AnalysisWorkersOption = 1,
) -> None:
    """Write the genre of recordings to their tags.

    Every file gets a line: its old genre, the new one, and why it is written, kept or fails. By
    default only files without a genre are changed; --policy changes that. Nothing but the genre is
    touched, and --undo restores the original bytes. The exit code is 1 if all files failed (with
    --undo, if some did and none was restored, or the journal is damaged), otherwise 0.
    """
    if undo:
        refuse(
            context,
            *("predictions", "store", "policy", "above", "below", "mapping"),
            *("keep_mtime", "journal", "model", "workers"),
            beside="with --undo",
        )
        _undo(paths or ["latest"], dry_run=dry_run, as_json=as_json)
        return
    if predictions is not None or store is not None:
        refuse(context, "model", "workers", beside="with --from or --store: nothing is classified")
    from tonearm.library.journal import Journal
    from tonearm.library.mapping import read_mapping
    from tonearm.library.tagging import Rules, apply, plan
    from tonearm.progress import with_progress

    rules = Rules(policy, above, below, read_mapping(mapping) if mapping else {})
    files, source = _files_and_source(paths, predictions, store, model, workers, rules.mapping)
    if not files:
        searched = ", ".join(map(printable, paths or [predictions or store or ""]))
        note(f"no audio files in {searched}")
        raise typer.Exit(1)
    inspected = with_progress(files, len(files), "reading tags", transient=True)
    changes = plan(inspected, source, rules)
    journal_file = None if dry_run else Journal(journal)
    done: Counter[str] = Counter()
    try:
        with journal_file or nullcontext():
            if journal_file:
                changes = apply(changes, journal_file, keep_mtime=keep_mtime, store=store)
            _print_all(changes, done, files, dry_run=dry_run, as_json=as_json)
    except BaseException:
        if journal_file and done["write"]:  # and then Ctrl-C came, or the output was closed
            note(f"{done['write']} written; {_way_back(journal_file)}")
        raise
    if journal_file and done["write"] and not as_json:
        print(_way_back(journal_file))


def _way_back(journal: Journal) -> str:
    path = printable(journal.path)
    # In Windows' command prompt single quotes quote nothing; names there contain no double ones.
    quoted = f'"{path}"' if os.name == "nt" else shlex.quote(path)
    return f"undo: tonearm tag --undo {quoted}"


def _files_and_source(
    paths: Sequence[str] | None,
    predictions: str | None,
    store: str | None,
    model: str,
    workers: int,
    mapping: GenreWords,
) -> tuple[list[str], SuggestionSource]:
    """Return the files to tag, and the source of their genres."""
    from tonearm.library.suggestions import EarlierPredictions

    if predictions is not None and store is not None:
        raise UsageError("--from and --store exclude each other")
    if store is not None:
        from tonearm.library.store import Store

        with Store(store) as library:
            warn_of_unknown_labels(mapping, library.labels())
        known = EarlierPredictions.stored(store, paths or ())
    elif predictions is not None:
        known = EarlierPredictions.read(predictions)
    elif paths:
        return _files(paths), _classifier_source(model, workers, mapping)
    else:
        raise UsageError("expected files or folders, or predictions with --from or --store")
    return _files(paths) if paths else list(known.paths), known


def _files(paths: Sequence[str]) -> list[str]:
    from tonearm.media import recordings

    return list(recordings(paths, warn_unreadable))


def _classifier_source(model: str, workers: int, mapping: GenreWords) -> SuggestionSource:
    from tonearm.classifier import Classifier
    from tonearm.library.suggestions import classifying

    classifier = Classifier.load(model)
    warn_of_unknown_labels(mapping, classifier.labels)
    return classifying(classifier, workers)


def _undo(journals: Sequence[str], *, dry_run: bool, as_json: bool) -> None:
    """Restore the files recorded in journals, and print which journals are used."""
    from tonearm.library.journal import find
    from tonearm.library.undo import undo

    def restorations() -> Iterator[Restoration]:
        for name in journals:
            path = find(name)
            if not as_json:
                print(f"journal: {printable(path)}")
            yield from undo(path, dry_run=dry_run)

    done: Counter[str] = Counter()
    _print_all(restorations(), done, None, dry_run=dry_run, as_json=as_json)
    if done["fail"] and not done["restore"]:
        raise typer.Exit(1)


def _print_all(
    results: Iterable[Change | Restoration],
    done: Counter[str],
    names: Sequence[str] | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Print each result as it comes, and count it by its action; `names` is None if unknown.

    Raises
    ------
    typer.Exit
        With 1 if all failed, with 130 if it was interrupted.
    """
    printer = None if as_json else _Rows(names)
    try:
        for result in until_interrupted(results):
            done[result.action] += 1
            if printer:
                printer.add(result)
            else:
                print(json.dumps(asdict(result)), flush=True)
    except KeyboardInterrupt:
        note(f"interrupted after {done.total()} files")
        raise typer.Exit(130) from None
    if not as_json:
        counts = ", ".join(f"{done[action]} {DONE[action]}" for action in DONE if done[action])
        print(f"would be: {counts}" if dry_run else counts)
    if done["fail"] and done["fail"] == done.total():
        raise typer.Exit(1)


class _Rows:
    """Aligned rows: file, old genre, new genre, confidence, action and reason."""

    def __init__(self, names: Sequence[str] | None) -> None:
        from rich.cells import cell_len
        from rich.console import Console

        self._console = Console(highlight=False)
        room = max(NARROWEST_NAME, self._console.width - 2 * GENRES_WIDTH - 45)
        self._name_width = max((cell_len(printable(name)) for name in names or ()), default=None)
        if self._console.is_terminal:  # a file or a pipe has room for any name
            self._name_width = room if self._name_width is None else min(self._name_width, room)

    def add(self, result: Change | Restoration) -> None:
        """Print one file's row."""
        from rich.text import Text

        from tonearm.library.undo import Restoration

        name = printable(result.path)
        row = Text(name if self._name_width is None else fitted(name, self._name_width))
        row.append("  ")
        colour = COLOURS[result.action]
        if isinstance(result, Restoration):
            old, new, confidence = result.new, result.old, None
        else:
            old, new, confidence = result.old, result.new, result.confidence
        row.append(self._genres(old), "dim").append(" → " if old != new else "   ")
        row.append(self._genres(new if old != new else ()), "bold")
        row.append(f"  {confidence:>4.0%}  " if confidence is not None else " " * 8)
        row.append(f"{result.action:<7}  ", colour).append(result.reason, colour)
        print_row(self._console, row)

    def _genres(self, names: Sequence[str]) -> str:
        from rich.cells import cell_len

        text = printable("; ".join(names))
        has_room = not self._console.is_terminal and cell_len(text) > GENRES_WIDTH
        return text if has_room else fitted(text, GENRES_WIDTH)
