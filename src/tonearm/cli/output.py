"""The ways `tonearm classify` prints results: a table for people, JSON lines, CSV."""

from __future__ import annotations

import io
import json
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Protocol, TextIO

from tonearm.csvrows import csv_writer
from tonearm.errors import reason_of
from tonearm.text import clock_text, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.text import Text

    from tonearm.prediction import Failure, Prediction, Segment

LISTED_GENRES = 3  # in the table, unless --top says otherwise
BAR_CELLS = 12
NARROWEST_NAME = 16


class Output(Protocol):
    """Somewhere to print results, each as soon as it is known."""

    def add(self, name: str, result: Prediction | Failure) -> None:
        """Print one file's result."""

    def close(self) -> None:
        """Print what follows the last result."""


class JsonLines:
    """One JSON object per line, with the keys of `tonearm.record.to_record`."""

    def __init__(self, top: int | None, timeline: bool) -> None:
        self._top = top
        self._timeline = timeline

    def add(self, name: str, result: Prediction | Failure) -> None:
        """Print one file's object."""
        from tonearm.record import to_record

        record = to_record(name, result, top=self._top, timeline=self._timeline)
        print(json.dumps(record), flush=True)

    def close(self) -> None:
        """Do nothing: nothing follows the last object."""


class CsvRows:
    """A CSV row for each file, or for each window of it, with a column for every genre."""

    def __init__(self, labels: tuple[str, ...], timeline: bool) -> None:
        self._labels = labels
        self._timeline = timeline
        if isinstance(sys.stdout, io.TextIOWrapper):
            # As `tonearm export` writes it: names that are not UTF-8 keep their bytes.
            sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
        self._writer = csv_writer(sys.stdout)
        span = ("start", "end") if timeline else ("duration",)
        fixed = ("genre", "confidence", "truncated", "error", "music", "verdict")
        self._writer.writerow(("path", *span, *fixed, *labels))

    def add(self, name: str, result: Prediction | Failure) -> None:
        """Print one file's row or rows."""
        from tonearm.record import to_record

        record = to_record(name, result, timeline=self._timeline)
        for part in record.get("segments") or [record]:
            probabilities = part["probabilities"] or {}
            genre = next(iter(probabilities), None)
            span = ("start", "end") if self._timeline else ("duration",)
            self._writer.writerow(
                (
                    name,
                    *(part.get(key) for key in span),
                    genre,
                    probabilities.get(genre),
                    record["truncated"],
                    record["error"],
                    part["music"],
                    part["verdict"],
                    *(probabilities.get(label) for label in self._labels),
                )
            )
        sys.stdout.flush()

    def close(self) -> None:
        """Do nothing: nothing follows the last row."""


class Table:
    """Aligned rows for people: file, genre, confidence, and the next most probable genres.

    The verdict takes the genre's place if it is "not music" or "unsure".
    """

    def __init__(
        self, names: Sequence[str], labels: Sequence[str], top: int, timeline: bool
    ) -> None:
        from rich.cells import cell_len
        from rich.console import Console

        self._console = Console(highlight=False)
        self._top = top
        self._timeline = timeline
        self._genre_width = max(map(cell_len, labels))
        width = max(cell_len(printable(name)) for name in names)
        if self._console.is_terminal:  # a file or a pipe has room for any name
            room = self._console.width - self._genre_width - BAR_CELLS - 40
            width = min(width, max(NARROWEST_NAME, room))
        self._name_width = max(width, len(_span(0, 0))) if timeline else width
        self._progress = self._start_progress(len(names))

    def add(self, name: str, result: Prediction | Failure) -> None:
        """Print one file's row and, with the timeline, one for each window."""
        from rich.text import Text

        from tonearm.prediction import Failure

        row = Text(fitted(printable(name), self._name_width)).append("  ")
        if isinstance(result, Failure):
            print_row(self._console, row.append(result.error, "yellow"))
        else:
            self._append_prediction(row, result)
            if result.truncated:
                row.append("  (file breaks off)", "yellow")
            print_row(self._console, row)
            for segment in result.segments if self._timeline else ():
                row = Text(f"{_span(segment.start, segment.end):>{self._name_width}}  ")
                self._append_prediction(row, segment)
                print_row(self._console, row)
        if self._progress:
            self._progress.advance(self._progress.task_ids[0])

    def close(self) -> None:
        """Remove the progress bar."""
        if self._progress:
            self._progress.stop()

    def _append_prediction(self, row: Text, prediction: Prediction | Segment) -> None:
        genre, confidence = next(iter(prediction.probabilities.items()))
        if prediction.verdict == "not music":
            row.append("not music", "yellow").append(f"  (music {prediction.music:.0%})", "dim")
            return
        if prediction.verdict == "unsure":
            row.append("unsure", "yellow").append(f" ({genre} {confidence:.0%})")
        else:
            row.append(f"{fitted(genre, self._genre_width)}  ", "bold")
            filled = round(confidence * BAR_CELLS)
            row.append("█" * filled, "cyan").append("░" * (BAR_CELLS - filled), "dim")
            row.append(f" {confidence:>4.0%}")
        others = islice(prediction.probabilities.items(), 1, self._top)
        row.append(
            "  " + ", ".join(f"{name} {probability:.0%}" for name, probability in others), "dim"
        )

    def _start_progress(self, files: int) -> Progress | None:
        if files == 1 or not self._console.is_terminal:
            return None
        from tonearm.progress import bar

        progress = bar(self._console, transient=True)
        progress.add_task("", total=files)
        progress.start()
        return progress


def print_row(console: Console, row: Text) -> None:
    """Print a row as one line, cut to the width of a terminal but whole in a file or pipe."""
    row.rstrip()
    cut = console.is_terminal
    console.print(row, no_wrap=True, overflow="ellipsis" if cut else "ignore", crop=cut)


def warn_unreadable(error: OSError) -> None:
    """Warn that a folder cannot be read; its contents are skipped."""
    folder = printable(os.fsdecode(error.filename))
    print(f"tonearm: {folder}: {reason_of(error)}", file=sys.stderr)


def report_unlisted(paths: Iterable[str]) -> None:
    """Name on standard error the tracks that a playlist had to leave out."""
    for path in paths:
        print(
            f"tonearm: left out, as an M3U8 file cannot hold its name: {printable(path)}",
            file=sys.stderr,
        )


def warn(message: object) -> None:
    """Print a warning as one line on standard error."""
    print(f"tonearm: warning: {message}", file=sys.stderr)


@contextmanager
def split_warnings() -> Iterator[None]:
    """Print each warning about a dataset as one line, without its place in the code."""
    from tonearm.datasets import SplitWarning

    with warnings.catch_warnings():
        warnings.simplefilter("always", SplitWarning)
        show_other = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, SplitWarning):
                warn(message)
            else:
                show_other(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


def fitted(name: str, width: int) -> str:
    """Return a name in exactly `width` columns; a long one keeps its end, the specific part."""
    from rich.cells import cell_len, set_cell_size

    while cell_len(name) > width:
        name = "…" + name[2:]
    return set_cell_size(name, width)


def _span(start: float, end: float) -> str:
    return f"{clock_text(start)} - {clock_text(end)}"
