"""Find where in a recording the evidence for a genre lies, by covering it patch by patch.

A bundle is an ONNX graph without gradients, so the evidence is measured from outside (occlusion:
Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014): a patch of
time and frequency is set to the recording's mean level in all of the network's log-mel inputs. The
evidence in the patch is the resulting loss in the genre's log-probability.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tonearm import audio
from tonearm.classifier import Classifier, heard_windows, log_softmax
from tonearm.errors import UsageError
from tonearm.features.mel import hz_to_mel, mel_to_hz
from tonearm.inputs import checked_samples, path_of
from tonearm.loudness import Loudness
from tonearm.prediction import Prediction
from tonearm.text import enumerated
from tonearm.windows import LENGTH_TOLERANCE_SECONDS

EXPLAINED_SECONDS = 30.0  # of a longer recording, its middle
PATCH_SECONDS = 1.0
FEWEST_PATCHES = 4  # in time, for a recording of a few seconds
BANDS = 8  # of equal width in mel

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where the evidence for a genre lies.

    Attributes
    ----------
    genre
        The genre explained.
    prediction
        The prediction for the stretch explained; the times of its segments count from the
        beginning of the recording.
    times
        float32[T], the centres of the patches in seconds from the beginning of the recording.
    bands
        float32[B], the centres of the patches in Hz.
    evidence
        float32[T, B] in nats: how much the log-probability of the genre drops when the patch is
        covered. Values above 0 are evidence for the genre, values below 0 against it.
    start
        Start of the stretch in seconds.
    recording
        The stretch itself, at the model's rate.
    """

    genre: str
    prediction: Prediction
    times: Floats
    bands: Floats
    evidence: Floats
    start: float
    recording: audio.Recording

    def at(self, seconds: npt.ArrayLike, hertz: npt.ArrayLike) -> Floats:
        """Return the evidence at any points, float32[seconds, hertz]; a scalar counts as one point.

        It interpolates between patches just as they fade into each other when covered, so it shows
        no more detail than was measured.
        """
        time_weights = _interpolation_weights(seconds, self.times)
        mel_weights = _interpolation_weights(hz_to_mel(hertz), hz_to_mel(self.bands))
        return np.asarray(time_weights @ self.evidence @ mel_weights.T)


def explain(
    classifier: Classifier,
    source: audio.Source | npt.NDArray[np.floating],
    genre: str | None = None,
    *,
    rate: int | None = None,
    start: float | None = None,
    duration: float = EXPLAINED_SECONDS,
) -> Explanation:
    """Return where in a recording the evidence for a genre lies.

    This takes one run of the network for each patch: 80 for a window of ten seconds.

    Parameters
    ----------
    classifier
        The classifier whose prediction is explained.
    source
        A file (path or opened in binary mode), or mono samples float[n] in [-1, 1].
    genre
        The genre to explain; by default the most probable one.
    rate
        Sample rate in Hz; for samples only.
    start
        Seconds to skip; by default, so many that the middle of the recording is explained.
    duration
        Most seconds to explain. A recording longer by less than a second is explained as a whole,
        unless `start` is given.

    Raises
    ------
    UsageError
        If the model does not know the genre, samples come without a rate, or rate, start or
        duration is out of range.
    audio.AudioError, BundleError
        As raised by the classifier.
    """
    if genre is not None and genre not in classifier.labels:
        known = enumerated(classifier.labels)
        raise UsageError(f"the model does not know the genre {genre!r} (it knows {known})")
    if start is not None and not 0 <= start < np.inf:
        raise UsageError(f"start: expected seconds from 0, got {start}")
    if not 0 < duration < np.inf:
        raise UsageError(f"duration: expected seconds above 0, got {duration}")
    read_rate = classifier.sample_rate
    if classifier.bundle.metadata.descriptors:  # which may need what a front end leaves out
        from tonearm.features.descriptors import DESCRIPTOR_RATE

        read_rate = max(read_rate, DESCRIPTOR_RATE)
    path = None
    if isinstance(source, np.ndarray):
        recording, start = _stretch_of_samples(source, rate, read_rate, start, duration)
    else:
        path = path_of(source, rate)
        limit = classifier.time_limit
        recording, start = _stretch_of_file(source, read_rate, start, duration, limit)
    start = float(start)  # JSON takes no NumPy numbers
    occlusion = Occlusion(classifier, recording, path, start)
    explained = genre or occlusion.prediction.genre
    return Explanation(
        genre=explained,
        prediction=occlusion.prediction,
        times=(occlusion.times + start).astype(np.float32),
        bands=occlusion.bands.astype(np.float32),
        evidence=occlusion.evidence(explained),
        start=start,
        recording=occlusion.recording,
    )


