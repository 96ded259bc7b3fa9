"""Undo the changes recorded in a journal: every file gets back exactly the bytes it had."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tonearm.atomic import remove_leftovers
from tonearm.errors import TonearmError, reason_of
from tonearm.library.delta import restore
from tonearm.library.journal import (
    LATEST,
    Journal,
    JournalEntry,
    JournalError,
    entries_at,
    find,
    locate,
)
from tonearm.library.replacement import (
    digest,
    draft,
    prepare,
    put_in_place,
    replaceable,
)
from tonearm.library.tags import TagError

# Permanent failures: nothing can be done about these files any more.
GONE = "is gone, which counts as undone"
CHANGED = "changed since it was tagged, which counts as undone"


@dataclass(frozen=True)
class Restoration:
    """What happens to one file.

    Attributes
    ----------
    path
        The file, absolute and with links resolved.
    old, new
        The genres in its tags before it was tagged, which it gets back, and after.
    action
        ``"restore"``, ``"keep"`` if the file is already as it was, or ``"fail"``.
    reason
        Why, in a few words.
    """

    path: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    action: Literal["restore", "keep", "fail"]
    reason: str


def undo(
    journal: str | os.PathLike[str] = LATEST, *, dry_run: bool = False
) -> Iterator[Restoration]:
    """Restore the files in a journal, the last written first.

    A file is restored only if it still has the bytes that were written, and only to exactly the
    bytes it had before. Its old modification time is restored as well. When no restorable file is
    left (files that are gone or have changed since are not), the journal is marked as undone, and
    ``"latest"`` then means the one before it; given its path, it can still be undone again.

    Parameters
    ----------
    journal
        Path of the journal, or ``"latest"``.
    dry_run
        Whether to report what would happen without changing anything.

    Yields
    ------
    Restoration
        One for each file.

    Raises
    ------
    TonearmError
        If there is no such journal, or it records no change.
    journal.JournalError
        If the journal cannot be read or marked as undone; in the end, if some of its entries are
        damaged, so that their files cannot be restored.
    """
    path = find(journal)
    places, damaged = locate(path)
    if not places and not damaged:
        raise TonearmError(f"nothing to undo: {path} records no change")
    histories: dict[str, list[int]] = {}
    for file, position in reversed(places):
        histories.setdefault(file, []).append(position)
    for folder in {Path(name).parent for name in histories} if not dry_run else ():
        remove_leftovers(folder)
    is_complete = True
    for positions in histories.values():
        restoration = _undo_file(entries_at(path, positions), dry_run=dry_run)
        is_complete &= restoration.action != "fail" or restoration.reason in (GONE, CHANGED)
        yield restoration
    if is_complete and not dry_run:
        with Journal(path) as finished:
            finished.mark_undone()
    if damaged:
        raise JournalError(path, f"damaged entries, whose files cannot be restored: {damaged}")


def _undo_file(history: list[JournalEntry], *, dry_run: bool) -> Restoration:
    """Undo the entries for one file, the last one first."""
    newest, oldest = history[0], history[-1]
    restoration = Restoration(newest.path, oldest.old, newest.new, "restore", "as it was")
    steps = 0
    try:
        if not os.path.lexists(newest.path):
            return replace(restoration, action="fail", reason=GONE)
        if not os.path.isfile(newest.path):  # noqa: PTH113 (reading a pipe would never end)
            return replace(restoration, action="fail", reason=CHANGED)
        current_digest = digest(newest.path)
        for entry in history:
            if current_digest == entry.after:
                if dry_run:
                    replaceable(entry.path)
                else:
                    _restore(entry)
                current_digest = entry.before
                steps += 1
    except TagError as error:
        return replace(restoration, action="fail", reason=error.reason)
    except OSError as error:
        return replace(restoration, action="fail", reason=reason_of(error))
    if current_digest != oldest.before:
        return replace(restoration, action="fail", reason=CHANGED)
    if not steps:
        return replace(restoration, action="keep", reason="is as it was already")
    return restoration


def _restore(entry: JournalEntry) -> None:
    """Restore the bytes that a file had before an entry's change."""
    target, state = replaceable(entry.path)
    with draft(target) as old:
        with old.open("wb") as output:
            restore(entry.delta, target, output)
        if digest(old) != entry.before:
            raise TagError(target, "the journal does not give its bytes")
        prepare(old, target)
        os.utime(old, ns=(target.stat().st_atime_ns, entry.mtime_ns))
        put_in_place(old, target, state)
