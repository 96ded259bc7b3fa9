"""The default against a late ensemble of five published networks, in accuracy and in CPU time.

    python benchmarks/late_ensemble.py --data GTZAN --elsewhere COLLECTION

The ensemble averages the log-probabilities of an SVM and a logistic regression on the frozen
embedding of each network (mn04, MSD_musicnn, MSD_vgg, and the FCN and the CRNN of Won et al.). They
are fitted anew for each fold of the cross-validation that the default's committed predictions come
from, and to the whole dataset for the recordings of COLLECTION. Writes `late_ensemble.md`. Features
and predictions are kept under --work.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import classify
import foldwise
import taggers
import timing
from tonearm import audio, datasets
from tonearm.atomic import atomic_write
from tonearm.baselines.classical import create_baseline
from tonearm.classifier import Classifier
from tonearm.datasets.content import ContentIndex
from tonearm.datasets.derived import derived
from tonearm.datasets.splits import split
from tonearm.datasets.track import Track
from tonearm.errors import TonearmError
from tonearm.evaluation import predictions
from tonearm.evaluation.compare import compare, markdown_table
from tonearm.evaluation.crossval import FloatArray, Round, cross_validate
from tonearm.evaluation.grouping import group_of
from tonearm.evaluation.predictions import Predictions
from tonearm.features.logmel import LogMel
from tonearm.training import fcn, musicnn
from tonearm.training.probe import LEAST_SPREAD
from tonearm.training.teachers import (
    STUDENT_FRONT_END,
    TEACHER_RATE,
    at_least,
    load_teachers,
    patches,
    teachers_fingerprint,
)

Floats = NDArray[np.float32]

NAME = "late-ensemble"
ENCODERS = ("mn04", "musicnn", "fcn", "vgg", "crnn")
# Only the method counts here: these baselines accept rows of any features.
METHODS = ("mfcc-svm", "mfcc-logistic")
LEAST_SHARE = 1e-6  # so that no member can rule a genre out
TIMED_RUNS = 5


class Encoders:
    """The five networks; makes the embeddings of a recording."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.teachers = load_teachers()
        self.vgg, self.crnn = taggers.load_vgg(), taggers.load_crnn()

    @torch.inference_mode()
    def __call__(self, path: Path) -> dict[str, Floats]:
        """Return the embedding of a whole recording by each of `ENCODERS`."""
        samples = audio.read(path, TEACHER_RATE).samples
        of_mn04 = LogMel(STUDENT_FRONT_END)(audio.read(path, STUDENT_FRONT_END.sample_rate).samples)
        # Each spectrogram is computed once, for two networks.
        parts = torch.from_numpy(patches(LogMel(musicnn.FRONT_END)(samples)))
        whole = at_least(LogMel(fcn.FRONT_END)(samples), fcn.SHORTEST_FRAMES)
        frames = torch.from_numpy(whole)[None]
        embeddings = {
            "mn04": self.teachers.mn04(torch.from_numpy(of_mn04)[None])[1],
            "musicnn": self.teachers.musicnn(parts).pooled,
            "fcn": self.teachers.fcn(frames).embedding,
            "vgg": self.vgg(parts),
            "crnn": self.crnn(frames),
        }
        return {name: rows.numpy().mean(axis=0) for name, rows in embeddings.items()}


