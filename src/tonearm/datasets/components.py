"""Group items that have a key in common."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence


def connected_components(keys: Sequence[Iterable[Hashable]]) -> list[int]:
    """Return each item's group number, counted from 0 in order of first appearance.

    Parameters
    ----------
    keys
        The keys of each item, any number. Two items with a key in common are in one group, and
        so are items connected through others.
    """
    parent = list(range(len(keys)))
    first: dict[Hashable, int] = {}
    for i, item_keys in enumerate(keys):
        for key in item_keys:
            parent[_root(parent, i)] = _root(parent, first.setdefault(key, i))
    numbers: dict[int, int] = {}
    return [numbers.setdefault(_root(parent, i), len(numbers)) for i in range(len(parent))]


def _root(parent: list[int], i: int) -> int:
    while parent[i] != i:
        parent[i] = i = parent[parent[i]]
    return i
