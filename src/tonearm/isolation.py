"""Run a classifier in other processes, so that a file which crashes or hangs costs only itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from tonearm.bundle import Bundle
from tonearm.classifier import Classifier
from tonearm.inputs import path_or_failure
from tonearm.prediction import Failure, Prediction, Thresholds
from tonearm.time_limits import GRACE_SECONDS, known_size, time_limit_for
from tonearm.workers import Crash, IsolatedWorker, in_order


class IsolatedClassifier:
    """A classifier in a process of its own, so that a crash or hang costs only one recording.

    Made by `Classifier.isolated`. It classifies one recording at a time, for one thread at a time.
    A script needs the usual ``if __name__ == "__main__":`` guard. Used as a context manager, it is
    closed at the end; a later call starts a new process.

    Raises
    ------
    UsageError
        If this process may not start others.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._worker = IsolatedWorker(
            _worker_factory(classifier), time_limit=partial(_time_limit, classifier.time_limit)
        )

    def attempt(self, path: str | os.PathLike[str]) -> Prediction | Failure:
        """Classify a file as `Classifier.attempt` does.

        Raises
        ------
        StartError
            If the process, or its replacement, died or failed before it could begin.
        """
        return _without_crash(self._worker(path_or_failure(path)))

    def ready(self) -> None:
        """Wait until the process has loaded the model, replacing the process if it has died.

        Raises
        ------
        StartError
            If it dies or fails before that.
        """
        self._worker.ready()

    def kill(self) -> None:
        """End the process while another thread waits for it; that thread gets a `Failure`.

        If the process is still loading the model, that thread gets a `StartError`.
        """
        self._worker.kill()

    def close(self) -> None:
        """End the process; no other thread may be waiting for it."""
        self._worker.close()

    def __enter__(self) -> IsolatedClassifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def classify_in_processes(
    classifier: Classifier, paths: Iterable[str | os.PathLike[str]], workers: int
) -> Iterator[Prediction | Failure]:
    """Classify files in several processes, yielding results in the order of the files."""
    for result in in_order(
        _worker_factory(classifier),
        map(path_or_failure, paths),  # here, since only paths are sure to reach another process
        workers,
        time_limit=partial(_time_limit, classifier.time_limit),
    ):
        yield _without_crash(result)


def _worker_factory(
    classifier: Classifier,
) -> Callable[[], Callable[[Path | Failure], Prediction | Failure]]:
    """Return a picklable function that makes the same classifier in another process."""
    model = classifier.bundle
    return partial(
        _prepare,
        model.path,
        model.threads,
        model.digest,
        classifier.time_limit,
        classifier.thresholds,
    )


def _prepare(
    path: Path,
    threads: int,
    digest: str,
    time_limit: float | None,
    thresholds: Thresholds,
) -> Callable[[Path | Failure], Prediction | Failure]:
    """Make a worker process's classifier."""
    model = Bundle.load(path, threads)
    model.require_unchanged(digest)  # processes may start days later
    return partial(_attempt, Classifier(model, time_limit=time_limit, thresholds=thresholds))


def _attempt(classifier: Classifier, file: Path | Failure) -> Prediction | Failure:
    """Classify a file, or return the failure that its name already caused."""
    return file if isinstance(file, Failure) else classifier.attempt(file)


def _time_limit(time_limit: float | None, file: Path | Failure) -> float:
    """Return the seconds after which a process still working on a file is killed."""
    size = 0 if isinstance(file, Failure) else known_size(file)
    return time_limit_for(size, time_limit) + GRACE_SECONDS


def _without_crash(result: Prediction | Failure | Crash[Path | Failure]) -> Prediction | Failure:
    """Turn the `Crash` of a process into the `Failure` of its file; pass on other results."""
    if not isinstance(result, Crash):
        return result
    return result.item if isinstance(result.item, Failure) else Failure(result.item, result.reason)
