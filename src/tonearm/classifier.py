"""From a recording to its genre: decode, cut into windows, score each, average the scores."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress
from operator import length_hint
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from tonearm import audio, bundle
from tonearm.bundle import Bundle
from tonearm.errors import UsageError
from tonearm.features.logmel import LogMel
from tonearm.inputs import as_path, check_audible, checked_samples, path_of, path_or_failure
from tonearm.loudness import Loudness
from tonearm.media import require_several
from tonearm.prediction import Failure, Prediction, Segment, Thresholds
from tonearm.time_limits import check_time_limit, known_size, time_limit_for
from tonearm.windows import PADDED_SECONDS, model_windows

if TYPE_CHECKING:
    from tonearm.bundle_descriptors import BundleDescriptors
    from tonearm.isolation import IsolatedClassifier

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


class Window(NamedTuple):
    """One window of a recording, as the network hears it.

    Attributes
    ----------
    start, end
        Seconds from the beginning of the recording.
    frames
        float32[1, frames, mels] for each of the bundle's front ends.
    is_silent
        Whether hardly anything in it is audible. The network would take silence for quiet music,
        so such windows count for nothing, unless there are no others (see `heard_windows`).
    """

    start: float
    end: float
    frames: list[Floats]
    is_silent: bool


class Classifier:
    """Predicts the genre of recordings with one model.

    Parameters
    ----------
    model
        The bundle to use.
    time_limit
        Seconds that one file may take; by default two minutes, plus four seconds for each
        megabyte. Within that, reading and decoding have a default limit of their own (see
        `audio.stream`).
    thresholds
        Thresholds of the verdict; by default the bundle's own.

    Raises
    ------
    UsageError
        If the time limit is not above 0.
    BundleError
        If the bundle needs descriptors that this version does not compute.

    Examples
    --------
    >>> classifier = Classifier.load()
    >>> classifier("song.mp3").genre  # doctest: +SKIP
    'jazz'
    """

    def __init__(
        self,
        model: Bundle,
        *,
        time_limit: float | None = None,
        thresholds: Thresholds | None = None,
    ) -> None:
        check_time_limit(time_limit)
        self.bundle = model
        self.thresholds: Thresholds = thresholds or Thresholds(
            model.metadata.music_threshold, model.metadata.unsure_threshold
        )
        self.time_limit = time_limit
        # Hz, of what the networks hear
        self.sample_rate: int = model.metadata.front_end.sample_rate
        self._logmels = [LogMel(front_end) for front_end in model.metadata.front_ends]
        self._descriptors: BundleDescriptors | None = None
        if model.metadata.descriptors:  # which few models take, and all would have to load
            from tonearm.bundle_descriptors import BundleDescriptors

            self._descriptors = BundleDescriptors(model)

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] = bundle.DEFAULT_NAME,
        threads: int = 1,
        *,
        music_threshold: float | None = None,
        unsure_threshold: float | None = None,
        time_limit: float | None = None,
    ) -> Classifier:
        """Open a model by its name, its path or the folder of its training run.

        Parameters
        ----------
        model
            ``"default"`` is the one in the package; `tonearm.bundle.available` lists the names.
        threads
            How many threads the network may use.
        music_threshold, unsure_threshold
            Thresholds of the verdict (see `Thresholds`); by default the model's own.
        time_limit
            Seconds that one file may take (see `Classifier`).

        Raises
        ------
        UsageError
            If there is no model of that name, a threshold is not from 0 to 1, or the number of
            threads or the time limit is not above 0.
        BundleError
            If there is no model at a path, or it cannot be used.
        """
        loaded = Bundle.load(bundle.find(model), threads)
        metadata = loaded.metadata
        thresholds = Thresholds(
            metadata.music_threshold if music_threshold is None else music_threshold,
            metadata.unsure_threshold if unsure_threshold is None else unsure_threshold,
        )
        return cls(loaded, time_limit=time_limit, thresholds=thresholds)

    @property
    def labels(self) -> tuple[str, ...]:
        """The genres this model knows."""
        return self.bundle.metadata.labels

    def __call__(
        self, source: audio.Source | npt.NDArray[np.floating], rate: int | None = None
    ) -> Prediction:
        """Classify one recording.

        A file is read once, block by block, so a longer one takes more time but no more memory.

        Parameters
        ----------
        source
            A file in any format FFmpeg reads, given as a path or opened in binary mode
            (``io.BytesIO(data)``; read from its beginning and left open), or mono samples
            float[n] in [-1, 1].
        rate
            Sample rate in Hz; for samples only.

        Raises
        ------
        audio.AudioError
            If the file cannot be decoded, holds less than a quarter of a second
            (`audio.TooShort`) or only silence (`SilentAudio`), or takes too long
            (`audio.TimedOut`).
        UsageError
            If `source` is neither a file nor samples, if samples come without a rate or are not a
            finite one-dimensional float array, or if a file comes with a rate.
        BundleError
            If the model's graph fails, or returns anything but finite numbers.
        """
        if isinstance(source, np.ndarray):
            return self._classify_samples(source, rate)
        return self._classify_file(source, path_of(source, rate))

    def classify_stretches(
        self, path: str | os.PathLike[str], stretches: Iterable[tuple[float, float]]
    ) -> Prediction:
        """Classify a file by some stretches of it, without decoding what lies between them.

        Each stretch is cut into windows as if it were a recording of its own, and all windows
        count equally. The prediction's duration is the total length of the stretches found in the
        file; if one is missing, the prediction is marked as truncated.

        Parameters
        ----------
        path
            A file in any format FFmpeg reads.
        stretches
            Start and length of each stretch, in seconds.

        Raises
        ------
        audio.AudioError
            As for a whole file; `audio.TooShort` if the file contains none of the stretches.
        UsageError
            If `path` is no path, or a start or length is out of range.
        BundleError
            As for a whole file.
        """
        path = as_path(path)
        deadline = _Deadline(path, self.time_limit)
        descriptors = self._describe_file(path)
        scores = _Scores(self.sample_rate)
        truncated = False
        for start, seconds in stretches:
            try:
                with audio.stream(
                    path, self.sample_rate, start, seconds, time_limit=self.time_limit
                ) as blocks:
                    stretch = self._score_windows(deadline.enforce(blocks), descriptors)
                    scores.add(stretch, float(start))  # JSON takes no NumPy numbers
                    truncated |= blocks.truncated
            except audio.TooShort:
                truncated = True
        return self._aggregate(path, scores, truncated=truncated)

    def classify_files(
        self, paths: Iterable[str | os.PathLike[str]], workers: int = 1
    ) -> Iterator[Prediction | Failure]:
        """Classify many files, yielding results in the order of the files as soon as possible.

        Parameters
        ----------
        paths
            The files; the iterable is consumed as needed.
        workers
            Number of processes to share the work. A file that crashes its process, or hangs in
            it, is the only one to fail. A script that asks for more than one process needs the
            usual ``if __name__ == "__main__":`` guard.

        Yields
        ------
        Prediction or Failure
            One for each path.

        Raises
        ------
        UsageError
            If `paths` is a single path, or `workers` is below 1. While iterating, with more than
            one process, also if this process may not start others.
        StartError
            While iterating, if a process dies or fails before it can begin.
        """
        require_several("paths", paths)
        if workers < 1:
            raise UsageError(f"workers: expected 1 or more, got {workers}")
        workers = min(workers, length_hint(paths, workers))  # do not start processes that stay idle
        if workers <= 1:
            return map(self.attempt, paths)
        from tonearm.isolation import classify_in_processes

        return classify_in_processes(self, paths, workers)

    def attempt(self, path: str | os.PathLike[str]) -> Prediction | Failure:
        """Classify a file, returning a `Failure` for anything wrong with it or its name."""
        file = path_or_failure(path)
        if isinstance(file, Failure):
            return file
        try:
            return self(file)
        except Exception as error:  # one strange file must not end a long job
            return Failure.of(file, error)

    def isolated(self) -> IsolatedClassifier:
        """Return the same classifier running in a process of its own."""
        from tonearm.isolation import IsolatedClassifier

        return IsolatedClassifier(self)

    def _classify_file(self, source: audio.Source, path: Path | None) -> Prediction:
        # The source as given, because errors name it: a `Path` would drop a slash of "http://".
        deadline = _Deadline(source, self.time_limit)
        descriptors = self._describe_file(source)
        with audio.stream(source, self.sample_rate, time_limit=self.time_limit) as blocks:
            scores = self._score_windows(deadline.enforce(blocks), descriptors)
            return self._aggregate(path, scores, truncated=blocks.truncated)

    def _classify_samples(self, samples: npt.NDArray[np.floating], rate: int | None) -> Prediction:
        signal, rate = checked_samples(samples, rate)
        blocks = audio.resample(signal, rate, self.sample_rate)
        scores = self._score_windows(blocks, self.describe(signal, rate))
        return self._aggregate(None, scores, truncated=False)

    def _score_windows(self, blocks: Iterable[Floats], descriptors: Floats | None) -> _Scores:
        """Score every window of a recording that comes in blocks of float32[n].

        Windows are run one at a time: on one thread, larger batches are no faster and do not fit
        in the processor's cache.
        """
        scores = _Scores(self.sample_rate)
        loudness = Loudness(self.sample_rate)
        for window in self.windows(blocks, loudness):
            outputs = self.bundle.run(window.frames, descriptors)
            scores.spans.append((window.start, window.end))
            scores.silent.append(window.is_silent)
            scores.logits.append(outputs.logits[0])
            scores.embeddings.append(outputs.embedding[0])
            if outputs.music is not None:
                scores.music.append(_sigmoid(float(outputs.music[0, 0])))
        scores.samples, scores.peak = loudness.samples, loudness.peak
        scores.spans = [(start, min(end, scores.seconds)) for start, end in scores.spans]
        return scores

    def windows(self, blocks: Iterable[Floats], loudness: Loudness) -> Iterator[Window]:
        """Yield every window of a recording at the model's rate, in blocks of float32[n].

        Parameters
        ----------
        blocks
            The recording.
        loudness
            A new one, at the same rate; in the end it knows the whole recording.
        """
        shortest = round(PADDED_SECONDS * self.sample_rate)
        copies = _tee(_padded(loudness.monitor(blocks), shortest), len(self._logmels))
        streams = [
            self._windows_of(logmel, copy)
            for logmel, copy in zip(self._logmels, copies, strict=True)
        ]
        # A last window that only one of the front ends yields (by rounding) is left out.
        for ((start, end), first), *others in zip(*streams, strict=False):
            frames = [first, *(frames for _, frames in others)]
            yield Window(start, end, frames, loudness.is_silent(start, end))

    def describe(self, samples: Floats, rate: int) -> Floats | None:
        """Return the descriptors of mono samples that the bundle takes, float32[1, D].

        None if it takes none, or there are no samples.
        """
        return self._descriptors.of_samples(samples, rate) if self._descriptors else None

    def _windows_of(
        self, logmel: LogMel, blocks: Iterable[Floats]
    ) -> Iterator[tuple[tuple[float, float], Floats]]:
        """Yield (start, end) in seconds and the frames of every window of one front end."""
        per_second, model = logmel.config.frames_per_second, self.bundle.metadata
        for first, window in model_windows(
            logmel.stream(blocks), per_second, model.window_seconds, model.hop_seconds
        ):
            span = first / per_second, (first + len(window)) / per_second
            yield span, window[np.newaxis]

    def _aggregate(self, path: Path | None, scores: _Scores, *, truncated: bool) -> Prediction:
        """Average the windows' scores into a prediction; raise if the recording is not audible."""
        check_audible(scores.seconds, scores.peak, str(path or "<samples>"))
        log_probabilities = log_softmax(np.stack(scores.logits))
        heard = heard_windows(scores.silent)
        window_music: list[float | None] = [*scores.music] or [None] * len(scores.spans)
        segments = tuple(
            self._segment(span, row, music, scores.seconds, is_heard=is_heard)
            for span, row, music, is_heard in zip(
                scores.spans, log_probabilities, window_music, heard.tolist(), strict=True
            )
        )
        probabilities = self._ranked(log_probabilities[heard].mean(axis=0))
        genre, confidence = next(iter(probabilities.items()))
        music = _mean_of_top_half([*compress(scores.music, heard)]) if scores.music else None
        return Prediction(
            path=path,
            genre=genre,
            confidence=confidence,
            probabilities=probabilities,
            segments=segments,
            duration=scores.seconds,
            truncated=truncated,
            embedding=np.mean(np.stack(scores.embeddings)[heard], axis=0, dtype=np.float32),
            music=music,
            verdict=self.thresholds.verdict(music, confidence, scores.seconds),
        )

    def _segment(
        self,
        span: tuple[float, float],
        log_probabilities: Doubles,
        music: float | None,
        seconds: float,
        *,
        is_heard: bool,
    ) -> Segment:
        probabilities = self._ranked(log_probabilities)
        confidence = next(iter(probabilities.values()))
        heard_as_music = music if is_heard else 0.0
        verdict = self.thresholds.verdict(heard_as_music, confidence, seconds)
        return Segment(*span, probabilities, None if music is None else heard_as_music, verdict)

    def _ranked(self, log_probabilities: Doubles) -> dict[str, float]:
        """Return calibrated probabilities by genre, the most probable first."""
        calibrated = np.exp(log_softmax(log_probabilities / self.bundle.metadata.temperature))
        order = np.argsort(-calibrated, kind="stable")
        return {self.labels[i]: float(calibrated[i]) for i in order}

    def _describe_file(self, source: audio.Source) -> Floats | None:
        return self._descriptors.of_file(source, self.time_limit) if self._descriptors else None


