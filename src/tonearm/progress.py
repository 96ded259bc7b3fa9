"""Show the progress of a long job and the time it will still take."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Item = TypeVar("Item")
Columns = Sequence[str | ProgressColumn]


def bar(
    console: Console, before: Columns = (), after: Columns = (), *, transient: bool = False
) -> Progress:
    """Return a progress bar with columns before it, and between the count and the time left."""
    columns = (*before, BarColumn(), MofNCompleteColumn(), *after, TimeRemainingColumn())
    return Progress(*columns, console=console, transient=transient)


def with_progress(
    items: Iterable[Item],
    total: int,
    description: str,
    *,
    show: bool = True,
    transient: bool = False,
) -> Iterator[Item]:
    """Yield the items while a progress bar on standard error, if a terminal, counts them.

    A transient bar is removed in the end.
    """
    if not (show and sys.stderr.isatty()):
        yield from items
        return
    name = TextColumn("{task.description}", markup=False)
    after: Columns = ["elapsed", TimeElapsedColumn(), "left"]
    with bar(Console(stderr=True), [name], after, transient=transient) as progress:
        task = progress.add_task(description, total=total)
        for item in items:
            progress.advance(task)
            yield item
