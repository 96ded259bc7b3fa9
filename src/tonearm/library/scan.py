"""Scan folders: analyse every recording below them once, and again when it changes."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from itertools import islice

from tonearm import bundle
from tonearm.bundle import Bundle
from tonearm.errors import reason_of
from tonearm.library.analysis import (
    Analyser,
    Outcome,
    Task,
    check_limits,
    model_of,
    outcome_of,
    time_limit_of,
)
from tonearm.library.entry import Model, State
from tonearm.library.excerpt import Excerpt
from tonearm.library.sources import deduplicate_paths
from tonearm.library.store import Store
from tonearm.media import is_folder_entry, recordings, require_several
from tonearm.threads import processors
from tonearm.workers import as_finished

_VARYING = re.compile(r"(?<![\w(.-])\d+(\.\d+)?(e[+-]\d+)?(?![\w.]| s are needed)")
BATCH = 500  # paths looked up in the store at once
CACHED_LISTINGS = 256  # folder listings remembered while looking for missing files


@dataclass
class Tally:
    """The progress of a scan, as counts.

    Attributes
    ----------
    found, due
        Recordings found below the folders, and how many of them still have to be analysed.
    replaced
        How many of those due have results of another model or excerpt, which will be lost.
    done
        How many of the due recordings are done.
    classified, recognised, failed
        How many of the done recordings were classified; were recognised by their audio (known
        under another name or with other tags); got no genre.
    seconds_of_music
        Total length of the recordings classified or recognised.
    moved, missing, pruned
        Known files that are gone: those whose audio is present under another name; those marked
        as missing; those forgotten because of `prune`.
    unreadable
        Folders that could not be read, each with the reason.
    """

    found: int = 0
    due: int = 0
    replaced: int = 0
    done: int = 0
    classified: int = 0
    recognised: int = 0
    failed: int = 0
    seconds_of_music: float = 0.0
    moved: int = 0
    missing: int = 0
    pruned: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Count one file as done."""
        self.done += 1
        if outcome.entry.genre is None:
            self.failed += 1
            return
        self.classified += outcome.is_new
        self.recognised += not outcome.is_new
        self.seconds_of_music += outcome.entry.duration or 0.0


