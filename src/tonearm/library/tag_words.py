"""Which of a model's labels are meant by the free-text genres in tags."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

# Words for a common label that do not contain it. Each is undisputedly a kind of that genre: where
# people would argue (punk, ska, soul), it is better to treat the tag as unknown.
KINDS = {
    "hiphop": ("rap", "gangsta"),
    "jazz": ("swing", "bebop", "hardbop", "bop", "bigband", "dixieland"),
    "classical": ("klassik", "classique", "baroque", "symphony", "chambermusic", "opera"),
    "reggae": ("dub", "dancehall", "ragga", "rocksteady"),
}

_LONGEST = 3  # words that may have to be joined to spell a label: "rhythm and blues"


class TagWords:
    """Interprets genre tags in terms of a model's labels.

    A tag means the labels it spells, ignoring case, blanks and punctuation ("Hip-Hop"), those it
    contains as words ("Thrash Metal", "Pop/Rock"), and those it is a kind of (`KINDS`). A word from
    the user's own mapping means the labels mapped to it, and nothing else.

    Parameters
    ----------
    labels
        The model's labels.
    mapping
        From labels to the user's words, as `tonearm.library.mapping` reads it.
    """

    def __init__(
        self, labels: Iterable[str], mapping: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        known = tuple(labels)
        self._user_words: dict[str, set[str]] = {}
        for label, words in (mapping or {}).items():
            for word in words if label in known else ():
                self._user_words.setdefault(normalised_spelling(word), set()).add(label)
        self._words: dict[str, str] = {}
        spellings = {normalised_spelling(label): label for label in known}
        for spelling, label in spellings.items():
            self._words |= dict.fromkeys(KINDS.get(spelling, ()), label)
        self._words |= spellings  # last: a label of its own ("Dub") is no kind of another
        self._meant = lru_cache(maxsize=10_000)(self._interpret)

    def meant(self, tags: Iterable[str]) -> frozenset[str]:
        """Return the labels that any of the tags means; none if they mean something else."""
        return frozenset().union(*map(self._meant, tags))

    def _interpret(self, tag: str) -> frozenset[str]:
        user_labels = self._user_words.get(normalised_spelling(tag))
        if user_labels is not None:
            return frozenset(user_labels)
        words = [normalised_spelling(word) for word in re.findall(r"\w+", tag) if word.strip("_")]
        runs = (
            "".join(words[first : first + length])
            for first in range(len(words))
            for length in range(1, _LONGEST + 1)
        )
        return frozenset(self._words[run] for run in runs if run in self._words)


def normalised_spelling(word: str) -> str:
    """Reduce a tag to letters and digits without case and accents; one without any is unchanged."""
    plain = unicodedata.normalize("NFKD", word.casefold())
    stripped = re.sub(r"[\W_]+", "", "".join(c for c in plain if not unicodedata.combining(c)))
    return stripped or word
