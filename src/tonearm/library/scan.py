"""Scanning: every recording below some folders is listened to once, and again when it changes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from itertools import islice

from tonearm import bundle
from tonearm.bundle import Bundle
from tonearm.library.entry import State
from tonearm.library.excerpt import Excerpt
from tonearm.library.listener import Listener, Outcome, Task, allowance, check_work, lost, model_of
from tonearm.library.sources import outermost
from tonearm.library.store import Store
from tonearm.media import recordings
from tonearm.threads import processors
from tonearm.workers import Crash, as_finished

_VARYING = re.compile(r"(?<![\w(.-])\d+(\.\d+)?(e[+-]\d+)?(?![\w.]| s are needed)")
BATCH = 500  # paths that are looked up in the store at once
LISTINGS = 256  # folders whose files are remembered while missing ones are looked for


@dataclass
class Tally:
    """How far a scan is.

    Attributes
    ----------
    found, due
        Recordings below the folders, and those of them that are not known as they are now.
    done
        Of the due ones.
    heard, recognised, failed
        Of the done ones: classified; known by their sound, under another name or with other tags;
        without a genre.
    seconds_of_music
        Length of those classified or recognised.
    moved, missing, pruned
        Known files that are gone: their sound is there under another name; marked as missing; and
        forgotten, which `prune` asks for.
    unreadable
        Folders, and why.
    """

    found: int = 0
    due: int = 0
    done: int = 0
    heard: int = 0
    recognised: int = 0
    failed: int = 0
    seconds_of_music: float = 0.0
    moved: int = 0
    missing: int = 0
    pruned: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Count a file that is done."""
        self.done += 1
        if outcome.entry.genre is None:
            self.failed += 1
            return
        self.heard += outcome.is_new
        self.recognised += not outcome.is_new
        self.seconds_of_music += outcome.entry.duration or 0.0


