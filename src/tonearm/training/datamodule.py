"""Feed training crops and validation clips to the trainer, reproducibly for a given seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.distributed import DistributedSampler

from tonearm.datasets.cache import FailedTrack, FeatureCache
from tonearm.datasets.storage import StoredArray
from tonearm.datasets.track import DatasetError, Track
from tonearm.features.logmel import LogMel, LogMelConfig
from tonearm.training.augment import Batch, crop
from tonearm.training.experiment import DataSettings, Experiment
from tonearm.training.labels import require_labels
from tonearm.windows import PADDED_SECONDS, model_windows

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Clips:
    """Tracks with their features.

    Attributes
    ----------
    tracks
        The N tracks.
    logmels
        N arrays float16[frames, mels].
    descriptors
        float32[N, D] with NaN rows where missing, or None if they were not requested.
    targets
        float32[N, classes], a distribution per track.
    failures
        The tracks for which a feature could not be computed.
    """

    tracks: tuple[Track, ...]
    logmels: tuple[StoredArray | NDArray[np.floating], ...]
    descriptors: Floats | None
    targets: Floats
    failures: tuple[FailedTrack, ...] = ()

    def __len__(self) -> int:
        return len(self.tracks)


class Clip(NamedTuple):
    """One validation clip."""

    windows: Tensor  # float32[windows, frames, mels]
    descriptors: Tensor | None  # float32[1, D]
    target: Tensor  # float32[classes]


class Draw(NamedTuple):
    """Which clip a training example is cut from, and its position in the training."""

    epoch: int
    position: int
    clip: int


def load_clips(
    tracks: Sequence[Track],
    labels: Sequence[str],
    front_end: LogMelConfig,
    cache: FeatureCache,
    *,
    descriptors: bool,
    workers: int,
) -> Clips:
    """Return the features of labelled tracks, leaving out tracks without a log-mel spectrogram.

    `failures` lists the tracks that cannot be decoded or are too short, and those that have a
    log-mel spectrogram but no descriptors. `workers` processes compute what is not in the cache.

    Raises
    ------
    DatasetError
        If a track's label is not among the labels, or none of the tracks can be decoded.
    """
    require_labels(tracks, labels)
    logmels = cache.logmels(tracks, front_end, workers=workers)
    failures = cache.failures
    found = [(track, x) for track, x in zip(tracks, logmels, strict=True) if x is not None]
    if tracks and not found:
        raise DatasetError(f"none of {len(tracks)} tracks can be decoded: {failures[0]}")
    chosen = tuple(track for track, _ in found)
    described = None
    if descriptors:
        described = cache.descriptors(chosen, workers=workers)
        failures += cache.failures
    places = {label: i for i, label in enumerate(labels)}
    truth = [places[str(track.label)] for track in chosen]
    return Clips(
        tracks=chosen,
        logmels=tuple(x for _, x in found),
        descriptors=described,
        targets=np.eye(len(labels), dtype=np.float32)[truth],
        failures=failures,
    )


class GenreData(lightning.LightningDataModule):
    """Training crops, drawn as the settings say, and validation clips, cut into windows.

    Features come from memory or the page cache, so there are no loader processes: passing arrays
    between processes would cost more than cutting them.
    """

    def __init__(self, experiment: Experiment, train: Clips, valid: Clips) -> None:
        super().__init__()
        self.experiment = experiment
        self.train = train
        self.valid = valid

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the training batches of an epoch."""
        data = self.experiment.data
        devices = self.trainer.world_size if self.trainer else 1
        return DataLoader(
            CropDataset(self.train, self.experiment),
            batch_size=data.batch_size,
            sampler=ClipDraws(self.train, self.experiment),
            collate_fn=collate_crops,
            drop_last=data.examples_per_epoch >= devices * data.batch_size,
        )

    def val_dataloader(self) -> DataLoader[Clip]:
        """Return the validation clips, one at a time, and all of them on each device.

        Without a distributed sampler, Lightning would split the clips between devices, but macro
        F1 over all clips is not the mean of the devices' macro F1.
        """
        clips = ClipDataset(self.valid, self.experiment)
        everything: Sampler[int] = DistributedSampler(clips, num_replicas=1, rank=0, shuffle=False)
        return DataLoader(clips, batch_size=None, sampler=everything)


