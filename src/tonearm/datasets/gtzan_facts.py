"""Facts about GTZAN beyond its audio: the fault-filtered partition, artists and faults.

`gtzan_index.csv` holds runs of consecutive tracks that share a split and an artist.

Sources
-------
- Partition: C. Kereliuk, B. L. Sturm, J. Larsen, "Deep Learning and Music Adversaries", IEEE
  Transactions on Multimedia 17(11), 2015: 443 / 197 / 290 tracks, with no artist in two parts
  except two who are guests of others. The 70 left out are repetitions (54), distorted recordings
  and a few mislabelled ones; most of the about 106 labels that B. L. Sturm ("An analysis of the
  GTZAN music genre dataset", ACM MIRUM 2012) disputes are still in it.
- Artists and faults: B. L. Sturm, "The GTZAN dataset: Its contents, its faults, their effects on
  evaluation, and its future use", arXiv:1306.1461, 2013, and the track index published with it.
  The artists are those of the train and valid parts; an empty cell means unknown or not recorded.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources
from typing import NamedTuple

GTZAN = "GTZAN"  # the dataset's name, in whatever layout

GENRES = (
    "blues",
    "classical",
    "country",
    "disco",
    "hiphop",
    "jazz",
    "metal",
    "pop",
    "reggae",
    "rock",
)

LICENCE = "no licence stated; commercial recordings, for research use only"

CITATION = (
    "G. Tzanetakis, P. Cook: Musical genre classification of audio signals. IEEE Transactions on "
    "Speech and Audio Processing 10(5), 2002."
)

# Groups of tracks that are the same recording, by genre and number (Sturm 2013). At most one track
# of a group is in the filtered partition.
_REPETITIONS = {
    "country": ((8, 51), (52, 60)),
    "disco": ((50, 51, 70), (55, 60, 89), (71, 74), (98, 99)),
    "hiphop": ((39, 45), (76, 78)),
    "jazz": (
        (33, 51),
        (34, 53),
        (35, 55),
        (36, 58),
        (37, 60),
        (38, 62),
        (39, 65),
        (40, 67),
        (42, 68),
        (43, 69),
        (44, 70),
        (45, 71),
        (46, 72),
    ),
    "metal": ((4, 13), (34, 94), (40, 61), (41, 62), (42, 63), (43, 64), (44, 65), (45, 66)),
    "pop": (
        (15, 22),
        (30, 31),
        (45, 46),
        (47, 80),
        (52, 57),
        (54, 60),
        (56, 59),
        (67, 71),
        (87, 90),
    ),
    "reggae": (
        (3, 54),
        (5, 56),
        (8, 57),
        (10, 60),
        (13, 58),
        (41, 69),
        (73, 74),
        (75, 91, 92),
        (80, 81, 82),
    ),
}
_REPETITION_ACROSS_GENRES = ("metal.00058", "rock.00016")

# Faults that decoding cannot reveal. (It does reveal the other well-known one: the file of
# jazz.00054 in the Kaggle edition is not audio.)
KNOWN_FAULTS = {"reggae.00086": "all but the first seconds are distorted"}


class Fact(NamedTuple):
    """Facts about one track: its part of the filtered partition, and its artist."""

    split: str | None
    artist: str | None


@cache
def facts() -> dict[str, Fact]:
    """Return the facts about all 1,000 tracks by id (`"blues.00000"`)."""
    index = resources.files("tonearm.datasets").joinpath("gtzan_index.csv")
    found = {}
    for run in csv.DictReader(index.read_text(encoding="utf-8").splitlines()):
        fact = Fact(run["split"] or None, run["artist"] or None)
        for number in range(int(run["first"]), int(run["last"]) + 1):
            found[track_id(run["genre"], number)] = fact
    return found


@cache
def repetitions() -> tuple[tuple[str, ...], ...]:
    """Return the groups of ids that are the same recording, in one genre or across two."""
    within = tuple(
        tuple(track_id(genre, number) for number in group)
        for genre, groups in _REPETITIONS.items()
        for group in groups
    )
    return (*within, _REPETITION_ACROSS_GENRES)


def track_id(genre: str, number: int) -> str:
    """Return the id of a track, as in its file name: `"blues.00007"` for `("blues", 7)`."""
    return f"{genre}.{number:05d}"
