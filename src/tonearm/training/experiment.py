"""The settings of a training run, as dataclasses that a YAML file and the command line fill in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tonearm.datasets.splits import PROTOCOLS, Protocol
from tonearm.errors import TonearmError, UsageError
from tonearm.features.logmel import FRONT_ENDS, LogMelConfig
from tonearm.metadata import LONGEST_WINDOW
from tonearm.training.settings import parse_settings

SHORTEST_INPUT_SECONDS = 0.5  # every network's layers leave something of so much
HIGHEST_SEED = 2**32 - 1  # what NumPy's and Lightning's generators take

# What a run knows by itself: from the dataset, the front end and the descriptors there are.
_DERIVED = ("num_classes", "n_mels", "n_descriptors", "labels")


@dataclass(frozen=True)
class ModelSettings:
    """Which network.

    Attributes
    ----------
    name
        One of `tonearm.models.model_names()`.
    settings
        Arguments of its class, see `tonearm.models`; those that follow from the data and the front
        end (numbers of classes, bands and descriptors, labels) cannot be set.
    """

    name: str = "hybrid"
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSettings:
    """What it learns from and what it is judged on.

    Attributes
    ----------
    path
        The dataset's folder. A folder of the same name in the folder that the environment variable
        TONEARM_DATA names takes precedence over a relative path.
    layout
        Layout of the folder; None finds out.
    split
        Protocol that divides the tracks, see `tonearm.datasets.split`.
    folds
        Number of folds, where the protocol has folds.
    fold
        The fold that is held out for validation, from 0.
    cache
        Folder of the feature cache; None is the default one.
    crop_seconds
        Length of the training examples.
    loop_probability
        How often an example is a shorter piece, repeated. Clips shorter than the crop are always
        repeated, so this keeps the seams from giving short clips away.
    duration_power
        Within a genre, a clip of d seconds is drawn in proportion to the number of crops it holds
        to this power: 0 draws all clips alike, 1 all seconds alike.
    examples_per_epoch
        Number of examples drawn for an epoch, as many from every genre.
    batch_size
        Examples in a training step.
    window_seconds
        Length of the windows validation and the exported model cut clips into; at most an hour.
    hop_seconds
        Step from window to window; at most an hour.
    """

    path: str = ""
    layout: str | None = None
    split: Protocol = "builtin"
    folds: int = 5
    fold: int = 0
    cache: str | None = None
    crop_seconds: float = 3.0
    loop_probability: float = 0.3
    duration_power: float = 0.5
    examples_per_epoch: int = 512
    batch_size: int = 16
    window_seconds: float = 3.0
    hop_seconds: float = 3.0


@dataclass(frozen=True)
class AugmentSettings:
    """How training examples are varied; see `tonearm.training.augment`. Zero turns a thing off.

    Attributes
    ----------
    stretch
        Tempo changes by up to this share, either way.
    transpose
        Pitch moves by up to this many semitones, either way.
    gain_db
        Level changes by up to this many decibels, either way.
    tilt_db
        The spectrum tilts by up to this many decibels an octave, either way.
    lowpass_probability
        How often everything above a random frequency is taken away.
    lowpass_hz
        The lowest such frequency.
    time_masks, time_mask_seconds
        Number and greatest length of masked stretches of time.
    band_masks, band_mask_share
        Number and greatest share of masked stretches of bands.
    mixup
        Parameter of the Beta distribution that two examples are mixed by.
    """

    stretch: float = 0.05
    transpose: float = 0.25
    gain_db: float = 6.0
    tilt_db: float = 1.0
    lowpass_probability: float = 0.05
    lowpass_hz: float = 3000.0
    time_masks: int = 1
    time_mask_seconds: float = 0.3
    band_masks: int = 1
    band_mask_share: float = 0.06
    mixup: float = 0.1


@dataclass(frozen=True)
class OptimiserSettings:
    """How the weights move.

    Attributes
    ----------
    lr
        Highest learning rate of AdamW, reached after the warm-up; a cosine brings it to zero.
    weight_decay
        Decay of matrices and kernels (not of biases and normalisations).
    warmup_epochs
        Epochs of linear warm-up.
    label_smoothing
        Share of the target spread evenly over all genres.
    clip_norm
        Gradients are scaled down to this norm; 0 leaves them as they are.
    average
        Decay of the moving average of the weights, which is what is judged and exported.
    pretrained_lr_scale
        Factor on the learning rate of weights that start from published ones.
    """

    lr: float = 3e-3
    weight_decay: float = 0.05
    warmup_epochs: float = 1.0
    label_smoothing: float = 0.05
    clip_norm: float = 2.0
    average: float = 0.99
    pretrained_lr_scale: float = 0.2


@dataclass(frozen=True)
class ScheduleSettings:
    """How long, and on what.

    Attributes
    ----------
    epochs
        The cosine ends here.
    patience
        Training stops when validation has not improved for so many epochs: neither the macro F1
        nor, where that is equal, the loss.
    validate_every
        Epochs from validation to validation; the last epoch is validated in any case.
    threads
        CPU threads torch may use; 0 leaves it to torch.
    accelerator, devices, nodes
        As Lightning's Trainer understands them; -1 devices are all there are.
    """

    epochs: int = 60
    patience: int = 20
    validate_every: int = 2
    threads: int = 0
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1


@dataclass(frozen=True)
class Experiment:
    """A training run: everything that decides its result but the recordings themselves.

    Attributes
    ----------
    name
        Name of the exported model, and of the run's folder if none is given.
    seed
        Of initial weights, examples and augmentation; from 0 to 2**32 - 1.
    front_end
        Key of `tonearm.features.logmel.FRONT_ENDS`.
    """

    name: str = "hybrid"
    seed: int = 0
    front_end: str = "mel16k"
    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)

    def __post_init__(self) -> None:
        if self.front_end not in FRONT_ENDS:
            raise UsageError(
                f"front_end {self.front_end!r} is unknown: expected one of {', '.join(FRONT_ENDS)}"
            )
        if self.data.split not in PROTOCOLS:
            raise UsageError(
                f"data.split {self.data.split!r} is unknown: expected one of {', '.join(PROTOCOLS)}"
            )
        _check_ranges(self)

    @property
    def front_end_config(self) -> LogMelConfig:
        """Settings of the front end."""
        return FRONT_ENDS[self.front_end]

    def to_yaml(self) -> str:
        """Return the settings as the YAML that `parse` reads."""
        text: str = yaml.safe_dump(asdict(self), sort_keys=False)
        return text


def parse(arguments: Sequence[str]) -> Experiment:
    """Read an experiment from command line arguments, among them `--config FILE`.

    Later arguments override earlier ones, so `["--config", "x.yaml", "--optimiser.lr", "1e-3"]`
    is the experiment of the file at another learning rate. `--print_config` and `--help` print
    and end the program.

    Raises
    ------
    ConfigError, UsageError
        See `parse_settings`.
    """
    return parse_settings(Experiment, "tonearm train", arguments)


def _check_ranges(experiment: Experiment) -> None:
    """Refuse numbers that would break a training off, or that mean nothing."""
    data, augment = experiment.data, experiment.augment
    optimiser, schedule = experiment.optimiser, experiment.schedule
    settings = experiment.model.settings
    for setting in _DERIVED:
        if setting in settings:
            raise UsageError(
                f"model.settings.{setting} follows from the data and the front end: leave it out"
            )
    seed = experiment.seed
    _check("seed", seed, f"from 0 to {HIGHEST_SEED}", 0 <= seed <= HIGHEST_SEED)
    devices = schedule.devices
    _check("schedule.devices", devices, "above 0, or -1 for all", devices > 0 or devices == -1)
    for name, value in (
        ("augment.lowpass_hz", augment.lowpass_hz),
        ("optimiser.lr", optimiser.lr),
        ("schedule.epochs", schedule.epochs),
        ("schedule.validate_every", schedule.validate_every),
        ("schedule.nodes", schedule.nodes),
    ):
        _check(name, value, "above 0", value > 0)
    shortest, longest = SHORTEST_INPUT_SECONDS, LONGEST_WINDOW
    crop, window, hop = data.crop_seconds, data.window_seconds, data.hop_seconds
    _check("data.crop_seconds", crop, f"at least {shortest}", crop >= shortest)
    # The bundle, at the end of the training, would refuse what is longer.
    expected = f"from {shortest} to {longest:g}"
    _check("data.window_seconds", window, expected, shortest <= window <= longest)
    _check("data.hop_seconds", hop, f"above 0 and at most {longest:g}", 0 < hop <= longest)
    for name, value in (
        # Of one example, there is nothing for a batch normalisation to compare it with.
        ("data.examples_per_epoch", data.examples_per_epoch),
        ("data.batch_size", data.batch_size),
    ):
        _check(name, value, "at least 2", value >= 2)
    for name, value in (
        ("data.duration_power", data.duration_power),
        ("augment.stretch", augment.stretch),
        ("augment.transpose", augment.transpose),
        ("augment.gain_db", augment.gain_db),
        ("augment.tilt_db", augment.tilt_db),
        ("augment.time_masks", augment.time_masks),
        ("augment.time_mask_seconds", augment.time_mask_seconds),
        ("augment.band_masks", augment.band_masks),
        ("augment.mixup", augment.mixup),
        ("optimiser.weight_decay", optimiser.weight_decay),
        ("optimiser.warmup_epochs", optimiser.warmup_epochs),
        ("optimiser.clip_norm", optimiser.clip_norm),
        ("optimiser.pretrained_lr_scale", optimiser.pretrained_lr_scale),
        ("schedule.threads", schedule.threads),
    ):
        _check(name, value, "at least 0", value >= 0)
    for name, value in (
        ("data.loop_probability", data.loop_probability),
        ("augment.lowpass_probability", augment.lowpass_probability),
        ("augment.band_mask_share", augment.band_mask_share),
    ):
        _check(name, value, "from 0 to 1", 0 <= value <= 1)
    shares: list[tuple[str, Any]] = [
        ("optimiser.label_smoothing", optimiser.label_smoothing),
        ("optimiser.average", optimiser.average),
    ]
    if "dropout" in settings:
        shares.append(("model.settings.dropout", settings["dropout"]))
    for name, value in shares:
        is_number = isinstance(value, int | float)
        _check(name, value, "from 0 to below 1", is_number and 0 <= value < 1)
    if "modality_dropout" in settings:
        # Above 0.5, some examples would lose both of their inputs.
        value = settings["modality_dropout"]
        fits = isinstance(value, int | float) and 0 <= value <= 0.5
        _check("model.settings.modality_dropout", value, "from 0 to 0.5", fits)


def _check(name: str, value: object, expected: str, fits: bool) -> None:
    if not fits:
        raise UsageError(f"{name} must be {expected}, got {value}")


def data_path(settings: DataSettings) -> Path:
    """Return the dataset's folder, see `DataSettings.path`.

    Raises
    ------
    UsageError
        If none is given.
    TonearmError
        If it is not there.
    """
    if not settings.path:
        raise UsageError("no data: give --data FOLDER or set data.path in the configuration")
    path = Path(settings.path)
    root = os.environ.get("TONEARM_DATA")
    if root and not path.is_absolute() and (Path(root) / path.name).is_dir():
        path = Path(root) / path.name
    if not path.exists():
        raise TonearmError(f"data.path {path}: no such file or folder; give --data FOLDER")
    return path
