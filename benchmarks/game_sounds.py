"""Sorts the recordings of games into music, field recordings, voices and sound effects.

The folder is what `fetch_unlabelled.sh` leaves: a folder for each package. What a recording is, is
told by the words of its path below that, and by its length. The rules rather leave out than err.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from pathlib import Path

import songs
from tonearm import media

SEED = 0
MOST = 80  # of a kind
FROM_ONE_PACKAGE = 12  # of a kind, or one game would speak for all


@dataclass(frozen=True)
class Kind:
    """A kind of sound: what its paths say and do not say, and how many seconds it lasts.

    Attributes
    ----------
    words : one of these makes it this kind, and none of those further down.
    unlike : any of these leaves the recording out.
    shortest, longest : in seconds; what lasts less or longer is left out.
    """

    name: str
    words: frozenset[str]
    unlike: frozenset[str]
    shortest: float
    longest: float


def words(text: str) -> frozenset[str]:
    """Give the words of a path or a list, in small letters: `FootStepGrass1` has three."""
    return frozenset(word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", text))


# In this order, because folders lie in folders: sounds/music, sounds/voice. A student distilled on
# these games has heard whatever lasts 20 s or more; of what is no music, it is judged on the rest.
KINDS = (
    Kind(
        "music",
        words("music musics songs cdtracks"),
        words("guitar raw"),  # a part or a draft of what is there as well
        60.0,
        600.0,
    ),
    Kind("voices", words("voice voices voi speech announcer comments"), words("singer"), 1.0, 20.0),
    Kind(
        "field recordings",
        words("ambience ambient environment tilesets animals rain river waterfall wind birds"),
        # Sounds of other worlds may well be tuned; what is moved is an effect.
        words("morph machine wakawaka minecart rocks stairs stone teleporter"),
        2.0,
        20.0,
    ),
    Kind(
        "sound effects",
        words("sounds sound snd sfx soundfx effects actor attack resource"),
        # What may be a jingle or a tune, or what somebody speaks or cries in.
        words(
            "intro fanfare tada valkyries treasure success level victory win lose finish end "
            "welldone goal events message menu game newgame invincible defeated "
            "human male female bot npcs tavern taverns hogchant warcry hellish yoohoo"
        ),
        1.0,
        20.0,
    ),
)


def gather(folder: Path) -> dict[str, list[Path]]:
    """Draw up to 80 recordings of each kind, from each package in turn."""
    by_package: dict[str, dict[str, list[Path]]] = {kind.name: {} for kind in KINDS}
    for file in map(Path, media.recordings([str(folder)])):
        place = file.relative_to(folder)
        kind = kind_of(Path(*place.parts[1:]))
        if kind is not None:
            by_package[kind.name].setdefault(place.parts[0], []).append(file)
    return {kind.name: list(islice(_in_turn(kind, by_package[kind.name]), MOST)) for kind in KINDS}


def kind_of(path: Path) -> Kind | None:
    """Give the kind that a path below its package tells, or None if it tells none clearly."""
    told = words(str(path))
    kind = next((kind for kind in KINDS if told & kind.words), None)
    return None if kind is None or told & kind.unlike else kind


def _in_turn(kind: Kind, by_package: dict[str, list[Path]]) -> Iterator[Path]:
    drawn = [
        islice(_lasting(kind, random.Random(SEED).sample(files, len(files))), FROM_ONE_PACKAGE)
        for files in by_package.values()
    ]
    return (file for file in chain.from_iterable(zip_longest(*drawn)) if file is not None)


def _lasting(kind: Kind, files: list[Path]) -> Iterator[Path]:
    return (file for file in files if kind.shortest <= songs.seconds(file) <= kind.longest)
