"""The settings of a distillation, as dataclasses that a YAML file and the command line fill in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import yaml

from tonearm.datasets.splits import PROTOCOLS, Protocol
from tonearm.errors import TonearmError, UsageError
from tonearm.training.experiment import HIGHEST_SEED, SHORTEST_INPUT_SECONDS, require_windows
from tonearm.training.settings import parse_settings, require, require_each, require_one_of


@dataclass(frozen=True)
class SourceSettings:
    """The training data, and what is held out.

    Attributes
    ----------
    path, layout
        The labelled dataset; see `tonearm.training.experiment.DataSettings`.
    split, folds, fold
        The protocol that splits the dataset, its number of folds, and the fold that is held out
        and evaluated, from 0. If `fold` is None, all tracks of the protocol are trained on.
    unlabelled
        Files and folders of unlabelled music. If empty, those listed in the environment variable
        TONEARM_UNLABELLED (separated as in PATH) are used.
    """

    path: str = ""
    layout: str | None = None
    split: Protocol = "artist-kfold"
    folds: int = 5
    fold: int | None = None
    unlabelled: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class StudentSettings:
    """The network that ships.

    Attributes
    ----------
    embedding_size, dropout, audioset_weight
        See `tonearm.models.student.Student`. `audioset_weight` counts as 0 if AudioSet does not
        know the genres.
    window_seconds, hop_seconds
        Length and step of the windows that the exported model cuts clips into.
    temperature
        Divisor of the exported model's log-probabilities (calibration). Fit it to held-out
        predictions, never to predictions for training tracks.
    """

    embedding_size: int = 512
    dropout: float = 0.3
    audioset_weight: float = 2.0
    window_seconds: float = 10.0
    hop_seconds: float = 10.0
    temperature: float = 1.0


@dataclass(frozen=True)
class EnsembleSettings:
    """How the exported model weights its heads; see `tonearm.training.ensemble`.

    Attributes
    ----------
    student, fcn, fcn_embedding, fcn_tags
        Weights of the student's heads, of the head on the FCN's last layers, of the head on its
        embedding alone, and of its tags. If all three of the FCN are 0, the student is exported
        without it.
    full_band
        Share of their weights, from 0 to 1, that the student's genre head and the head on the FCN's
        last layers keep for recordings with energy above GTZAN's band. Lower values help on
        recordings from other sources if the dataset is as band-limited as GTZAN.
    fcn_regularisation, fcn_embedding_regularisation
        C of the logistic regressions on the FCN's last layers and on its embedding.
    """

    student: float = 0.5
    fcn: float = 1.0
    fcn_embedding: float = 1.0
    fcn_tags: float = 0.3
    full_band: float = 1.0
    fcn_regularisation: float = 0.003
    fcn_embedding_regularisation: float = 0.01

    @property
    def fcn_total(self) -> float:
        """Total weight of the heads on the FCN; 0 if it is not used."""
        return self.fcn + self.fcn_embedding + self.fcn_tags


@dataclass(frozen=True)
class TransferSettings:
    """Which segments of unlabelled recordings are run through the teachers.

    Attributes
    ----------
    segments
        Maximum number of segments per recording, evenly spaced.
    segment_seconds
        Length of a segment.
    spacing_seconds
        A recording has at most one segment per this many seconds.
    shortest_seconds
        Shorter recordings are skipped (they are sounds, not music).
    longest_seconds
        Segments are taken from only this much of the beginning of a recording.
    """

    segments: int = 5
    segment_seconds: float = 10.0
    spacing_seconds: float = 12.0
    shortest_seconds: float = 20.0
    longest_seconds: float = 480.0


@dataclass(frozen=True)
class ConditionSettings:
    """How the sound of training examples is varied; see `tonearm.training.conditions`.

    Levels are in decibels; a probability of 0 turns a variation off.

    Attributes
    ----------
    gain_low, gain_high
        Range of the level change.
    tilt_probability, tilt_deviation
        Probability of a linear tilt over the mel bands, and its standard deviation at either end.
    equaliser_probability, equaliser_deviation, equaliser_points
        Probability of a random equaliser curve, and the standard deviation and number of the
        points it interpolates.
    lowpass_probability, lowpass_low_hz, lowpass_high_hz
        Probability of a low-pass filter, and the range of its cutoff frequency.
    lowpass_slope_low, lowpass_slope_high
        Range of its slope in decibels per octave.
    noise_probability, noise_low, noise_high
        Probability of a constant noise floor, and the range of its mel power as a power of ten.
    warp_probability
        Probability of warping the batch; each example has its own warp.
    warp_tempo, warp_bands, warp_shift
        An example is slowed down by up to `warp_tempo` (a share), and its mel axis is stretched or
        compressed by up to `warp_bands` (a share) and shifted by up to `warp_shift` bands.
    """

    gain_low: float = -10.0
    gain_high: float = 8.0
    tilt_probability: float = 0.5
    tilt_deviation: float = 3.0
    equaliser_probability: float = 0.5
    equaliser_deviation: float = 2.0
    equaliser_points: int = 8
    lowpass_probability: float = 0.6
    lowpass_low_hz: float = 4500.0
    lowpass_high_hz: float = 15000.0
    lowpass_slope_low: float = 60.0
    lowpass_slope_high: float = 400.0
    noise_probability: float = 0.25
    noise_low: float = -6.0
    noise_high: float = -3.0
    warp_probability: float = 0.6
    warp_tempo: float = 0.1
    warp_bands: float = 0.02
    warp_shift: float = 1.5


@dataclass(frozen=True)
class DistillOptimiserSettings:
    """How a stage optimises: AdamW with linear warm-up and cosine decay.

    Attributes
    ----------
    lr
        Peak learning rate of the new layers.
    pretrained_lr
        Peak learning rate of the pretrained features.
    audioset_lr
        Peak learning rate of the AudioSet classifier.
    weight_decay
        Weight decay of all weights.
    warmup_steps
        Length of the warm-up in steps.
    lowest
        The cosine decays to this share of the peak rates.
    clip_norm
        Gradients are scaled down to this norm; 0 turns clipping off.
    average
        Decay of the moving average of the weights; the stage returns the averaged weights.
    """

    lr: float = 1e-3
    pretrained_lr: float = 3e-4
    audioset_lr: float = 9e-5
    weight_decay: float = 1e-2
    warmup_steps: int = 60
    lowest: float = 0.01
    clip_norm: float = 5.0
    average: float = 0.995


@dataclass(frozen=True)
class ImitationSettings:
    """Stage 1: imitate the teachers on unlabelled music.

    Attributes
    ----------
    seed
        Seed of this stage alone, so that runs with different seeds can share its result.
    epochs
        Number of passes over the segments.
    batch_size
        Segments per step.
    held_out
        One in this many recordings is held out to measure how well the imitation works.
    components
        Number of principal components of musicnn's feature maps to imitate.
    patch_probability
        How often a step uses 3 s patches instead of whole segments.
    patch_weight
        In such a step, the weight of the targets that describe the whole segment.
    audioset
        Weight of AudioSet's own outputs among the targets.
    optimiser
        See `DistillOptimiserSettings`.
    """

    seed: int = 0
    epochs: int = 12
    batch_size: int = 24
    held_out: int = 20
    components: int = 256
    patch_probability: float = 0.45
    patch_weight: float = 0.5
    audioset: float = 0.3
    optimiser: DistillOptimiserSettings = field(
        default_factory=lambda: DistillOptimiserSettings(
            lr=1.5e-3,
            pretrained_lr=4e-4,
            audioset_lr=4e-4,
            weight_decay=1e-3,
            warmup_steps=150,
            average=0.998,
        )
    )


@dataclass(frozen=True)
class TuningSettings:
    """Stage 2: learn genres from labelled clips and from soft labels on unlabelled music.

    Attributes
    ----------
    clip_seconds
        How much of the beginning of each labelled recording is trained on.
    steps
        Number of optimiser steps.
    labelled, unlabelled
        Examples of each kind per step; half as many when the longest crops are drawn.
    crop_seconds, crop_shares
        Lengths of the crops, and how often each is drawn.
    smoothing
        Share of a label spread evenly over all genres.
    soft_weight
        Weight of an example with soft labels, relative to a labelled one.
    soft_audioset
        Weight of the AudioSet head in the soft labels; counts as 0 if it does not know the genres.
    soft_regularisation
        C of the logistic regressions on the teachers' embeddings.
    imitation
        Weight of the teachers' targets, relative to the genres.
    audioset
        Weight of AudioSet's own outputs, so that they are not forgotten.
    mixup_probability, mixup_alpha
        How often the examples of a step are mixed, and the parameter of the Beta distribution of
        their shares.
    mask_probability, mask_low, mask_high
        How often a range of bands is masked, and its width: at least `mask_low`, below `mask_high`.
    optimiser
        See `DistillOptimiserSettings`.
    """

    clip_seconds: float = 60.0
    steps: int = 1200
    labelled: int = 20
    unlabelled: int = 10
    crop_seconds: tuple[float, ...] = (3.0, 5.0, 10.0)
    crop_shares: tuple[float, ...] = (0.45, 0.3, 0.25)
    smoothing: float = 0.1
    soft_weight: float = 1.0
    soft_audioset: float = 0.25
    soft_regularisation: float = 0.01
    imitation: float = 0.25
    audioset: float = 0.09
    mixup_probability: float = 0.3
    mixup_alpha: float = 0.4
    mask_probability: float = 0.5
    mask_low: int = 4
    mask_high: int = 16
    optimiser: DistillOptimiserSettings = field(default_factory=DistillOptimiserSettings)


@dataclass(frozen=True)
class RefinementSettings:
    """Stage 3: fine-tune the FCN's last layers on genres; see `tonearm.training.refine`.

    Attributes
    ----------
    share
        Interpolation between the initial weights (0) and the learned ones (1); 0 skips the stage.
    segments
        Number of segments of clips to train on, equally many of each genre.
    degraded_copies
        Number of degraded versions of each clip; see `tonearm.training.degradations`.
    degraded_share
        Share of the segments taken from a degraded version instead of the original clip.
    steps, batch_size
        Number of optimiser steps, and of segments in each.
    smoothing
        Share of a label spread evenly over all genres.
    mixup
        Parameter of the Beta distribution of the shares in which two segments are mixed.
    optimiser
        Its `pretrained_lr` applies to the FCN's layers, its `lr` to the heads.
    """

    share: float = 0.5
    segments: int = 4000
    degraded_copies: int = 6
    degraded_share: float = 0.5
    steps: int = 280
    batch_size: int = 32
    smoothing: float = 0.1
    mixup: float = 1.0
    optimiser: DistillOptimiserSettings = field(
        default_factory=lambda: DistillOptimiserSettings(
            lr=1e-4, pretrained_lr=1e-3, weight_decay=0.0, warmup_steps=20, average=0.98
        )
    )


@dataclass(frozen=True)
class DenoisingSettings:
    """Stage 4: train a denoiser for the ensemble's embeddings; see `tonearm.training.denoise`.

    Attributes
    ----------
    noisy_copies
        Number of noisy versions of each clip; 0 skips the stage.
    hidden
        Size of the denoiser's hidden layer.
    dropout
        Dropout probability of the denoiser's input.
    steps, batch_size
        Number of optimiser steps, and of windows in each.
    optimiser
        Its `lr` applies to all weights.
    """

    noisy_copies: int = 2
    hidden: int = 64
    dropout: float = 0.2
    steps: int = 800
    batch_size: int = 256
    optimiser: DistillOptimiserSettings = field(
        default_factory=lambda: DistillOptimiserSettings(
            weight_decay=1e-4, warmup_steps=50, average=0.99
        )
    )


@dataclass(frozen=True)
class Recipe:
    """The settings of a distillation: everything that decides its result.

    Attributes
    ----------
    name
        Name of the exported model.
    seed
        Seed of stages 2 to 4: new layers, choice of examples, and their variation.
    threads
        Number of CPU threads torch may use; 0 leaves the choice to torch.
    checkpoint_steps
        Number of steps between checkpoints, and between rows of the stage's history table; in stage
        1, twice as many, or an epoch.
    data, student, ensemble, transfer, conditions, imitation, tuning, refinement, denoising
        The settings of each part; see their classes.

    Raises
    ------
    UsageError
        If a setting is unknown or out of range.
    """

    name: str = "default"
    seed: int = 0
    threads: int = 0
    checkpoint_steps: int = 50
    data: SourceSettings = field(default_factory=SourceSettings)
    student: StudentSettings = field(default_factory=StudentSettings)
    ensemble: EnsembleSettings = field(default_factory=EnsembleSettings)
    transfer: TransferSettings = field(default_factory=TransferSettings)
    conditions: ConditionSettings = field(default_factory=ConditionSettings)
    imitation: ImitationSettings = field(default_factory=ImitationSettings)
    tuning: TuningSettings = field(default_factory=TuningSettings)
    refinement: RefinementSettings = field(default_factory=RefinementSettings)
    denoising: DenoisingSettings = field(default_factory=DenoisingSettings)

    def __post_init__(self) -> None:
        _check_ranges(self)

    def to_yaml(self) -> str:
        """Return the settings as the YAML that `parse_recipe` reads."""
        text: str = yaml.safe_dump(asdict(self), sort_keys=False)
        return text


def parse_recipe(arguments: Sequence[str]) -> Recipe:
    """Read a recipe from command-line arguments, which may include `--config FILE`.

    Later arguments override earlier ones: `["--config", "x.yaml", "--tuning.steps", "800"]`.

    Raises
    ------
    ConfigError, UsageError
        See `parse_settings`.
    """
    return parse_settings(Recipe, "tonearm distill", arguments)


def music_folders(recipe: Recipe) -> list[Path]:
    """Return the files and folders of unlabelled music; see `SourceSettings.unlabelled`.

    Raises
    ------
    UsageError
        If there are none.
    TonearmError
        If one of them does not exist.
    """
    named = recipe.data.unlabelled or os.environ.get("TONEARM_UNLABELLED", "").split(os.pathsep)
    paths = [Path(name) for name in named if name]
    if not paths:
        raise UsageError(
            "no unlabelled music to distil on: give --unlabelled FOLDER, or set data.unlabelled "
            "or the environment variable TONEARM_UNLABELLED"
        )
    for path in paths:
        if not path.exists():
            raise TonearmError(f"unlabelled music {path}: no such file or folder")
    return paths


def _check_ranges(recipe: Recipe) -> None:
    """Check that the settings are in ranges that are meaningful and let every stage finish."""
    above_zero = (
        "checkpoint_steps",
        "transfer.segments",
        "transfer.segment_seconds",
        "transfer.spacing_seconds",
        "transfer.longest_seconds",
        "conditions.equaliser_points",
        "conditions.lowpass_low_hz",
        "imitation.epochs",
        "imitation.batch_size",
        "imitation.components",
        "tuning.clip_seconds",
        "tuning.steps",
        "tuning.labelled",
        "tuning.soft_regularisation",
        "tuning.mixup_alpha",
        "student.embedding_size",
        "student.temperature",
        "ensemble.fcn_regularisation",
        "ensemble.fcn_embedding_regularisation",
        "refinement.segments",
        "refinement.steps",
        "refinement.batch_size",
        "denoising.hidden",
        "denoising.steps",
        "denoising.batch_size",
    )
    require_each(recipe, above_zero, "above 0", lambda value: value > 0)
    zero_or_more = (
        "threads",
        "student.audioset_weight",
        "ensemble.student",
        "ensemble.fcn",
        "ensemble.fcn_embedding",
        "ensemble.fcn_tags",
        "conditions.tilt_deviation",
        "conditions.equaliser_deviation",
        "conditions.lowpass_slope_low",
        "conditions.warp_bands",
        "conditions.warp_shift",
        "imitation.patch_weight",
        "imitation.audioset",
        "tuning.unlabelled",
        "tuning.soft_weight",
        "tuning.soft_audioset",
        "tuning.imitation",
        "tuning.audioset",
        "refinement.degraded_copies",
        "refinement.mixup",
        "denoising.noisy_copies",
    )
    require_each(recipe, zero_or_more, "0 or more", lambda value: value >= 0)
    heads = recipe.ensemble.student + recipe.ensemble.fcn_total
    require("the sum of the weights of ensemble", heads, "above 0", heads > 0)
    require_one_of("data.split", recipe.data.split, PROTOCOLS)
    shares = (
        "student.dropout",
        "ensemble.full_band",
        "conditions.tilt_probability",
        "conditions.equaliser_probability",
        "conditions.lowpass_probability",
        "conditions.noise_probability",
        "conditions.warp_probability",
        "conditions.warp_tempo",
        "imitation.patch_probability",
        "tuning.smoothing",
        "tuning.mixup_probability",
        "tuning.mask_probability",
        "refinement.share",
        "refinement.degraded_share",
        "refinement.smoothing",
        "denoising.dropout",
    )
    require_each(recipe, shares, "from 0 to 1", lambda value: 0 <= value <= 1)
    held_out = recipe.imitation.held_out
    require("imitation.held_out", held_out, "2 or more", held_out >= 2)
    for low, high in (
        ("gain_low", "gain_high"),
        ("lowpass_low_hz", "lowpass_high_hz"),
        ("lowpass_slope_low", "lowpass_slope_high"),
        ("noise_low", "noise_high"),
    ):
        lowest, highest = getattr(recipe.conditions, low), getattr(recipe.conditions, high)
        require(f"conditions.{low}", lowest, f"{high} ({highest}) or less", lowest <= highest)
    if recipe.transfer.shortest_seconds < recipe.transfer.segment_seconds + 2:
        raise UsageError(
            "transfer.shortest_seconds must be 2 more than segment_seconds or greater, got "
            f"{recipe.transfer.shortest_seconds} and {recipe.transfer.segment_seconds}"
        )
    if not 0 < recipe.tuning.mask_low < recipe.tuning.mask_high:
        raise UsageError(
            "tuning.mask_low must be above 0 and below mask_high, got "
            f"{recipe.tuning.mask_low} and {recipe.tuning.mask_high}"
        )
    require_windows("student", recipe.student.window_seconds, recipe.student.hop_seconds)
    lengths, crop_shares = recipe.tuning.crop_seconds, recipe.tuning.crop_shares
    shortest = SHORTEST_INPUT_SECONDS
    fits = len(lengths) == len(crop_shares) and min(lengths, default=0.0) >= shortest
    if not (fits and min(crop_shares) >= 0 and sum(crop_shares) > 0):
        raise UsageError(
            "tuning.crop_seconds and crop_shares must be equally many lengths of at least "
            f"{shortest} and shares, got {list(lengths)} and {list(crop_shares)}"
        )
    seeds, expected = ("seed", "imitation.seed"), f"from 0 to {HIGHEST_SEED}"
    require_each(recipe, seeds, expected, lambda seed: 0 <= seed <= HIGHEST_SEED)
    for stage in ("imitation", "tuning", "refinement", "denoising"):
        _check_optimiser(f"{stage}.optimiser", getattr(recipe, stage).optimiser)


def _check_optimiser(name: str, settings: DistillOptimiserSettings) -> None:
    """Check that the settings of a stage's optimiser are within their ranges."""
    require(f"{name}.lr", settings.lr, "above 0", settings.lr > 0)
    for setting in ("pretrained_lr", "audioset_lr", "weight_decay", "warmup_steps", "clip_norm"):
        value = getattr(settings, setting)
        require(f"{name}.{setting}", value, "0 or more", value >= 0)
    require(f"{name}.lowest", settings.lowest, "from 0 to 1", 0 <= settings.lowest <= 1)
    require(f"{name}.average", settings.average, "from 0 to below 1", 0 <= settings.average < 1)
