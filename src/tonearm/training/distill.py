"""Distil teachers into the student: segments, imitation, tuning, refinement, denoising, export.

>>> from pathlib import Path
>>> from tonearm.paths import cache_folder
>>> from tonearm.training.distill import distill_dataset
>>> from tonearm.training.recipe import parse_recipe
>>> recipe = parse_recipe(["--data.path", "gtzan", "--data.fold", "0"])
>>> folder, cache = Path("runs/default-fold0"), cache_folder("features")
>>> distill_dataset(recipe, folder, cache).metrics  # doctest: +SKIP
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tonearm import datasets, media
from tonearm.atomic import atomic_write
from tonearm.bundle import RUN_BUNDLE, Bundle, write_metadata
from tonearm.classifier import Classifier
from tonearm.datasets import DatasetError, Track
from tonearm.datasets.cache import CACHE_VERSION, FeatureCache
from tonearm.datasets.content import ContentIndex
from tonearm.datasets.splits import LeakWarning, UntrainedWarning, fold_at
from tonearm.datasets.storage import StoredArray
from tonearm.datasets.track import labels_of
from tonearm.evaluation.inference import run_inference
from tonearm.evaluation.metrics import Metrics
from tonearm.evaluation.training_overlap import data_learned, training_text
from tonearm.metadata import BundleMetadata
from tonearm.models.student import Student
from tonearm.text import printable
from tonearm.training import fcn, teachers
from tonearm.training.degradations import DEGRADATION_VERSION, Degradation
from tonearm.training.denoise import (
    DENOISING_VERSION,
    ClipFrames,
    denoise,
    denoising_name,
    noise_degradations,
)
from tonearm.training.ensemble import SECOND_FRONT_END, Ensemble, require_heads
from tonearm.training.experiment import data_path
from tonearm.training.export import export
from tonearm.training.imitate import IMITATION_VERSION, imitate
from tonearm.training.labels import require_genres, require_labels
from tonearm.training.optimisation import Log, torch_threads
from tonearm.training.recipe import Recipe, music_folders
from tonearm.training.recipe_windows import recipe_windows
from tonearm.training.refine import REFINEMENT_VERSION, clip_degradations, refine, refinement_name
from tonearm.training.runfolder import (
    DENOISING,
    HISTORY,
    IMITATION,
    REFINEMENT,
    TUNING,
    begin_distillation,
    check_distillation_folder,
    write_evaluation,
)
from tonearm.training.transfer_set import TRANSFER_VERSION, TransferSegment, TransferStore
from tonearm.training.tune import TUNING_VERSION, tune, tuning_name

# As long as these stay the same, the same recipe and data give the same model.
VERSIONS = (
    *(TRANSFER_VERSION, IMITATION_VERSION, TUNING_VERSION),
    *(REFINEMENT_VERSION, DENOISING_VERSION),
    *(CACHE_VERSION, DEGRADATION_VERSION),
)

_HEADS = ("student", "fcn", "fcn_embedding", "fcn_tags", "full_band")


@dataclass(frozen=True)
class Distilled:
    """The result of a distillation.

    Attributes
    ----------
    folder
        The run's folder, with config.yaml, tracks.json, imitation.csv, history.csv, refinement.csv
        and denoising.csv (for an ensemble), model.onnx and, if a fold was held out, metrics.json
        and predictions.csv.
    metrics
        Metrics on the held-out tracks, or None if there were none.
    """

    folder: Path
    metrics: Metrics | None

    @property
    def bundle(self) -> Path:
        """The exported model."""
        return self.folder / RUN_BUNDLE


def print_line(line: str) -> None:
    """Print a line to standard error and flush it."""
    print(line, file=sys.stderr, flush=True)


def distill_dataset(
    recipe: Recipe, run_dir: Path, cache_dir: Path, *, workers: int = 1, log: Log = print_line
) -> Distilled:
    """Call `distill` on a recipe's dataset, and evaluate the model on the held-out fold.

    Parameters
    ----------
    recipe
        The settings; see `tonearm.training.recipe.parse_recipe`.
    run_dir
        Folder for the results.
    cache_dir
        Folder of the feature cache; see `distill`.
    workers
        Number of processes that run the teachers and that classify.
    log
        Called with one-line progress messages.

    Raises
    ------
    UsageError
        If no data or music is given, or the fold does not exist.
    DatasetError
        If the data cannot be read, split or trained on.
    TonearmError
        If the data or the music does not exist, or as `distill` raises it.
    """
    source = recipe.data
    dataset = datasets.load(data_path(source.path), source.layout)
    with warnings.catch_warnings():
        if source.fold is None:  # nothing is evaluated
            warnings.simplefilter("ignore", LeakWarning)
            warnings.simplefilter("ignore", UntrainedWarning)
        folds = datasets.split(
            dataset, source.split, folds=source.folds, seed=0, chosen=source.fold
        )
    fold = fold_at(folds, source.fold or 0, "data.fold")
    held_out: tuple[Track, ...] = ()
    train_tracks = fold.train + fold.valid + fold.test
    if source.fold is not None:
        train_tracks, held_out = fold.train, fold.held_out
        warn_of_heard(held_out, music_folders(recipe), cache_dir)
    bundle = distill(
        recipe,
        train_tracks,
        labels_of(fold.tracks),
        music_folders(recipe),
        run_dir,
        cache_dir,
        data=dataset.name,
        workers=workers,
        log=log,
    )
    if not held_out:
        return Distilled(run_dir, None)
    return Distilled(run_dir, _evaluate(bundle, held_out, run_dir, workers, log))


def warn_of_heard(held_out: Sequence[Track], music: Sequence[Path], cache_dir: Path) -> None:
    """Warn with `LeakWarning` if recordings to evaluate are among the unlabelled music."""
    index = ContentIndex(cache_dir / "content.sqlite")
    heard = set(index.hashes(map(Path, media.recordings(map(str, music)))).values())
    evaluated = index.hashes(track.path for track in held_out if track.path).values()
    if count := sum(content in heard for content in evaluated):
        warnings.warn(
            f"{count} of the recordings to evaluate are among the unlabelled music: scores come "
            "out too high",
            LeakWarning,
            stacklevel=3,
        )


def distill(
    recipe: Recipe,
    train_tracks: Sequence[Track],
    labels: Sequence[str],
    unlabelled: Sequence[Path],
    run_dir: Path,
    cache_dir: Path,
    *,
    data: str = "",
    workers: int = 1,
    log: Log = print_line,
) -> Path:
    """Distil the teachers into a student that knows the genres of some tracks, and export it.

    After an interruption, calling it again resumes from the last checkpoint.

    Parameters
    ----------
    recipe
        The settings.
    train_tracks
        Labelled tracks with audio files.
    labels
        The genres, in the order of the student's outputs.
    unlabelled
        Files and folders of unlabelled music.
    run_dir
        Folder for the recipe, the losses and the bundle.
    cache_dir
        Folder for what runs share: the segments, and the results of the four stages. Runs that
        differ only in export settings (head weights, temperature) need no new training.
    data
        Name of the dataset that the tracks are from, stored in the bundle.
    workers
        Number of processes that run the teachers and compute features.
    log
        Called with one-line progress messages.

    Returns
    -------
    Path of the bundle.

    Raises
    ------
    DatasetError
        If a track's label is not among `labels`, all have the same one, or none can be decoded.
    UsageError
        If no head with a weight knows the genres.
    RunError
        If the folder holds a run of `train`, or another program's config.yaml.
    MusicnnError, CheckpointError, FcnError, PretrainedError
        If a teacher's weights are missing or invalid.
    TonearmError
        If there is too little music, a folder cannot be written to, or a checkpoint to resume from
        is damaged.
    """
    if recipe.ensemble.fcn_total:  # fail now, not after the student has been trained
        require_heads(recipe.ensemble, recipe.student.audioset_weight, labels)
    with torch_threads(recipe.threads):
        check_distillation_folder(run_dir)
        store = TransferStore(cache_dir, processes=workers)
        music = _music(store, recipe, unlabelled, log)
        tracks, clips = _clips(store, recipe, train_tracks, labels, log)
        cache = FeatureCache(cache_dir)
        contents = cache.contents(tracks)
        begin_distillation(run_dir, recipe.to_yaml(), training_text(tracks, (), labels, contents))

        imitation = imitate(recipe, music, cache_dir, log)
        _copy(imitation.history, run_dir / IMITATION)
        truth = np.array([labels.index(str(track.label)) for track in tracks], dtype=np.int64)
        tuned = tuning_name(recipe, imitation, tracks, clips, labels)
        folder = cache_dir / tuned
        student = tune(recipe, imitation, clips, truth, music, labels, folder, log)
        _copy(folder / HISTORY, run_dir / TUNING)
        metadata = _metadata(recipe, student, data, tracks, music, labels)
        if not recipe.ensemble.fcn_total:
            return export(student, metadata, run_dir / RUN_BUNDLE)
        log("ensemble: running the FCN")
        logmels = _all_features(cache.logmels(tracks, SECOND_FRONT_END, workers=workers), cache)
        ensemble = make_ensemble(recipe, student, logmels, truth, labels)
        refined = None
        if recipe.refinement.share:
            refined = refinement_name(recipe, tracks, clips, labels)
            folder = cache_dir / refined
            degraded = _degraded(clip_degradations(recipe), tracks, cache, workers)
            versions = list(zip(logmels, *degraded, strict=True))
            refine(recipe, ensemble, versions, truth, folder, log)
            _copy(folder / HISTORY, run_dir / REFINEMENT)
        if recipe.denoising.noisy_copies:
            folder = cache_dir / denoising_name(recipe, tuned, refined)
            noisy = _noisy_versions(recipe, tracks, clips, logmels, cache, workers)
            denoise(recipe, ensemble, noisy, folder, log)
            _copy(folder / HISTORY, run_dir / DENOISING)
        metadata = replace(
            metadata,
            second_front_end=SECOND_FRONT_END,
            attribution=f"{metadata.attribution}. Contains {fcn.ATTRIBUTION}",
        )
        return export(ensemble, metadata, run_dir / RUN_BUNDLE)


def make_ensemble(
    recipe: Recipe,
    student: Student,
    logmels: Sequence[StoredArray],
    truth: NDArray[np.int64],
    labels: Sequence[str],
) -> Ensemble:
    """Combine a student with the FCN, and fit the heads on the FCN to labelled clips.

    As in the exported model, the FCN processes each clip window by window.

    Parameters
    ----------
    logmels
        float[frames, 96] of each clip, of `SECOND_FRONT_END`.
    truth
        int[clips], columns of the student's logits.
    labels
        The genres of these columns.
    """
    ensemble = Ensemble(student, fcn.load_fcn(), recipe.ensemble, labels).eval()
    features = [
        ensemble.mean_fcn_features(list(recipe_windows(recipe, each, SECOND_FRONT_END)))
        for each in logmels
    ]
    ensemble.fit_heads(np.stack(features), truth)
    return ensemble


def _degraded(
    degradations: Sequence[Degradation],
    tracks: Sequence[Track],
    cache: FeatureCache,
    workers: int,
) -> list[list[StoredArray]]:
    """Return float[frames, mels] of each track, for each degradation."""
    return [
        _all_features(cache.features(tracks, degradation, workers=workers), cache)
        for degradation in degradations
    ]


def _noisy_versions(
    recipe: Recipe,
    tracks: Sequence[Track],
    clips: Sequence[TransferSegment],
    logmels: Sequence[StoredArray],
    cache: FeatureCache,
    workers: int,
) -> Iterator[list[ClipFrames]]:
    """Yield for each clip its original version, followed by the recipe's noisy versions."""
    first, second = (
        _degraded(noisy, tracks, cache, workers) for noisy in noise_degradations(recipe)
    )
    for index, (segment, logmel) in enumerate(zip(clips, logmels, strict=True)):
        noisy = [
            ClipFrames(own[index], other[index]) for own, other in zip(first, second, strict=True)
        ]
        yield [ClipFrames(segment.logmel(), logmel), *noisy]