@dataclass(frozen=True)
class LateEnsemble:
    """An SVM and a logistic regression on each embedding, averaged; a system to cross-validate."""

    work: Path
    workers: int
    name: str = NAME

    @cached_property
    def fingerprint(self) -> str:
        """The networks' weights, and the code."""
        files = [Path(__file__), Path(taggers.__file__), *taggers.weight_files()]
        own = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        return f"{self.name} {teachers_fingerprint()} {own}"

    def fit_predict(self, given: Round) -> FloatArray:
        """Fit the ten classifiers and predict; NaN for tracks that cannot be decoded."""
        train, test = self.embeddings(given.train), self.embeddings(given.test)
        truth = [str(track.label) for track in given.train]
        groups = [group_of(track.artist, track.id) for track in given.train]
        scores = []
        for encoder in ENCODERS:
            known, others = train[encoder], test[encoder]
            varied = np.nanstd(known, axis=0) > LEAST_SPREAD  # most of musicnn's are constant
            for method in METHODS:
                member = create_baseline(method, given.seed)
                member.fit(known[:, varied], truth, groups)
                shares = np.zeros((len(others), len(given.labels)))
                columns = [given.labels.index(label) for label in member.classes]
                shares[:, columns] = member.predict_proba(others[:, varied])
                scores.append(np.log(np.maximum(shares, LEAST_SHARE)))
        mean = np.exp(np.mean(scores, axis=0))
        probabilities: FloatArray = mean / mean.sum(axis=1, keepdims=True)
        probabilities[~np.isfinite(test[ENCODERS[0]]).all(axis=1)] = np.nan
        return probabilities

    def embeddings(self, tracks: Sequence[Track]) -> dict[str, Floats]:
        """Return float32[tracks, D] for each network; NaN for tracks that cannot be decoded."""
        folder = self.work / "embeddings"
        paths = [track.path for track in tracks if track.path]
        found, _ = derived(
            paths,
            ContentIndex(self.work / "content.sqlite"),
            partial(_read, folder),
            partial(_maker, folder),
            "embeddings",
            processes=self.workers,
            progress=True,
        )
        if not found:
            raise TonearmError(f"{NAME}: no recording could be decoded")
        missing = {
            name: np.full_like(row, np.nan) for name, row in next(iter(found.values())).items()
        }
        rows = [found.get(track.path, missing) if track.path else missing for track in tracks]
        return {name: np.stack([row[name] for row in rows]) for name in ENCODERS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path, help="the dataset of the folds")
    parser.add_argument("--elsewhere", required=True, type=Path, help="a dataset to predict only")
    parser.add_argument("--workers", type=int, default=2, metavar="N")
    parser.add_argument("--work", type=Path, default=Path("runs/late_ensemble"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="of the table")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    ensemble = LateEnsemble(args.work, args.workers)
    dataset = datasets.load(args.data)
    published = foldwise.published(foldwise.PUBLISHED)

    parts = []
    for seed in range(len(published)):
        folds = split(dataset, "artist-kfold", foldwise.FOLDS, seed)
        parts.append(cross_validate(ensemble, folds, dataset.labels, args.work, seed))
    runs = {NAME: predictions.join(parts), "default": predictions.read(foldwise.PUBLISHED)}
    predictions.write(args.out / "predictions" / "late_ensemble.csv", runs[NAME])

    abroad = elsewhere(ensemble, dataset, datasets.load(args.elsewhere).tracks, args.work)
    page = rendered(compare(runs).to_markdown(), abroad, *cpu_seconds())
    foldwise.write_page(args.out / "late_ensemble.md", page)


def elsewhere(
    ensemble: LateEnsemble, dataset: datasets.Dataset, tracks: Sequence[Track], work: Path
) -> dict[str, Predictions]:
    """Predict recordings from elsewhere by the ensemble, fitted to the dataset, and the default."""
    known = [
        track for fold in split(dataset, "artist-kfold", foldwise.FOLDS, 0) for track in fold.valid
    ]
    test = [track for track in tracks if track.label and track.path]
    given = Round(known, test, dataset.labels, work / "elsewhere", 0)
    classifier = Classifier.load("default")
    heard = [classifier(track.path).probabilities for track in test if track.path]
    tables = {
        NAME: ensemble.fit_predict(given),
        "default": np.array([[row[label] for label in dataset.labels] for row in heard]),
    }
    return {
        name: Predictions.of_tracks(test, dataset.labels, table) for name, table in tables.items()
    }


def cpu_seconds() -> tuple[float, float]:
    """Return the CPU seconds for a 30 s MP3, on one thread: the five networks, the default."""
    encoders, classifier = Encoders(), Classifier.load("default")
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        clip = classify.rendered(Path(folder) / "piece.mp3")
        jobs = [lambda: encoders(clip), lambda: classifier(clip)]
        for job in jobs:
            job()
        of_encoders, of_default = timing.in_turns(jobs, TIMED_RUNS)
    return of_encoders, of_default


def _read(folder: Path, content: str) -> dict[str, Floats] | None:
    path = folder / f"{content}.npz"
    if not path.exists():
        return None
    with np.load(path) as arrays:
        return {name: arrays[name] for name in ENCODERS}


def _maker(folder: Path) -> Callable[[Path, str], None]:
    encoders = Encoders()

    def make(path: Path, content: str) -> None:
        found = encoders(path)
        with atomic_write(folder / f"{content}.npz") as file:
            np.savez(file, **found)

    return make


def rendered(
    table: str, abroad: Mapping[str, Predictions], of_encoders: float, of_default: float
) -> str:
    rows = []
    for name, run in abroad.items():
        metrics = run.metrics()
        right = f"{sum(run.correct)} of {len(run)}"
        rows.append((name, right, f"{100 * metrics.f1:.1f}", f"{metrics.nll:.2f}"))
    outside = markdown_table(("run", "right", "macro F1", "log-loss"), rows)
    return f"""# A late ensemble

`{NAME}` averages the log-probabilities of ten classifiers: a support vector machine and a
logistic regression on the frozen embedding of each of five published networks (mn04, MSD_musicnn,
MSD_vgg, and the FCN and the CRNN of Won et al.). How strongly each is regularised is chosen by an
inner cross-validation over artists. `default` is that of [the ladder](gtzan.md), distilled anew for
every fold of the same cross-validation. Its parts were chosen on these recordings, those of the
ensemble were not.

{table}
On recordings from outside GTZAN, the ensemble was fitted to all recordings of the folds, and
`default` is the model that is shipped. These recordings were looked at when [some of its
settings](../model-card.md#how-good-it-is) were chosen.

{outside}
For a 30 s MP3, decoded and answered on one thread, the five networks take
{of_encoders / of_default:.0f} times the CPU time of the default: {of_encoders:.2f} s, and
{of_default:.3f} s in the same run.

## Reproduce

```
pip install --no-deps musicnn==0.1.0
TONEARM_PRETRAINED=WEIGHTS python benchmarks/late_ensemble.py --data GTZAN --elsewhere COLLECTION
```

The predictions for the folds: `predictions/late_ensemble.csv`.
"""


if __name__ == "__main__":
    main()
