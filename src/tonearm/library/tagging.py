"""Writing genres to tags: first a plan of what would change, then the change, file by file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from tonearm.errors import UsageError
from tonearm.library.delta import difference
from tonearm.library.journal import Entry, Journal
from tonearm.library.mapping import Mapping
from tonearm.library.replacement import (
    digest,
    draft,
    prepare,
    put_in_place,
    remove_leftovers,
    replaceable,
)
from tonearm.library.sound import sounds_alike
from tonearm.library.suggestions import Source, Suggestion
from tonearm.library.tag_words import spelling_of
from tonearm.library.tags import TagError, check_writable, read_genres, write_genres

Policy = Literal["missing", "replace", "append"]
Action = Literal["write", "keep", "fail"]


@dataclass(frozen=True)
class Rules:
    """Which suggestions are written, and how.

    Attributes
    ----------
    policy
        ``"missing"`` writes where a file has no genre, ``"replace"`` puts the new one in the place
        of those there are, ``"append"`` adds it to them.
    above, below
        Only suggestions with a confidence of at least `above` and less than `below` are written.
    mapping
        A person's own words for some labels; other labels are written as they are.

    Raises
    ------
    UsageError
        If a value is unknown or out of range, or no confidence lies between the bounds.
    """

    policy: Policy = "missing"
    above: float = 0.0
    below: float | None = None
    mapping: Mapping = field(default_factory=dict)

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
    """What happens to one file, or would.

    Attributes
    ----------
    path
        The file as it was named.
    old, new
        The genres in its tags before and after; the same unless it is written.
    label, confidence
        What was suggested, None where nothing was or nobody was asked.
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
    paths: Iterable[str | os.PathLike[str]], source: Source, rules: Rules | None = None
) -> Iterator[Change]:
    """Find out what would be written, touching nothing.

    All tags are read first, so that the source is asked only where its answer can matter: with
    the policy "missing", about files without a genre.

    Parameters
    ----------
    paths
        The files. One that is named twice, or by a link too, is considered once.
    source
        Where genres come from.
    rules
        Which of them to write; by default all, where there is none yet.

    Yields
    ------
    Change
        One for each path, in their order, each as soon as the source has said its part.
    """
    rules = rules or Rules()
    seen: set[str] = set()
    looked = [_look(os.fspath(path), rules, seen) for path in paths]
    open_cases = [change.path for change, settled in looked if not settled]
    suggestions = source(open_cases) if open_cases else iter(())
    for change, settled in looked:
        yield change if settled else _decide(change, next(suggestions), rules)


def apply(
    changes: Iterable[Change], journal: Journal, *, keep_mtime: bool = False
) -> Iterator[Change]:
    """Do what a plan says.

    Each file is copied beside itself, the copy gets its tags, the journal gets what it takes to
    restore the old bytes, and then the copy takes the place of the file. So at any moment there
    is the old file or the new one, and none that the journal does not know.

    Parameters
    ----------
    changes
        As `plan` yields them.
    journal
        Where the way back is written down.
    keep_mtime
        Whether files keep their time of modification.

    Yields
    ------
    Change
        Each as it was planned, or as a failure with its reason.

    Raises
    ------
    journal.JournalError
        If the journal cannot be written: no file is touched without.
    """
    swept: set[Path] = set()
    for change in changes:
        if change.action != "write":
            yield change
            continue
        try:
            target, state = replaceable(change.path)
            if target.parent not in swept:
                remove_leftovers(target.parent)
                swept.add(target.parent)
            _rewrite(change, target, state, journal, keep_mtime=keep_mtime)
        except TagError as error:
            yield _failed(change, error.reason)
        except OSError as error:
            yield _failed(change, error.strerror or str(error))
        else:
            yield change


def _look(path: str, rules: Rules, seen: set[str]) -> tuple[Change, bool]:
    """Return what is known of a file before anything is suggested, and whether that is all."""
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
    """Complete a change by what was suggested."""
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
    new = _joined(change.old, words) if rules.policy == "append" else words
    if new == change.old:
        return replace(change, reason="is there already")
    try:
        replaceable(change.path)
        check_writable(change.path)
    except TagError as error:
        return _failed(change, error.reason)
    reason = {"replace": "replaced", "append": "added"}.get(rules.policy if change.old else "")
    return replace(change, new=new, action="write", reason=reason or "had none")


def _joined(old: Sequence[str], words: Sequence[str]) -> tuple[str, ...]:
    """Return the genres there are and those of the words that none of them spells."""
    spelled = set(map(spelling_of, old))
    return (*old, *(word for word in words if spelling_of(word) not in spelled))


def _rewrite(
    change: Change, target: Path, state: os.stat_result, journal: Journal, *, keep_mtime: bool
) -> None:
    """Write the genres of a change to its file."""
    with draft(target) as copy:
        shutil.copyfile(target, copy)
        before = digest(copy)
        if read_genres(copy) != change.old:
            raise TagError(target, "its genre has changed since the plan was made")
        write_genres(copy, change.new)
        if read_genres(copy) != change.new:
            raise TagError(target, "its tags cannot hold the genre")
        if not sounds_alike(target, copy):
            raise TagError(target, "writing its tags would change what is heard")
        prepare(copy, target)
        if not keep_mtime:
            os.utime(copy)
        entry = Entry(
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
