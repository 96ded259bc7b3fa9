"""Check every track of a dataset for faults that would spoil training or evaluation."""

from __future__ import annotations

import hashlib
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from tonearm import audio, workers
from tonearm.datasets import fingerprint, gtzan_facts
from tonearm.datasets.components import connected_components
from tonearm.datasets.fingerprint import Words
from tonearm.datasets.track import Dataset, Track
from tonearm.errors import UsageError, unexpected
from tonearm.inputs import SILENCE_PEAK
from tonearm.progress import with_progress
from tonearm.text import printable

FaultKind = Literal[
    "missing",
    "undecodable",
    "truncated",
    "silent",
    "too short",
    "duplicate",
    "repetition",
    "label conflict",
    "split leak",
    "known fault",
]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)

SHORTEST_SECONDS = 1.0
STATED_SHARE = 0.9  # a track shorter than this share of its stated duration is too short
FINGERPRINTED_SECONDS = 120.0  # of a long recording, enough to recognise it


@dataclass(frozen=True)
class Fault:
    """A fault of one track, or of several together, described in one line."""

    kind: FaultKind
    tracks: tuple[str, ...]
    detail: str


@dataclass(frozen=True)
class Report:
    """The result of a check: the number of tracks, and the faults sorted by kind and track."""

    checked: int
    faults: tuple[Fault, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, ready for JSON."""
        return asdict(self)


def check(
    dataset: Dataset,
    *,
    shortest: float = SHORTEST_SECONDS,
    progress: bool = True,
    processes: int = 2,
) -> Report:
    """Decode every track and report all faults; no track stops the others.

    - missing, undecodable, truncated (the file breaks off): with the reason;
    - silent: never louder than 80 dB below full scale;
    - too short: below `shortest` seconds, or clearly below the duration that the dataset states;
    - duplicate: the same decoded audio;
    - repetition: the same recording in another encoding or cut, by its fingerprint
      (`tonearm.datasets.fingerprint`; the first two minutes count);
    - label conflict, split leak: duplicates or repetitions with different labels, or in different
      parts of the dataset's own split;
    - known fault: published faults of GTZAN that this check did not find.

    Raises
    ------
    UsageError
        If `shortest` is negative or not finite.
    StartError
        With several processes, if one dies before it can begin.
    """
    if not 0 <= shortest < math.inf:
        raise UsageError(f"shortest: expected seconds from 0, got {shortest:g}")
    faults: list[Fault] = []
    decoded: dict[str, _Decoded] = {}
    results = with_progress(
        _decode_tracks(dataset.tracks, processes), len(dataset), "listening", show=progress
    )
    for track, result in zip(dataset, results, strict=True):
        if isinstance(result, Fault):
            faults.append(result)
        else:
            decoded[track.id] = result
            faults += _faults_of(track, result, shortest)
    faults += _faults_among(dataset, decoded)
    faults += _known_faults(dataset, faults)
    faults.sort(key=lambda fault: (FAULT_KINDS.index(fault.kind), fault.tracks))
    return Report(len(dataset), tuple(faults))


@dataclass(frozen=True)
class _Decoded:
    """The result of decoding a track: seconds, peak, whether cut, audio hash, and fingerprint."""

    seconds: float
    peak: float
    truncated: bool
    digest: str
    words: Words


def _decode_tracks(tracks: Sequence[Track], processes: int) -> Iterator[_Decoded | Fault]:
    if processes <= 1:
        yield from map(_decode_track, tracks)
        return
    for result in workers.in_order(_track_decoder, tracks, min(processes, len(tracks))):
        if isinstance(result, workers.Crash):
            path = printable(str(result.item.path))
            yield Fault("undecodable", (result.item.id,), f"{path}: {result.reason}")
        else:
            yield result


def _track_decoder() -> Callable[[Track], _Decoded | Fault]:
    return _decode_track


def _decode_track(track: Track) -> _Decoded | Fault:
    if track.path is None:
        return Fault("missing", (track.id,), f"{printable(track.id)}: no path")
    try:
        return _decode(track.path)
    except audio.AudioError as error:
        # Path.exists would raise where the folder may not be entered, before Python 3.14.
        kind: FaultKind = "undecodable" if os.path.exists(track.path) else "missing"  # noqa: PTH110
        return Fault(kind, (track.id,), str(error))
    except Exception as error:  # one odd file must not end a long job
        return Fault(
            "undecodable", (track.id,), f"{printable(str(track.path))}: {unexpected(error)}"
        )


def _decode(path: Path) -> _Decoded:
    digest = hashlib.blake2b(digest_size=16)
    peak, blocks, remaining = 0.0, [], int(FINGERPRINTED_SECONDS * fingerprint.RATE)
    with audio.stream(path, fingerprint.RATE) as stream:
        for block in stream:
            digest.update(block.tobytes())
            peak = max(peak, float(np.abs(block).max(initial=0.0)))
            if remaining > 0:
                blocks.append(block[:remaining].copy())  # a view would keep the whole block
                remaining -= len(blocks[-1])
    words = fingerprint.fingerprint(np.concatenate(blocks))
    return _Decoded(stream.seconds, peak, stream.truncated, digest.hexdigest(), words)


def _faults_of(track: Track, decoded: _Decoded, shortest: float) -> Iterator[Fault]:
    path, seconds = printable(str(track.path)), f"{decoded.seconds:.2f} s"
    if decoded.truncated:
        yield Fault("truncated", (track.id,), f"{path}: breaks off after {seconds}")
    if decoded.peak < SILENCE_PEAK:
        yield Fault("silent", (track.id,), f"{path}: {seconds} of silence")
    if decoded.seconds < shortest:
        yield Fault("too short", (track.id,), f"{path}: {seconds}, below {shortest:g} s")
    elif track.duration is not None and decoded.seconds < STATED_SHARE * track.duration:
        stated = f"{track.duration:.2f} s"
        yield Fault("too short", (track.id,), f"{path}: {seconds}, stated are {stated}")


def _faults_among(dataset: Dataset, decoded: Mapping[str, _Decoded]) -> Iterator[Fault]:
    """Yield duplicates and repetitions, and contradictions between their labels or splits."""
    # Silent tracks would all count as duplicates, and have a fault of their own.
    audible = [id_ for id_, result in decoded.items() if result.peak >= SILENCE_PEAK]
    by_digest: dict[str, list[str]] = defaultdict(list)
    for id_ in audible:
        by_digest[decoded[id_].digest].append(id_)
    duplicates = [group for group in by_digest.values() if len(group) > 1]
    for group in duplicates:
        ids = " = ".join(map(printable, group))
        yield Fault("duplicate", tuple(group), f"{ids}: the same audio")

    links = [pair for group in duplicates for pair in pairwise(group)]
    distinct = [group[0] for group in by_digest.values()]
    for repeat in fingerprint.repeats([decoded[id_].words for id_ in distinct]):
        pair = distinct[repeat.first], distinct[repeat.second]
        links.append(pair)
        shift = f", {abs(repeat.offset):.1f} s apart" if abs(repeat.offset) >= 0.05 else ""
        ids = " ~ ".join(map(printable, pair))
        detail = f"{ids}: the same recording{shift} ({repeat.error:.0%} of bits differ)"
        yield Fault("repetition", pair, detail)

    tracks = {track.id: track for track in dataset}
    for group in _connected_groups(links):
        yield from _contradiction("label conflict", group, [tracks[id_].label for id_ in group])
        yield from _contradiction("split leak", group, [tracks[id_].split for id_ in group])


def _contradiction(
    kind: FaultKind, group: Sequence[str], values: Sequence[str | None]
) -> Iterator[Fault]:
    if len({value for value in values if value is not None}) > 1:
        listed = ", ".join(f"{id_} in {value}" for id_, value in zip(group, values, strict=True))
        yield Fault(kind, tuple(group), f"the same recording: {printable(listed)}")


def _connected_groups(links: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Return the groups of ids that are linked, directly or through others."""
    groups: dict[int, set[str]] = defaultdict(set)
    for link, number in zip(links, connected_components(links), strict=True):
        groups[number].update(link)
    return [sorted(group) for group in groups.values()]


def _known_faults(dataset: Dataset, found: Iterable[Fault]) -> Iterator[Fault]:
    """Yield the published faults of GTZAN's tracks that are not among those found."""
    if not any(track.id in gtzan_facts.facts() for track in dataset):
        return
    reported = {id_ for fault in found for id_ in fault.tracks}
    present = {track.id for track in dataset}
    for id_, detail in gtzan_facts.KNOWN_FAULTS.items():
        if id_ in present - reported:
            yield Fault("known fault", (id_,), f"{id_}: {detail} (Sturm 2013)")
    for group in gtzan_facts.repetitions():
        listed = tuple(id_ for id_ in group if id_ in present)
        if len(listed) > 1 and not reported.issuperset(listed):
            detail = f"{' ~ '.join(listed)}: listed as one recording (Sturm 2013)"
            yield Fault("known fault", listed, detail)
