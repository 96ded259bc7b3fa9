"""The folder of a training run, and whether a run may resume or start over there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import yaml

from tonearm.atomic import require_writable_folder, write_text
from tonearm.bundle import RUN_BUNDLE
from tonearm.errors import TonearmError
from tonearm.evaluation import predictions
from tonearm.evaluation.metrics import Metrics
from tonearm.evaluation.predictions import Predictions
from tonearm.evaluation.training_overlap import RUN_TRACKS
from tonearm.training.experiment import Experiment
from tonearm.training.settings import ConfigError, read_settings

Resume = Literal["auto", "never"]

CONFIG, CHECKPOINTS, LOGS = "config.yaml", "checkpoints", "logs"
HISTORY, METRICS, PREDICTIONS = "history.csv", "metrics.json", "predictions.csv"
# The losses of the stages of a distillation.
IMITATION, TUNING = "imitation.csv", HISTORY
REFINEMENT, DENOISING = "refinement.csv", "denoising.csv"

# Settings that may differ when a run is resumed, as it may have moved to another machine.
_FREE_SETTINGS = (("data", "path"), ("data", "cache"), ("schedule", "threads"))

# Files that a run creates besides its settings and tracks, as patterns relative to its folder.
_MADE = (
    *(f"{CHECKPOINTS}/best.ckpt", f"{CHECKPOINTS}/last.ckpt"),
    *(f"{LOGS}/events.out.tfevents.*", f"{LOGS}/hparams.yaml"),
    *(HISTORY, METRICS, PREDICTIONS, RUN_BUNDLE),
)

_REMEDY = "name another --run folder, or start over with --resume never"
_OLD_RUN = "(a run of Tonearm 0.1.0 cannot be resumed); name another --run folder"


class RunError(TonearmError):
    """A run's folder does not match the experiment; the text names the folder and the reason."""


def open_folder(folder: Path, experiment: Experiment, tracks_text: str, resume: Resume) -> None:
    """Create the folder, or check that the run in it is of this experiment and these tracks.

    Parameters
    ----------
    tracks_text
        The text of `tonearm.evaluation.training_overlap.training_text`.
    resume
        "never" removes what an earlier run left, and nothing else.

    Raises
    ------
    RunError
        If the folder holds a run of another experiment, or of other tracks or labels, or files that
        are named like those of a run but belong to none.
    """
    held = _held_tracks(folder)
    if held is None:
        _refuse_strange(folder)
    elif resume == "never":
        _remove_run(folder)
    elif (folder / CHECKPOINTS).exists() or (folder / RUN_BUNDLE).exists():
        _refuse_other(folder, experiment, held, json.loads(tracks_text))
        write_text(folder / CONFIG, experiment.to_yaml())
        return
    # The tracks first: a config.yaml without them would not be recognised as part of a run.
    write_text(folder / RUN_TRACKS, tracks_text)
    write_text(folder / CONFIG, experiment.to_yaml())


def check_distillation_folder(folder: Path) -> None:
    """Check that a distillation would overwrite nothing in a folder but an earlier distillation.

    Raises
    ------
    RunError
        If the folder holds a run of `train`, or another program's config.yaml.
    TonearmError
        If it cannot be made or written to.
    """
    require_writable_folder(folder)
    for name in (CHECKPOINTS, LOGS):
        if (folder / name).exists():
            raise RunError(f"{folder}: holds {name}, so no distillation {_OLD_RUN}")
    config = folder / CONFIG
    if config.exists() and "imitation" not in _settings(folder):
        raise RunError(
            f"{folder}: holds {CONFIG}, but not that of a distillation; name another --run folder"
        )


def write_evaluation(folder: Path, table: Predictions) -> Metrics:
    """Write `predictions.csv` and `metrics.json`; return the metrics."""
    predictions.write(folder / PREDICTIONS, table)
    metrics = table.metrics()
    write_text(folder / METRICS, metrics.to_json())
    return metrics


def begin_distillation(folder: Path, config_text: str, tracks_text: str) -> None:
    """Write the settings and tracks of a distillation.

    What a distillation of other settings or tracks left in the folder is removed first: its model
    must not stand beside these tracks if this one does not get to its end.
    """
    texts = {CONFIG: config_text, RUN_TRACKS: tracks_text}
    if any(_text(folder / name) != text for name, text in texts.items()):
        for name in (RUN_BUNDLE, METRICS, PREDICTIONS, IMITATION, TUNING, REFINEMENT, DENOISING):
            (folder / name).unlink(missing_ok=True)
    for name, text in texts.items():
        write_text(folder / name, text)