class _Deadline:
    """The wall-clock time by which a file must be done.

    The limit of `audio.stream` counts only reading and decoding. This one includes the time of the
    network, because a small file can decode to days of sound.
    """

    def __init__(self, source: audio.Source, time_limit: float | None) -> None:
        self._name = audio.name_of(source)
        self._limit = time_limit_for(known_size(source), time_limit)
        self._end = time.monotonic() + self._limit

    def enforce(self, blocks: Iterable[Floats]) -> Iterator[Floats]:
        """Pass blocks on; raise `audio.TimedOut` once the time is up."""
        for block in blocks:
            if time.monotonic() > self._end:
                reason = f"took longer than the limit of {self._limit:g} s"
                raise audio.TimedOut(self._name, reason)
            yield block


class _Scores:
    """What is known so far of one recording: its windows' scores, length and peak."""

    def __init__(self, rate: int) -> None:
        # One of each for every window; spans in seconds.
        self.spans: list[tuple[float, float]] = []
        self.silent: list[bool] = []
        self.logits: list[Floats] = []
        self.embeddings: list[Floats] = []
        self.music: list[float] = []  # probabilities; empty if the bundle has no such output
        self.peak = 0.0
        self.samples = 0
        self._rate = rate

    @property
    def seconds(self) -> float:
        return self.samples / self._rate

    def add(self, stretch: _Scores, start: float) -> None:
        """Add the results of a stretch that begins at `start` seconds."""
        self.spans += [(start + begin, start + end) for begin, end in stretch.spans]
        self.silent += stretch.silent
        self.logits += stretch.logits
        self.embeddings += stretch.embeddings
        self.music += stretch.music
        self.peak = max(self.peak, stretch.peak)
        self.samples += stretch.samples


