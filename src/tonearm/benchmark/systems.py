"""The kinds of system a benchmark can cross-validate, from baselines to finished models."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tonearm import bundle
from tonearm.atomic import write_text
from tonearm.benchmark.probes import (
    AUDIOSET,
    JOINED,
    PROBES,
    AudioSetSystem,
    ProbeSystem,
    weights_available,
)
from tonearm.bundle import Bundle
from tonearm.classifier import Classifier
from tonearm.datasets.cache import FeatureCache
from tonearm.datasets.content import ContentIndex
from tonearm.datasets.track import Dataset, DatasetError, Track
from tonearm.errors import TonearmError, UsageError, reason_of
from tonearm.evaluation.crossval import FloatArray, Round, System
from tonearm.evaluation.grouping import group_of
from tonearm.evaluation.inference import audio_paths
from tonearm.evaluation.training_overlap import RUN_TRACKS, training_text
from tonearm.prediction import Failure
from tonearm.text import enumerated

if TYPE_CHECKING:
    from tonearm.training.experiment import Experiment
    from tonearm.training.recipe import Recipe
    from tonearm.training.undistilled import Undistilled

CONFIG_SUFFIXES = (".yaml", ".yml")
UNDISTILLED = "undistilled"

# The default order of the table: descriptors, pictures, networks trained from scratch, published
# networks as they are and probed, fine-tuned trunks, the distilled student, and the default without
# and with its training.
LADDER = (
    "mfcc-svm",
    "descriptors-knn",
    "descriptors-forest",
    "descriptors-boosting",
    "descriptors-svm",
    "descriptors-logistic",
    "picture-svm",
    "kaggle-picture-svm",
    "cnn",
    "crnn",
    "hybrid",
    "multimodal",
    AUDIOSET,
    *PROBES,
    JOINED,
    "mobilenet",
    "mobilenet-multimodal",
    "student",
    UNDISTILLED,
    "default",
)


def default_systems(configs: Path, dataset: Dataset) -> list[str]:
    """List the available systems of `LADDER`, then every other configuration in a folder.

    Systems that need the published pictures or networks are available if those are present.
    """
    from tonearm.baselines.classical import baseline_names

    networks = [path.stem for path in sorted(configs.glob("*.yaml"))]
    possible = {*baseline_names(), *networks}
    if all(track.picture is None for track in dataset):
        possible -= {name for name in possible if name.startswith("kaggle-picture-")}
    if weights_available():
        from tonearm.models import audioset

        possible |= {*PROBES, JOINED}
        if audioset.knows(dataset.labels):
            possible.add(AUDIOSET)
        if "default" in networks:
            possible.add(UNDISTILLED)
    known = [name for name in LADDER if name in possible]
    return known + [name for name in networks if name not in known]


def find_system(name: str, configs: Path, cache: FeatureCache, workers: int = 1) -> System:
    """Return the system of the given name.

    Parameters
    ----------
    name
        A baseline (`"mfcc-svm"`), a published network (`"probe-mn04"`), the configuration of a
        network or of a distillation (a YAML file, or the name of one in `configs`), or a finished
        model (a bundle's path, or the name of a built-in one).
    configs
        The folder of configurations that names refer to.
    cache
        Where features are kept.
    workers
        Number of processes that compute features and classify.

    Raises
    ------
    UsageError
        If there is nothing of that name, or it is a distillation without unlabelled music.
    TonearmError
        If it is a path and nothing usable is there, a configuration is wrong, or the weights of a
        published network are not available.
    """
    from tonearm.baselines.classical import baseline_names

    if name in baseline_names():
        return BaselineSystem(name, cache, workers)
    if name == AUDIOSET:
        return AudioSetSystem(cache, workers)
    if name in (*PROBES, JOINED):
        return ProbeSystem(name, cache, workers)
    if name == UNDISTILLED:
        return UndistilledSystem(configs / "default.yaml", cache, workers)
    config = Path(name) if name.endswith(CONFIG_SUFFIXES) else configs / f"{name}.yaml"
    if config.is_file():
        kind = DistilledSystem if _is_recipe(config) else NetworkSystem
        return kind(config, cache, workers)
    if name.endswith(CONFIG_SUFFIXES):
        raise TonearmError(f"{name}: no such file")
    try:
        return BundleSystem(bundle.find(name), workers)
    except UsageError:
        networks = sorted(path.stem for path in configs.glob("*.yaml"))
        published = (AUDIOSET, *PROBES, JOINED, UNDISTILLED)
        known = [*baseline_names(), *published, *networks, *bundle.available()]
        raise UsageError(
            f"no system {name!r}: neither a file nor one of {', '.join(known)}"
        ) from None


@dataclass(frozen=True)
class BaselineSystem:
    """A traditional classifier over the rows of a feature set."""

    name: str
    cache: FeatureCache
    workers: int = 1

    @property
    def fingerprint(self) -> str:
        """The name, the feature columns, and the code that defines the classifiers."""
        from tonearm.baselines import classical

        columns = classical.feature_set_of(self.name).fingerprint()
        code = Path(classical.__file__).read_bytes()
        return f"{self.name} {columns} {hashlib.sha256(code).hexdigest()}"

    def fit_predict(self, given: Round) -> FloatArray:
        """Train on the rows of the feature set and predict; nothing is stored in `run_dir`."""
        from tonearm.baselines.classical import create_baseline, feature_set_of

        train, test, labels = given.train, given.test, given.labels
        rows = feature_set_of(self.name).read(self.cache, [*train, *test], self.workers)
        failed = {failure.track.id for failure in self.cache.failures}
        try:
            with warnings.catch_warnings():
                # With few tracks, the inner search cannot score some settings; others win.
                warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")
                baseline = create_baseline(self.name, given.seed).fit(
                    rows[: len(train)],
                    [str(track.label) for track in train],
                    [group_of(track.artist, track.id) for track in train],
                )
        except ValueError as error:  # such as more neighbours than tracks
            reason = reason_of(error)
            raise DatasetError(
                f"{self.name} cannot learn from {len(train)} tracks: {reason}"
            ) from error
        probabilities = np.zeros((len(test), len(labels)))
        probabilities[:, [labels.index(label) for label in baseline.classes]] = (
            baseline.predict_proba(rows[len(train) :])
        )
        probabilities[[track.id in failed for track in test]] = np.nan
        return probabilities


@dataclass(frozen=True)
class NetworkSystem:
    """A network, trained as its configuration says; the bundle it exports makes the predictions.

    It trains for all its epochs on the whole training part: with a few dozen artists, holding out a
    slice for early stopping would cost more than it gains.
    """

    config: Path
    cache: FeatureCache
    workers: int = 1

    def __post_init__(self) -> None:
        _ = self._experiment  # reports a wrong configuration before anything is trained

    @property
    def name(self) -> str:
        """The name of the configuration's file."""
        return self.config.stem

    @property
    def fingerprint(self) -> str:
        """The whole experiment, with the settings that its file leaves at their defaults."""
        from tonearm.training import run

        return f"{self._experiment.to_yaml()}\n{run.VERSIONS}"

    def fit_predict(self, given: Round) -> FloatArray:
        """Train and predict, resuming from any existing checkpoints."""
        from tonearm.training import fit

        run = fit(
            replace(self._experiment, seed=given.seed),
            given.train,
            (),
            given.labels,
            given.run_dir,
            self.cache,
            workers=self.workers,
        )
        return _predict(Classifier.load(run.bundle), given, self.workers)

    @cached_property
    def _experiment(self) -> Experiment:
        from tonearm.training import experiment

        return experiment.parse(["--config", str(self.config)])


@dataclass(frozen=True)
class DistilledSystem:
    """A student, distilled afresh for each fold; the bundle it exports makes the predictions.

    The segments and the first stage do not depend on labels, and are shared by folds and seeds.
    """

    config: Path
    cache: FeatureCache
    workers: int = 1

    def __post_init__(self) -> None:
        self._music()  # reports a wrong recipe or missing music before anything is trained

    @property
    def name(self) -> str:
        """The name of the configuration's file."""
        return self.config.stem

    @property
    def fingerprint(self) -> str:
        """The recipe, the stages' versions, the teachers, and the unlabelled files' contents."""
        from tonearm import media
        from tonearm.training.distill import VERSIONS
        from tonearm.training.teachers import teachers_fingerprint

        files = [Path(path) for path in media.recordings(map(str, self._music()))]
        music = sorted(ContentIndex(self.cache.root / "content.sqlite").hashes(files).values())
        return "\n".join(
            [self._recipe.to_yaml(), *map(str, VERSIONS), teachers_fingerprint(), *music]
        )

    def fit_predict(self, given: Round) -> FloatArray:
        """Distil and predict, resuming from any existing checkpoints."""
        from tonearm.training.distill import distill

        model = distill(
            replace(self._recipe, seed=given.seed),
            given.train,
            given.labels,
            self._music(),
            given.run_dir,
            self.cache.root,
            workers=self.workers,
        )
        return _predict(Classifier.load(model), given, self.workers)

    def warn_of_heard(self, tracks: Sequence[Track]) -> None:
        """Warn if tracks to evaluate are among the unlabelled music."""
        from tonearm.training.distill import warn_of_heard

        warn_of_heard(tracks, self._music(), self.cache.root)

    @cached_property
    def _recipe(self) -> Recipe:
        from tonearm.training.recipe import parse_recipe

        return parse_recipe(["--config", str(self.config)])

    def _music(self) -> list[Path]:
        from tonearm.training.recipe import music_folders

        return music_folders(self._recipe)


@dataclass(frozen=True)
class UndistilledSystem:
    """The default model without its training: see `tonearm.training.undistilled`."""

    config: Path
    cache: FeatureCache
    workers: int = 1
    name: str = UNDISTILLED

    def __post_init__(self) -> None:
        _ = self.fingerprint  # reports a missing recipe or weights before anything is trained

    @property
    def fingerprint(self) -> str:
        """The recipe, the version of the code, and the networks' weights."""
        from tonearm.datasets.cache import CACHE_VERSION
        from tonearm.training.teachers import teachers_fingerprint
        from tonearm.training.undistilled import UNDISTILLED_VERSION

        versions = (UNDISTILLED_VERSION, CACHE_VERSION)
        return "\n".join(
            [self.name, self._maker.recipe.to_yaml(), *map(str, versions), teachers_fingerprint()]
        )

    def fit_predict(self, given: Round) -> FloatArray:
        """Fit the heads and predict; nothing is random."""
        model = self._maker.fit(given.train, given.labels, given.run_dir / bundle.RUN_BUNDLE)
        tracks = training_text(given.train, (), given.labels, self.cache.contents(given.train))
        write_text(given.run_dir / RUN_TRACKS, tracks)
        return _predict(Classifier.load(model), given, self.workers)

    @cached_property
    def _maker(self) -> Undistilled:
        from tonearm.training.recipe import parse_recipe
        from tonearm.training.undistilled import Undistilled

        recipe = parse_recipe(["--config", str(self.config)])
        return Undistilled(recipe, self.cache, self.workers)


@dataclass(frozen=True)
class BundleSystem:
    """A finished model, used as it is: nothing is trained.

    If it was trained on the tracks it predicts, its metrics say nothing.
    """

    path: Path
    workers: int = 1

    @property
    def name(self) -> str:
        """The name of the model's file, or of the run it came from."""
        path = Path(os.path.abspath(self.path))  # noqa: PTH100 (keeps symbolic links)
        return path.parent.name if path.name == bundle.RUN_BUNDLE else path.stem

    @property
    def fingerprint(self) -> str:
        """The hash of the file's content."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def require_labels(self, labels: Sequence[str]) -> None:
        """Raise `TonearmError` if the model does not know all of these labels."""
        self._require(labels, Bundle.load(self.path))

    def fit_predict(self, given: Round) -> FloatArray:
        """Predict with the model; raise `TonearmError` if it does not know a label."""
        classifier = Classifier.load(self.path)
        self._require(given.labels, classifier.bundle)
        return _predict(classifier, given, self.workers)

    def _require(self, labels: Sequence[str], model: Bundle) -> None:
        if missing := sorted(set(labels) - set(model.metadata.labels)):
            raise TonearmError(f"{self.path} does not know the labels {enumerated(missing)}")


def _is_recipe(config: Path) -> bool:
    """Check whether a configuration is for `tonearm distill` rather than `tonearm train`.

    It is for the one that has more of its settings: a single one out of place is then reported.
    """
    from tonearm.training.experiment import Experiment
    from tonearm.training.recipe import Recipe
    from tonearm.training.settings import read_settings

    names = read_settings(config).keys()
    of_train, of_distill = (
        {field.name for field in fields(settings)} for settings in (Experiment, Recipe)
    )
    return len(names & of_distill) > len(names & of_train)


def _predict(classifier: Classifier, given: Round, workers: int) -> FloatArray:
    """Classify the held-out tracks, leaving out labels that only the model knows."""
    tracks, labels = given.test, given.labels
    probabilities = np.full((len(tracks), len(labels)), np.nan)
    results = classifier.classify_files(audio_paths(tracks), workers)
    for row, result in zip(probabilities, results, strict=True):
        if not isinstance(result, Failure):
            row[:] = [result.probabilities[label] for label in labels]
    normalised: FloatArray = probabilities / probabilities.sum(axis=1, keepdims=True)
    return normalised
