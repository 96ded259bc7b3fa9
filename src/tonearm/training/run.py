"""Run an experiment, and write its bundle, metrics and history to a folder."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException
from numpy.typing import NDArray

from tonearm import datasets
from tonearm.atomic import errors_naming
from tonearm.bundle import RUN_BUNDLE
from tonearm.datasets import DatasetError, Track
from tonearm.datasets.cache import CACHE_VERSION, FailedTrack, FeatureCache
from tonearm.datasets.splits import fold_at
from tonearm.datasets.track import labels_of
from tonearm.errors import UsageError
from tonearm.evaluation.calibration import fit_temperature, probabilities_at
from tonearm.evaluation.metrics import Metrics
from tonearm.evaluation.predictions import Predictions
from tonearm.evaluation.training_overlap import data_learned, training_text
from tonearm.features.descriptors import descriptor_names
from tonearm.metadata import BundleMetadata
from tonearm.models import GenreNetwork
from tonearm.training.build import build_network
from tonearm.training.callbacks import EpochProgress, History, ValidateLastEpoch
from tonearm.training.datamodule import ClipDataset, Clips, GenreData, load_clips
from tonearm.training.experiment import Experiment, ScheduleSettings, data_path
from tonearm.training.export import export
from tonearm.training.labels import require_genres
from tonearm.training.module import SELECTION, GenreTraining, clip_log_probabilities
from tonearm.training.optimisation import loaded_checkpoint, save_checkpoint, torch_threads
from tonearm.training.runfolder import (
    CHECKPOINTS,
    HISTORY,
    LOGS,
    Resume,
    note_contents,
    open_folder,
    write_evaluation,
)

# Increase it when a code change alters the network trained by the same experiment on the same data.
TRAINING_VERSION = 2
# As long as these stay the same, the same experiment and data give the same model.
VERSIONS = (TRAINING_VERSION, CACHE_VERSION)


@dataclass(frozen=True)
class Run:
    """The result of a training run.

    Attributes
    ----------
    folder
        The run's folder, with config.yaml, history.csv, model.onnx and, if there was validation,
        metrics.json and predictions.csv.
    metrics
        Metrics on the validation tracks, or None if there were none.
    failures
        Tracks that were left out because they could not be decoded or are too short, and tracks
        that lack only the descriptors.
    """

    folder: Path
    metrics: Metrics | None
    failures: tuple[FailedTrack, ...] = ()

    @property
    def bundle(self) -> Path:
        """The exported model."""
        return self.folder / RUN_BUNDLE


def train(
    experiment: Experiment,
    folder: Path | None = None,
    resume: Resume = "auto",
    *,
    workers: int = 1,
) -> Run:
    """Load the experiment's dataset, split it, and call `fit`.

    Parameters
    ----------
    experiment
        The settings; see `tonearm.training.parse`.
    folder
        Folder of the run; by default `runs/<name>`, followed by the fold's number if there is more
        than one fold.
    resume
        "auto" resumes the run in the folder, if there is one; "never" starts over.
    workers
        Number of processes that compute the features.

    Raises
    ------
    UsageError
        If no data is given, the fold does not exist, or as `fit` raises it.
    DatasetError
        If the data cannot be read, split or trained on.
    RunError, PretrainedError, DivergedError, ExportError
        As `fit` raises them.
    TonearmError
        If the data does not exist, the feature cache cannot be written to, or as `fit` raises it.
    """
    data = experiment.data
    dataset = datasets.load(data_path(data.path), data.layout)
    folds = datasets.split(dataset, data.split, folds=data.folds, seed=0, chosen=data.fold)
    fold = fold_at(folds, data.fold, "data.fold")
    if folder is None:
        name = experiment.name if len(folds) == 1 else f"{experiment.name}-fold{data.fold}"
        folder = Path("runs") / name
    cache = FeatureCache(data.cache or None)
    return fit(
        experiment,
        fold.train,
        fold.valid,
        labels_of(fold.tracks),
        folder,
        cache,
        resume=resume,
        workers=workers,
        split=fold.name,
        data=dataset.name if len(folds) == 1 else None,
    )


def fit(
    experiment: Experiment,
    train_tracks: Sequence[Track],
    valid_tracks: Sequence[Track],
    labels: Sequence[str],
    folder: Path,
    cache: FeatureCache,
    *,
    resume: Resume = "auto",
    workers: int = 1,
    split: str | None = None,
    data: str | None = None,
) -> Run:
    """Train on some tracks, validate on others, and export the best epoch as a bundle.

    Without validation tracks, all epochs are run and the last one is exported, uncalibrated.

    Parameters
    ----------
    train_tracks, valid_tracks
        Labelled tracks with audio files.
    labels
        The genres, in the order of the model's outputs.
    folder
        Folder of the run. By default, an interrupted run in it is resumed.
    cache
        Feature cache.
    resume, workers
        See `train`.
    split
        What the division of the tracks is called (`Fold.name`); it is stored in the bundle.
    data
        Name of the dataset that the tracks are from, if they are whole parts of it. It is stored in
        the bundle, so that an evaluation on the same tracks is noticed.

    Raises
    ------
    RunError
        If the folder holds a run of another experiment, or of other tracks, labels or audio, or
        files that belong to no run.
    DatasetError
        If there is nothing to train on, a label is not among `labels`, none of the tracks can be
        decoded, or all that can have the same genre.
    UsageError
        If the network cannot be built with the settings, or the devices are not available.
    PretrainedError
        If the network starts from published weights that are neither at hand nor to be fetched.
    DivergedError
        If the loss or the network's outputs are no longer finite.
    ExportError
        If the exported network does not compute the same numbers.
    TonearmError
        If the folder cannot be written to, or the checkpoint to resume from is damaged.
    """
    folder = Path(folder)
    if not train_tracks:
        raise DatasetError("there are no tracks to train on")
    require_genres(train_tracks)
    _require_devices(experiment.schedule)
    with torch_threads(experiment.schedule.threads):
        lightning.seed_everything(experiment.seed, verbose=False)
        config = experiment.front_end_config
        network = build_network(experiment, labels)
        open_folder(folder, experiment, training_text(train_tracks, valid_tracks, labels), resume)
        described = network.uses_descriptors
        train_clips, valid_clips = (
            load_clips(tracks, labels, config, cache, descriptors=described, workers=workers)
            for tracks in (train_tracks, valid_tracks)
        )
        require_genres(train_clips.tracks)
        note_contents(folder, cache.contents((*train_clips.tracks, *valid_clips.tracks)))
        if train_clips.descriptors is not None:
            network.standardise_descriptors(torch.from_numpy(train_clips.descriptors))
        # Saves a fifth of the time in the convolutions; other layers are not affected.
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        module = GenreTraining(network, experiment, labels)
        _train(module, GenreData(experiment, train_clips, valid_clips), folder)

        best = _best_network(module, folder, validated=len(valid_clips) > 0)
        metrics, temperature, headline = None, 1.0, {}
        if len(valid_clips):
            scores = score_clips(best, valid_clips, experiment)
            temperature = fit_temperature(scores, valid_clips.targets.argmax(axis=1))
            probabilities = probabilities_at(scores, temperature)
            table = Predictions.of_tracks(valid_clips.tracks, labels, probabilities)
            metrics = write_evaluation(folder, table)
            chosen_by = "the validation tracks that chose the epoch and the temperature"
            headline = metrics.headline(chosen_by)
        metadata = BundleMetadata(
            name=experiment.name,
            labels=tuple(labels),
            front_end=config,
            descriptors=descriptor_names() if best.uses_descriptors else (),
            window_seconds=experiment.data.window_seconds,
            hop_seconds=experiment.data.hop_seconds,
            temperature=temperature,
            training=_summary(experiment, train_clips, split, data),
            metrics=headline,
            licence="Apache-2.0",
            attribution=best.attribution,
        )
        export(best, metadata, folder / RUN_BUNDLE)
        return Run(folder, metrics, train_clips.failures + valid_clips.failures)


def score_clips(network: GenreNetwork, clips: Clips, experiment: Experiment) -> NDArray[np.float32]:
    """Return the mean log-probabilities over each clip's windows, float32[clips, classes]."""
    dataset = ClipDataset(clips, experiment)
    network = network.cpu().eval()
    with torch.inference_mode():
        rows = [clip_log_probabilities(network, dataset[i]).numpy() for i in range(len(clips))]
    return np.stack(rows)


