"""Fill a dataclass of settings from a YAML file and the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import jsonargparse

from tonearm.errors import UsageError

Settings = TypeVar("Settings")


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
    UsageError
        If a setting is unknown or of the wrong type, or the file is missing.
    """
    parser = jsonargparse.ArgumentParser(prog=program, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file of settings")
    parser.add_class_arguments(kind)
    try:
        settings = parser.instantiate(parser.parse_args(list(arguments)))
    except jsonargparse.ArgumentError as error:
        raise UsageError(" ".join(str(error).split())) from error
    values = vars(settings)
    del values["config"]
    return kind(**values)