def note_contents(folder: Path, contents: Mapping[str, str]) -> None:
    """Store hashes of the audio of a run's tracks, or check that the audio has not changed.

    Parameters
    ----------
    contents
        A hash of each track's file, by the track's id.

    Raises
    ------
    RunError
        If the run to resume was trained on other audio under the same ids.
    """
    tracks = folder / RUN_TRACKS
    run = json.loads(tracks.read_text("utf-8"))
    held = run.get("contents")
    if held is None:  # a new run
        run["contents"] = dict(sorted(contents.items()))
        write_text(tracks, json.dumps(run, indent=1, ensure_ascii=False) + "\n")
        return
    changed = sorted(
        track for track in held.keys() | contents.keys() if held.get(track) != contents.get(track)
    )
    if changed:
        raise RunError(
            f"{folder}: holds a run on other audio under the same names ({len(changed)} of "
            f"{len(held)} tracks, the first is {changed[0]}); {_REMEDY}"
        )


def _text(path: Path) -> str | None:
    """Return the text of a file, or None if there is none."""
    return path.read_text("utf-8", "replace") if path.exists() else None


def _held_tracks(folder: Path) -> dict[str, Any] | None:
    """Return the content of a run's tracks.json, or None if the folder does not hold a run."""
    if not (folder / CONFIG).exists():
        return None
    try:
        held = json.loads((folder / RUN_TRACKS).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(held, dict) or not isinstance(held.get("contents", {}), dict):
        return None
    return held if held.keys() >= {"labels", "train"} else None


def _refuse_strange(folder: Path) -> None:
    for name in (CHECKPOINTS, LOGS, CONFIG):
        if (folder / name).exists():
            raise RunError(
                f"{folder}: holds {name}, but not both {CONFIG} and {RUN_TRACKS} of a run "
                f"{_OLD_RUN}"
            )


def _remove_run(folder: Path) -> None:
    for pattern in _MADE:
        for file in folder.glob(pattern):
            file.unlink()
    for name in (CHECKPOINTS, LOGS):
        with suppress(OSError):  # it still holds other files, or does not exist
            (folder / name).rmdir()


def _refuse_other(
    folder: Path, experiment: Experiment, held: Mapping[str, Any], train_tracks: Mapping[str, Any]
) -> None:
    before = _decisive(_with_defaults(_settings(folder)))
    now = _decisive(yaml.safe_load(experiment.to_yaml()))
    if before != now:
        raise RunError(
            f"{folder}: holds a run of another experiment (they differ in "
            f"{', '.join(_differences(before, now))}); {_REMEDY}"
        )
    if {key: value for key, value in held.items() if key != "contents"} != train_tracks:
        raise RunError(f"{folder}: holds a run on other tracks or labels; {_REMEDY}")


def _settings(folder: Path) -> dict[Any, Any]:
    """Return the settings of the run in a folder; they may be those of another program.

    Raises
    ------
    RunError
        If they cannot be read.
    """
    try:
        return read_settings(folder / CONFIG)
    except ConfigError as error:
        raise RunError(f"{error}; name another --run folder") from error


def _with_defaults(settings: dict[Any, Any]) -> dict[Any, Any]:
    """Add the settings that an earlier version did not have; their defaults do what it did."""
    for section, defaults in yaml.safe_load(Experiment().to_yaml()).items():
        held = settings.get(section)
        if isinstance(defaults, dict) and isinstance(held, dict):
            settings[section] = defaults | held
    return settings


def _decisive(settings: dict[Any, Any]) -> dict[Any, Any]:
    """Return settings without those that may differ when a run is resumed."""
    for section, key in _FREE_SETTINGS:
        if isinstance(settings.get(section), dict):
            settings[section].pop(key, None)
    return settings


def _differences(a: dict[Any, Any], b: dict[Any, Any]) -> list[str]:
    different = []
    for key in sorted(a.keys() | b.keys(), key=str):
        first, second = a.get(key), b.get(key)
        if isinstance(first, dict) and isinstance(second, dict):
            different += [f"{key}.{inner}" for inner in _differences(first, second)]
        elif first != second:
            different.append(str(key))
    return different