class Scan:
    """One scan of a library; iterate over it to run it.

    Every outcome is in the store before it is yielded, so a new scan resumes where an interrupted
    one stopped, and no file is analysed twice. A file is due if the store does not know it, or
    knows it with another size, modification time or model. If its audio (the compressed data,
    without tags) is known, the known results are reused; otherwise the file is classified.

    Parameters
    ----------
    store
        The store that holds the known results and receives the new ones.
    paths
        Folders and files to scan.
    model
        A name, a bundle or a run folder, as for `Classifier.load`.
    excerpt
        How much of each long file to analyse.
    workers
        Number of processes; by default, one for each usable processor. A script needs the usual
        ``if __name__ == "__main__":`` guard.
    time_limit
        Seconds one reading of a file may take; by default, two minutes plus four seconds per
        megabyte. A decoder that hangs is killed after twice as long.
    retry
        Whether to retry unchanged files that failed before.
    prune
        Whether to forget files that are gone instead of marking them as missing. Nothing is
        forgotten below a path where no recording is found, or below an empty folder: its disk may
        not be mounted.

    Attributes
    ----------
    tally
        The progress so far.
    model
        The model in use.

    Raises
    ------
    UsageError
        If `workers` or `time_limit` is out of range, `paths` is a single path, a path is a URL, or
        there is no model of that name.
    TonearmError
        If a path does not exist.
    BundleError
        If the model cannot be used.
    StoreError, StartError
        If the store cannot be read or written; while iterating, also if a process dies while
        loading the model. Results stored before that are kept.

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
        check_limits(workers, time_limit)
        require_several("paths", paths)
        self.paths: tuple[str, ...] = deduplicate_paths(map(os.fsdecode, paths))
        self.tally: Tally = Tally()
        excerpt = excerpt or Excerpt()
        loaded = Bundle.load(bundle.find(model))
        self.model: Model = model_of(loaded, excerpt)
        self._store = store
        self._workers = workers or processors()
        self._time_limit = time_limit
        self._retry = retry
        self._prune = prune
        self._prepare = partial(
            Analyser, loaded.path, self.model, excerpt, store.path.absolute(), time_limit
        )
        self._surveyed = False
        self._begun = time.time()
        self._nonempty: set[str] = set()  # paths below which recordings were found
        store.add_model(self.model)

    def survey(self) -> None:
        """Count the recordings found and due; iterating does this first if it was not done."""
        for _, is_due, has_result in self._examine():
            self.tally.found += 1
            self.tally.due += is_due
            self.tally.replaced += is_due and has_result
        self._surveyed = True

    def __iter__(self) -> Iterator[Outcome]:
        if not self._surveyed:
            self.survey()
        if self.tally.due:
            workers = min(self._workers, self.tally.due)
            due = (task for task, is_due, _ in self._examine() if is_due)
            limit_of = partial(time_limit_of, time_limit=self._time_limit)
            for result in as_finished(self._prepare, due, workers, time_limit=limit_of):
                outcome = outcome_of(result, self.model)
                # A file that vanished since it was found may turn up elsewhere: keep its results.
                if outcome.entry.genre is not None or os.path.lexists(outcome.entry.path):
                    self._store.save([outcome.entry])
                self.tally.add(outcome)
                yield outcome
        self._update_gone()

    def _examine(self) -> Iterator[tuple[Task, bool, bool]]:
        """Yield every recording, whether it is due, and whether it has another model's result."""
        files = self._recordings()
        while batch := list(islice(files, BATCH)):
            known = self._store.states(batch)
            reappeared = []
            for path in batch:
                task, state = Task.of(path), known.get(path)
                if state is None:
                    yield task, True, False
                    continue
                # A file that vanished since its folder was listed keeps its entry.
                is_due = self._is_outdated(task, state) and os.path.lexists(path)
                if state.missing and not is_due:
                    reappeared.append(path)
                yield task, is_due, not state.failed and state.model != self.model.key
            if reappeared:
                self._store.mark(reappeared, missing=False)

    def _recordings(self) -> Iterator[str]:
        for path in self.paths:
            for file in recordings([path], self._note_unreadable):
                self._nonempty.add(path)
                yield file

    def _note_unreadable(self, error: OSError) -> None:
        self.tally.unreadable[os.fsdecode(error.filename)] = reason_of(error)

    def _is_outdated(self, task: Task, state: State) -> bool:
        if (task.size, task.mtime_ns) != (state.size, state.mtime_ns):
            return True
        return state.model != self.model.key or (state.failed and self._retry)

    def _update_gone(self) -> None:
        """Update the entries of known files that are no longer at their path."""
        # Read first, then write: SQLite does not wait for locks when a read becomes a write.
        is_gone = _gone_checker(self.paths)
        gone = list(filter(is_gone, self._store.paths(self.paths)))
        # Where a whole folder was moved, the files known in its old place are below no path.
        copied = self._store.copied_since(self._begun) if self.tally.recognised else ()
        left_behind = list(filter(_gone_checker(()), copied))
        self._store.mark([*gone, *left_behind], missing=True)
        is_left_empty = cache(_is_left_empty)

        def is_unplugged(path: str) -> bool:
            return is_left_empty(os.path.dirname(path))  # noqa: PTH120

        moved = [path for path in left_behind if not is_unplugged(path)]
        moved += self._moved(is_unplugged)
        self.tally.moved = self._store.forget_missing(moved)
        if self._prune:
            self.tally.pruned = self._store.forget_missing(self._deleted(is_unplugged))
        self.tally.missing = self._store.count_missing(self.paths)

    def _moved(self, is_unplugged: Callable[[str], bool]) -> list[str]:
        """Return the missing files that were moved, not merely copied, elsewhere.

        A file on an unmounted disk may have a copy that has been in the store all along.
        """
        return [
            path
            for path, scanned_at in self._store.found_elsewhere(self.paths)
            if scanned_at >= self._begun or not is_unplugged(path)
        ]

    def _deleted(self, is_unplugged: Callable[[str], bool]) -> list[str]:
        """Return the missing files that are not merely on an unmounted disk."""
        # Without any path to search below, the store would return all missing files.
        missing = self._store.missing(sorted(self._nonempty)) if self._nonempty else ()
        return [path for path in missing if not is_unplugged(path)]


def error_kind(error: str) -> str:
    """Return an error without what varies from file to file, so that errors of one kind are equal.

    Numbers become ``N``, except exit codes, those in codec names and the seconds each file needs.
    """
    return _VARYING.sub("N", error)


def _is_left_empty(folder: str) -> bool:
    """Check whether a folder, or what is left above it, is empty, as without its disk."""
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):  # noqa: PTH112, PTH120
        folder = os.path.dirname(folder)  # noqa: PTH120
    try:
        return all(name.startswith(".") for name in os.listdir(folder))  # noqa: PTH208
    except OSError:
        return True


def _gone_checker(scanned: Iterable[str]) -> Callable[[str], bool]:
    """Return a function that checks whether a file is gone; none is in an unreadable folder.

    A folder of its name does not stand for it.

    Names are looked up in the folder's listing, which has their actual spelling. A drive that
    ignores case would confirm any other spelling too, and renaming ``Song.flac`` to ``song.flac``
    would leave two entries. Paths that the user named are looked up as spelled there.
    """
    given_by_user = set(scanned)

    @lru_cache(CACHED_LISTINGS)
    def names(folder: str) -> frozenset[str] | None:
        try:
            with os.scandir(folder) as entries:
                return frozenset(entry.name for entry in entries if not is_folder_entry(entry))
        except (FileNotFoundError, NotADirectoryError):
            return frozenset()
        except OSError:
            return None

    def is_gone(path: str) -> bool:
        if path in given_by_user:
            return not os.path.lexists(path) or os.path.isdir(path)  # noqa: PTH112
        folder, name = os.path.split(path)
        listed = names(folder)
        return listed is not None and name not in listed

    return is_gone
