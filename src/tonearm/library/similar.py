"""The tracks of a library that sound most like a given recording."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tonearm import bundle
from tonearm.bundle import Bundle
from tonearm.errors import TonearmError, UsageError
from tonearm.library.analysis import Analyser, Task, model_of
from tonearm.library.entry import Entry
from tonearm.library.excerpt import Excerpt
from tonearm.library.m3u import SUFFIXES, Item, write_playlist
from tonearm.library.outputs import refuse_to_overwrite
from tonearm.library.path_conditions import stored_path
from tonearm.library.similarity import best_first, cosine_similarity
from tonearm.library.store import Store


@dataclass(frozen=True)
class Neighbour:
    """A track and its similarity to the given recording: the cosine, from -1 to 1."""

    entry: Entry
    similarity: float


@dataclass(frozen=True)
class Neighbourhood:
    """The tracks that sound like a recording.

    Attributes
    ----------
    query
        The recording itself, as the store knows it or as it was just analysed.
    is_known
        Whether the store knew the file or its audio, so that nothing was decoded.
    neighbours
        The tracks, the most similar first.
    not_searched
        Number of files that would be searched if the same model, with the same excerpt, had
        analysed them: embeddings of others cannot be compared.
    """

    query: Entry
    is_known: bool
    neighbours: tuple[Neighbour, ...]
    not_searched: int = 0


def similar(
    store: Store,
    path: str | os.PathLike[str],
    top: int = 10,
    *,
    model: str | os.PathLike[str] = bundle.DEFAULT_NAME,
    under: Sequence[str | os.PathLike[str]] = (),
) -> Neighbourhood:
    """Find the tracks that sound most like a recording.

    The tracks are compared by their mean embeddings. The recording itself, copies of its audio and
    what is not music are left out; of several copies of another track, only one is returned.

    Parameters
    ----------
    store
        The store of a scan.
    path
        Any recording. A file that the store knows is not decoded if it is unchanged or gone.
    top
        Maximum number of tracks to find.
    model
        The model for a file that the store does not know: the one that scanned the store.
    under
        Files, and folders of files, to search; by default, all.

    Raises
    ------
    UsageError
        If `top` is out of range, `under` is a single path, or there is no model of that name.
    TonearmError
        If the recording cannot be analysed, or only by a model that has not scanned the store.
    """
    if top < 1:
        raise UsageError(f"top: expected 1 or more, got {top}")
    query, is_known = _find_or_analyse(store, os.fspath(path), model)
    not_searched = store.count_incomparable(query.model, under)
    if query.embedding is None:
        return Neighbourhood(query, is_known, (), not_searched)
    paths: list[str] = []
    blocks = [np.empty(0, np.float32)]
    for some, embeddings in store.embedding_blocks(query.model, len(query.embedding), under=under):
        paths += some
        blocks.append(cosine_similarity(embeddings, query.embedding))
    cosines = np.concatenate(blocks)
    neighbours: list[Neighbour] = []
    seen_audio = {query.audio} - {None}
    for index in best_first(cosines):
        entry = None if paths[index] == query.path else store.entry(paths[index])
        if entry is None or entry.verdict == "not music" or entry.audio in seen_audio:
            continue
        seen_audio |= {entry.audio} - {None}
        neighbours.append(Neighbour(entry, float(cosines[index])))
        if len(neighbours) == top:
            break
    return Neighbourhood(query, is_known, tuple(neighbours), not_searched)


def require_playlist(target: str | os.PathLike[str], store: Store) -> None:
    """Raise `UsageError` if a file cannot become a playlist, see `write_similar`."""
    refuse_to_overwrite(target, store.path)
    if Path(target).suffix.lower() not in SUFFIXES:
        raise UsageError(f"{target}: expected a playlist's suffix, {' or '.join(SUFFIXES)}")


def write_similar(
    store: Store,
    found: Neighbourhood,
    target: str | os.PathLike[str],
    *,
    absolute: bool = False,
) -> tuple[str, ...]:
    """Write a playlist of a recording and its neighbours; return the paths it cannot hold.

    Raises
    ------
    UsageError
        If the target is a recording or the store, or its suffix is that of no M3U playlist.
    TonearmError
        If it cannot be written.
    """
    require_playlist(target, store)
    items = [Item.of(found.query), *(Item.of(neighbour.entry) for neighbour in found.neighbours)]
    return write_playlist(target, items, absolute=absolute)


def _find_or_analyse(store: Store, path: str, model: str | os.PathLike[str]) -> tuple[Entry, bool]:
    """Return the entry of a recording, analysing it if necessary, and whether it was known.

    Raises
    ------
    TonearmError
        If the recording cannot be analysed, or the store was scanned by another model.
    """
    task = Task.of(stored_path(path))
    known = store.entry(task.path)
    if known is not None and known.embedding is not None:
        is_gone = not os.path.lexists(task.path)
        if is_gone or (task.size, task.mtime_ns) == (known.size, known.mtime_ns):
            return known, True
    loaded = Bundle.load(bundle.find(model))
    with closing(_analyser_for(store, loaded)) as analyser:
        outcome = analyser(task)
    if outcome.entry.error is not None:
        raise TonearmError(f"{path}: {outcome.entry.error}")
    return outcome.entry, not outcome.is_new


def _analyser_for(store: Store, loaded: Bundle) -> Analyser:
    """Return an analyser that uses the same model and excerpt as the scan of the store.

    Raises
    ------
    TonearmError
        If the model has not scanned the store, or nothing has.
    """
    models = [model for model, files in store.models().items() if files]
    if not models:
        raise TonearmError(f"{store.path} knows no file")
    for model in models:
        excerpt = Excerpt.parse(model.excerpt)
        if model_of(loaded, excerpt).key == model.key:
            return Analyser(loaded.path, model, excerpt, store.path)
    keys = " and ".join(model.key for model in models)
    raise TonearmError(
        f"{store.path}: scanned by {keys}, whose embeddings cannot be "
        f"compared with those of {loaded.metadata.name} ({loaded.path}): give its "
        "bundle with --model, or scan again"
    )
