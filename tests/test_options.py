"""What the commands repeat of the library, as `--help` loads none of it: words and defaults."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import pytest

from command_line import commands
from tonearm.benchmark.ladder import run_benchmark
from tonearm.datasets.splits import Protocol
from tonearm.evaluation.compare import compare
from tonearm.evaluation.metrics import evaluate
from tonearm.explanation import explain
from tonearm.features.plot import plot
from tonearm.library.exporting import Format
from tonearm.library.learn import learn
from tonearm.library.playlists import Choice, Order
from tonearm.library.similar import similar
from tonearm.library.tagging import Policy, Rules
from tonearm.serving import Limits
from tonearm.training.runfolder import Resume


def _options(command: str) -> dict[str, Any]:
    """Give the options of a command, by name."""
    return {parameter.name: parameter for parameter in commands()[f"tonearm {command}"].params}


@pytest.mark.parametrize(
    ("command", "option", "words"),
    [
        ("benchmark", "protocol", Protocol),
        ("evaluate", "protocol", Protocol),
        ("export", "format", Format),
        ("playlists", "sort", Order),
        ("tag", "policy", Policy),
        ("train", "resume", Resume),
    ],
)
def test_an_option_offers_what_the_library_knows(command: str, option: str, words: Any) -> None:
    offered = tuple(_options(command)[option].type.choices)
    assert offered == get_args(words)


@pytest.mark.parametrize(
    ("command", "called", "prefix"),
    [
        ("benchmark", run_benchmark, ""),
        ("compare", compare, ""),
        ("evaluate", evaluate, ""),
        ("explain", explain, ""),
        ("learn", learn, ""),
        ("playlists", Choice, ""),
        ("serve", Limits, "max_"),
        ("similar", similar, ""),
        ("spectrogram", plot, ""),
        ("tag", Rules, ""),
    ],
)
def test_an_option_has_the_default_of_the_library(command: str, called: Any, prefix: str) -> None:
    options = _options(command)
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(called).parameters.items()
        if prefix + name in options and isinstance(parameter.default, int | float | str)
    }
    assert defaults
    assert {name: options[prefix + name].default for name in defaults} == defaults
