"""Write genres to tags: first plan what would change, then make the changes file by file."""

from __future__ import annotations

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from tonearm.atomic import remove_leftovers
from tonearm.audio import AudioError
from tonearm.errors import UsageError, reason_of
from tonearm.library.delta import difference
from tonearm.library.journal import Journal, JournalEntry
from tonearm.library.mapping import GenreWords
from tonearm.library.replacement import (
    digest,
    draft,
    prepare,
    put_in_place,
    replaceable,
)
from tonearm.library.sound import same_audio
from tonearm.library.suggestions import Suggestion, SuggestionSource
from tonearm.library.tag_words import normalised_spelling
from tonearm.library.tags import TagError, check_writable, read_genres, write_genres
from tonearm.media import require_several

Policy = Literal["missing", "replace", "append"]
Action = Literal["write", "keep", "fail"]


@dataclass(frozen=True)
class Rules:
    """Which suggestions are written, and how.

    Attributes
    ----------
    policy
        ``"missing"`` writes only to files without a genre, ``"replace"`` replaces the existing
        genres with the new one, ``"append"`` adds it to them.
    above, below
        Only suggestions with a confidence of at least `above` and less than `below` are written.
    mapping
        The user's own words for some labels; other labels are written unchanged.

    Raises
    ------
    UsageError
        If a value is unknown or out of range, or no confidence is between the bounds.
    """

    policy: Policy = "missing"
    above: float = 0.0
    below: float | None = None
    mapping: GenreWords = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.policy not in get_args(Policy):
            expected = ", ".join(get_args(Policy))
            raise UsageError(f"unknown policy {self.policy!r}: expected one of {expected}")
        for name, bound in (("above", self.above), ("below", self.below)):
            if bound is not None and not 0 <= bound <= 1:  # nor what is no number
                raise UsageError(f"{name}: expected 0 to 1, got {bound:g}")
        if self.below is not None and self.below <= self.above:
            raise UsageError(f"nothing is at least {self.above:g} and below {self.below:g}")


@dataclass(frozen=True)
class Change:
    """A change made to one file, or planned for it.

    Attributes
    ----------
    path
        The file, as given by the caller.
    old, new
        The genres in its tags before and after; the same unless the file is written.
    label, confidence
        The suggestion; None if there was none or it was not needed.
    action
        ``"write"``, ``"keep"`` or ``"fail"``.
    reason
        Why, in a few words.
    """

    path: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    label: str | None
    confidence: float | None
    action: Action
    reason: str


def plan(
    paths: Iterable[str | os.PathLike[str]], source: SuggestionSource, rules: Rules | None = None
) -> Iterator[Change]:
    """Plan what would be written, without changing anything.

    All tags are read before it returns, so that the source predicts only files where its
    suggestion can matter: with the policy "missing", those without a genre.

    Parameters
    ----------
    paths
        The files. A file listed twice, or also through a link, is considered once.
    source
        Where genres come from.
    rules
        Which genres to write; by default every suggestion, to files that have no genre.

    Returns
    -------
    iterator of Change
        One for each path, in the order of `paths`, each as soon as its suggestion is available.
        It raises what the source raises.

    Raises
    ------
    UsageError
        If `paths` is a single path.
    """
    require_several("paths", paths)
    rules = rules or Rules()
    seen: set[str] = set()
    inspected = [_inspect(os.fspath(path), rules, seen) for path in paths]
    return _decided(inspected, source, rules)


def _decided(
    inspected: Sequence[tuple[Change, bool]], source: SuggestionSource, rules: Rules
) -> Iterator[Change]:
    """Yield each change, completed with a suggestion where it is not yet decided."""
    undecided = [change.path for change, is_decided in inspected if not is_decided]
    suggestions = source(undecided) if undecided else iter(())
    for change, is_decided in inspected:
        yield change if is_decided else _decide(change, next(suggestions), rules)


