"""The program's commands and options, as Typer built them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from tonearm.cli.app import create_app


def commands() -> dict[str, Any]:
    """Give every command by its whole name, those included that only group others."""
    return dict(_within("tonearm", typer.main.get_command(create_app())))


def _within(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for part, each in getattr(command, "commands", {}).items():
        yield from _within(f"{name} {part}", each)
