"""Sorts the recordings of games into music, field recordings, voices and sound effects.

The folder is made by `fetch_unlabelled.sh` and contains a folder for each package. A recording is
sorted by the words of its path below that, and by its length. In doubt, it is left out.
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
MOST = 80  # recordings of a kind
FROM_ONE_PACKAGE = 12  # of a kind, so that no game dominates


@dataclass(frozen=True)
class Kind:
    """A kind of sound: the words that its paths contain and do not, and how long it lasts.

    Attributes
    ----------
    words : a path with any of these is of this kind, unless an earlier kind matches.
    unlike : a path with any of these is left out.
    shortest, longest : in seconds; shorter and longer recordings are left out.
    """

    name: str
    words: frozenset[str]
    unlike: frozenset[str]
    shortest: float
    longest: float


def words(text: str) -> frozenset[str]:
    """Return the words of a path or a list in lower case: `FootStepGrass1` has three."""
    return frozenset(word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", text))


# The order matters because folders are nested: sounds/music, sounds/voice. A student distilled on
# these games was trained on all that lasts 20 s or more, so non-music is limited to shorter sounds.
KINDS = (
    Kind(
        "music",
        words("music musics songs cdtracks"),
        words("guitar raw"),  # a part or a draft of another recording
        60.0,
        600.0,
    ),
    Kind("voices", words("voice voices voi speech announcer comments"), words("singer"), 1.0, 20.0),
    Kind(
        "field recordings",
        words("ambience ambient environment tilesets animals rain river waterfall wind birds"),
        # Otherworldly sounds may well be tuned; objects that are moved are effects.
        words("morph machine wakawaka minecart rocks stairs stone teleporter"),
        2.0,
        20.0,
    ),
    Kind(
        "sound effects",
        words("sounds sound snd sfx soundfx effects actor attack resource"),
        # These may be jingles or tunes, or contain speech or cries.
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
    """Draw up to 80 recordings of each kind, taking packages in turn."""
    by_package: dict[str, dict[str, list[Path]]] = {kind.name: {} for kind in KINDS}
    for file in map(Path, media.recordings([str(folder)])):
        relative = file.relative_to(folder)
        kind = kind_of(Path(*relative.parts[1:]))
        if kind is not None:
            by_package[kind.name].setdefault(relative.parts[0], []).append(file)
    return {kind.name: list(islice(_in_turn(kind, by_package[kind.name]), MOST)) for kind in KINDS}


def kind_of(path: Path) -> Kind | None:
    """Return the kind that a path below its package indicates, or None if that is unclear."""
    path_words = words(str(path))
    kind = next((kind for kind in KINDS if path_words & kind.words), None)
    return None if kind is None or path_words & kind.unlike else kind


def _in_turn(kind: Kind, by_package: dict[str, list[Path]]) -> Iterator[Path]:
    samples = [
        islice(_lasting(kind, random.Random(SEED).sample(files, len(files))), FROM_ONE_PACKAGE)
        for files in by_package.values()
    ]
    return (file for file in chain.from_iterable(zip_longest(*samples)) if file is not None)


def _lasting(kind: Kind, files: list[Path]) -> Iterator[Path]:
    return (file for file in files if kind.shortest <= songs.seconds(file) <= kind.longest)
