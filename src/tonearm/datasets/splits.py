"""Split a dataset into tracks to train on and tracks to evaluate on."""

from __future__ import annotations

import math
import operator
import os
import random
import re
import unicodedata
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from tonearm.datasets import gtzan_facts
from tonearm.datasets.components import connected_components
from tonearm.datasets.track import Dataset, DatasetError, Track
from tonearm.errors import UsageError
from tonearm.text import enumerated

Protocol = Literal["builtin", "filtered", "stratified", "artist-kfold", "random-kfold"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)


# A share of the tracks that is worth a warning: of those by unknown artists, which a split by
# artists cannot keep apart, and of those that a split leaves out.
_MANY = 0.2

_STAND_INS = ("unknown", "unknownartist", "various", "variousartists", "va")  # as `artist_key` has


class SplitWarning(UserWarning):
    """A split can be made, but has a flaw that affects training or evaluation."""


class LeakWarning(SplitWarning):
    """The same artist can be on both sides of a split, so scores come out too high."""


class GapWarning(SplitWarning):
    """A genre to evaluate has no training tracks, or some tracks are in no part."""


class UntrainedWarning(GapWarning):
    """A genre to evaluate has no training tracks."""


class LeftOutWarning(SplitWarning):
    """A dataset's folder contains recordings that are not among its tracks, or cannot be read."""


class OneGenreWarning(SplitWarning):
    """A dataset has a single genre, usually because the genre folders are nested deeper."""


