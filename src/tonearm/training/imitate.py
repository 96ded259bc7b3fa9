"""Stage 1 of a distillation: train the student to imitate its teachers, without labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import Tensor

from tonearm.errors import TonearmError
from tonearm.models.student import Student
from tonearm.training.conditions import vary_conditions
from tonearm.training.optimisation import (
    Log,
    Optimisation,
    loaded_checkpoint,
    save_checkpoint,
    training_device,
)
from tonearm.training.recipe import Recipe
from tonearm.training.runfolder import IMITATION
from tonearm.training.targets import Targets, TargetSpace, collate
from tonearm.training.teacher_heads import StudentWithTeacherHeads, imitation_losses
from tonearm.training.teachers import PATCH_SECONDS, STUDENT_FRONT_END
from tonearm.training.transfer_set import TransferSegment, settings_digest, transfer_digest

# Increase it when a code change alters the result for the same recipe and music.
IMITATION_VERSION = 1

_GENRE_HEAD = "student.classifier."


@dataclass(frozen=True, eq=False)
class Imitation:
    """The result of stage 1.

    Attributes
    ----------
    name
        Name that identifies everything the result depends on, by a hash.
    history
        Path of the table of its losses.
    weights
        Weights of the network.
    space
        Space of the targets it was trained on.
    """

    name: str
    history: Path
    weights: dict[str, Tensor]
    space: TargetSpace

    def load_into(self, network: StudentWithTeacherHeads) -> None:
        """Copy the weights into a network, except for the genre head, which was not trained."""
        trained = {k: v for k, v in self.weights.items() if not k.startswith(_GENRE_HEAD)}
        network.load_state_dict(network.state_dict() | trained)


def imitate(
    recipe: Recipe,
    music: Sequence[TransferSegment],
    root: Path,
    log: Log,
) -> Imitation:
    """Train a student on unlabelled music, or load the result of an earlier run.

    Nothing here depends on labels, so one result serves all folds of a cross-validation. If two
    processes need the same result at the same time, one waits for the other.

    Parameters
    ----------
    music
        Segments of unlabelled recordings.
    root
        Folder of the cache. The stage has a folder in it, named after the recipe and the music,
        with the checkpoint to resume from and the table `imitation.csv`.
    log
        Called with one-line progress messages.

    Raises
    ------
    TonearmError
        If there is too little music.
    """
    if len({segment.recording for segment in music}) < 2:
        raise TonearmError(
            "a student imitates its teachers on music: 2 recordings or more are needed"
        )
    name = _name(recipe, music)
    folder = root / name
    with _alone(folder, log):
        space = _space(folder / "targets.pt", music, recipe.imitation.components)
        torch.manual_seed(recipe.imitation.seed)
        # The genre head is a placeholder with one class, as the genres are not known in this stage.
        student = Student(1, embedding_size=recipe.student.embedding_size)
        network = StudentWithTeacherHeads(student, space).to(training_device())
        train, held_out = _hold_out(music, recipe.imitation.held_out)
        log(f"imitation: {len(train)} segments, {len(held_out)} held out, in {folder}")
        weights = _train(recipe, network, space, train, held_out, folder, log)
    return Imitation(name, folder / IMITATION, weights, space)


@contextmanager
def _alone(folder: Path, log: Log) -> Iterator[None]:
    """Wait until no other process works in a folder, and lock it.

    Otherwise, two processes could each fit a target space, and resume from checkpoints that were
    trained on the other's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")  # held by the system, so released if the process is killed
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log(f"imitation: waiting for another process, which is at work in {folder}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _name(recipe: Recipe, music: Sequence[TransferSegment]) -> str:
    """Return a folder name that identifies everything the result of stage 1 depends on."""
    settings = {
        "version": IMITATION_VERSION,
        "embedding_size": recipe.student.embedding_size,
        "segment_seconds": recipe.transfer.segment_seconds,
        "conditions": asdict(recipe.conditions),
        "imitation": asdict(recipe.imitation),
        "music": transfer_digest(music),
    }
    return f"imitation-{settings_digest(settings)}"


def _space(path: Path, music: Sequence[TransferSegment], components: int) -> TargetSpace:
    """Load the target space, or fit and save it.

    If it were fitted again on another machine, a component could have the opposite sign, and the
    checkpoint would no longer match it.
    """
    if path.exists():
        with loaded_checkpoint(path) as state:
            return TargetSpace.from_state(state)
    space = TargetSpace.fit([segment.outputs for segment in music], components)
    save_checkpoint(space.to_state(), path)
    return space


def _hold_out(
    music: Sequence[TransferSegment], one_in: int
) -> tuple[list[TransferSegment], list[TransferSegment]]:
    """Hold out the segments of one in `one_in` recordings, and of at least one recording."""
    recordings = sorted({segment.recording for segment in music})
    held_out = set(recordings[::one_in])
    return (
        [segment for segment in music if segment.recording not in held_out],
        [segment for segment in music if segment.recording in held_out],
    )


def _train(
    recipe: Recipe,
    network: StudentWithTeacherHeads,
    space: TargetSpace,
    train: Sequence[TransferSegment],
    held_out: Sequence[TransferSegment],
    folder: Path,
    log: Log,
) -> dict[str, Tensor]:
    settings = recipe.imitation
    targets = [space(segment.outputs) for segment in train]
    size = min(settings.batch_size, len(train))
    steps_per_epoch = len(train) // size

    def losses(step: int) -> Mapping[str, Tensor]:
        epoch, batch = divmod(step, steps_per_epoch)
        order = np.random.default_rng((settings.seed, epoch)).permutation(len(train))
        rng = np.random.default_rng((settings.seed, epoch, batch))
        chosen = order[batch * size : (batch + 1) * size]
        return _step_losses(
            recipe, network, [train[i] for i in chosen], [targets[i] for i in chosen], rng
        )

    optimisation = Optimisation(
        network,
        network.groups(settings.optimiser),
        settings.epochs * steps_per_epoch,
        settings.optimiser,
        settings.seed,
    )
    averaged_network = optimisation.run(
        losses,
        checkpoint=folder / "last.pt",
        history=folder / IMITATION,
        every=min(recipe.checkpoint_steps * 2, steps_per_epoch),
        validate=lambda averaged: _validate(recipe, averaged, space, held_out),
        log=lambda line: log(f"imitation: {line}"),
    )
    return averaged_network.state_dict()


def _step_losses(
    recipe: Recipe,
    network: StudentWithTeacherHeads,
    segments: Sequence[TransferSegment],
    targets: Sequence[Targets],
    rng: np.random.Generator,
) -> Mapping[str, Tensor]:
    """Return the losses on whole segments, or on patches of them, under random conditions."""
    settings = recipe.imitation
    patches: list[int | None] = [None] * len(segments)
    if rng.random() < settings.patch_probability:
        patches = [int(rng.integers(len(target.musicnn))) for target in targets]
    length = _frames(recipe.transfer.segment_seconds)
    crops = [
        _crop(segment, patch, length) for segment, patch in zip(segments, patches, strict=True)
    ]
    frames = torch.from_numpy(np.stack(crops)).to(network.device)
    logmel = vary_conditions(frames, recipe.conditions, rng)
    terms = dict(imitation_losses(network(logmel), collate(targets, patches, network.device)))
    terms["audioset"] = terms["audioset"] * settings.audioset
    if patches[0] is not None:
        # Only musicnn's targets are for the patch; the others are for the whole segment.
        for name in ("fcn", "fcn_tags", "audioset"):
            terms[name] = terms[name] * settings.patch_weight
    return terms


def _crop(segment: TransferSegment, patch: int | None, length: int) -> NDArray[np.float32]:
    """Return the frames of a patch of a segment, or its first `length` frames if it is None."""
    if patch is None:
        return segment.logmel(0, length)
    return segment.logmel(_frames(patch * PATCH_SECONDS), _frames(PATCH_SECONDS))


def _frames(seconds: float) -> int:
    return round(seconds * STUDENT_FRONT_END.frames_per_second)


@torch.inference_mode()
def _validate(
    recipe: Recipe,
    network: StudentWithTeacherHeads,
    space: TargetSpace,
    held_out: Sequence[TransferSegment],
) -> Mapping[str, float]:
    """Return the mean losses on whole segments, without random conditions."""
    sums: dict[str, float] = {}
    length, size = _frames(recipe.transfer.segment_seconds), recipe.imitation.batch_size
    for first in range(0, len(held_out), size):
        segments = held_out[first : first + size]
        targets = [space(segment.outputs) for segment in segments]
        whole = collate(targets, [None] * len(segments), network.device)
        frames = torch.from_numpy(np.stack([x.logmel(0, length) for x in segments]))
        outputs = network(frames.to(network.device))
        for name, loss in imitation_losses(outputs, whole).items():
            sums[name] = sums.get(name, 0.0) + loss.item() * len(segments)
    return {f"held_out_{name}": value / len(held_out) for name, value in sums.items()}
