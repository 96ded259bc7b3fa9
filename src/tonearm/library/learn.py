"""Learn a user's own genres: from labelled tracks to a bundle and a forecast of its quality."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from tonearm import __version__, bundle
from tonearm.atomic import require_writable_folder
from tonearm.bundle import Bundle
from tonearm.datasets.cache import FailedTrack, FeatureCache
from tonearm.datasets.content import content_hash
from tonearm.datasets.track import Track, labels_of
from tonearm.errors import TonearmError, UsageError
from tonearm.evaluation.training_overlap import data_of_base, overlap_warning
from tonearm.library.embedding_layout import embedding_parts
from tonearm.library.embeddings import embed, require_unchanged
from tonearm.library.examples import with_enough
from tonearm.library.forecast import Forecast, forecast
from tonearm.library.head import fit_head
from tonearm.library.head_replacement import replace_head
from tonearm.metadata import BundleMetadata
from tonearm.text import enumerated

FEWEST_FILES = 5  # per genre: with fewer, hardly any are left to evaluate it on
SUFFIX = ".onnx"


class TooFewExamples(TonearmError):
    """Fewer than two genres have enough tracks.

    Attributes
    ----------
    failures
        Tracks that could not be decoded.
    """

    def __init__(self, reason: str, failures: tuple[FailedTrack, ...] = ()) -> None:
        super().__init__(reason)
        self.failures = failures


@dataclass(frozen=True)
class Learned:
    """The result of learning.

    Attributes
    ----------
    path
        The bundle.
    labels
        Its genres, sorted.
    forecast
        How well it can be expected to do.
    tracks
        Number of tracks it learned from.
    failures
        Tracks that could not be decoded.
    left_out
        Genres with too few tracks, and how many each had.
    warning
        Why the forecast comes out too high, if the model it builds on is known to have learned from
        some of the tracks.
    """

    path: Path
    labels: tuple[str, ...]
    forecast: Forecast
    tracks: int
    failures: tuple[FailedTrack, ...]
    left_out: tuple[tuple[str, int], ...]
    warning: str | None = None


def learn(
    tracks: Sequence[Track],
    out: str | PathLike[str],
    *,
    model: str | PathLike[str] = bundle.DEFAULT_NAME,
    min_files: int = FEWEST_FILES,
    cache: FeatureCache | None = None,
    workers: int = 1,
    progress: bool = False,
) -> Learned:
    """Train a new head for a model on other genres, and write the result as a bundle.

    The model's network is not changed. The embedding of each track is cached on disk, so that
    learning again after adding files only processes the new ones.

    Parameters
    ----------
    tracks
        Labelled tracks, as `tonearm.library.examples` returns them.
    out
        The bundle to write; its name without suffix is the model's name.
    model
        The model whose network is used: a name, a bundle's path or a run's folder.
    min_files
        Genres with fewer tracks are left out.
    cache
        Where to cache the embeddings; by default the user's feature cache.
    workers
        Processes that share the work of computing embeddings.
    progress
        Whether to show a progress bar on standard error.

    Raises
    ------
    TooFewExamples
        If fewer than two genres have enough tracks that can be decoded.
    UsageError
        If a track has no label, there is no model of that name, or `out` does not name a bundle.
    BundleError
        If the model cannot be used.
    TonearmError
        If the bundle or the cache cannot be written.
    """
    unlabelled = next((track for track in tracks if track.label is None), None)
    if unlabelled is not None:
        raise UsageError(f"track {unlabelled.id!r} has no label: leave such tracks out")
    base = Bundle.load(bundle.find(model))
    content = content_hash(base.path)
    target = _checked_target(Path(out), base.path)
    # Fail before what may be an hour of work.
    _require_two_genres(*with_enough(tracks, min_files), min_files)
    embedded = embed(tracks, base, cache or FeatureCache(), workers=workers, progress=progress)
    usable, left_out = with_enough(embedded.tracks, min_files)
    _require_two_genres(usable, left_out, min_files, embedded.failures)
    labels = labels_of(usable)
    embeddings = embedded.values[[track.label in labels for track in embedded.tracks]]
    truth = np.array([labels.index(str(track.label)) for track in usable], dtype=np.int64)
    parts = embedding_parts(base.path, embeddings.shape[1])
    expected = forecast(embeddings, usable, labels, parts)
    head = fit_head(embeddings, truth, len(labels), parts)
    require_unchanged(base.path, content)
    replace_head(base.path, head, _metadata(base, target.stem, usable, labels, expected), target)
    warning = overlap_warning(base, usable)
    return Learned(target, labels, expected, len(usable), embedded.failures, left_out, warning)


def _checked_target(target: Path, base: Path) -> Path:
    """Check that a bundle can be written to a path, before the work begins; return the path."""
    if target.suffix.lower() != SUFFIX:
        raise UsageError(f"{target}: expected a name that ends in {SUFFIX}")
    require_writable_folder(target.parent)
    if target.exists() and target.samefile(base):
        raise UsageError(f"{target}: is the model to learn on: name another file")
    return target


def _require_two_genres(
    tracks: Sequence[Track],
    left_out: Sequence[tuple[str, int]],
    min_files: int,
    failures: tuple[FailedTrack, ...] = (),
) -> None:
    labels = labels_of(tuple(tracks))
    if len(labels) < 2:
        counts = Counter(str(track.label) for track in tracks)
        found = enumerated(f"{label} {n}" for label, n in [*sorted(counts.items()), *left_out])
        raise TooFewExamples(
            f"learning needs two genres of {min_files} recordings at least, got {found or 'none'}",
            failures,
        )


def _metadata(
    base: Bundle, name: str, tracks: Sequence[Track], labels: tuple[str, ...], expected: Forecast
) -> BundleMetadata:
    base_metadata = base.metadata
    credit = f" It stands on: {base_metadata.attribution}" if base_metadata.attribution else ""
    return replace(
        base_metadata,
        name=name,
        labels=labels,
        temperature=expected.temperature,
        training={
            "method": "tonearm learn: logistic regression on the embedding of another model",
            "base": base_metadata.name,
            **data_of_base(base_metadata.training),
            "tracks": len(tracks),
            "tracks_by_genre": dict(sorted(Counter(str(t.label) for t in tracks).items())),
        },
        metrics=_metrics(expected),
        attribution=f"Learned by its owner from {len(tracks)} recordings of their own.{credit}",
        tonearm_version=__version__,
    )


def _metrics(expected: Forecast) -> dict[str, Any]:
    metrics = expected.metrics
    if metrics is None:
        return {"evaluated_on": "nothing: every genre is the music of one artist"}
    evaluated_on = (
        f"out-of-fold predictions, {expected.folds} folds grouped by artist and album; "
        f"of {expected.unknown} of the recordings neither is known"
    )
    return metrics.headline(evaluated_on) | {"expected_calibration_error": round(metrics.ece, 4)}
