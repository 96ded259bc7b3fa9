"""What several commands print: messages on standard error, tables and rows."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from tonearm.errors import with_file
from tonearm.text import enumerated, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from tonearm.library.store import Store

WIDEST = 10_000  # columns


def note(message: object) -> None:
    """Print a message as one line on standard error, after the name of the program."""
    print(f"tonearm: {message}", file=sys.stderr)


def warn(message: object) -> None:
    """Print a warning as one line on standard error."""
    note(f"warning: {message}")


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


def warn_unreadable(error: OSError) -> None:
    """Warn that a folder cannot be read; its contents are skipped."""
    note(with_file(error))


def warn_of_unknown_labels(mapping: Iterable[str], labels: Collection[str]) -> None:
    """Warn of labels in a mapping that the model never predicts: often they are misspelt."""
    from tonearm.library.mapping import unknown_labels

    unknown = unknown_labels(mapping, labels)
    if unknown and labels:  # an empty store knows no labels yet
        listed, available = (printable(enumerated(names)) for names in (unknown, labels))
        note(f"the model never predicts {listed}: it knows {available}")


def warn_of_unknown_paths(library: Store, paths: Sequence[str], *, missing: bool = False) -> bool:
    """Warn of paths under which a store knows no file; return whether it knows one under any."""
    unknown = [path for path in paths if not any(library.paths([path], missing=missing))]
    for path in unknown:
        note(f"{printable(library.path)} knows no file in {printable(path)}")
    return len(unknown) < len(paths)


def report_unlisted(paths: Iterable[str]) -> None:
    """Name on standard error the tracks that a playlist had to leave out."""
    for path in paths:
        note(f"left out, as an M3U8 file cannot hold its name: {printable(path)}")


def table_console() -> Console:
    """Return a console as wide as the terminal or, for a file or pipe, as any table needs.

    It prints texts as they are: in the name of a genre or run, "[deep]" or ":cat:" is no markup.
    """
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDEST
    return console


def print_row(console: Console, row: Text) -> None:
    """Print a row as one line, cut to the width of a terminal but whole in a file or pipe."""
    row.rstrip()
    cut = console.is_terminal
    console.print(row, no_wrap=True, overflow="ellipsis" if cut else "ignore", crop=cut)


def fitted(name: str, width: int) -> str:
    """Return a name in exactly `width` columns; a long one keeps its end, the specific part."""
    from rich.cells import cell_len, set_cell_size

    while cell_len(name) > width:
        name = "…" + name[2:]
    return set_cell_size(name, width)