def _padded(blocks: Iterable[Floats], shortest: int) -> Iterator[Floats]:
    """Pass blocks on, followed by zeros if there are fewer than `shortest` samples."""
    missing = shortest
    for block in blocks:
        missing -= len(block)
        yield block
    if missing > 0:
        yield np.zeros(missing, np.float32)


def _tee(blocks: Iterable[Floats], readers: int) -> list[Iterator[Floats]]:
    """Share one stream of blocks between several readers, freeing blocks that all have read.

    `itertools.tee` does that too, but keeps up to 57 blocks.
    """
    source = iter(blocks)
    queues: list[deque[Floats]] = [deque() for _ in range(readers)]

    def read(pending: deque[Floats]) -> Iterator[Floats]:
        while True:
            if not pending:
                block = next(source, None)
                if block is None:
                    return
                for other in queues:
                    other.append(block)
            yield pending.popleft()

    return [read(pending) for pending in queues]


def heard_windows(silent: Sequence[bool]) -> npt.NDArray[np.bool_]:
    """Return which windows count, bool[windows]: those that are not silent, or else all."""
    heard = ~np.asarray(silent)
    return heard if heard.any() else np.ones_like(heard)


def _mean_of_top_half(probabilities: list[float]) -> float:
    """Return the mean over the half of the windows that sound most like music.

    This way a song stays music despite a spoken introduction, applause or a silent end. Averaging
    probabilities rather than logits keeps one very musical moment (a jingle) from outweighing an
    hour of talk.
    """
    best = sorted(probabilities, reverse=True)[: math.ceil(len(probabilities) / 2)]
    return sum(best) / len(best)


def _sigmoid(logit: float) -> float:
    """Turn a logit into a probability, without overflow."""
    return 0.5 * (1.0 + math.tanh(logit / 2))


def log_softmax(scores: npt.NDArray[np.floating]) -> Doubles:
    """Return the logarithm of the softmax along the last axis, in double precision."""
    shifted = scores - scores.max(axis=-1, keepdims=True).astype(np.float64)
    normalised: Doubles = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normalised
