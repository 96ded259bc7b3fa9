"""The console on which commands print their tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDEST = 10_000  # columns


def table_console() -> Console:
    """Return a console as wide as the terminal or, for a file or pipe, as any table needs.

    It prints texts as they are: in the name of a genre or run, "[deep]" or ":cat:" is no markup.
    """
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDEST
    return console