def _require_devices(schedule: ScheduleSettings) -> None:
    """Check with Lightning that the devices exist, before any features are computed."""
    try:
        with _quiet():
            lightning.Trainer(**_hardware(schedule), logger=False, enable_checkpointing=False)
    except Exception as error:  # of several classes, from Lightning and torch
        reason = " ".join(str(error).split())
        raise UsageError(
            f"schedule.accelerator {schedule.accelerator!r} with {schedule.devices} devices on "
            f"{schedule.nodes} nodes are not available: {reason}"
        ) from error


def _hardware(schedule: ScheduleSettings) -> dict[str, Any]:
    return {
        "accelerator": schedule.accelerator,
        "devices": schedule.devices,
        "num_nodes": schedule.nodes,
    }


def _train(module: GenreTraining, data: GenreData, folder: Path) -> None:
    """Run the remaining epochs, saving a checkpoint after each."""
    last = folder / CHECKPOINTS / "last.ckpt"
    resumed = last.exists()
    if resumed and not _epochs_remain(module, last):
        return
    with _quiet():
        trainer = _trainer(module, folder, validated=len(data.valid) > 0)
        interrupts = signal.getsignal(signal.SIGINT)
        try:
            with _log_errors(folder):
                trainer.fit(module, datamodule=data, ckpt_path=last if resumed else None)
        except SIGTERMException as error:  # whose exit code is that of success
            raise SystemExit(128 + signal.SIGTERM) from error
        except SystemExit as error:  # made of a Ctrl-C by Lightning, which ignores more
            signal.signal(signal.SIGINT, interrupts)
            raise KeyboardInterrupt from error


