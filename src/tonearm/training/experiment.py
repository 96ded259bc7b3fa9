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
from tonearm.metadata import MAX_WINDOW_SECONDS
from tonearm.training.settings import parse_settings, require, require_each, require_one_of
from tonearm.windows import SHORTEST_HOP_SECONDS

SHORTEST_INPUT_SECONDS = 0.5  # long enough to survive the pooling of every network
HIGHEST_SEED = 2**32 - 1  # the largest that NumPy's and Lightning's generators accept

# Arguments that follow from the dataset, the front end and the available descriptors.
_DERIVED = ("num_classes", "n_mels", "n_descriptors", "labels")


@dataclass(frozen=True)
class ModelSettings:
    """The network to train.

    Attributes
    ----------
    name
        One of `tonearm.models.model_names()`.
    settings
        Arguments of its class; see `tonearm.models`. Those that follow from the data and the front
        end (numbers of classes, bands and descriptors, labels) cannot be set.
    """

    name: str = "hybrid"
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSettings:
    """The data for training and validation.

    Attributes
    ----------
    path
        The dataset's folder. For a relative path, a folder of the same name inside the folder given
        by the environment variable TONEARM_DATA takes precedence.
    layout
        Layout of the folder; None detects it.
    split
        Protocol that splits the tracks; see `tonearm.datasets.split`.
    folds
        Number of folds, if the protocol has folds.
    fold
        The fold that is held out for validation, from 0.
    cache
        Folder of the feature cache; None is the default one.
    crop_seconds
        Length of the training examples.
    loop_probability
        How often an example is a shorter piece, repeated. Clips shorter than the crop are always
        repeated, so this keeps the seams from giving short clips away.
    balanced
        Whether every genre gets equally many of the examples, however few clips it has; if not, all
        clips are drawn as if they were of one genre.
    duration_power
        Within a genre, a clip is drawn with a probability proportional to its length in crops
        (at least 1) raised to this power: 0 weights all clips equally, 1 all seconds.
    examples_per_epoch
        Number of examples drawn per epoch.
    batch_size
        Examples per training step.
    window_seconds
        Length of the windows that validation and the exported model cut clips into; at most an
        hour.
    hop_seconds
        Step between windows; at most an hour.
    """

    path: str = ""
    layout: str | None = None
    split: Protocol = "builtin"
    folds: int = 5
    fold: int = 0
    cache: str | None = None
    crop_seconds: float = 3.0
    loop_probability: float = 0.3
    balanced: bool = True
    duration_power: float = 0.5
    examples_per_epoch: int = 512
    batch_size: int = 16
    window_seconds: float = 3.0
    hop_seconds: float = 3.0


@dataclass(frozen=True)
class AugmentSettings:
    """How training examples are varied; see `tonearm.training.augment`.

    A value of 0 turns a variation off.

    Attributes
    ----------
    stretch
        Maximum change of tempo in either direction, as a share.
    transpose
        Maximum change of pitch in either direction, in semitones.
    gain_db
        Maximum change of level in either direction, in decibels.
    tilt_db
        Maximum tilt of the spectrum in either direction, in decibels per octave.
    lowpass_probability
        How often everything above a random cutoff frequency is removed.
    lowpass_hz
        The lowest cutoff frequency.
    time_masks, time_mask_seconds
        Number and maximum length of the time masks.
    band_masks, band_mask_share
        Number of the band masks, and their maximum width as a share of the bands.
    mixup
        Parameter of the Beta distribution of the shares in which two examples are mixed.
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
    """The loss and the optimiser.

    Attributes
    ----------
    lr
        Peak learning rate of AdamW, reached after the warm-up; it then follows a cosine to zero.
    weight_decay
        Weight decay of matrices and kernels (not of biases and normalisations).
    warmup_epochs
        Length of the linear warm-up in epochs.
    label_smoothing
        Share of the target spread evenly over all genres.
    clip_norm
        Gradients are scaled down to this norm; 0 turns clipping off.
    average
        Decay of the moving average of the weights; the averaged weights are validated and exported.
    pretrained_lr_scale
        Factor on the learning rate of pretrained weights.
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
    """How long to train, and on which hardware.

    Attributes
    ----------
    epochs
        Maximum number of epochs; the cosine schedule of the learning rate ends here.
    patience
        Training stops at the first validation after this many epochs in which validation has not
        improved: neither the macro F1 nor, where that is equal, the loss.
    validate_every
        Number of epochs between validations; the last epoch is always validated.
    threads
        Number of CPU threads torch may use; 0 leaves the choice to torch.
    accelerator, devices, nodes
        Passed to Lightning's Trainer; -1 devices means all of them.
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
    """The settings of a training run: all that decides its result except the recordings.

    Attributes
    ----------
    name
        Name of the exported model, and of the run's folder if none is given.
    seed
        Seed of initial weights, choice of examples and augmentation; from 0 to 2**32 - 1.
    front_end
        Key of `tonearm.features.logmel.FRONT_ENDS`.
    model, data, augment, optimiser, schedule
        The settings of each part; see their classes.

    Raises
    ------
    UsageError
        If a setting is unknown or out of range.
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
        require_one_of("front_end", self.front_end, FRONT_ENDS)
        require_one_of("data.split", self.data.split, PROTOCOLS)
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
    """Read an experiment from command-line arguments, which may include `--config FILE`.

    Later arguments override earlier ones: `["--config", "x.yaml", "--optimiser.lr", "1e-3"]`
    takes the file's experiment with another learning rate. `--print_config` and `--help` print
    their text and exit.

    Raises
    ------
    ConfigError, UsageError
        See `parse_settings`.
    """
    return parse_settings(Experiment, "tonearm train", arguments)