class Scan:
    """One walk through a library; iterate it to make it happen.

    Every outcome is in the store before it is yielded, so an interrupted scan is continued by
    another one, and nothing is listened to twice. A file is due if the store does not know it, or
    knows it with another size, time of modification or model. If its sound (the compressed audio,
    without tags) is known, its results are taken over; otherwise it is classified.

    Parameters
    ----------
    store
        What is known and what will be.
    paths
        Folders, and files.
    model
        A name, a bundle or a run folder, as for `Classifier.load`.
    excerpt
        How much of long files is heard.
    workers
        Processes to share the work; by default as many as there are processors to use. A script
        needs the usual ``if __name__ == "__main__":`` guard.
    time_limit
        Seconds one reading of a file may take, by default two minutes and four seconds for each
        megabyte. A decoder that hangs is killed after twice as long.
    retry
        Listen again to unchanged files that have failed.
    prune
        Forget files that are gone, instead of marking them as missing. Nothing is forgotten of a
        path below which no recording is found, nor below an empty folder: a disk may not be
        mounted.

    Attributes
    ----------
    tally
        How far it is.
    model
        Who listens.

    Raises
    ------
    UsageError
        If `workers` or `time_limit` is out of range.
    TonearmError
        If a path is not there.
    BundleError
        If the model cannot be used.
    StoreError, StartError
        From iterating or surveying: if the store cannot be read or written, and if a process dies
        while it loads the model. What was heard before is kept.

    Examples
    --------
    >>> with Store("library.db", create=True) as store:  # doctest: +SKIP
    ...     for outcome in Scan(store, ["Music"]):
    ...         print(outcome.entry.path, outcome.entry.genre)
    """

    def __init__(
        self,
        store: Store,
        paths: Iterable[str | os.PathLike[str]],
        *,
        model: str | os.PathLike[str] = bundle.DEFAULT_NAME,
        excerpt: Excerpt | None = None,
        workers: int | None = None,
        time_limit: float | None = None,
        retry: bool = False,
        prune: bool = False,
    ) -> None:
        check_work(workers, time_limit)
        self.paths = outermost(map(os.fsdecode, paths))
        self.tally = Tally()
        excerpt = excerpt or Excerpt()
        loaded = Bundle.load(bundle.find(model))
        self.model = model_of(loaded, excerpt)
        self._store = store
        self._workers = workers or processors()
        self._time_limit = time_limit
        self._retry = retry
        self._prune = prune
        self._prepare = partial(
            Listener, loaded.path.absolute(), self.model, excerpt, store.path.absolute(), time_limit
        )
        self._surveyed = False
        self._inhabited: set[str] = set()  # those of the paths where recordings were found
        store.add_model(self.model)

    def survey(self) -> None:
        """Count what there is to do; the scan itself does this first, if it was not done."""
        for _, is_due in self._look():
            self.tally.found += 1
            self.tally.due += is_due
        self._surveyed = True

    def __iter__(self) -> Iterator[Outcome]:
        if not self._surveyed:
            self.survey()
        if self.tally.due:
            workers = min(self._workers, self.tally.due)
            due = (task for task, is_due in self._look() if is_due)
            allowed = partial(allowance, time_limit=self._time_limit)
            for result in as_finished(self._prepare, due, workers, time_limit=allowed):
                outcome = (
                    lost(result, self.model, self._time_limit)
                    if isinstance(result, Crash)
                    else result
                )
                # What has vanished since it was found may turn up elsewhere: its old results stay.
                if outcome.entry.genre is not None or os.path.lexists(outcome.entry.path):
                    self._store.put([outcome.entry])
                self.tally.add(outcome)
                yield outcome
        self._settle()

    def _look(self) -> Iterator[tuple[Task, bool]]:
        """Yield every recording below the paths, and whether it is to be listened to."""
        files = self._files()
        while batch := list(islice(files, BATCH)):
            known = self._store.states(batch)
            back = []
            for path in batch:
                task, state = Task.of(path), known.get(path)
                is_due = state is None or self._is_outdated(task, state)
                if is_due and state is not None:
                    # What has vanished since its folder was listed keeps what is known of it.
                    is_due = os.path.lexists(path)
                if state is not None and state.missing and not is_due:
                    back.append(path)
                yield task, is_due
            if back:
                self._store.mark(back, missing=False)

    def _files(self) -> Iterator[str]:
        for path in self.paths:
            for file in recordings([path], self._note_unreadable):
                self._inhabited.add(path)
                yield file

    def _note_unreadable(self, error: OSError) -> None:
        self.tally.unreadable[os.fsdecode(error.filename)] = error.strerror or str(error)

    def _is_outdated(self, task: Task, state: State) -> bool:
        if (task.size, task.mtime_ns) != (state.size, state.mtime_ns):
            return True
        return state.model != self.model.key or (state.failed and self._retry)

    def _settle(self) -> None:
        """Look after the known files that are no more where they were."""
        # First read, then write: where a reader begins to write, SQLite does not wait for others.
        is_gone = _finder_of_gone(self.paths)
        gone = list(filter(is_gone, self._store.paths(self.paths)))
        self._store.mark(gone, missing=True)
        self.tally.moved = self._store.forget_moved(self.paths)
        if self._prune:
            self.tally.pruned = self._store.forget_missing(self._deleted())
        self.tally.missing = self._store.count_missing(self.paths)

    def _deleted(self) -> list[str]:
        """Return which of the missing files are not just on a disk that is not mounted."""
        is_left_empty = cache(_is_left_empty)
        # Without a path below which to look, all would be meant.
        missing = self._store.missing(sorted(self._inhabited)) if self._inhabited else ()
        return [path for path in missing if not is_left_empty(os.path.dirname(path))]  # noqa: PTH120


def kind_of(error: str) -> str:
    """Return an error without what varies from file to file, so that errors of one kind are equal.

    Those are its numbers, but for an exit code, a codec's name and what every file needs.
    """
    return _VARYING.sub("N", error)


def _is_left_empty(folder: str) -> bool:
    """Whether a folder, or what is left above it, is as empty as one without its disk."""
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):  # noqa: PTH112, PTH120
        folder = os.path.dirname(folder)  # noqa: PTH120
    try:
        return all(name.startswith(".") for name in os.listdir(folder))  # noqa: PTH208
    except OSError:
        return True


def _finder_of_gone(named: Iterable[str]) -> Callable[[str], bool]:
    """Return what says whether a file is gone; one in a folder that cannot be read is not.

    A folder lists names as they are. Asked for a file by another spelling, a drive that ignores
    case says that it is there, and after a renaming from ``Song.flac`` to ``song.flac`` there would
    be two. The paths a user has named are asked for as they were spelled.
    """
    spelled_by_user = set(named)

    @lru_cache(LISTINGS)
    def names(folder: str) -> frozenset[str] | None:
        try:
            return frozenset(os.listdir(folder))  # noqa: PTH208
        except (FileNotFoundError, NotADirectoryError):
            return frozenset()
        except OSError:
            return None

    def is_gone(path: str) -> bool:
        if path in spelled_by_user:
            return not os.path.lexists(path)
        folder, name = os.path.split(path)
        there = names(folder)
        return there is not None and name not in there

    return is_gone
