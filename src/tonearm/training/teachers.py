"""Three published networks as teachers, whose outputs a student learns to predict.

Classifying needs none of the published files. A bundle contains weights of mn04, from which the
student starts, and that of an ensemble also weights of the FCN; musicnn is needed only in training.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tonearm.features.logmel import FRONT_ENDS, LogMel
from tonearm.models.mobilenet import AudioSetMobileNet, load_pretrained
from tonearm.models.pretrained import find_pretrained
from tonearm.training import fcn, musicnn
from tonearm.training.tfcheckpoint import checkpoint_files

Floats = NDArray[np.float32]

TEACHER_RATE = 16_000  # of musicnn and the FCN, in Hz
STUDENT_FRONT_END = FRONT_ENDS["efficientat"]  # which mn04 shares with the student
PATCH_SECONDS = musicnn.PATCH_FRAMES / musicnn.FRONT_END.frames_per_second

ATTRIBUTION = f"Taught by {musicnn.ATTRIBUTION}, and {fcn.ATTRIBUTION}"


class TeacherOutputs(NamedTuple):
    """The teachers' outputs for one segment of music.

    Patches are consecutive pieces of `PATCH_SECONDS`; musicnn ignores a remainder shorter than
    that.
    """

    musicnn: Floats  # float32[patches, 1506]
    musicnn_tags: Floats  # float32[patches, 50], logits
    fcn: Floats  # float32[64]
    fcn_tags: Floats  # float32[50], logits
    mn04: Floats  # float32[384], the mean of its features
    audioset: Floats  # float32[527], logits of mn04


@dataclass(frozen=True)
class Teachers:
    """MSD_musicnn, the FCN of Won et al. and mn04 of EfficientAT; made by `load_teachers`."""

    musicnn: musicnn.Musicnn
    fcn: fcn.Fcn
    mn04: AudioSetMobileNet

    @torch.inference_mode()
    def __call__(self, samples: Floats, logmel: NDArray[np.floating]) -> TeacherOutputs:
        """Return the outputs of all three for one segment of music.

        A segment that is too short for a teacher is repeated until it is long enough.

        Parameters
        ----------
        samples
            float32[n] at `TEACHER_RATE`.
        logmel
            float[frames, 128], the frames of the same segment from `STUDENT_FRONT_END`.
        """
        of_musicnn = self.musicnn(torch.from_numpy(patches(LogMel(musicnn.FRONT_END)(samples))))
        frames = at_least(LogMel(fcn.FRONT_END)(samples), fcn.SHORTEST_FRAMES)
        of_fcn = self.fcn(torch.from_numpy(frames)[None])
        audioset, embedding = self.mn04(torch.from_numpy(np.asarray(logmel, np.float32))[None])
        return TeacherOutputs(
            musicnn=of_musicnn.pooled.numpy(),
            musicnn_tags=of_musicnn.tags.numpy(),
            fcn=of_fcn.embedding[0].numpy(),
            fcn_tags=of_fcn.tags[0].numpy(),
            mn04=embedding[0].numpy(),
            audioset=audioset[0].numpy(),
        )


def load_teachers() -> Teachers:
    """Load the three networks.

    Raises
    ------
    MusicnnError, CheckpointError, FcnError, PretrainedError
        If the weights of one are missing or invalid; if missing, the text says how to get them.
    """
    return Teachers(musicnn.load_musicnn(), fcn.load_fcn(), load_pretrained())


def teachers_fingerprint() -> str:
    """Return a hash that changes with any of the three networks' weight files.

    Raises
    ------
    MusicnnError, FcnError, PretrainedError
        If the weights of one are missing.
    OSError
        If a file cannot be read.
    """
    digest = hashlib.sha256()
    for file in (*checkpoint_files(musicnn.find_musicnn()), fcn.find_fcn(), find_pretrained()):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def patches(logmel: Floats) -> Floats:
    """Cut frames into float32[patches, PATCH_FRAMES, mels], dropping a shorter remainder."""
    logmel = at_least(logmel, musicnn.PATCH_FRAMES)
    count = len(logmel) // musicnn.PATCH_FRAMES
    return logmel[: count * musicnn.PATCH_FRAMES].reshape(count, musicnn.PATCH_FRAMES, -1)


def at_least(logmel: Floats, frames: int) -> Floats:
    """Repeat frames until there are at least `frames`."""
    if len(logmel) >= frames:
        return logmel
    repeated: Floats = np.take(logmel, np.arange(frames), axis=0, mode="wrap")
    return repeated
