"""Published networks in a benchmark: frozen, with a linear probe on top or used as they are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tonearm.datasets.cache import FeatureCache
from tonearm.datasets.track import Track
from tonearm.errors import TonearmError
from tonearm.evaluation.calibration import probabilities_at
from tonearm.evaluation.crossval import FloatArray, Round

if TYPE_CHECKING:
    from tonearm.training.teachers import TeacherOutputs

AUDIOSET = "audioset"
PROBES = ("probe-mn04", "probe-musicnn", "probe-fcn")
JOINED = "probes-joined"


def weights_available() -> bool:
    """Check whether the weights that are not downloaded on first use are present."""
    try:
        from tonearm.training.fcn import find_fcn
        from tonearm.training.musicnn import find_musicnn

        find_musicnn()
        find_fcn()
    except (ImportError, TonearmError):  # without torch, the networks cannot run either
        return False
    return True


@dataclass(frozen=True)
class ProbeSystem:
    """A linear classifier on the embeddings of a frozen published network.

    `JOINED` fits one probe per network and averages their log-probabilities. The regularisation is
    the same for all networks, and that of the probes in a distillation. All networks are run on a
    clip at once and their outputs cached, because distillations that use the same cache share them.
    """

    name: str
    cache: FeatureCache
    workers: int = 1

    def __post_init__(self) -> None:
        _ = self.fingerprint  # reports missing weights before anything is trained

    @property
    def fingerprint(self) -> str:
        """The name, regularisation, clip length, network weights, and code."""
        from tonearm.training.recipe import TuningSettings

        return f"{self.name} {TuningSettings().soft_regularisation} {_outputs_fingerprint()}"

    def fit_predict(self, given: Round) -> FloatArray:
        """Fit the probe and predict; nothing is random, and nothing is stored."""
        from tonearm.training.probe import EMBEDDINGS, probe
        from tonearm.training.recipe import TuningSettings

        train, test, labels = given.train, given.test, given.labels
        regularisation = TuningSettings().soft_regularisation
        networks = EMBEDDINGS if self.name == JOINED else [self.name.removeprefix("probe-")]
        outputs = _teacher_outputs([*train, *test], self.cache, self.workers)
        known = [
            (output, labels.index(str(track.label)))
            for track, output in zip(train, outputs, strict=False)
            if output is not None
        ]
        truth = np.array([label_index for _, label_index in known])
        if len(set(truth)) < 2:
            raise TonearmError(f"{self.name} needs decodable tracks of two genres to learn from")

        def predict(test_outputs: list[TeacherOutputs]) -> FloatArray:
            scores = []
            for network in networks:
                embed = EMBEDDINGS[network]
                rows = np.stack([embed(output) for output, _ in known])
                others = np.stack([embed(output) for output in test_outputs])
                scores.append(probe(rows, truth, others, len(labels), regularisation))
            mean: FloatArray = np.mean(scores, axis=0)
            return mean

        return _decoded_probabilities(outputs[len(train) :], len(labels), predict)


@dataclass(frozen=True)
class AudioSetSystem:
    """mn04 with AudioSet's own genre classes, as published: nothing is learned from the tracks."""

    cache: FeatureCache
    workers: int = 1
    name: str = AUDIOSET

    def __post_init__(self) -> None:
        _ = self.fingerprint

    @property
    def fingerprint(self) -> str:
        """The name, the mapping of classes to genres, clip length, network weights, and code."""
        from tonearm.models import audioset

        return f"{self.name} {audioset.GENRES} {_outputs_fingerprint()}"

    def fit_predict(self, given: Round) -> FloatArray:
        """Predict with mn04; raise `TonearmError` if AudioSet has no class for a genre."""
        from tonearm.training.probe import audioset_head

        def predict(outputs: list[TeacherOutputs]) -> FloatArray:
            return audioset_head(np.stack([output.audioset for output in outputs]), given.labels)

        return _decoded_probabilities(
            _teacher_outputs(given.test, self.cache, self.workers), len(given.labels), predict
        )


def _outputs_fingerprint() -> str:
    """Return a string that changes with the networks' outputs and the code that uses them."""
    from tonearm.training import probe, transfer_set
    from tonearm.training.recipe import TuningSettings
    from tonearm.training.teachers import teachers_fingerprint

    code = hashlib.sha256(Path(probe.__file__).read_bytes()).hexdigest()
    clips = f"{transfer_set.TRANSFER_VERSION} {TuningSettings().clip_seconds}"
    return f"{clips} {teachers_fingerprint()} {code}"


def _teacher_outputs(
    tracks: Sequence[Track], cache: FeatureCache, workers: int
) -> list[TeacherOutputs | None]:
    """Return the networks' outputs for each track, or None for one that cannot be decoded."""
    from tonearm.training.recipe import TuningSettings
    from tonearm.training.transfer_set import TransferStore

    paths = {track: track.path for track in tracks if track.path is not None}
    store = TransferStore(cache.root, processes=workers)
    segments = store.of_clips(list(paths.values()), TuningSettings().clip_seconds)
    by_track = dict(zip(paths, segments, strict=True))
    return [segment.outputs if (segment := by_track.get(track)) else None for track in tracks]


def _decoded_probabilities(
    outputs: Sequence[TeacherOutputs | None],
    classes: int,
    predict: Callable[[list[TeacherOutputs]], FloatArray],
) -> FloatArray:
    """Return probabilities for the tracks that were decoded, and NaN rows for the others."""
    probabilities = np.full((len(outputs), classes), np.nan)
    decoded = {i: output for i, output in enumerate(outputs) if output is not None}
    if decoded:
        probabilities[list(decoded)] = probabilities_at(predict(list(decoded.values())))
    return probabilities
