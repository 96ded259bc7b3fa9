"""Distil teachers into the student: lessons, imitation, tuning, refinement, denoising, export.

>>> from tonearm.training.distill import distill_dataset
>>> from tonearm.training.recipe import parse_recipe
>>> recipe = parse_recipe(["--config", "configs/gtzan/default.yaml", "--data.fold", "0"])
>>> distill_dataset(recipe, Path("runs/default-fold0"), cache_folder("features")).metrics
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tonearm import datasets, media
from tonearm.bundle import RUN_BUNDLE, Bundle, write_metadata
from tonearm.classifier import Classifier
from tonearm.datasets import DatasetError, Track
from tonearm.datasets.cache import CACHE_VERSION, FeatureCache
from tonearm.datasets.storage import StoredArray
from tonearm.errors import UsageError
from tonearm.evaluation import predictions
from tonearm.evaluation.heard import RUN_TRACKS, learned_text
from tonearm.evaluation.metrics import Metrics
from tonearm.evaluation.trial import run_trial
from tonearm.metadata import BundleMetadata
from tonearm.models.student import Student
from tonearm.training import fcn, teachers
from tonearm.training.cut import cut
from tonearm.training.denoise import Sound, denoise
from tonearm.training.duet import SECOND_FRONT_END, Duet, require_heads
from tonearm.training.experiment import DataSettings, data_path
from tonearm.training.export import export
from tonearm.training.imitate import IMITATION_VERSION, Imitation, imitate
from tonearm.training.lessons import LESSONS_VERSION, Lesson, LessonStore, lessons_digest
from tonearm.training.playback import Playback, numbers_amid_noise
from tonearm.training.recipe import Recipe, music_folders
from tonearm.training.refine import refine
from tonearm.training.tune import tune
from tonearm.whole import write_whole

Tell = Callable[[str], None]

# Increase it when a code change alters the result of stage 2 for the same recipe and music.
TUNING_VERSION = 2
# The same for stage 3.
REFINEMENT_VERSION = 1
# The same for stage 4.
DENOISING_VERSION = 1
# As long as these stay the same, the same recipe and data give the same model.
VERSIONS = (
    *(LESSONS_VERSION, IMITATION_VERSION, TUNING_VERSION),
    *(REFINEMENT_VERSION, DENOISING_VERSION),
)

_METRICS, _PREDICTIONS = "metrics.json", "predictions.csv"
_WINDOWING = ("window_seconds", "hop_seconds")
_REGULARISATIONS = ("fcn_regularisation", "fcn_embedding_regularisation")
_HEADS = ("student", "fcn", "fcn_embedding", "fcn_tags", "full_band")


@dataclass(frozen=True)
class Distilled:
    """The result of a distillation.

    Attributes
    ----------
    folder
        The run's folder, with config.yaml, tracks.json, imitation.csv, history.csv, refinement.csv
        and denoising.csv (for a duet), model.onnx and, if a fold was held out, metrics.json and
        predictions.csv.
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
    recipe: Recipe, run_dir: Path, cache_dir: Path, *, workers: int = 1, tell: Tell = print_line
) -> Distilled:
    """Call `distill` on a recipe's dataset, and evaluate the model on the held-out fold.

    Parameters
    ----------
    run_dir
        Folder for the results.
    cache_dir
        Folder of the feature cache; see `distill`.
    workers
        Number of processes that run the teachers and that classify.
    tell
        Called with one-line progress messages.

    Raises
    ------
    UsageError
        If no data or music is given, or the fold does not exist.
    TonearmError
        If the data or the music does not exist.
    """
    source = recipe.data
    dataset = datasets.load(data_path(DataSettings(path=source.path)), source.layout)
    folds = datasets.split(dataset, source.split, folds=source.folds, seed=0, chosen=source.fold)
    if source.fold is not None and not 0 <= source.fold < len(folds):
        raise UsageError(f"data.fold must be from 0 to {len(folds) - 1}, got {source.fold}")
    fold = folds[source.fold or 0]
    held_out: tuple[Track, ...] = ()
    learned = fold.train + fold.valid + fold.test
    if source.fold is not None:
        learned, held_out = fold.train, fold.test or fold.valid
    bundle = distill(
        recipe,
        learned,
        dataset.labels,
        music_folders(recipe),
        run_dir,
        cache_dir,
        data=dataset.name,
        workers=workers,
        tell=tell,
    )
    if not held_out:  # metrics left by an earlier run in this folder are not this model's
        for name in (_METRICS, _PREDICTIONS):
            (run_dir / name).unlink(missing_ok=True)
        return Distilled(run_dir, None)
    return Distilled(run_dir, _judge(bundle, held_out, run_dir, workers, tell))


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
    tell: Tell = print_line,
) -> Path:
    """Distil the teachers into a student that knows the genres of some tracks, and export it.

    After an interruption, calling it again resumes from the last checkpoint.

    Parameters
    ----------
    train_tracks
        Labelled tracks with audio files.
    labels
        The genres, in the order of the student's outputs.
    unlabelled
        Files and folders of unlabelled music.
    run_dir
        Folder for the recipe, the losses and the bundle.
    cache_dir
        Folder for what runs share: the lessons, and the results of the four stages. Runs that
        differ only in export settings (head weights, temperature) need no new training.
    data
        Name of the dataset that the tracks are from, stored in the bundle.
    workers
        Number of processes that run the teachers and compute features.
    tell
        Called with one-line progress messages.

    Returns
    -------
    Path of the bundle.

    Raises
    ------
    DatasetError
        If a track's label is not among `labels`, all have the same one, or none can be decoded.
    UsageError
        If there is too little music, or no head has a weight.
    MusicnnError, FcnError, PretrainedError
        If a teacher's weights are missing or invalid.
    """
    if recipe.duet.of_fcn:  # fail now, not after the student has been trained
        require_heads(recipe.duet, recipe.student.audioset_weight, labels)
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    run_dir.mkdir(parents=True, exist_ok=True)
    write_whole(run_dir / "config.yaml", recipe.to_yaml())
    store = LessonStore(cache_dir, processes=workers)
    music = _music(store, recipe, unlabelled, tell)
    tracks, clips = _clips(store, recipe, train_tracks, labels, tell)
    write_whole(run_dir / RUN_TRACKS, learned_text(tracks, (), labels))

    imitation = imitate(recipe, music, cache_dir, tell)
    shutil.copyfile(imitation.history, run_dir / "imitation.csv")
    truth = np.array([labels.index(str(track.label)) for track in tracks], dtype=np.int64)
    folder = cache_dir / _tuning_name(recipe, imitation, tracks, clips, labels)
    student = tune(
        recipe,
        imitation,
        clips,
        truth,
        music,
        labels,
        checkpoint=folder / "last.pt",
        history=folder / "history.csv",
        tell=tell,
    )
    shutil.copyfile(folder / "history.csv", run_dir / "history.csv")
    metadata = _metadata(recipe, student, data, tracks, music, labels)
    if not recipe.duet.of_fcn:
        return export(student, metadata, run_dir / RUN_BUNDLE)
    tell("duet: hearing the FCN")
    cache = FeatureCache(cache_dir)
    logmels = _heard(cache.logmels(tracks, SECOND_FRONT_END, workers=workers), cache)
    duet = make_duet(recipe, student, logmels, truth, labels)
    if recipe.refinement.share:
        folder = cache_dir / _refinement_name(recipe, tracks, clips, labels)
        played = _played(_ways_to_play(recipe), tracks, cache, workers)
        refine(
            recipe,
            duet,
            list(zip(logmels, *played, strict=True)),
            truth,
            checkpoint=folder / "last.pt",
            history=folder / "history.csv",
            tell=tell,
        )
        shutil.copyfile(folder / "history.csv", run_dir / "refinement.csv")
    if recipe.denoising.playbacks:
        folder = cache_dir / _denoising_name(recipe, imitation, tracks, clips, labels)
        denoise(
            recipe,
            duet,
            _amid_noise(recipe, tracks, clips, logmels, cache, workers),
            checkpoint=folder / "last.pt",
            history=folder / "history.csv",
            tell=tell,
        )
        shutil.copyfile(folder / "history.csv", run_dir / "denoising.csv")
    metadata = replace(
        metadata,
        second_front_end=SECOND_FRONT_END,
        attribution=f"{metadata.attribution}. Contains {fcn.ATTRIBUTION}",
    )
    return export(duet, metadata, run_dir / RUN_BUNDLE)