class Occlusion:
    """A network's inputs for a recording, parts of which can be covered.

    Parameters
    ----------
    classifier
        Cuts the recording into windows and runs its bundle, which is run again for every cover.
    recording
        The recording. If the bundle takes descriptors, these are computed from it at its own rate.
    path, start
        Its file and its start there, used only in the prediction and in errors.
    """

    def __init__(
        self,
        classifier: Classifier,
        recording: audio.Recording,
        path: Path | None = None,
        start: float = 0.0,
    ) -> None:
        try:
            prediction = classifier(recording.samples, recording.rate)
        except audio.AudioError as error:
            where = f", from {start:.1f} s on" if start else ""
            raise type(error)(str(path or error.path), error.reason + where) from None
        self.prediction = _with_offset(prediction, path, start, truncated=recording.truncated)
        self.recording = replace(
            recording,
            samples=_resampled(recording.samples, recording.rate, classifier.sample_rate),
            rate=classifier.sample_rate,
        )
        self._bundle = classifier.bundle
        self._column = {label: i for i, label in enumerate(classifier.labels)}
        self._descriptors = classifier.describe(recording.samples, recording.rate)

        front_ends = self._bundle.metadata.front_ends
        highest = hz_to_mel(max(front_end.f_max for front_end in front_ends))
        mels = (np.arange(BANDS) + 0.5) / BANDS * highest
        self.bands = mel_to_hz(mels)
        count = max(FEWEST_PATCHES, round(prediction.duration / PATCH_SECONDS))
        self.times = (np.arange(count) + 0.5) / count * prediction.duration
        self._mel_weights = [
            _interpolation_weights(hz_to_mel(end.band_centres), mels) for end in front_ends
        ]
        loudness = Loudness(self.recording.rate)
        windows = list(classifier.windows([self.recording.samples], loudness))
        # The second front end's window begins within a frame of the first one's.
        self._windows = [
            _Window(
                window.frames,
                [
                    _interpolation_weights(
                        window.start + np.arange(view.shape[1]) / end.frames_per_second, self.times
                    )
                    for view, end in zip(window.frames, front_ends, strict=True)
                ],
            )
            for window in windows
        ]
        self._level = [
            np.concatenate([window.frames[i][0] for window in self._windows]).mean(axis=0)
            for i in range(len(front_ends))
        ]
        self._heard = heard_windows([window.is_silent for window in windows])
        self._logits = np.concatenate([self._score(window.frames) for window in self._windows])

    def log_probabilities(self, cover: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the calibrated log-probability of each genre when patches are covered.

        Parameters
        ----------
        cover
            float[T, B], for each patch from 0 (unchanged) to 1 (at the recording's mean level).
        """
        cover = np.asarray(cover, np.float32)
        logits = self._logits.copy()
        for i, window in enumerate(self._windows):
            if (window.time_weights[0] @ cover).any():  # otherwise the window is unchanged
                covered = [
                    frames + (time_weights @ cover @ mel_weights.T) * (level - frames)
                    for frames, time_weights, mel_weights, level in zip(
                        window.frames,
                        window.time_weights,
                        self._mel_weights,
                        self._level,
                        strict=True,
                    )
                ]
                logits[i] = self._score(covered)[0]
        clip = log_softmax(logits[self._heard]).mean(axis=0)
        return log_softmax(clip / self._bundle.metadata.temperature)

    def evidence(self, genre: str) -> Floats:
        """Return how much covering each patch lowers a genre's log-probability, float32[T, B]."""
        shape = len(self.times), len(self.bands)
        column = self._column[genre]
        uncovered = self.log_probabilities(np.zeros(shape))[column]
        losses = np.empty(shape, np.float32)
        for patch in np.ndindex(shape):
            cover = np.zeros(shape)
            cover[patch] = 1.0
            losses[patch] = uncovered - self.log_probabilities(cover)[column]
        return losses

    def _score(self, frames: list[Floats]) -> Floats:
        return self._bundle.run(frames, self._descriptors).logits


@dataclass(frozen=True, eq=False)
class _Window:
    """The network's frames of one window, and the weight of each patch at each of them."""

    frames: list[Floats]  # float32[1, frames, mels] for each front end
    time_weights: list[Floats]  # float32[frames, T] for each front end


def _stretch_of_file(
    source: audio.Source, rate: int, start: float | None, duration: float, time_limit: float | None
) -> tuple[audio.Recording, float]:
    """Read the stretch to explain; return it and its start in seconds."""
    if start is None:
        # Not the header's duration: for some files it is only a guess, and far too long.
        length = audio.identify(source, time_limit=time_limit).duration
        start, duration = _middle(length, duration) if length is not None else (0.0, duration)
    return audio.read(source, rate, start, duration, time_limit=time_limit), start


def _middle(length: float, duration: float) -> tuple[float, float]:
    """Return start and duration, in seconds, of the stretch to explain in a recording."""
    left_out = length - duration
    if left_out < LENGTH_TOLERANCE_SECONDS:
        # Not the length itself, which may be reported slightly too short.
        return 0.0, duration + LENGTH_TOLERANCE_SECONDS
    return left_out / 2, duration


def _stretch_of_samples(
    samples: npt.NDArray[np.floating],
    rate: int | None,
    read_rate: int,
    start: float | None,
    duration: float,
) -> tuple[audio.Recording, float]:
    """Cut the stretch to explain out of samples; return it and its start in seconds."""
    samples, rate = checked_samples(samples, rate)
    if start is None:
        start, duration = _middle(len(samples) / rate, duration)
    stretch = samples[round(start * rate) : round((start + duration) * rate)]
    return audio.Recording(_resampled(stretch, rate, read_rate), read_rate), start


def _resampled(samples: npt.NDArray[np.floating], rate: int, new_rate: int) -> Floats:
    blocks = list(audio.resample(samples, rate, new_rate))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def _with_offset(
    prediction: Prediction, path: Path | None, start: float, *, truncated: bool
) -> Prediction:
    """Return a stretch's prediction with the file's path, and times offset by its start."""
    segments = tuple(
        replace(segment, start=segment.start + start, end=segment.end + start)
        for segment in prediction.segments
    )
    return replace(prediction, path=path, segments=segments, truncated=truncated)


def _interpolation_weights(points: npt.ArrayLike, centres: npt.ArrayLike) -> Floats:
    """Return the weight of each patch at each point, given the patches' ascending centres.

    Patches fade linearly into their neighbours: to the network, a hard edge would be an event.

    Returns
    -------
    float32[points, centres]
        Each row sums to 1.
    """
    points, centres = np.atleast_1d(points), np.asarray(centres)
    hats = [np.interp(points, centres, hat) for hat in np.eye(len(centres))]
    return np.stack(hats, axis=1).astype(np.float32)
