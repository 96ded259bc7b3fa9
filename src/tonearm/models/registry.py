"""Register networks by name, and create them from it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from tonearm.errors import UsageError
from tonearm.models.network import GenreNetwork

_Network = TypeVar("_Network", bound=type[GenreNetwork])
_networks: dict[str, type[GenreNetwork]] = {}


def create_model(name: str, num_classes: int, **settings: Any) -> GenreNetwork:
    """Create a network by its registered name.

    Parameters
    ----------
    name
        One of `model_names()`.
    num_classes
        Number of logits.
    **settings
        Arguments of the network's class, including `n_mels` (bands of the front end) and, for
        networks that use descriptors, `n_descriptors`.

    Raises
    ------
    UsageError
        If the name or a setting is unknown, or settings do not fit each other.
    TonearmError
        If the student is to use AudioSet's classes for a genre that has none.
    PretrainedError
        If the network starts from published weights that are neither at hand nor to be fetched.
    """
    known = setting_names(name)
    for setting in settings:
        if setting not in known:
            raise UsageError(
                f"model {name!r} has no setting {setting!r}: expected some of {', '.join(known)}"
            )
    return _networks[name](num_classes=num_classes, **settings)


def model_names() -> tuple[str, ...]:
    """Return the registered names in alphabetical order."""
    return tuple(sorted(_networks))


def setting_names(name: str) -> tuple[str, ...]:
    """Return the settings that `create_model` takes for a network.

    Raises
    ------
    UsageError
        If the network is unknown.
    """
    if name not in _networks:
        raise UsageError(f"model {name!r} is unknown: expected one of {', '.join(model_names())}")
    parameters = inspect.signature(_networks[name]).parameters
    return tuple(parameter for parameter in parameters if parameter != "num_classes")


def register(name: str) -> Callable[[_Network], _Network]:
    """Register the decorated `GenreNetwork` class under a name that no other class has.

    A class of the same name replaces the former one, as when a cell of a notebook is run again.

    Raises
    ------
    ValueError
        If the name is taken.
    """

    def add(network: _Network) -> _Network:
        taken = _networks.get(name, network).__qualname__
        if taken != network.__qualname__:
            raise ValueError(f"model name {name!r} is taken by {taken}")
        _networks[name] = network
        return network

    return add