def make_duet(
    recipe: Recipe,
    student: Student,
    logmels: Sequence[StoredArray],
    truth: NDArray[np.int64],
    labels: Sequence[str],
) -> Duet:
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
    duet = Duet(student, fcn.load_fcn(), recipe.duet, labels).eval()
    heard = [duet.hear_windows(list(cut(recipe, each, SECOND_FRONT_END))) for each in logmels]
    duet.fit_heads(np.stack(heard), truth)
    return duet


def _played(
    ways: Sequence[Playback], tracks: Sequence[Track], cache: FeatureCache, workers: int
) -> list[list[StoredArray]]:
    """Return float[frames, mels] of each track, for each way of playing it."""
    return [_heard(cache.features(tracks, way, workers=workers), cache) for way in ways]


def _amid_noise(
    recipe: Recipe,
    tracks: Sequence[Track],
    clips: Sequence[Lesson],
    logmels: Sequence[StoredArray],
    cache: FeatureCache,
    workers: int,
) -> Iterator[list[Sound]]:
    """Yield for each clip its original version, followed by the recipe's noisy versions."""
    first, second = (_played(ways, tracks, cache, workers) for ways in _ways_amid_noise(recipe))
    for place, (lesson, logmel) in enumerate(zip(clips, logmels, strict=True)):
        noisy = [Sound(own[place], other[place]) for own, other in zip(first, second, strict=True)]
        yield [Sound(lesson.logmel(), logmel), *noisy]


