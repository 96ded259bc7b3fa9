"""Says whether a model has learned from the tracks that it is judged on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tonearm.bundle import RUN_BUNDLE, Bundle
from tonearm.datasets.track import Track

RUN_TRACKS = "tracks.json"  # beside a run's bundle: the labels of its tracks, by part and by id


def heard_warning(bundle: Bundle, data: str, tracks: Sequence[Track]) -> str | None:
    """Say why a model's figures on some tracks come out too high, or give `None`.

    A training run lists its tracks; a distilled model names its dataset. Of other models nothing
    is known.

    Parameters
    ----------
    data
        The name of the dataset that the tracks are of.
    """
    learned = _learned(bundle.path)
    known = sum(learned.get(track.id) == track.label for track in tracks if track.label)
    if known:
        return (
            f"{bundle.path.parent} learned from {known} of these {len(tracks)} tracks: "
            "the figures come out too high"
        )
    if bundle.metadata.training.get("data") == data:
        return f"{bundle.metadata.name} learned from {data}: the figures on it come out too high"
    return None


def _learned(bundle: Path) -> Mapping[str, str]:
    """Give the ids and labels that a run learned from; none, if it does not say."""
    if bundle.name != RUN_BUNDLE:
        return {}
    try:
        run = json.loads((bundle.parent / RUN_TRACKS).read_text("utf-8"))
        return dict(run["train"])
    except (OSError, ValueError, KeyError, TypeError):  # somebody else's file of this name
        return {}
