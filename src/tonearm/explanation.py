"""Finds where in a recording the evidence for a genre lies, by covering it part by part.

A bundle is an ONNX graph without gradients, so the evidence is measured from outside (occlusion:
Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014): a patch of
time and frequency is brought to the recording's mean level, in all that the network hears of it,
and the evidence in the patch is what the genre's log-probability loses by that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tonearm import audio
from tonearm.audible import checked_samples, path_of
from tonearm.bundle import Bundle, Outputs
from tonearm.classifier import Classifier, log_softmax
from tonearm.errors import UsageError
from tonearm.features.mel import band_centres, hz_to_mel, mel_to_hz
from tonearm.prediction import Prediction

EXPLAINED_SECONDS = 30.0  # of a longer recording, its middle
# A recording longer by less than this is explained whole: clips of 30 s are often some milliseconds
# longer, and moved by these the windows would not be those that were classified.
SPARED_SECONDS = 1.0
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
        The one explained.
    prediction
        Of the stretch that was explained; the times of its segments count from the beginning of
        the recording.
    times
        float32[T], the centres of the patches in seconds from the beginning of the recording.
    bands
        float32[B], their centres in Hz.
    evidence
        float32[T, B] in nats: what the log-probability of the genre loses when the patch is
        covered. More than 0 speaks for the genre, less against it.
    start
        Where the stretch begins, in seconds.
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
        """Evidence at any place, float32[seconds, hertz]; a number counts as a list of one.

        Patches fade into each other in the same way when they are covered, so this shows no more
        detail than was measured.
        """
        along_time = _shares(seconds, self.times)
        along_mel = _shares(_mel(hertz), _mel(self.bands))
        return np.asarray(along_time @ self.evidence @ along_mel.T)


def explain(
    classifier: Classifier,
    source: audio.Source | npt.NDArray[np.floating],
    genre: str | None = None,
    *,
    rate: int | None = None,
    start: float | None = None,
    duration: float = EXPLAINED_SECONDS,
) -> Explanation:
    """Say where in a recording the evidence for a genre lies.

    It takes one run of the network for each patch: about 90 for a window of ten seconds.

    Parameters
    ----------
    classifier
        The one whose answer is explained.
    source
        A file, by its path or open as binary, or mono samples float[n] in [-1, 1].
    genre
        By default the most probable.
    rate
        The samples' rate in Hz; not for files.
    start
        Seconds to leave out; by default as many as leave the middle of the recording.
    duration
        Seconds to explain, at most. A recording longer by less than a second is explained whole,
        unless `start` is given.

    Raises
    ------
    UsageError
        If the model does not know the genre, samples come without a rate, or rate, start or
        duration cannot be meant.
    audio.AudioError
        As by the classifier.
    """
    if genre is not None and genre not in classifier.labels:
        known = ", ".join(classifier.labels)
        raise UsageError(f"the model does not know the genre {genre!r} (it knows {known})")
    if start is not None and not 0 <= start < np.inf:
        raise UsageError(f"start: expected seconds from 0, got {start}")
    if not 0 < duration < np.inf:
        raise UsageError(f"duration: expected seconds above 0, got {duration}")
    target = classifier.bundle.metadata.front_end.sample_rate
    path = None
    if isinstance(source, np.ndarray):
        recording, start = _stretch_of_samples(source, rate, target, start, duration)
    else:
        path = path_of(source)
        if rate is not None:
            raise UsageError("rate is for samples; a file knows its own")
        limit = classifier.time_limit
        recording, start = _stretch_of_file(source, target, start, duration, limit)
    hearing = Hearing(classifier, recording, path, start)
    explained = genre or hearing.prediction.genre
    return Explanation(
        genre=explained,
        prediction=hearing.prediction,
        times=(hearing.times + start).astype(np.float32),
        bands=hearing.bands.astype(np.float32),
        evidence=hearing.evidence(explained),
        start=start,
        recording=recording,
    )


class Hearing:
    """What a network hears of a recording, parts of which can be covered.

    Parameters
    ----------
    classifier
        Cuts the recording into windows and asks its bundle, which is asked again below.
    recording
        At the classifier's rate.
    path, start
        Where it comes from; only named in the prediction and in errors.
    """

    def __init__(
        self,
        classifier: Classifier,
        recording: audio.Recording,
        path: Path | None = None,
        start: float = 0.0,
    ) -> None:
        notes = _Notebook(classifier.bundle)
        try:
            prediction = Classifier(notes, thresholds=classifier.thresholds)(
                recording.samples, recording.rate
            )
        except audio.AudioError as error:
            raise type(error)(str(path or error.path), error.reason) from None
        begins = [segment.start for segment in prediction.segments]
        self.prediction = _placed(prediction, path, start, truncated=recording.truncated)
        self._bundle = classifier.bundle
        self._column = {label: i for i, label in enumerate(classifier.labels)}
        self._logits = np.concatenate(notes.logits)

        front_ends = self._bundle.metadata.front_ends
        highest = _mel(max(front_end.f_max for front_end in front_ends))
        mels = (np.arange(BANDS) + 0.5) / BANDS * highest
        self.bands = mel_to_hz(mels)
        count = max(FEWEST_PATCHES, round(prediction.duration / PATCH_SECONDS))
        self.times = (np.arange(count) + 0.5) / count * prediction.duration
        self._along_mel = [
            _shares(_mel(band_centres(end.n_mels, end.f_min, end.f_max, end.scale)), mels)
            for end in front_ends
        ]
        # The second front end's window begins within a frame of the first one's.
        self._windows = [
            _Window(
                asked.descriptors,
                asked.frames,
                [
                    _shares(begin + np.arange(frames.shape[1]) / end.frames_per_second, self.times)
                    for frames, end in zip(asked.frames, front_ends, strict=True)
                ],
            )
            for begin, asked in zip(begins, notes.questions, strict=True)
        ]
        self._level = [
            np.concatenate([window.frames[i][0] for window in self._windows]).mean(axis=0)
            for i in range(len(front_ends))
        ]

    def log_probabilities(self, cover: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Give the calibrated log-probability of each genre when patches are covered.

        Parameters
        ----------
        cover
            float[T, B], from 0 (left as it is) to 1 (at the recording's mean level) per patch.
        """
        cover = np.asarray(cover, np.float32)
        logits = self._logits.copy()
        for i, window in enumerate(self._windows):
            if (window.along_time[0] @ cover).any():  # the other windows stay as they were
                first, *second = (
                    frames + (along_time @ cover @ along_mel.T) * (level - frames)
                    for frames, along_time, along_mel, level in zip(
                        window.frames, window.along_time, self._along_mel, self._level, strict=True
                    )
                )
                outputs = self._bundle.run(first, window.descriptors, *second)
                logits[i] = outputs.logits[0]
        clip = log_softmax(logits).mean(axis=0)
        return log_softmax(clip / self._bundle.metadata.temperature)

    def evidence(self, genre: str) -> Floats:
        """Give what the log-probability of a genre loses by covering each patch, float32[T, B]."""
        shape = len(self.times), len(self.bands)
        column = self._column[genre]
        uncovered = self.log_probabilities(np.zeros(shape))[column]
        losses = np.empty(shape, np.float32)
        for patch in np.ndindex(shape):
            cover = np.zeros(shape)
            cover[patch] = 1.0
            losses[patch] = uncovered - self.log_probabilities(cover)[column]
        return losses


