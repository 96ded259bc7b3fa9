"""Stage 2 of a distillation: train the student on genres while it keeps imitating its teachers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tonearm.datasets import Track
from tonearm.models import audioset
from tonearm.models.student import Student
from tonearm.training.conditions import mask_bands, mix, vary_conditions
from tonearm.training.imitate import Imitation
from tonearm.training.optimisation import Log, Optimisation, training_device
from tonearm.training.recipe import Recipe
from tonearm.training.runfolder import HISTORY
from tonearm.training.soft_labels import soft_labels
from tonearm.training.targets import Targets, collate
from tonearm.training.teacher_heads import StudentWithTeacherHeads, imitation_losses
from tonearm.training.teachers import STUDENT_FRONT_END
from tonearm.training.transfer_set import TransferSegment, settings_digest, transfer_digest

# Increase it when a code change alters the result for the same recipe, clips and music.
TUNING_VERSION = 2

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Examples:
    """The training data: labelled clips and unlabelled music, with all their targets.

    Attributes
    ----------
    segments
        The clips, followed by the music.
    targets
        The teachers' targets for each segment.
    genres
        float32[segments, labels], smoothed labels of the clips and soft labels of the music.
    clips_of_genre
        Indices of the clips of each genre that has any.
    first_music
        Index of the first segment of the music.
    """

    segments: Sequence[TransferSegment]
    targets: Sequence[Targets]
    genres: Floats
    clips_of_genre: Sequence[NDArray[np.int64]]
    first_music: int


def tune(
    recipe: Recipe,
    imitation: Imitation,
    clips: Sequence[TransferSegment],
    truth: NDArray[np.int64],
    music: Sequence[TransferSegment],
    labels: Sequence[str],
    folder: Path,
    log: Log,
) -> Student:
    """Train a student on genres, starting from the result of stage 1.

    Parameters
    ----------
    imitation
        The result of stage 1.
    clips
        Segments of labelled clips.
    truth
        int[clips], indices in `labels`.
    music
        Segments of unlabelled music.
    folder
        Folder of the checkpoint to resume from after an interruption, and of the losses.
    log
        Called with one-line progress messages.

    Returns
    -------
    The student, in evaluation mode.
    """
    torch.manual_seed(recipe.seed)
    network = StudentWithTeacherHeads(make_student(recipe, labels), imitation.space)
    imitation.load_into(network)
    for parameter in network.student.classifier.parameters():
        # At first, all genres are equally likely and the genre loss does not move the embedding.
        nn.init.zeros_(parameter)
    network.to(training_device())
    examples = _examples(recipe, imitation, clips, truth, music, labels)
    settings = recipe.tuning
    optimisation = Optimisation(
        network, network.groups(settings.optimiser), settings.steps, settings.optimiser, recipe.seed
    )
    averaged = optimisation.run(
        lambda step: _step_losses(recipe, network, examples, step),
        checkpoint=folder / "last.pt",
        history=folder / HISTORY,
        every=recipe.checkpoint_steps,
        log=lambda line: log(f"tuning: {line}"),
    )
    student: Student = averaged.student
    return student


def tuning_name(
    recipe: Recipe,
    imitation: Imitation,
    tracks: Sequence[Track],
    clips: Sequence[TransferSegment],
    labels: Sequence[str],
) -> str:
    """Return a folder name that identifies everything the result of stage 2 depends on.

    A changed recipe or dataset gets another name, so it does not resume from this checkpoint.

    Parameters
    ----------
    tracks
        The labelled tracks that the clips are of.
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
        "clips": transfer_digest(clips),
    }
    return f"tuning-{settings_digest(settings)}"


def make_student(recipe: Recipe, labels: Sequence[str]) -> Student:
    """Build the student that ships, as the recipe describes it."""
    settings = recipe.student
    return Student(
        len(labels),
        labels=labels,
        audioset_weight=audioset_weight(recipe, labels),
        embedding_size=settings.embedding_size,
        dropout=settings.dropout,
    )


def audioset_weight(recipe: Recipe, labels: Sequence[str]) -> float:
    """Return the weight of the AudioSet head: the recipe's, or 0 if it does not know the genres."""
    return recipe.student.audioset_weight if audioset.knows(labels) else 0.0


