"""Record what a run was trained on, and check whether a model was trained on its test tracks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tonearm.bundle import RUN_BUNDLE, Bundle
from tonearm.datasets.gtzan_facts import GTZAN, facts
from tonearm.datasets.track import Track

BASE_DATA = "base_data"  # in a bundle's `training`: what the model it was built on learned from
RUN_TRACKS = "tracks.json"  # beside a run's bundle: its tracks' labels, by part and id


def training_text(train: Sequence[Track], valid: Sequence[Track], labels: Sequence[str]) -> str:
    """Return as JSON a run's training and validation tracks, and the labels of its outputs.

    The order of the tracks does not matter. Audio paths are left out, since a run may be moved.
    """
    parts = {"train": train, "valid": valid}
    tracks = {
        part: dict(sorted((track.id, str(track.label)) for track in part_tracks))
        for part, part_tracks in parts.items()
    }
    return json.dumps({"labels": list(labels), **tracks}, indent=1, ensure_ascii=False) + "\n"


def overlap_warning(bundle: Bundle, tracks: Sequence[Track], data: str | None = None) -> str | None:
    """Return why a model's metrics on some tracks come out too high, or `None`.

    A run lists its tracks, a distilled model separated from its run names its dataset, and so does
    a model that `tonearm.library.learn` built on that one. Nothing is known about other models.

    Parameters
    ----------
    data
        The name of the dataset the tracks belong to; None if it has none.
    """
    training_labels = _training_labels(bundle.path)
    if training_labels is not None:
        overlap = sum(
            training_labels.get(track.id) == track.label for track in tracks if track.label
        )
        if not overlap:
            return None
        return (
            f"{bundle.path.parent} learned from {overlap} of these {len(tracks)} tracks: "
            "the figures come out too high"
        )
    name, training = bundle.metadata.name, bundle.metadata.training
    learned_from = {training.get("data"), training.get(BASE_DATA)}
    if data is not None and data in learned_from:
        return f"{name} learned from {data}: the figures on it come out too high"
    if GTZAN in learned_from:
        # Its files are called the same wherever they lie.
        known = sum((track.path.stem if track.path else track.id) in facts() for track in tracks)
        if known:
            return (
                f"{name} learned from {GTZAN}, where {known} of these {len(tracks)} tracks seem to "
                "be from: the figures come out too high"
            )
    return None


def _training_labels(bundle: Path) -> Mapping[str, str] | None:
    """Return the labels of a run's training tracks by id, or `None` if they are not recorded."""
    if bundle.name != RUN_BUNDLE:
        return None
    try:
        run = json.loads((bundle.parent / RUN_TRACKS).read_text("utf-8"))
        return dict(run["train"])
    except (OSError, ValueError, KeyError, TypeError):  # a foreign file of the same name
        return None