@dataclass(frozen=True)
class Fold:
    """One division of the tracks into disjoint parts.

    Attributes
    ----------
    name
        Protocol and number of the fold.
    train, valid
        The tracks to train on, and to validate on.
    test
        The tracks to test on; empty unless the protocol uses a partition that has a test part.
    """

    name: str
    train: tuple[Track, ...] = field(repr=False)
    valid: tuple[Track, ...] = field(repr=False)
    test: tuple[Track, ...] = field(default=(), repr=False)

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The tracks of all parts."""
        return self.train + self.valid + self.test

    @property
    def held_out(self) -> tuple[Track, ...]:
        """The tracks to evaluate on: `test`, or `valid` if there is none."""
        return self.test or self.valid


def split(
    dataset: Dataset,
    protocol: Protocol,
    folds: int = 5,
    seed: int = 0,
    chosen: int | None = None,
) -> list[Fold]:
    """Split the labelled tracks of a dataset that have an audio file.

    Parameters
    ----------
    dataset
        The dataset, as `tonearm.datasets.load` returns it.
    protocol
        - `"builtin"`: the dataset's own train, valid and test parts; one fold. If all of its parts
          are numbers, they are folds, each of which is `valid` once, in numerical order.
        - `"filtered"`: the fault-filtered partition of GTZAN (`tonearm.datasets.gtzan_facts`),
          whatever the dataset's own table says; one fold.
        - `"artist-kfold"`: no artist on both sides, and each genre and each kind (full, excerpt)
          spread evenly. A track without a known artist counts as an artist of its own, but tracks
          of the same file stay together.
        - `"stratified"`: each genre and kind spread evenly, ignoring artists.
        - `"random-kfold"`: drawn at random, as many papers do; only for comparison with them.

        If a dataset has splits of its own, the last three protocols leave out the tracks that are
        in none of them (see `tonearm.datasets.gtzan_facts` for those of GTZAN).
    folds
        Number of folds that the last three protocols make; each fold is `valid` once.
    seed
        The same seed gives the same folds for the same tracks, whatever their order.
    chosen
        Index, from 0, of the only fold that will be used; gaps in the others cause no warning.

    Warns
    -----
    LeakWarning
        If the protocol allows an artist on both sides (see `leak_warning`).
    GapWarning
        If a genre that a fold evaluates has no training tracks in it, the dataset has parts with
        other names, or many of its tracks are in no part.

    Raises
    ------
    UsageError
        If the protocol is unknown, or one of the last three is given fewer than two folds.
    DatasetError
        If the dataset lacks what the protocol needs, or there are fewer tracks (for
        `"artist-kfold"`: artists) than folds.
    """
    if protocol not in PROTOCOLS:
        raise UsageError(
            f"split protocol {protocol!r} is unknown; there are {', '.join(PROTOCOLS)}"
        )
    result = _make_folds(dataset, protocol, folds, operator.index(seed))
    used = result if chosen is None else result[chosen : chosen + 1]
    for category, gap in ((UntrainedWarning, _gap(used)), (GapWarning, _left_out(dataset, result))):
        if gap is not None:
            warnings.warn(gap, category, stacklevel=2)
    warning = leak_warning(dataset, protocol)
    if warning is not None:
        warnings.warn(warning, LeakWarning, stacklevel=2)
    return result


def fold_at(folds: Sequence[Fold], number: int, setting: str) -> Fold:
    """Return a fold by its number; raise UsageError, which names the setting, if there is none."""
    if not 0 <= number < len(folds):
        raise UsageError(f"{setting} must be from 0 to {len(folds) - 1}, got {number}")
    return folds[number]


def leak_warning(dataset: Dataset, protocol: Protocol) -> str | None:
    """Return why scores under a protocol come out too high, or `None` if they do not."""
    if protocol == "random-kfold":
        return (
            "random k-fold puts songs of one artist, and repeated recordings, on both sides: "
            "scores come out too high; report them only beside papers that did the same"
        )
    tracks = _usable(dataset)
    if protocol == "builtin":
        names = {track.split for track in tracks} - {None}
        used = names if all(map(str.isdecimal, map(str, names))) else {"train", "valid", "test"}
        return _shared_artists([track for track in tracks if track.split in used])
    if protocol == "stratified" and any(artist_key(track.artist) for track in dataset):
        return (
            "the stratified split puts songs of one artist on both sides: scores come out too "
            "high; artists are known here, so prefer artist-kfold"
        )
    if protocol in ("stratified", "artist-kfold"):
        tracks = _in_partition(tracks)
        unknown = sum(not artist_key(track.artist) for track in tracks)
        if unknown > _MANY * len(tracks):
            return (
                f"the artist of {unknown} of {len(tracks)} tracks is not known: songs of one "
                "artist can be on both sides, and then scores come out too high"
            )
    return None


def artist_key(artist: str | None) -> str:
    """Return a key that different spellings of an artist's name share; "" if none is known.

    None is known either where programs have put a stand-in ("Unknown Artist", "Various Artists"):
    taken for one artist, it would tie together the music of many.

    Case, accents, blanks, "&" for "and", a "The" before or after the name and punctuation are
    ignored, except in names that consist of nothing but punctuation ("!!!"), and so are guests
    ("feat. ...").
    """
    decomposed = unicodedata.normalize("NFKD", artist or "").casefold().strip()
    # Of Latin, Greek and Cyrillic letters: in other scripts, marks make other letters.
    name = unicodedata.normalize("NFC", re.sub("[\u0300-\u036f]", "", decomposed))
    name = re.sub(r"\s*[(\[]\s*(?:feat|ft)\b.*|\s(?:(?:feat|ft)\.\s*|featuring\s+)\S.*", "", name)
    name = re.sub(r",\s*the$", "", name)
    words = re.sub(r"[^\w\s]|_", "", name.replace("&", " and ")).split()
    key = "".join(words[1:] if words[:1] == ["the"] and len(words) > 1 else words) or name
    return "" if key in _STAND_INS else key


def _make_folds(dataset: Dataset, protocol: Protocol, folds: int, seed: int) -> list[Fold]:
    usable = _usable(dataset)
    if protocol == "builtin":
        numbers = sorted({track.split for track in usable if track.split}, key=_number)
        if len(numbers) > 1 and all(map(str.isdecimal, numbers)):
            members = [track for track in usable if track.split]
            assigned = [numbers.index(str(track.split)) for track in members]
            return _k_folds(members, assigned, protocol, len(numbers))
        return [_by_name("builtin", dataset, [(track, track.split) for track in usable])]
    if protocol == "filtered":
        facts = gtzan_facts.facts()
        if not any(track.id in facts for track in usable):
            raise DatasetError(f"{dataset.root}: the filtered partition is known for GTZAN only")
        return [
            _by_name(
                "filtered",
                dataset,
                [(track, facts[track.id].split) for track in usable if track.id in facts],
            )
        ]
    if folds < 2:
        raise UsageError(f"folds must be at least 2, got {folds}")
    usable = _in_partition(usable)
    # Layouts of the same dataset list tracks in different orders; sorting by id removes that.
    usable.sort(key=lambda track: track.id)
    return _k_folds(usable, _assign(dataset, usable, protocol, folds, seed), protocol, folds)


def _shared_artists(tracks: Sequence[Track]) -> str | None:
    """Return a warning about artists that are in several parts of a split, or `None`."""
    parts: dict[str, set[str | None]] = defaultdict(set)
    for track in tracks:
        if artist := artist_key(track.artist):
            parts[artist].add(track.split)
    shared = sum(len(of_artist) > 1 for of_artist in parts.values())
    if not shared:
        return None
    return (
        f"{shared} of {len(parts)} artists are in more than one part of the dataset's own split: "
        "scores come out too high; prefer artist-kfold"
    )


def _usable(dataset: Dataset) -> list[Track]:
    return [track for track in dataset if track.path is not None and track.label is not None]


def _in_partition(tracks: list[Track]) -> list[Track]:
    """Return the tracks that are in a part of the dataset, or all of them if it has no parts."""
    return [track for track in tracks if track.split is not None] or tracks


def _gap(folds: Sequence[Fold]) -> str | None:
    """Return a warning about genres that a fold evaluates without training tracks, or `None`."""
    missing: dict[str, list[str]] = defaultdict(list)
    for fold in folds:
        train_labels = {track.label for track in fold.train}
        for label in sorted(
            {str(track.label) for track in (*fold.valid, *fold.test)} - train_labels
        ):
            missing[label].append(fold.name)
    if not missing:
        return None
    places = enumerated(f"{label} in {' and '.join(names)}" for label, names in missing.items())
    return f"no track to train on of genres that are evaluated: {places}"


def _left_out(dataset: Dataset, folds: Sequence[Fold]) -> str | None:
    """Return a warning if a split leaves out many of the dataset's tracks, or `None`."""
    usable, used = len(_usable(dataset)), len({track.id for fold in folds for track in fold.tracks})
    if usable - used <= _MANY * usable:
        return None
    return f"{usable - used} of {usable} labelled tracks are in no part of the split and left out"


