"""Notes what a run learned from, and says whether a model learned what it is judged on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tonearm.bundle import RUN_BUNDLE, Bundle
from tonearm.datasets.track import Track

RUN_TRACKS = "tracks.json"  # beside a run's bundle: the labels of its tracks, by part and by id


def learned_text(train: Sequence[Track], valid: Sequence[Track], labels: Sequence[str]) -> str:
    """Say as JSON which tracks a run learns from and is judged on, and what its outputs mean.

    The order of the tracks makes no difference. Where the audio lies is not in it: a run may move.
    """
    parts = {"train": train, "valid": valid}
    tracks = {
        part: dict(sorted((track.id, str(track.label)) for track in chosen))
        for part, chosen in parts.items()
    }
    return json.dumps({"labels": list(labels), **tracks}, indent=1, ensure_ascii=False) + "\n"


def heard_warning(bundle: Bundle, data: str, tracks: Sequence[Track]) -> str | None:
    """Say why a model's figures on some tracks come out too high, or give `None`.

    A run lists its tracks; a distilled model away from its run names its dataset. Of other models
    nothing is known.

    Parameters
    ----------
    data
        The name of the dataset that the tracks are of.
    """
    learned = _learned(bundle.path)
    if learned is not None:
        known = sum(learned.get(track.id) == track.label for track in tracks if track.label)
        if not known:
            return None
        return (
            f"{bundle.path.parent} learned from {known} of these {len(tracks)} tracks: "
            "the figures come out too high"
        )
    if bundle.metadata.training.get("data") == data:
        return f"{bundle.metadata.name} learned from {data}: the figures on it come out too high"
    return None


def _learned(bundle: Path) -> Mapping[str, str] | None:
    """Give the ids and labels that a run learned from, or `None` if it does not say."""
    if bundle.name != RUN_BUNDLE:
        return None
    try:
        run = json.loads((bundle.parent / RUN_TRACKS).read_text("utf-8"))
        return dict(run["train"])
    except (OSError, ValueError, KeyError, TypeError):  # somebody else's file of this name
        return None