def _epochs_remain(module: GenreTraining, last: Path) -> bool:
    """Check the checkpoint of the last epoch, and return whether there are more to run.

    If so, it is left with the paths of its present folder.
    """
    with loaded_checkpoint(last) as state:
        module.load_state_dict(state["state_dict"])
        itemgetter("loops", "optimizer_states", "lr_schedulers")(state)  # for Lightning
        ended = _has_ended(state, module.experiment.schedule.epochs)
        moved = _move(state, last.parent)
    if moved and not ended:
        save_checkpoint(state, last)
    return not ended


def _has_ended(state: dict[str, Any], epochs: int) -> bool:
    """Check whether a checkpoint is from a run's last epoch, planned or by early stopping."""
    stopped = any(
        callback["wait_count"] >= callback["patience"]
        for name, callback in state["callbacks"].items()
        if name.startswith("EarlyStopping")
    )
    return stopped or state["epoch"] + 1 >= epochs


def _move(state: dict[str, Any], folder: Path) -> bool:
    """Update the paths in a checkpoint to this folder; return whether any had to change.

    If a run's folder has moved, Lightning discards the best epoch's score, and the next epoch,
    however bad, would replace it.
    """
    here = Path(os.path.realpath(folder))
    moved = False
    for name, callback in state["callbacks"].items():
        if name.startswith("ModelCheckpoint") and callback["dirpath"] != str(here):
            callback["dirpath"] = str(here)
            for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
                callback[key] = callback[key] and str(here / Path(callback[key]).name)
            callback["best_k_models"] = {
                str(here / Path(path).name): score
                for path, score in callback["best_k_models"].items()
            }
            moved = True
    return moved


def _trainer(module: GenreTraining, folder: Path, *, validated: bool) -> lightning.Trainer:
    """Return a trainer that keeps checkpoints and logs in the run's folder."""
    schedule = module.experiment.schedule
    checkpoints = folder / CHECKPOINTS
    callbacks: list[lightning.Callback] = [
        History(folder / HISTORY, module),
        EpochProgress(module),
    ]
    if validated:
        callbacks += [
            ValidateLastEpoch(),
            EarlyStopping(
                SELECTION,
                mode="max",
                patience=max(1, math.ceil(schedule.patience / schedule.validate_every)),
                check_on_train_epoch_end=False,
            ),
            _checkpoint(
                checkpoints,
                "best",
                monitor=SELECTION,
                mode="max",
                save_weights_only=True,
                save_on_train_epoch_end=False,
            ),
        ]
    callbacks.append(_checkpoint(checkpoints, "last", save_on_train_epoch_end=True))
    return lightning.Trainer(
        **_hardware(schedule),
        max_epochs=schedule.epochs,
        check_val_every_n_epoch=schedule.validate_every,
        limit_val_batches=1.0 if validated else 0,
        num_sanity_val_steps=0,
        gradient_clip_val=module.experiment.optimiser.clip_norm,
        deterministic="warn",
        callbacks=callbacks,
        logger=TensorBoardLogger(folder, name=LOGS, version=""),
        plugins=_AtomicCheckpoints(),
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


@contextmanager
def _log_errors(folder: Path) -> Iterator[None]:
    """Name a run's folder in errors in writing its logs.

    TensorBoard writes in a thread, from which Python would print a traceback; the same error is
    then raised in the calling thread.
    """
    show = threading.excepthook

    def show_others(failed: threading.ExceptHookArgs) -> None:
        if not isinstance(failed.exc_value, OSError):
            show(failed)

    threading.excepthook = show_others
    try:
        with errors_naming(folder):
            yield
    finally:
        threading.excepthook = show


class _AtomicCheckpoints(TorchCheckpointIO):
    """Writes checkpoints beside their place and renames them.

    Lightning writes them to the system's folder for temporary files. Where that is another file
    system, they are copied over the former ones, and a kill leaves neither.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint."""
        save_checkpoint(checkpoint, Path(path))


def _checkpoint(folder: Path, name: str, **settings: Any) -> ModelCheckpoint:
    return ModelCheckpoint(folder, filename=name, enable_version_counter=False, **settings)


def _best_network(module: GenreTraining, folder: Path, *, validated: bool) -> GenreNetwork:
    """Load the averaged weights of the best epoch, or of the last if there was no validation."""
    file = folder / CHECKPOINTS / ("best.ckpt" if validated else "last.ckpt")
    with loaded_checkpoint(file) as state:
        module.load_state_dict(state["state_dict"])
    network = module.averaged_network
    assert isinstance(network, GenreNetwork)
    return network.eval()


def _summary(
    experiment: Experiment, clips: Clips, split: str | None, data: str | None
) -> dict[str, Any]:
    return {
        "model": experiment.model.name,
        "settings": experiment.model.settings,
        **({"split": split} if split else {}),
        "tracks": len(clips),
        "seed": experiment.seed,
        **({} if data is None else data_learned(data, clips.tracks)),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's messages about hardware and data loader processes."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning.*")
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            yield
    finally:
        logger.setLevel(level)
