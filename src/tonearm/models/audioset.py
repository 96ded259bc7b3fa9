"""The few of AudioSet's 527 classes that Tonearm uses: those of the genres, and of music at all.

Names and numbers are those of AudioSet's list of classes (Gemmeke et al. 2017, "Audio Set: an
ontology and human-labeled dataset for audio events", CC BY 4.0).
"""

from __future__ import annotations

from collections.abc import Iterable

from tonearm.errors import TonearmError
from tonearm.text import enumerated

CLASSES = 527
MUSIC = 137  # the number of the class "Music"
# All classes of music: singing (from "Singing" to "Humming"), and music with its instruments,
# genres and moods (from "Music" to "Scary music"). All other classes are other sounds.
MUSICAL = (*range(27, 38), *range(137, 283))

# For each genre of GTZAN, the classes that are the genre or a part of it. Classes that GTZAN's
# genres share (funk, soul, electronic music) belong to none.
GENRES: dict[str, dict[str, int]] = {
    "blues": {"Blues": 251},
    "classical": {"Classical music": 237, "Opera": 238},
    "country": {"Country": 229, "Bluegrass": 231},
    "disco": {"Disco": 236},
    "hiphop": {"Hip hop music": 217, "Rapping": 36},
    "jazz": {"Jazz": 235, "Swing music": 230},
    "metal": {"Heavy metal": 220},
    "pop": {"Pop music": 216},
    "reggae": {"Reggae": 228, "Ska": 263},
    "rock": {
        "Rock music": 219,
        "Punk rock": 221,
        "Grunge": 222,
        "Progressive rock": 223,
        "Rock and roll": 224,
        "Psychedelic rock": 225,
    },
}


def other_classes() -> list[int]:
    """Return the numbers of the classes that are not part of music."""
    musical = set(MUSICAL)
    return [number for number in range(CLASSES) if number not in musical]


def knows(labels: Iterable[str]) -> bool:
    """Check whether AudioSet has classes for all of the given genres."""
    return all(label in GENRES for label in labels)


def genre_classes(labels: Iterable[str]) -> list[list[int]]:
    """Return the numbers of the AudioSet classes that belong to each genre.

    Raises
    ------
    TonearmError
        If a genre has no classes.
    """
    names = tuple(labels)
    if foreign := [label for label in names if label not in GENRES]:
        raise TonearmError(
            f"AudioSet's classes are known for {', '.join(GENRES)}, not for {enumerated(foreign)}"
        )
    return [list(GENRES[label].values()) for label in names]
