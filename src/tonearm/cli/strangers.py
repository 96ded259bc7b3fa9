"""A word to people whose mapping names labels that no model says."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from tonearm.text import printable


def warn_of_strangers(mapping: Iterable[str], labels: Iterable[str]) -> None:
    """Say which labels of a mapping are never given: as often as not they are misspelt."""
    from tonearm.library.mapping import strangers

    known = list(labels)
    unknown = strangers(mapping, known)
    if unknown and known:  # nobody has listened to what an empty store holds
        named, there = (printable(", ".join(names)) for names in (unknown, known))
        print(f"tonearm: the model never says {named}: it knows {there}", file=sys.stderr)