def _all_features(stored: Sequence[StoredArray | None], cache: FeatureCache) -> list[StoredArray]:
    """Return the features of tracks, all of which must decode, as they did for the segments."""
    if cache.failures:
        raise DatasetError(str(cache.failures[0]))
    return [logmel for logmel in stored if logmel is not None]


def _music(
    store: TransferStore, recipe: Recipe, unlabelled: Sequence[Path], log: Log
) -> list[TransferSegment]:
    files = [Path(path) for path in media.recordings(map(str, unlabelled))]
    segments = store.of_music(files, recipe.transfer)
    _log_refused(store, log)
    recordings = len({segment.recording for segment in segments})
    log(f"music: {len(segments)} segments of {recordings} recordings in {len(files)} files")
    return segments


def _clips(
    store: TransferStore,
    recipe: Recipe,
    tracks: Sequence[Track],
    labels: Sequence[str],
    log: Log,
) -> tuple[list[Track], list[TransferSegment]]:
    """Return the tracks that can be used for training, and their segments."""
    require_labels(tracks, labels)
    with_audio = [(track, track.path) for track in tracks if track.path is not None]
    segments = store.of_clips([path for _, path in with_audio], recipe.tuning.clip_seconds)
    _log_refused(store, log)
    found = [
        (track, segment)
        for (track, _), segment in zip(with_audio, segments, strict=True)
        if segment is not None
    ]
    if not found:
        reason = f": {store.refused[0]}" if store.refused else ""
        raise DatasetError(f"none of {len(tracks)} tracks can be learned from{reason}")
    usable = [track for track, _ in found]
    require_genres(usable)
    log(f"clips: {len(found)} of {len(tracks)} tracks")
    return usable, [segment for _, segment in found]