@dataclass(frozen=True)
class _Question:
    """What the network was asked about one window."""

    descriptors: Floats | None
    frames: list[Floats]  # float32[1, frames, mels] for each front end


@dataclass(frozen=True)
class _Window(_Question):
    """A window of a recording, and to which patches its frames belong."""

    along_time: list[Floats]  # float32[frames, T] for each front end


class _Notebook(Bundle):
    """A bundle that notes what it is asked and answers: exactly what a classifier feeds it."""

    def __init__(self, bundle: Bundle) -> None:
        vars(self).update(vars(bundle))
        self.questions: list[_Question] = []
        self.logits: list[Floats] = []

    def run(
        self, logmel: Floats, descriptors: Floats | None = None, second: Floats | None = None
    ) -> Outputs:
        outputs = super().run(logmel, descriptors, second)
        frames = [logmel] if second is None else [logmel, second]
        self.questions.append(_Question(descriptors, frames))
        self.logits.append(outputs.logits)
        return outputs


def _stretch_of_file(
    source: audio.Source, rate: int, start: float | None, duration: float, time_limit: float | None
) -> tuple[audio.Recording, float]:
    """Read the stretch that is explained and say where it begins."""
    if start is None:
        # Not as the header says: of some files it can only be guessed, and far too long.
        length = audio.identify(source, time_limit=time_limit).duration
        start, duration = _middle(length, duration) if length is not None else (0.0, duration)
    return audio.read(source, rate, start, duration, time_limit=time_limit), start


def _middle(length: float, duration: float) -> tuple[float, float]:
    """Give start and duration, in seconds, of what is explained of a recording of this length."""
    left_out = length - duration
    if left_out < SPARED_SECONDS:
        # Not the length itself, which may be told short of the last samples.
        return 0.0, duration + SPARED_SECONDS
    return left_out / 2, duration


def _stretch_of_samples(
    samples: npt.NDArray[np.floating],
    rate: int | None,
    target: int,
    start: float | None,
    duration: float,
) -> tuple[audio.Recording, float]:
    """Cut the stretch that is explained out of samples and say where it begins."""
    if rate is None:
        raise UsageError("samples need their rate in Hz, got none")
    rate = audio.checked_rate("rate", rate)
    samples = checked_samples(samples)
    if start is None:
        start, duration = _middle(len(samples) / rate, duration)
    stretch = samples[round(start * rate) : round((start + duration) * rate)]
    blocks = list(audio.resample(stretch, rate, target))
    joined = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    return audio.Recording(joined, target, truncated=False), start


def _placed(
    prediction: Prediction, path: Path | None, start: float, *, truncated: bool
) -> Prediction:
    """Let a prediction about a stretch tell where it is in which file."""
    segments = tuple(
        replace(segment, start=segment.start + start, end=segment.end + start)
        for segment in prediction.segments
    )
    return replace(prediction, path=path, segments=segments, truncated=truncated)


def _mel(hertz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    return hz_to_mel(np.asarray(hertz, np.float64))


def _shares(points: npt.ArrayLike, centres: npt.ArrayLike) -> Floats:
    """Say how much each point belongs to each of the patches around ascending centres.

    Patches fade linearly into their neighbours: an edge would be an event that the network hears.

    Returns
    -------
    float32[points, centres]
        Each row sums to 1.
    """
    points, centres = np.atleast_1d(points), np.asarray(centres)
    hats = [np.interp(points, centres, hat) for hat in np.eye(len(centres))]
    return np.stack(hats, axis=1).astype(np.float32)
