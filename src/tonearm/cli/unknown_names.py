"""Warnings about names that do not exist: labels no model predicts, paths no store knows."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tonearm.text import printable

if TYPE_CHECKING:
    from tonearm.library.store import Store


def warn_of_unknown_labels(mapping: Iterable[str], labels: Iterable[str]) -> None:
    """Warn of labels in a mapping that the model never predicts: often they are misspelt."""
    from tonearm.library.mapping import unknown_labels

    known = list(labels)
    unknown = unknown_labels(mapping, known)
    if unknown and known:  # an empty store knows no labels yet
        listed, available = (printable(", ".join(names)) for names in (unknown, known))
        print(f"tonearm: the model never predicts {listed}: it knows {available}", file=sys.stderr)


def warn_of_unknown_paths(library: Store, paths: Sequence[str], *, missing: bool = False) -> bool:
    """Warn of paths under which a store knows no file; return whether it knows one under any."""
    unknown = [path for path in paths if not any(library.paths([path], missing=missing))]
    for path in unknown:
        print(
            f"tonearm: {printable(str(library.path))} knows no file in {printable(path)}",
            file=sys.stderr,
        )
    return len(unknown) < len(paths)