def _number(part: str) -> tuple[int, str]:
    return (int(part) if part.isdecimal() else 0, part)


def _by_name(name: str, dataset: Dataset, parts: Iterable[tuple[Track, str | None]]) -> Fold:
    members: dict[str | None, list[Track]] = defaultdict(list)
    for track, part in parts:
        members[part].append(track)
    if not members["train"] or not members["valid"] + members["test"]:
        raise DatasetError(
            f"{dataset.root}: the {name} split needs tracks in train and in valid or test, got "
            f"{len(members['train'])} in train, {len(members['valid'])} in valid, "
            f"{len(members['test'])} in test; without such parts, choose artist-kfold or "
            "stratified (`train --split`, elsewhere --protocol)"
        )
    others = sorted(part for part in members if part not in (None, "train", "valid", "test"))
    if others:
        warnings.warn(
            f"the {name} split leaves out the parts {', '.join(map(str, others))}",
            GapWarning,
            stacklevel=4,
        )
    return Fold(name, tuple(members["train"]), tuple(members["valid"]), tuple(members["test"]))


def _assign(
    dataset: Dataset, tracks: Sequence[Track], protocol: Protocol, folds: int, seed: int
) -> list[int]:
    """Return, for each track, the number of the fold in which it is held out."""
    if protocol == "random-kfold":
        groups = list(range(len(tracks)))
        assigned = [number % folds for number in range(len(tracks))]
        random.Random(seed).shuffle(assigned)
    else:
        groups = _groups(tracks, by_artist=protocol == "artist-kfold")
        assigned = balanced_folds(tracks, groups, folds, seed)
    if len(set(groups)) < folds:
        units = "tracks"
        if protocol == "artist-kfold":
            known = all(artist_key(track.artist) for track in tracks)
            units = "artists" if known else "artists and tracks by unknown ones"
        raise DatasetError(f"{dataset.root}: {folds} folds asked of {len(set(groups))} {units}")
    return assigned


