"""Puts together what has a key in common."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence


def tied(keys: Sequence[Iterable[Hashable]]) -> list[int]:
    """Number the groups of some things, from 0 in the order of their first members.

    Parameters
    ----------
    keys
        Of each thing, any number. One key in common ties two things, and what is tied to the same
        thing is one group.
    """
    parent = list(range(len(keys)))
    first: dict[Hashable, int] = {}
    for place, own in enumerate(keys):
        for key in own:
            parent[_root(parent, place)] = _root(parent, first.setdefault(key, place))
    numbers: dict[int, int] = {}
    return [numbers.setdefault(_root(parent, place), len(numbers)) for place in range(len(parent))]


def _root(parent: list[int], place: int) -> int:
    while parent[place] != place:
        parent[place] = place = parent[parent[place]]
    return place
