"""The numbers among the settings of an experiment or a recipe, and which values they may have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from tonearm.errors import UsageError


def numbers(settings: Any) -> dict[str, Any]:
    """Give every setting that is a number, or several, by its whole name."""
    named = _named(asdict(settings))
    return {
        name: value
        for name, value in named
        if isinstance(value, int | float | tuple) and not isinstance(value, bool)
    }


def with_setting(part: Any, name: str, value: object) -> Any:
    """Give the settings, or a part of them, with another value for one."""
    first, _, rest = name.partition(".")
    inner = with_setting(getattr(part, first), rest, value) if rest else value
    return replace(part, **{first: inner})


def unbounded(settings: Any) -> list[str]:
    """Give the numbers that may be as low as -1000."""
    accepted = []
    for name, value in numbers(settings).items():
        with suppress(UsageError):
            wrong = (-1000,) * len(value) if isinstance(value, tuple) else -1000
            with_setting(settings, name, wrong)
            accepted.append(name)
    return accepted


def _named(section: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        if isinstance(value, dict):
            yield from _named(value, f"{above}{name}.")
        else:
            yield above + name, value