def _groups(tracks: Sequence[Track], *, by_artist: bool) -> list[int]:
    """Return the group number of each track: those of one group must stay together.

    The same file under two ids is one recording, whatever artists are given for it.
    """
    keys = []
    for track in tracks:
        track_keys = [("file", os.path.realpath(str(track.path)))]
        if by_artist and (artist := artist_key(track.artist)):
            track_keys.append(("artist", artist))
        keys.append(track_keys)
    return connected_components(keys)


def balanced_folds(
    tracks: Sequence[Track], groups: Sequence[int], folds: int, seed: int
) -> list[int]:
    """Return the number of each track's fold: groups stay together, genres are spread evenly.

    The groups are assigned, largest first, each to the fold where it leaves the least imbalance.
    The imbalance is over each genre, each pair of genre and kind, and the total, each relative to
    the share that a fold should have. Squaring makes an empty share the worst case, so a genre with
    at least as many artists as folds is nearly always in every fold.

    Scikit-learn's StratifiedGroupKFold balances only one class label, and is not part of the core
    install.
    """
    strata = [_strata(track) for track in tracks]
    share = {
        stratum: count / folds for stratum, count in Counter(s for t in strata for s in t).items()
    }
    loads: list[Counter[tuple[str, ...]]] = [Counter() for _ in range(folds)]
    assigned = [0] * len(tracks)
    by_number: dict[int, list[int]] = defaultdict(list)
    for i, number in enumerate(groups):
        by_number[number].append(i)
    members = list(by_number.values())
    # Ties are broken at random, first among groups of equal size, then among equally good folds.
    rng = random.Random(seed)
    rng.shuffle(members)
    for group in sorted(members, key=len, reverse=True):
        gain = Counter(stratum for i in group for stratum in strata[i])

        # ((load + gain)^2 - load^2) / share^2: what the group adds to the sum of squared relative
        # loads. The terms of other strata and folds do not depend on which fold is chosen.
        costs = [
            math.fsum(  # rounds alike in all versions of Python
                (2 * load[stratum] + count) * count / share[stratum] ** 2
                for stratum, count in gain.items()
            )
            for load in loads
        ]
        order = list(range(folds))
        rng.shuffle(order)
        best = min(order, key=costs.__getitem__)
        loads[best].update(gain)
        for i in group:
            assigned[i] = best
    return assigned


def _strata(track: Track) -> tuple[tuple[str, ...], ...]:
    return (), (str(track.label),), (str(track.label), str(track.kind))


def _k_folds(
    tracks: Sequence[Track], assigned: Sequence[int], protocol: Protocol, folds: int
) -> list[Fold]:
    pairs = list(zip(tracks, assigned, strict=True))
    return [
        Fold(
            f"{protocol}-{number + 1}of{folds}",
            train=tuple(track for track, fold in pairs if fold != number),
            valid=tuple(track for track, fold in pairs if fold == number),
        )
        for number in range(folds)
    ]
