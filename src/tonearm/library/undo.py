"""Undoing what a journal tells of: every file gets back the very bytes it had."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tonearm.library.delta import restore
from tonearm.library.journal import LATEST, Entry, Journal, find, read
from tonearm.library.replacement import (
    digest,
    draft,
    prepare,
    put_in_place,
    remove_leftovers,
    replaceable,
)
from tonearm.library.tags import TagError

# Reasons that will not pass: nothing can be done about these files any more.
GONE = "is gone, which counts as undone"
CHANGED = "changed since it was tagged, which counts as undone"


@dataclass(frozen=True)
class Restoration:
    """What becomes of one file.

    Attributes
    ----------
    path
        The file, absolute and free of links.
    old, new
        The genres in its tags before it was tagged, which it gets back, and after.
    action
        ``"restore"``, ``"keep"`` if it is already as it was, or ``"fail"``.
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
    """Restore the files of a journal, the last written first.

    A file is restored only if its bytes are still those that were written, and never to anything
    but the bytes it had before. It gets its old time of modification, too. When no file is left
    that can be restored (what is gone or has changed since cannot), the journal is noted as undone,
    so that the latest is then the one before it; by its path it can be undone again.

    Parameters
    ----------
    journal
        Its path, or ``"latest"``.
    dry_run
        Whether to say only what would happen.

    Yields
    ------
    Restoration
        One for each file.

    Raises
    ------
    TonearmError
        If there is no such journal.
    journal.JournalError
        If it cannot be used.
    """
    path = find(journal)
    histories: dict[str, list[Entry]] = {}
    for entry in reversed(read(path)):
        histories.setdefault(entry.path, []).append(entry)
    for folder in {Path(name).parent for name in histories} if not dry_run else ():
        remove_leftovers(folder)
    is_over = True
    for history in histories.values():
        done = _undo_file(history, dry_run=dry_run)
        is_over &= done.action != "fail" or done.reason in (GONE, CHANGED)
        yield done
    if is_over and not dry_run:
        with Journal(path) as finished:
            finished.mark_undone()


def _undo_file(history: list[Entry], *, dry_run: bool) -> Restoration:
    """Walk back through all that was done to one file, the last entry first."""
    newest, oldest = history[0], history[-1]
    done = Restoration(newest.path, oldest.old, newest.new, "restore", "as it was")
    steps = 0
    try:
        if not os.path.lexists(newest.path):
            return _with(done, "fail", GONE)
        if not os.path.isfile(newest.path):  # noqa: PTH113 (as above, and a pipe would never end)
            return _with(done, "fail", CHANGED)
        bytes_now = digest(newest.path)
        for entry in history:
            if bytes_now == entry.after:
                if dry_run:
                    replaceable(entry.path)
                else:
                    _restore(entry)
                bytes_now = entry.before
                steps += 1
    except TagError as error:
        return _with(done, "fail", error.reason)
    except OSError as error:
        return _with(done, "fail", error.strerror or str(error))
    if bytes_now != oldest.before:
        return _with(done, "fail", CHANGED)
    return done if steps else _with(done, "keep", "is as it was already")


def _restore(entry: Entry) -> None:
    """Put the bytes of before in the place of those of after."""
    target, state = replaceable(entry.path)
    with draft(target) as old:
        with old.open("wb") as output:
            restore(entry.delta, target, output)
        if digest(old) != entry.before:
            raise TagError(target, "the journal does not give its bytes")
        prepare(old, target)
        os.utime(old, ns=(target.stat().st_atime_ns, entry.mtime_ns))
        put_in_place(old, target, state)


def _with(done: Restoration, action: Literal["keep", "fail"], reason: str) -> Restoration:
    return Restoration(done.path, done.old, done.new, action, reason)
