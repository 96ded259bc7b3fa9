"""`tonearm benchmark`: cross-validate many systems on one dataset."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tonearm.cli.options import (
    SINGLE_DIVISIONS,
    CacheOption,
    ProtocolOption,
    listed,
    path_option,
    refuse,
)
from tonearm.cli.output import note, split_warnings, warn
from tonearm.errors import UsageError
from tonearm.text import printable

if TYPE_CHECKING:
    from tonearm.datasets import Fold
    from tonearm.evaluation.crossval import System

RESULTS = Path("docs/results")


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(benchmark)


def benchmark(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(help="Name of the results, and of the folder configs/NAME.")
    ],
    data: Annotated[Path, path_option(help="Folder of a dataset, or a manifest file.")],
    systems: Annotated[
        list[str] | None,
        typer.Option(
            show_default=False,
            metavar="A,B,C",
            help="Baselines, published networks, configurations or models; may be repeated (by "
            "default, a ladder of those at hand).",
        ),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Number of folds.")] = 5,
    seeds: Annotated[
        int, typer.Option(min=1, help="Number of repetitions, each with its own seed.")
    ] = 1,
    protocol: ProtocolOption = "artist-kfold",
    out: Annotated[
        Path, path_option("--output", "--out", "-o", help="Folder for tables and plots.")
    ] = RESULTS,
    work: Annotated[
        Path, path_option(help="Folder for finished parts, to continue from later.")
    ] = Path("runs/benchmark"),
    configs: Annotated[
        Path | None,
        path_option(show_default="configs/NAME", help="Folder of the networks' configurations."),
    ] = None,
    cache: CacheOption = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Number of processes that compute features and classify.")
    ] = 1,
) -> None:
    """Train and test systems on every fold of a dataset, and compare each with the one above.

    Systems run in the order given, which is the order of the table. An interrupted benchmark
    continues where it stopped.
    """
    from tonearm import datasets
    from tonearm.atomic import require_writable_folder
    from tonearm.benchmark.ladder import NOT_TRAINED_ANEW, run_benchmark, write_results
    from tonearm.benchmark.systems import BundleSystem, default_systems, find_system
    from tonearm.cli.compare import print_comparison, warn_of_few_groups
    from tonearm.datasets.cache import FeatureCache

    if not name or name.startswith(".") or "/" in name or "\\" in name:
        # It becomes the name of files in --output, and none of them may end up outside that folder.
        raise UsageError(f"NAME {name!r} must be a name without / or \\, not a path")
    if protocol in SINGLE_DIVISIONS:
        refuse(context, "folds", beside=f"with --protocol {protocol}")
    require_writable_folder(out)  # now, rather than after all systems are trained
    with split_warnings():
        dataset = datasets.load(data)
    warning = datasets.leak_warning(dataset, protocol)
    if warning:
        warn(warning)
    default_configs = Path("configs") / name
    configs = configs or default_configs
    features = FeatureCache(cache)
    names = listed(systems or ()) or default_systems(configs, dataset)
    ladder = [find_system(system, configs, features, workers) for system in names]
    for system in ladder:
        if isinstance(system, BundleSystem):
            # The name may have been meant for a configuration that is missing from this folder.
            warn(f"{printable(system.path)} is {NOT_TRAINED_ANEW}")
    with split_warnings():
        result = run_benchmark(dataset, ladder, work, protocol, folds, seeds, _announce)
    for system_name, ids in result.unclassified.items():
        note(f"left out: {system_name} cannot classify {printable(', '.join(ids))}")
    comparison = result.comparison()
    # Leave out the options that change no figure: the cache folder and the number of processes.
    options = ["--data", str(data), "--systems", ",".join(names)]
    if configs != default_configs:
        options += ["--configs", str(configs)]
    if out != RESULTS:  # where the results of another benchmark of this name may be
        options += ["--output", str(out)]
    if protocol not in SINGLE_DIVISIONS:
        options += ["--folds", str(folds)]
    options += ["--seeds", str(seeds), "--protocol", protocol]
    command = shlex.join(["tonearm", "benchmark", name, *options])
    written = write_results(out, name, result, command, comparison)
    print_comparison(comparison)
    warn_of_few_groups(comparison)
    print(f"results: {printable(written[0])}", file=sys.stderr)


def _announce(system: System, seed: int, fold: Fold, stored: bool) -> None:
    if not stored:
        print(f"{system.name}, seed {seed}, {fold.name}", file=sys.stderr, flush=True)