def _ways_to_play(recipe: Recipe) -> list[Playback]:
    return [
        Playback(SECOND_FRONT_END, number, recipe.tuning.clip_seconds)
        for number in range(recipe.refinement.playbacks)
    ]


def _ways_amid_noise(recipe: Recipe) -> list[list[Playback]]:
    """Return the noisy ways to play, for the student and for the FCN, with the same noise."""
    return [
        [
            Playback(front_end, number, recipe.tuning.clip_seconds)
            for number in numbers_amid_noise(recipe.denoising.playbacks)
        ]
        for front_end in (teachers.STUDENT_FRONT_END, SECOND_FRONT_END)
    ]


def _heard(stored: Sequence[StoredArray | None], cache: FeatureCache) -> list[StoredArray]:
    """Return the features of tracks, all of which must decode, as they did for the lessons."""
    if cache.failures:
        raise DatasetError(str(cache.failures[0]))
    return [logmel for logmel in stored if logmel is not None]


def _music(
    store: LessonStore, recipe: Recipe, unlabelled: Sequence[Path], tell: Tell
) -> list[Lesson]:
    files = [Path(path) for path in media.recordings(map(str, unlabelled))]
    lessons = store.of_music(files, recipe.lessons)
    _tell_refused(store, tell)
    recordings = len({lesson.recording for lesson in lessons})
    tell(f"music: {len(lessons)} lessons of {recordings} recordings in {len(files)} files")
    return lessons


def _clips(
    store: LessonStore,
    recipe: Recipe,
    tracks: Sequence[Track],
    labels: Sequence[str],
    tell: Tell,
) -> tuple[list[Track], list[Lesson]]:
    """Return the tracks that can be used for training, and their lessons."""
    stranger = next((track for track in tracks if track.label not in labels), None)
    if stranger is not None:
        raise DatasetError(
            f"track {stranger.id}: label {stranger.label!r} is not among {', '.join(labels)}"
        )
    heard = [(track, track.path) for track in tracks if track.path is not None]
    lessons = store.of_clips([path for _, path in heard], recipe.tuning.clip_seconds)
    _tell_refused(store, tell)
    found = [
        (track, lesson)
        for (track, _), lesson in zip(heard, lessons, strict=True)
        if lesson is not None
    ]
    if not found:
        reason = f": {store.refused[0]}" if store.refused else ""
        raise DatasetError(f"none of {len(tracks)} tracks can be learned from{reason}")
    known = sorted({str(track.label) for track, _ in found})
    if len(known) < 2:
        raise DatasetError(f"genres are told from each other, and all clips are {known[0]}")
    tell(f"clips: {len(found)} of {len(tracks)} tracks")
    return [track for track, _ in found], [lesson for _, lesson in found]


def _tell_refused(store: LessonStore, tell: Tell) -> None:
    for refused in store.refused:
        tell(f"left out: {refused}")


def _tuning_name(
    recipe: Recipe,
    imitation: Imitation,
    tracks: Sequence[Track],
    clips: Sequence[Lesson],
    labels: Sequence[str],
) -> str:
    """Return a folder name that identifies everything the result of stage 2 depends on.

    A changed recipe or dataset gets another name, so it does not resume from this checkpoint.
    """
    settings = {
        "version": TUNING_VERSION,
        "imitation": imitation.name,
        "seed": recipe.seed,
        "dropout": recipe.student.dropout,
        "conditions": asdict(recipe.conditions),
        "tuning": asdict(recipe.tuning),
        "labels": list(labels),
        "truth": [track.label for track in tracks],
        "clips": lessons_digest(clips),
    }
    return _named("tuning", settings)