def _examples(
    recipe: Recipe,
    imitation: Imitation,
    clips: Sequence[TransferSegment],
    truth: NDArray[np.int64],
    music: Sequence[TransferSegment],
    labels: Sequence[str],
) -> Examples:
    settings = recipe.tuning
    segments = [*clips, *music]
    hard = np.eye(len(labels), dtype=np.float32)[truth]
    soft = soft_labels(
        [segment.outputs for segment in clips],
        truth,
        [segment.outputs for segment in music],
        labels,
        regularisation=settings.soft_regularisation,
        audioset_weight=settings.soft_audioset,
    )
    return Examples(
        segments,
        [imitation.space(segment.outputs) for segment in segments],
        np.concatenate([hard * (1 - settings.smoothing) + settings.smoothing / len(labels), soft]),
        [np.flatnonzero(truth == genre) for genre in np.unique(truth)],
        len(clips),
    )


def _step_losses(
    recipe: Recipe, network: StudentWithTeacherHeads, examples: Examples, step: int
) -> Mapping[str, Tensor]:
    settings = recipe.tuning
    rng = np.random.default_rng((recipe.seed, step))
    shares = np.array(settings.crop_shares) / sum(settings.crop_shares)
    seconds = float(rng.choice(settings.crop_seconds, p=shares))
    # Fewer of the longest crops, which would take the most memory and time.
    share = 0.5 if seconds == max(settings.crop_seconds) else 1.0
    chosen = _draw(examples, settings.labelled * share, settings.unlabelled * share, step, rng)
    frames = round(seconds * STUDENT_FRONT_END.frames_per_second)
    crops = [_crop(examples.segments[i], frames, rng) for i in chosen]
    device = network.device
    logmel = torch.from_numpy(np.stack(crops)).to(device)
    logmel = vary_conditions(logmel, recipe.conditions, rng)
    genres = torch.from_numpy(examples.genres[chosen]).to(device)
    weights = torch.from_numpy(
        np.where(chosen < examples.first_music, 1.0, settings.soft_weight).astype(np.float32)
    ).to(device)

    mixed = rng.random() < settings.mixup_probability
    if mixed:
        drawn = float(rng.beta(settings.mixup_alpha, settings.mixup_alpha))
        share_of_first = max(drawn, 1 - drawn)
        partner = torch.from_numpy(rng.permutation(len(chosen)))
        logmel = mix(logmel, share_of_first, partner)
        genres = share_of_first * genres + (1 - share_of_first) * genres[partner]
    if rng.random() < settings.mask_probability:
        logmel = mask_bands(logmel, settings.mask_low, settings.mask_high, rng)

    outputs = network(logmel)
    cross_entropy = -(genres * outputs.student.genre.log_softmax(dim=1)).sum(dim=1)
    terms = {"genre": (cross_entropy * weights).mean()}
    if not mixed:  # there are no teacher outputs for mixtures
        targets = collate([examples.targets[i] for i in chosen], [None] * len(chosen), device)
        for name, loss in imitation_losses(outputs, targets).items():
            weight = settings.audioset if name == "audioset" else settings.imitation
            terms[name] = weight * loss
    return terms


def _draw(
    examples: Examples, labelled: float, unlabelled: float, step: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw indices of clips, equally many of each genre, and of music.

    The genres take turns across steps, so a step may have fewer clips than there are genres.
    """
    genres, count = len(examples.clips_of_genre), max(1, round(labelled))
    order = rng.permutation((step * count + np.arange(count)) % genres)
    clips = [rng.choice(examples.clips_of_genre[genre]) for genre in order]
    music = rng.integers(examples.first_music, len(examples.segments), round(unlabelled))
    return np.concatenate([np.array(clips, dtype=np.int64), music])


def _crop(segment: TransferSegment, frames: int, rng: np.random.Generator) -> Floats:
    """Cut a random crop from a segment, which is repeated if it is too short."""
    start = int(rng.integers(0, max(1, segment.length - frames + 1)))
    return segment.logmel(start, frames)
