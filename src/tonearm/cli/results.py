"""The ways `tonearm classify` prints results: a table for people, JSON lines, CSV."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from tonearm.cli.output import fitted, print_row
from tonearm.csvrows import csv_writer
from tonearm.text import clock_text, printable

if TYPE_CHECKING:
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
        from tonearm.library.rows import probability_column

        self._labels = labels
        self._timeline = timeline
        self._span = ("start", "end") if timeline else ("duration",)
        if isinstance(sys.stdout, io.TextIOWrapper):
            # As `tonearm export` writes it: names that are not UTF-8 keep their bytes.
            sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
        self._writer = csv_writer(sys.stdout)
        answer = ("genre", "confidence", "truncated", "error", "music", "verdict")
        fixed = ("path", *self._span, *answer)
        genres = (probability_column(label) if label in fixed else label for label in labels)
        self._writer.writerow((*fixed, *genres))

    def add(self, name: str, result: Prediction | Failure) -> None:
        """Print one file's row or rows."""
        from tonearm.record import to_record

        record = to_record(name, result, timeline=self._timeline)
        for part in record.get("segments") or [record]:
            probabilities = part["probabilities"] or {}
            genre = next(iter(probabilities), None)
            self._writer.writerow(
                (
                    name,
                    *(part.get(key) for key in self._span),
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
        # As Rich does for its own bars: a pipe on Windows often has an encoding without blocks.
        self._full, self._empty = "#." if self._console.options.ascii_only else "█░"
        self._top = top
        self._timeline = timeline
        self._genre_width = max(map(cell_len, labels))
        width = max(cell_len(printable(name)) for name in names)
        if self._console.is_terminal:  # a file or a pipe has room for any name
            widest_genre = max(NARROWEST_NAME, self._console.width // 3)
            self._genre_width = min(self._genre_width, widest_genre)
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
            row.append("not music", "yellow")
            if prediction.music is not None:  # a silent window, of a model that does not say
                row.append(f"  (music {prediction.music:.0%})", "dim")
            return
        if prediction.verdict == "unsure":
            row.append("unsure", "yellow").append(f" ({genre} {confidence:.0%})")
        else:
            row.append(f"{fitted(genre, self._genre_width)}  ", "bold")
            filled = round(confidence * BAR_CELLS)
            row.append(self._full * filled, "cyan")
            row.append(self._empty * (BAR_CELLS - filled), "dim")
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


def _span(start: float, end: float) -> str:
    return f"{clock_text(start)} - {clock_text(end)}"