def _refinement_name(
    recipe: Recipe, tracks: Sequence[Track], clips: Sequence[Lesson], labels: Sequence[str]
) -> str:
    """Return a folder name that identifies what stage 3 learns from; `share` does not matter."""
    settings = {
        "version": REFINEMENT_VERSION,
        "seed": recipe.seed,
        "student": {name: getattr(recipe.student, name) for name in _WINDOWING},
        "duet": {name: getattr(recipe.duet, name) for name in _REGULARISATIONS},
        "refinement": asdict(replace(recipe.refinement, share=1.0)),
        "clip_seconds": recipe.tuning.clip_seconds,
        "features": CACHE_VERSION,
        "played": [way.folder_name() for way in _ways_to_play(recipe)],
        "labels": list(labels),
        "truth": [track.label for track in tracks],
        "clips": lessons_digest(clips),
    }
    return _named("refinement", settings)


def _denoising_name(
    recipe: Recipe,
    imitation: Imitation,
    tracks: Sequence[Track],
    clips: Sequence[Lesson],
    labels: Sequence[str],
) -> str:
    """Return a folder name that identifies what stage 4 learns from, including earlier stages."""
    share = recipe.refinement.share
    settings = {
        "version": DENOISING_VERSION,
        "tuned": _tuning_name(recipe, imitation, tracks, clips, labels),
        "refined": _refinement_name(recipe, tracks, clips, labels) if share else None,
        "share": share,
        "student": {name: getattr(recipe.student, name) for name in _WINDOWING},
        "denoising": asdict(recipe.denoising),
        "played": [way.folder_name() for ways in _ways_amid_noise(recipe) for way in ways],
    }
    return _named("denoising", settings)


def _named(stage: str, settings: dict[str, Any]) -> str:
    text = json.dumps(settings, sort_keys=True)
    return f"{stage}-{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"


def _metadata(
    recipe: Recipe,
    student: Student,
    data: str,
    tracks: Sequence[Track],
    music: Sequence[Lesson],
    labels: Sequence[str],
) -> BundleMetadata:
    front_end = teachers.STUDENT_FRONT_END
    hours = sum(lesson.length for lesson in music) / front_end.frames_per_second / 3600
    return BundleMetadata(
        name=recipe.name,
        labels=tuple(labels),
        front_end=front_end,
        window_seconds=recipe.student.window_seconds,
        hop_seconds=recipe.student.hop_seconds,
        temperature=recipe.student.temperature,
        training={
            "model": "student",
            "data": data,  # so that an evaluation on the same data is noticed
            "tracks": len(tracks),
            "unlabelled_recordings": len({lesson.recording for lesson in music}),
            "unlabelled_hours": round(hours, 2),
            "imitation_epochs": recipe.imitation.epochs,
            "tuning_steps": recipe.tuning.steps,
            "audioset_weight": student.audioset_weight,
            "duet": {name: getattr(recipe.duet, name) for name in _HEADS},
            "refinement_share": recipe.refinement.share,
            "denoising_playbacks": recipe.denoising.playbacks,
            "seed": recipe.seed,
        },
        licence="Apache-2.0",
        attribution=f"{student.attribution}. {teachers.ATTRIBUTION}",
    )


def _judge(
    bundle: Path, tracks: Sequence[Track], run_dir: Path, workers: int, tell: Tell
) -> Metrics:
    """Write metrics.json and predictions.csv, and store the main figures in the bundle."""
    trial = run_trial(Classifier.load(bundle), tracks, workers=workers)
    for failure in trial.failures:
        tell(f"not judged: {failure.error}")
    predictions.write(run_dir / _PREDICTIONS, trial.predictions)
    metrics = trial.predictions.metrics()
    write_whole(run_dir / _METRICS, metrics.to_json())
    figures = {
        "judged_on": "tracks that were held out of its training",
        "tracks": metrics.count,
        "accuracy": round(metrics.accuracy, 4),
        "macro_f1": round(metrics.f1, 4),
    }
    write_metadata(bundle, replace(Bundle.load(bundle).metadata, metrics=figures), bundle)
    return metrics
