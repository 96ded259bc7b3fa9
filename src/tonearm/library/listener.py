"""What a scan does with one file: read its tags, tell its sound, and classify it if that is new."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tonearm import audio
from tonearm.bundle import Bundle
from tonearm.classifier import Classifier
from tonearm.errors import UsageError
from tonearm.library.entry import Entry, Model, Window
from tonearm.library.excerpt import Excerpt, hear
from tonearm.library.store import Store
from tonearm.library.tags import Names, TagError, read_names
from tonearm.patience import check_time_limit, patience
from tonearm.prediction import Failure, Prediction
from tonearm.workers import Crash

KEY_DIGITS = 16  # of the hash of the bundle's bytes

# A file is read for its identity and then listened to, and may take the limit each time: only what
# hangs where it cannot be asked is killed.
READINGS = 2.0


class Task(NamedTuple):
    """A file to be listened to, and its state when it was found: bytes, and nanoseconds."""

    path: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: str) -> Task:
        """Look at a file as it is now; -1 stands for what cannot be seen."""
        try:
            state = os.stat(path)  # noqa: PTH116
        except OSError:  # a link to nothing: listening to it will say so
            return cls(path, -1, -1)
        return cls(path, state.st_size, state.st_mtime_ns)


class Outcome(NamedTuple):
    """What is to be stored about a file.

    Attributes
    ----------
    entry
        All of it.
    is_new
        Whether it was listened to; otherwise the store knew its sound under some name.
    """

    entry: Entry
    is_new: bool


def check_work(workers: int | None, time_limit: float | None) -> None:
    """Refuse processes and seconds that no scan can do with.

    Raises
    ------
    UsageError
        If `workers` is less than 1, or `time_limit` no number of seconds above 0.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"workers: expected 1 or more, got {workers}")
    check_time_limit(time_limit)


def model_of(bundle: Bundle, excerpt: Excerpt) -> Model:
    """Say who listens: results of two models, or two excerpts, are not the same thing."""
    digest = hashlib.sha256(bundle.path.read_bytes()).hexdigest()[:KEY_DIGITS]
    metadata = bundle.metadata
    key = f"{metadata.name}/{excerpt}/{digest}"
    return Model(key, metadata.name, metadata.labels, str(excerpt))


class Listener:
    """Listens to files, one after the other, in a process of its own.

    Parameters
    ----------
    bundle
        The model's file.
    model
        What the store calls it.
    excerpt
        How much of long files is heard.
    store
        Where sounds are looked up that were heard before; nothing is written to it. None if every
        file is to be listened to.
    time_limit
        Seconds each reading of a file may take, see `tonearm.patience`.
    """

    def __init__(
        self,
        bundle: Path,
        model: Model,
        excerpt: Excerpt,
        store: Path | None,
        time_limit: float | None = None,
    ) -> None:
        self._classifier = Classifier(Bundle.load(bundle), time_limit=time_limit)
        self._model = model
        self._excerpt = excerpt
        self._store = None if store is None else Store(store)
        self._time_limit = time_limit

    def __call__(self, task: Task) -> Outcome:
        """Find out what is to be stored about a file; whatever is wrong with it is its error."""
        entry = blank(task, self._model)
        try:
            names = _names(task.path)
            entry = replace(
                entry,
                tagged=names.genres,
                artist=names.artist,
                album=names.album,
                title=names.title,
            )
            sound = audio.identify(task.path, time_limit=self._time_limit)
            entry = replace(
                entry, audio=sound.digest, duration=sound.duration, truncated=sound.truncated
            )
            if self._store is not None:
                known = self._store.heard(sound.digest, self._model.key)
                if known is not None:
                    return Outcome(_retold(entry, known), is_new=False)
            heard = hear(self._classifier, task.path, sound.duration, self._excerpt)
            return Outcome(_told(entry, heard), is_new=True)
        except Exception as error:  # one strange file must not end a long job
            failure = Failure.of(Path(task.path), error)
            return Outcome(replace(entry, error=failure.error), is_new=True)


def allowance(task: Task, time_limit: float | None) -> float:
    """Seconds until a file's process is killed: later than it should have ended by itself."""
    return READINGS * patience(task.size, time_limit)


def lost(crash: Crash[Task], model: Model, time_limit: float | None) -> Outcome:
    """Say what became of a file whose process is gone."""
    reason = crash.reason(allowance(crash.item, time_limit))
    return Outcome(replace(blank(crash.item, model), error=reason), is_new=True)


def blank(task: Task, model: Model) -> Entry:
    """Make the entry of a file nothing is known about yet."""
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
    except TagError:  # a kind of file without tags, or damaged ones: it can be heard all the same
        return Names()


def _retold(entry: Entry, known: Entry) -> Entry:
    """Give an entry the results that the same sound got before."""
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


def _told(entry: Entry, prediction: Prediction) -> Entry:
    """Give an entry the results of listening."""
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
