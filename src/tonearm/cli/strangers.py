"""A word to people who name what is not there: labels no model says, places no store knows."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tonearm.text import printable

if TYPE_CHECKING:
    from tonearm.library.store import Store


def warn_of_strangers(mapping: Iterable[str], labels: Iterable[str]) -> None:
    """Say which labels of a mapping are never given: as often as not they are misspelt."""
    from tonearm.library.mapping import strangers

    known = list(labels)
    unknown = strangers(mapping, known)
    if unknown and known:  # nobody has listened to what an empty store holds
        named, there = (printable(", ".join(names)) for names in (unknown, known))
        print(f"tonearm: the model never says {named}: it knows {there}", file=sys.stderr)


def warn_of_unknown_places(library: Store, places: Sequence[str], *, missing: bool = False) -> bool:
    """Say in which files and folders a store knows no file; return whether it knows one in any."""
    unknown = [place for place in places if not any(library.paths([place], missing=missing))]
    for place in unknown:
        print(
            f"tonearm: {printable(str(library.path))} knows no file in {printable(place)}",
            file=sys.stderr,
        )
    return len(unknown) < len(places)
