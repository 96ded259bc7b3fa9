"""Fill a dataclass of settings from a YAML file and the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterable, Sequence
from operator import attrgetter
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

import jsonargparse
import yaml

from tonearm.errors import FileError, UsageError, reason_of
from tonearm.text import not_utf8

Settings = TypeVar("Settings")


class ConfigError(FileError):
    """A file of settings cannot be read, or has a setting that cannot be."""


def parse_settings(kind: type[Settings], program: str, arguments: Sequence[str]) -> Settings:
    """Read settings from command-line arguments, which may include `--config FILE`.

    Later arguments override earlier ones: `["--config", "x.yaml", "--optimiser.lr", "1e-3"]`
    takes the file's settings with another learning rate. `--print_config` and `--help` print
    their text and exit.

    Parameters
    ----------
    kind
        The dataclass to fill.
    program
        Name of the program in the text of `--help`.

    Raises
    ------
    ConfigError
        If the file cannot be read, or has a setting that is unknown, of the wrong type or out of
        range.
    UsageError
        If one of the other arguments has.
    """
    files = _config_files(arguments)
    for file in files:
        read_settings(file)  # which has words for faults that jsonargparse does not have
    try:
        return _filled(kind, program, arguments)
    except UsageError:
        for file in files:
            try:
                _filled(kind, program, ["--config", file])
            except UsageError as error:  # without the command line, it fails as well
                raise ConfigError(file, str(error)) from error
        raise


def read_settings(file: str | PathLike[str]) -> dict[Any, Any]:
    """Read a YAML file of settings as plain values.

    Raises
    ------
    ConfigError
        If the file cannot be read, is not YAML, or holds something else than settings.
    """
    try:
        values = yaml.safe_load(Path(file).read_text("utf-8"))
    except OSError as error:
        raise ConfigError(file, reason_of(error)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(file, not_utf8(error)) from error
    except Exception as error:  # besides its own, PyYAML raises what Python does for odd values
        raise ConfigError(file, f"not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        found = "nothing" if values is None else f"a {type(values).__name__}"
        raise ConfigError(file, f"expected settings and their values, found {found}")
    return values


def require(name: str, value: object, expected: str, fits: bool) -> None:
    """Raise `UsageError` if a setting's value does not fit what is expected of it."""
    if not fits:
        raise UsageError(f"{name} must be {expected}, got {value}")


def require_each(
    settings: object, names: Iterable[str], expected: str, fits: Callable[[Any], bool]
) -> None:
    """Call `require` for each of the named settings, such as "data.folds"."""
    for name in names:
        value = attrgetter(name)(settings)
        require(name, value, expected, fits(value))


def require_one_of(name: str, value: str, known: Collection[str]) -> None:
    """Raise `UsageError` if a setting's value is not one of those known."""
    if value not in known:
        raise UsageError(f"{name} {value!r} is unknown: expected one of {', '.join(known)}")


def _config_files(arguments: Sequence[str]) -> list[str]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", action="append", default=[])
    try:
        files: list[str] = parser.parse_known_args(arguments)[0].config
    except argparse.ArgumentError as error:
        raise UsageError(str(error)) from error
    return files


def _filled(kind: type[Settings], program: str, arguments: Sequence[str]) -> Settings:
    parser = jsonargparse.ArgumentParser(prog=program, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file of settings")
    parser.add_class_arguments(kind)
    try:
        settings = parser.parse_args(list(arguments))
        _refuse_blank(kind, settings)
        values = vars(parser.instantiate(settings))
    except (jsonargparse.ArgumentError, RecursionError) as error:  # YAML may hold itself
        raise UsageError(" ".join(str(error).split())) from error
    del values["config"]
    return kind(**values)


def _refuse_blank(kind: type, settings: jsonargparse.Namespace, section: str = "") -> None:
    """Refuse None, which jsonargparse takes for any setting, where it is not of the type."""
    for name, expected in get_type_hints(kind).items():
        value = settings[name]
        if value is None and NoneType not in get_args(expected):
            raise UsageError(f"{section}{name} is blank: leave it out for its default")
        if isinstance(value, jsonargparse.Namespace):
            _refuse_blank(expected, value, f"{section}{name}.")
