"""Process one file of a scan: read its tags, identify its audio, and classify it if new."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tonearm import audio
from tonearm.bundle import Bundle, BundleError
from tonearm.classifier import Classifier
from tonearm.errors import UsageError
from tonearm.library.entry import Entry, Model, Window
from tonearm.library.excerpt import Excerpt, classify_excerpt
from tonearm.library.store import Store, StoreError
from tonearm.library.tags import Names, TagError, read_names
from tonearm.prediction import Failure, Prediction
from tonearm.time_limits import check_time_limit, time_limit_for
from tonearm.workers import Crash

KEY_DIGITS = 16  # of the hash of the bundle's bytes

# A file is read to identify it and again to classify it, and each reading may take the time limit.
# Only what hangs where it cannot check the time is killed.
READS_PER_FILE = 2.0


class Task(NamedTuple):
    """A file to analyse, with its size (bytes) and modification time (ns) when it was found."""

    path: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: str) -> Task:
        """Return the task for a file as it is now, with -1 for what cannot be determined."""
        try:
            state = os.stat(path)  # noqa: PTH116
        except OSError:  # such as a broken link; analysing it reports the error
            return cls(path, -1, -1)
        return cls(path, state.st_size, state.st_mtime_ns)


class Outcome(NamedTuple):
    """What to store about a file.

    Attributes
    ----------
    entry
        The complete entry.
    is_new
        Whether the file was analysed; otherwise the store already had its audio, under any path.
    """

    entry: Entry
    is_new: bool


def check_limits(workers: int | None, time_limit: float | None) -> None:
    """Check the number of processes and the time limit of a scan.

    Raises
    ------
    UsageError
        If `workers` is less than 1, or `time_limit` is not a number of seconds above 0.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"workers: expected 1 or more, got {workers}")
    check_time_limit(time_limit)


def model_of(bundle: Bundle, excerpt: Excerpt) -> Model:
    """Return the `Model` of a bundle and an excerpt, since results depend on both."""
    metadata = bundle.metadata
    key = f"{metadata.name}/{excerpt}/{bundle.digest[:KEY_DIGITS]}"
    return Model(key, metadata.name, metadata.labels, str(excerpt))


class Analyser:
    """A function that analyses files one after the other; a scan has one in each process.

    Parameters
    ----------
    bundle
        The model's file.
    model
        The model as the store knows it.
    excerpt
        How much of each long file to analyse.
    store
        Where to look up audio that was analysed before; nothing is written to it. None to analyse
        every file.
    time_limit
        Seconds each reading of a file may take; see `tonearm.time_limits`.

    Raises
    ------
    BundleError
        If the file is unusable, or no longer that model.
    StoreError
        If the store cannot be read.
    UsageError
        If the time limit is not above 0.
    """

    def __init__(
        self,
        bundle: Path,
        model: Model,
        excerpt: Excerpt,
        store: Path | None,
        time_limit: float | None = None,
    ) -> None:
        loaded = Bundle.load(bundle)
        # Processes start at different times, and a scan may last for days.
        if model_of(loaded, excerpt).key != model.key:
            raise BundleError(bundle, "the model has changed since the start")
        self._classifier = Classifier(loaded, time_limit=time_limit)
        self._model = model
        self._excerpt = excerpt
        self._store = None if store is None else Store(store)
        self._time_limit = time_limit

    def close(self) -> None:
        """Close the store."""
        if self._store is not None:
            self._store.close()

    def __call__(self, task: Task) -> Outcome:
        """Return what to store about a file; any exception becomes its error."""
        if (known := self._done_meanwhile(task)) is not None:
            return Outcome(known, is_new=False)
        outcome = self._analyse(task)
        if os.path.lexists(task.path) and Task.of(task.path) != task:
            # Written meanwhile: what was heard may not be what was hashed. The next scan sees.
            return outcome._replace(entry=replace(outcome.entry, mtime_ns=-1, audio=None))
        return outcome

    def _done_meanwhile(self, task: Task) -> Entry | None:
        """Return the entry of a file that another scan has analysed since it was found due."""
        known = None
        if self._store is not None:
            with suppress(StoreError):  # a damaged entry is replaced
                known = self._store.entry(task.path)
        if known is None or known.genre is None or known.model != self._model.key:
            return None
        return known if (known.size, known.mtime_ns) == (task.size, task.mtime_ns) else None

    def _analyse(self, task: Task) -> Outcome:
        entry = _empty_entry(task, self._model)
        try:
            names = _names(task.path)
            entry = replace(
                entry,
                tagged=names.genres,
                artist=names.artist,
                album=names.album,
                title=names.title,
            )
            identity = audio.identify(task.path, time_limit=self._time_limit)
            entry = replace(
                entry,
                audio=identity.digest,
                duration=identity.duration,
                truncated=identity.truncated,
            )
            if self._store is not None:
                known = self._store.find_by_audio(identity.digest, self._model.key)
                if known is not None:
                    return Outcome(_with_known_result(entry, known), is_new=False)
            prediction = classify_excerpt(
                self._classifier, task.path, identity.duration, self._excerpt
            )
            return Outcome(_with_prediction(entry, prediction), is_new=True)
        except Exception as error:  # one bad file must not end a long scan
            failure = Failure.of(Path(task.path), error)
            return Outcome(replace(entry, error=failure.error), is_new=True)


def time_limit_of(task: Task, time_limit: float | None) -> float:
    """Return the seconds until a file's process is killed, later than it should end by itself."""
    return READS_PER_FILE * time_limit_for(task.size, time_limit)


def outcome_of(result: Outcome | Crash[Task], model: Model) -> Outcome:
    """Return the outcome of a file, even if its process died or was killed."""
    if isinstance(result, Crash):
        return failed_outcome(result.item, model, result.reason)
    return result


def failed_outcome(task: Task, model: Model, reason: str) -> Outcome:
    """Return the outcome of a file about which only an error is known."""
    return Outcome(replace(_empty_entry(task, model), error=reason), is_new=True)


def _empty_entry(task: Task, model: Model) -> Entry:
    """Return the entry of a file about which nothing is known yet."""
    return Entry(
        path=task.path,
        size=task.size,
        mtime_ns=task.mtime_ns,
        model=model.key,
        scanned_at=time.time(),
    )


def _names(path: str) -> Names:
    try:
        return read_names(path)
    except TagError:  # no tags, or damaged ones: the file can still be classified
        return Names()


def _with_known_result(entry: Entry, known: Entry) -> Entry:
    """Return an entry with the results of a known one that has the same audio."""
    return replace(
        entry,
        truncated=known.truncated,
        genre=known.genre,
        confidence=known.confidence,
        music=known.music,
        verdict=known.verdict,
        probabilities=known.probabilities,
        segments=known.segments,
        embedding=known.embedding,
    )


def _with_prediction(entry: Entry, prediction: Prediction) -> Entry:
    """Return an entry with the results of a prediction."""
    return replace(
        entry,
        duration=entry.duration or prediction.duration,
        truncated=entry.truncated or prediction.truncated,
        genre=prediction.genre,
        confidence=prediction.confidence,
        music=prediction.music,
        verdict=prediction.verdict,
        probabilities=prediction.probabilities,
        segments=tuple(
            Window(segment.start, segment.end, segment.probabilities)
            for segment in prediction.segments
        ),
        embedding=prediction.embedding,
    )
