"""Which genres in tags `tonearm tag` wrote itself: they are no evidence of what is right."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence

from tonearm.library import journal

Genres = tuple[str, ...]


class OwnTags:
    """The genres that `tonearm tag` wrote, as far as the journals in `journal.folder` tell.

    Journals that were undone do not count, nor do files that were moved after they were tagged.
    """

    def __init__(self) -> None:
        self._changes: dict[str, list[tuple[Genres, Genres]]] = defaultdict(list)
        for path, old, new in journal.genre_changes():
            self._changes[path].append((old, new))

    def without(self, path: str | os.PathLike[str], genres: Sequence[str]) -> Genres:
        """Return the genres that a file would have if Tonearm had never tagged it.

        Parameters
        ----------
        path
            The file.
        genres
            Those in its tags. If they are not what was written last, they are returned as they
            are: someone has changed them.
        """
        remaining = tuple(genres)
        if self._changes:
            for old, new in reversed(self._changes.get(os.path.realpath(path), ())):
                if remaining == new:
                    remaining = old
        return remaining
