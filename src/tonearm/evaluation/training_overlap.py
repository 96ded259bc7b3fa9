"""Record what a run was trained on, and check whether a model was trained on its test tracks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tonearm.bundle import RUN_BUNDLE, Bundle
from tonearm.datasets.content import content_hash
from tonearm.datasets.gtzan_facts import GTZAN, facts
from tonearm.datasets.track import Track

DATA = "data"  # in a bundle's `training`: the dataset it learned from
DATA_PARTS = "data_parts"  # and the parts of its own partition that were learned, if it has one
_BASE = "base_"  # before either, in a model built on another: what that one learned from
RUN_TRACKS = "tracks.json"  # beside a run's bundle: its tracks' labels, by part and id


def training_text(
    train: Sequence[Track],
    valid: Sequence[Track],
    labels: Sequence[str],
    contents: Mapping[str, str] | None = None,
) -> str:
    """Return as JSON a run's training and validation tracks, and the labels of its outputs.

    The order of the tracks does not matter. Audio paths are left out, since a run may be moved.

    Parameters
    ----------
    contents
        A hash of each track's file, by the track's id, if they are known already.
    """
    parts = {"train": train, "valid": valid}
    tracks = {
        part: dict(sorted((track.id, str(track.label)) for track in part_tracks))
        for part, part_tracks in parts.items()
    }
    run: dict[str, Any] = {"labels": list(labels), **tracks}
    if contents is not None:
        run["contents"] = dict(sorted(contents.items()))
    return json.dumps(run, indent=1, ensure_ascii=False) + "\n"


def data_learned(data: str, tracks: Sequence[Track]) -> dict[str, Any]:
    """Return for a bundle's `training` which dataset it learned from, and which parts of it."""
    parts = {track.split for track in tracks}
    return {DATA: data} | ({} if None in parts else {DATA_PARTS: sorted(map(str, parts))})


def data_of_base(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return for the `training` of a model built on another which dataset that one learned from."""
    prefix = _BASE if _BASE + DATA in training else ""
    return {
        _BASE + key: training[prefix + key]
        for key in (DATA, DATA_PARTS)
        if prefix + key in training
    }


def overlap_warning(bundle: Bundle, tracks: Sequence[Track], data: str | None = None) -> str | None:
    """Return why a model's metrics on some tracks come out too high, or `None`.

    A run lists its tracks and hashes of their files, which change with their tags; a distilled
    model separated from its run names its dataset and the parts of it, and so does a model that
    `tonearm.library.learn` built on that one. Nothing is known about other models.

    Parameters
    ----------
    data
        The name of the dataset the tracks belong to; None if it has none.
    """
    run = _trained_on(bundle.path)
    if run is not None:
        return run.warning(str(bundle.path.parent), tracks)
    training = bundle.metadata.training
    for prefix in ("", _BASE):
        learned_from, parts = training.get(prefix + DATA), training.get(prefix + DATA_PARTS)
        if not isinstance(parts, list):
            parts = None
        if data is not None and data == learned_from:
            are, splits = "are", [track.split for track in tracks]
        elif learned_from == GTZAN:  # its files are called the same wherever they lie
            names = [track.path.stem if track.path else track.id for track in tracks]
            are, splits = "seem to be", [facts()[name].split for name in names if name in facts()]
        else:
            continue
        # What is in no part may still repeat what is in one.
        known = sum(parts is None or split is None or split in parts for split in splits)
        if known:
            source = f"{learned_from} ({', '.join(parts)})" if parts else learned_from
            return (
                f"{bundle.metadata.name} learned from {source}, where {known} of these "
                f"{len(tracks)} tracks {are} from: the figures come out too high"
            )
    return None


@dataclass(frozen=True)
class _TrainedOn:
    """The training tracks of a run: their labels by id, and the hashes of their files, if known."""

    labels: Mapping[str, str]
    contents: frozenset[str]

    def warning(self, run: str, tracks: Sequence[Track]) -> str | None:
        same = sum(map(self._has_file_of, tracks))
        if same:
            return (
                f"{run} learned from {same} of these {len(tracks)} tracks: "
                "the figures come out too high"
            )
        named = sum(
            track.label is not None and self.labels.get(track.id) == track.label for track in tracks
        )
        if not named:
            return None
        return (
            f"{run} learned from tracks named and labelled as {named} of these {len(tracks)}: if "
            "they are the same recordings, the figures come out too high"
        )

    def _has_file_of(self, track: Track) -> bool:
        # Ids depend on how the same files are listed, and files of one name may be others.
        if not self.contents or track.path is None:
            return False
        try:
            return track.path.is_file() and content_hash(track.path) in self.contents
        except (OSError, ValueError):
            return False


def _trained_on(bundle: Path) -> _TrainedOn | None:
    """Return a run's training tracks, or `None` if they are not recorded."""
    if bundle.name != RUN_BUNDLE:
        return None
    try:
        run = json.loads((bundle.parent / RUN_TRACKS).read_text("utf-8"))
        labels, contents = dict(run["train"]), dict(run.get("contents", {}))
        hashes = frozenset(contents[track] for track in labels if track in contents)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # another program's file
        return None
    return _TrainedOn(labels, hashes)