def _log_refused(store: TransferStore, log: Log) -> None:
    for refused in store.refused:
        log(f"left out: {refused}")


def _copy(table: Path, path: Path) -> None:
    with atomic_write(path) as file:
        file.write(table.read_bytes())


def _metadata(
    recipe: Recipe,
    student: Student,
    data: str,
    tracks: Sequence[Track],
    music: Sequence[TransferSegment],
    labels: Sequence[str],
) -> BundleMetadata:
    front_end = teachers.STUDENT_FRONT_END
    hours = sum(segment.length for segment in music) / front_end.frames_per_second / 3600
    return BundleMetadata(
        name=recipe.name,
        labels=tuple(labels),
        front_end=front_end,
        window_seconds=recipe.student.window_seconds,
        hop_seconds=recipe.student.hop_seconds,
        temperature=recipe.student.temperature,
        training={
            "model": "student",
            **data_learned(data, tracks),  # so that an evaluation on the same data is noticed
            "tracks": len(tracks),
            "unlabelled_recordings": len({segment.recording for segment in music}),
            "unlabelled_hours": round(hours, 2),
            "imitation_epochs": recipe.imitation.epochs,
            "tuning_steps": recipe.tuning.steps,
            "audioset_weight": student.audioset_weight,
            "ensemble": {name: getattr(recipe.ensemble, name) for name in _HEADS},
            "refinement_share": recipe.refinement.share,
            "denoising_noisy_copies": recipe.denoising.noisy_copies,
            "seed": recipe.seed,
        },
        licence="Apache-2.0",
        attribution=f"{student.attribution}. {teachers.ATTRIBUTION}",
    )


def _evaluate(
    bundle: Path, tracks: Sequence[Track], run_dir: Path, workers: int, log: Log
) -> Metrics:
    """Write metrics.json and predictions.csv, and store the main figures in the bundle."""
    trial = run_inference(Classifier.load(bundle), tracks, workers=workers)
    for failure in trial.failures:
        log(f"not classified: {printable(failure.path)}: {failure.error}")
    metrics = write_evaluation(run_dir, trial.predictions)
    figures = metrics.headline("tracks that were held out of its training")
    write_metadata(bundle, replace(Bundle.load(bundle).metadata, metrics=figures), bundle)
    return metrics