def apply(
    changes: Iterable[Change],
    journal: Journal,
    *,
    keep_mtime: bool = False,
    store: str | os.PathLike[str] | None = None,
) -> Iterator[Change]:
    """Carry out a plan.

    Each file is copied into its own folder, the copy is tagged, the journal records what it takes
    to restore the old bytes, and then the copy replaces the file. At any moment either the old or
    the new file exists in full, and no file is replaced before the journal has recorded it.

    Parameters
    ----------
    changes
        As `plan` yields them.
    journal
        Where the information needed to undo the changes is recorded.
    keep_mtime
        Whether files keep their modification time.
    store
        With `keep_mtime`, the store of `tonearm scan` whose next scan must read the files again.

    Yields
    ------
    Change
        Each as planned, or as a failure with its reason.

    Raises
    ------
    journal.JournalError
        If the journal cannot be written: no file is changed without it.
    StoreError
        If the store cannot be read or written.
    """
    if store is not None and keep_mtime:
        changes = _outdated(changes, store)
    cleaned: set[Path] = set()
    for change in changes:
        if change.action != "write":
            yield change
            continue
        try:
            target, state = replaceable(change.path)
            if target.parent not in cleaned:
                remove_leftovers(target.parent)
                cleaned.add(target.parent)
            _rewrite(change, target, state, journal, keep_mtime=keep_mtime)
        except (TagError, AudioError) as error:
            yield _failed(change, error.reason)
        except OSError as error:
            yield _failed(change, reason_of(error))
        else:
            yield change


def _inspect(path: str, rules: Rules, seen: set[str]) -> tuple[Change, bool]:
    """Return what is known about a file without a suggestion, and whether that is sufficient."""
    change = Change(path, (), (), None, None, "keep", "")
    target = os.path.realpath(path)
    if target in seen:
        return replace(change, reason="the same file as one before"), True
    seen.add(target)
    try:
        old = read_genres(path)
    except TagError as error:
        return _failed(change, error.reason), True
    if old and rules.policy == "missing":
        return replace(change, old=old, new=old, reason="has a genre"), True
    return replace(change, old=old, new=old), False


def _decide(change: Change, suggestion: Suggestion, rules: Rules) -> Change:
    """Complete a change with a suggestion."""
    label, confidence = suggestion.label, suggestion.confidence
    if label is None:
        return _failed(change, suggestion.error or "no genre")
    change = replace(change, label=label, confidence=confidence)
    words = rules.mapping.get(label, (label,))
    if not words:
        return replace(change, reason=f"{label} is never written")
    if confidence < rules.above:
        return replace(change, reason=f"less sure than {rules.above:g}")
    if rules.below is not None and confidence >= rules.below:
        return replace(change, reason=f"not less sure than {rules.below:g}")
    new = _appended(change.old, words) if rules.policy == "append" else words
    if new == change.old:
        return replace(change, reason="is there already")
    try:
        replaceable(change.path)
        check_writable(change.path)
    except TagError as error:
        return _failed(change, error.reason)
    reason = {"replace": "replaced", "append": "added"}.get(rules.policy if change.old else "")
    return replace(change, new=new, action="write", reason=reason or "had none")


def _appended(old: Sequence[str], words: Sequence[str]) -> tuple[str, ...]:
    """Return the existing genres, followed by the words that are not among them in any spelling."""
    # Some programs write several genres as one text, such as "Soul/Jazz" or "Soul; Jazz".
    parts = (part for genre in old for part in (genre, *re.split("[/;]", genre)))
    spellings = set(map(normalised_spelling, parts))
    return (*old, *(word for word in words if normalised_spelling(word) not in spellings))


def _outdated(changes: Iterable[Change], store: str | os.PathLike[str]) -> Iterator[Change]:
    """Yield changes, and before each that writes, make the store's next scan read the file again.

    A rewritten file may keep its size and time, so the scan would not notice.
    """
    from tonearm.library.store import Store

    with Store(store) as library:
        names = defaultdict(list)  # a file may have been scanned through several links
        for path in library.paths():
            names[os.path.realpath(path)].append(path)
        for change in changes:
            if change.action == "write":
                library.outdate(names[os.path.realpath(change.path)])
            yield change


def _rewrite(
    change: Change, target: Path, state: os.stat_result, journal: Journal, *, keep_mtime: bool
) -> None:
    """Write a change's genres to its file."""
    with draft(target) as copy:
        shutil.copyfile(target, copy)
        before = digest(copy)
        if read_genres(copy) != change.old:
            raise TagError(target, "its genre has changed since the plan was made")
        write_genres(copy, change.new)
        if read_genres(copy) != change.new:
            raise TagError(target, "its tags cannot hold the genre")
        if not same_audio(target, copy):
            raise TagError(target, "writing its tags would change the audio")
        prepare(copy, target)
        if not keep_mtime:
            os.utime(copy)
        entry = JournalEntry(
            path=str(target),
            before=before,
            after=digest(copy),
            mtime_ns=state.st_mtime_ns,
            old=change.old,
            new=change.new,
            delta=difference(target, copy),
        )
        journal.append(entry)
        try:
            put_in_place(copy, target, state)
        except TagError:
            journal.withdraw(entry)
            raise


def _failed(change: Change, reason: str) -> Change:
    return replace(change, new=change.old, action="fail", reason=reason)
