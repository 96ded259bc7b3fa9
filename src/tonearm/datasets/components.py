"""Group things that have a key in common."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence


def connected_components(keys: Sequence[Iterable[Hashable]]) -> list[int]:
    """Return each thing's group number, counted from 0 in order of first appearance.

    Parameters
    ----------
    keys
        The keys of each thing, any number. Two things with a key in common are in one group, and
        so are things connected through others.
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