def _check_ranges(experiment: Experiment) -> None:
    """Check that the settings are in ranges that are meaningful and let training finish."""
    data, settings = experiment.data, experiment.model.settings
    for setting in _DERIVED:
        if setting in settings:
            raise UsageError(
                f"model.settings.{setting} follows from the data and the front end: leave it out"
            )
    seed = experiment.seed
    require("seed", seed, f"from 0 to {HIGHEST_SEED}", 0 <= seed <= HIGHEST_SEED)
    devices = experiment.schedule.devices
    require("schedule.devices", devices, "above 0, or -1 for all", devices > 0 or devices == -1)
    above_zero = (
        "augment.lowpass_hz",
        "optimiser.lr",
        "schedule.epochs",
        "schedule.validate_every",
        "schedule.nodes",
    )
    require_each(experiment, above_zero, "above 0", lambda value: value > 0)
    shortest = SHORTEST_INPUT_SECONDS
    crop = data.crop_seconds
    require("data.crop_seconds", crop, f"at least {shortest}", crop >= shortest)
    require_windows("data", data.window_seconds, data.hop_seconds)
    # Batch normalisation needs at least two examples to compare.
    counts = ("data.examples_per_epoch", "data.batch_size")
    require_each(experiment, counts, "at least 2", lambda value: value >= 2)
    zero_or_more = (
        "data.duration_power",
        "augment.stretch",
        "augment.transpose",
        "augment.gain_db",
        "augment.tilt_db",
        "augment.time_masks",
        "augment.time_mask_seconds",
        "augment.band_masks",
        "augment.mixup",
        "optimiser.weight_decay",
        "optimiser.warmup_epochs",
        "optimiser.clip_norm",
        "optimiser.pretrained_lr_scale",
        "schedule.patience",
        "schedule.threads",
    )
    require_each(experiment, zero_or_more, "at least 0", lambda value: value >= 0)
    shares = ("data.loop_probability", "augment.lowpass_probability", "augment.band_mask_share")
    require_each(experiment, shares, "from 0 to 1", lambda value: 0 <= value <= 1)
    proper_shares = ("optimiser.label_smoothing", "optimiser.average")
    require_each(experiment, proper_shares, "from 0 to below 1", lambda value: 0 <= value < 1)
    if "dropout" in settings:
        value = settings["dropout"]
        fits = isinstance(value, int | float) and 0 <= value < 1
        require("model.settings.dropout", value, "from 0 to below 1", fits)
    if "modality_dropout" in settings:
        # Above 0.5, some examples would lose both inputs.
        value = settings["modality_dropout"]
        fits = isinstance(value, int | float) and 0 <= value <= 0.5
        require("model.settings.modality_dropout", value, "from 0 to 0.5", fits)


def require_windows(section: str, window: float, hop: float) -> None:
    """Check the length and step, in seconds, of the windows that the exported model cuts.

    Anything longer would be refused by the bundle, but only at the end of training.
    """
    for name, seconds, shortest in (
        ("window_seconds", window, SHORTEST_INPUT_SECONDS),
        ("hop_seconds", hop, SHORTEST_HOP_SECONDS),
    ):
        expected = f"from {shortest} to {MAX_WINDOW_SECONDS:g}"
        require(f"{section}.{name}", seconds, expected, shortest <= seconds <= MAX_WINDOW_SECONDS)


def data_path(name: str) -> Path:
    """Return the dataset's folder of a name as in `DataSettings.path`.

    Raises
    ------
    UsageError
        If none is given.
    TonearmError
        If it does not exist.
    """
    if not name:
        raise UsageError("no data: give --data FOLDER or set data.path in the configuration")
    path = Path(name)
    root = os.environ.get("TONEARM_DATA")
    if root and not path.is_absolute() and (Path(root) / path.name).is_dir():
        path = Path(root) / path.name
    if not path.exists():
        raise TonearmError(f"data.path {path}: no such file or folder; give --data FOLDER")
    return path