class CropDataset(Dataset[Batch]):
    """The training examples by draw; the same draw and seed give the same example."""

    def __init__(self, clips: Clips, experiment: Experiment) -> None:
        self.clips = clips
        self.front_end = experiment.front_end_config
        self.augment = experiment.augment
        self.loop_probability = experiment.data.loop_probability
        self.seed = experiment.seed
        self.frames = round(experiment.data.crop_seconds * self.front_end.frames_per_second)

    def __getitem__(self, draw: Draw) -> Batch:
        rng = np.random.default_rng((self.seed, draw.epoch, draw.position))
        stretch = crop(
            self.clips.logmels[draw.clip],
            self.frames,
            self.front_end,
            self.augment,
            self.loop_probability,
            rng,
        )
        described = self.clips.descriptors
        return Batch(
            torch.from_numpy(stretch),
            None if described is None else torch.from_numpy(described[draw.clip]),
            torch.from_numpy(self.clips.targets[draw.clip]),
        )


class ClipDraws(Sampler[Draw]):
    """Sampler that draws every genre equally often, unless it is told not to, and clips by length.

    The draws of an epoch depend only on the seed and the epoch, so training can resume at any
    epoch.
    """

    def __init__(self, clips: Clips, experiment: Experiment) -> None:
        data = experiment.data
        self.count = data.examples_per_epoch
        self.seed = experiment.seed
        self.epoch = 0
        crop_frames = data.crop_seconds * experiment.front_end_config.frames_per_second
        genres = clips.targets.argmax(axis=1)
        self.shares = draw_shares(
            genres if data.balanced else np.zeros_like(genres),
            np.array([len(logmel) / crop_frames for logmel in clips.logmels]),
            data.duration_power,
        )

    def __len__(self) -> int:
        return self.count

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch to draw for; Lightning calls this."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Draw]:
        """Yield draws by systematic sampling, so no clip is more than one draw off its share.

        Independent draws would leave a third of the clips out of an epoch.
        """
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(len(self.shares))
        edges = np.cumsum(self.shares[order])
        points = (np.arange(self.count) + rng.random()) / self.count * edges[-1]
        chosen = order[np.minimum(np.searchsorted(edges, points), len(order) - 1)]
        for position, clip in enumerate(rng.permutation(chosen)):
            yield Draw(self.epoch, position, int(clip))


def draw_shares(genres: NDArray[np.int64], crops: NDArray[np.floating], power: float) -> Floats:
    """Return the probability with which each clip is drawn.

    Parameters
    ----------
    genres
        int[N].
    crops
        float[N], the length of each clip in crops; less than 1 counts as 1.
    power
        See `DataSettings.duration_power`.
    """
    weights = np.maximum(crops, 1.0) ** power
    shares = np.zeros(len(genres))
    present = np.unique(genres)
    for genre in present:
        members = genres == genre
        shares[members] = weights[members] / weights[members].sum() / len(present)
    return shares.astype(np.float32)


class ClipDataset(Dataset[Clip]):
    """Clips cut into windows as the classifier will cut them."""

    def __init__(self, clips: Clips, experiment: Experiment) -> None:
        self.clips = clips
        self.front_end = experiment.front_end_config
        self.data = experiment.data

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Clip:
        described = self.clips.descriptors
        return Clip(
            clip_windows(self.clips.logmels[index], self.front_end, self.data),
            None if described is None else torch.from_numpy(described[index : index + 1]),
            torch.from_numpy(self.clips.targets[index]),
        )


def clip_windows(
    logmel: StoredArray | NDArray[np.floating], front_end: LogMelConfig, data: DataSettings
) -> Tensor:
    """Cut a clip as `tonearm.classifier` does, padding one of less than a second with silence.

    The classifier appends the silence to the samples; here it is appended to the frames, so the
    few frames at the seam differ.

    Returns
    -------
    float32[windows, frames, mels]; a clip shorter than a window gives one shorter window.
    """
    rate = front_end.frames_per_second
    frames = np.asarray(logmel, dtype=np.float32)
    missing = round(PADDED_SECONDS * rate) - len(frames)
    if missing > 0:
        silence = LogMel(front_end)(np.zeros(front_end.sample_rate, np.float32))
        frames = np.concatenate([frames, silence[:missing]])
    cut = model_windows([frames], rate, data.window_seconds, data.hop_seconds)
    return torch.from_numpy(np.stack([window for _, window in cut]))


def collate_crops(examples: list[Batch]) -> Batch:
    """Stack examples into a batch."""
    described = [x.descriptors for x in examples if x.descriptors is not None]
    return Batch(
        torch.stack([x.logmel for x in examples]),
        torch.stack(described) if described else None,
        torch.stack([x.target for x in examples]),
    )
