"""Playlists that every player reads: M3U8, a path a line in UTF-8."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from tonearm.library.entry import Entry
from tonearm.text import relative
from tonearm.whole import write_whole

LONGEST_NAME = 100  # bytes: names may have 255, and some systems count in other units
_FORBIDDEN = frozenset('<>:"/\\|?*')
_DEVICES = frozenset(
    ("con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)))
)


class Item(NamedTuple):
    """What a playlist says of a track: its path, its length in seconds, and its names."""

    path: str
    duration: float | None = None
    artist: str | None = None
    title: str | None = None

    @classmethod
    def of(cls, entry: Entry) -> Item:
        """Take what a store knows."""
        return cls(entry.path, entry.duration, entry.artist, entry.title)


def write_playlist(
    target: str | os.PathLike[str],
    items: Iterable[Item],
    *,
    title: str | None = None,
    absolute: bool = False,
) -> tuple[str, ...]:
    """Write a playlist, which appears whole or not at all; return the paths that are left out.

    Parameters
    ----------
    target
        Usually of the suffix ``.m3u8``.
    items
        In the order in which they are to be played.
    title
        What players may call the list.
    absolute
        Whether paths begin at the root, instead of at the playlist's folder.

    Raises
    ------
    TonearmError
        If it cannot be written.
    """
    folder = _folder_of(target)
    lines = ["#EXTM3U", *([f"#PLAYLIST:{_one_line(title)}"] if title else ())]
    left_out = []
    for item in items:
        line = _line(item.path, None if absolute else folder)
        if line is None:
            left_out.append(item.path)
            continue
        seconds = -1 if item.duration is None else max(1, round(item.duration))
        lines += [f"#EXTINF:{seconds},{_one_line(_called(item))}", line]
    write_whole(target, "\n".join(lines) + "\n")
    return tuple(left_out)


def can_hold(target: str | os.PathLike[str], path: str, *, absolute: bool = False) -> bool:
    """Whether a playlist can name a track: one whose name is no text, or of several lines, not."""
    # The path itself is the last that is tried. Only if it will not do are links looked up.
    return _is_line(path) or (not absolute and _line(path, _folder_of(target)) is not None)


def names_of(titles: Sequence[str]) -> list[str]:
    """Give each title a file name, without suffix, that every file system can hold.

    Signs that some system forbids become ``_``, as do the names Windows keeps for devices; names
    that differ in case alone are told apart by a number.
    """
    names: list[str] = []
    taken: set[str] = set()
    for title in titles:
        name = base = _safe(title)
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{base} ({number})"
        taken.add(name.casefold())
        names.append(name)
    return names


def _line(path: str, folder: str | None) -> str | None:
    """Return the line of a path, relative to a folder if there is one and a way that is text.

    None stands for a path that no line can hold: its bytes are no text, or a line break is in it.
    """
    for candidate in ([] if folder is None else [_relative(path, folder)]) + [path]:
        if _is_line(candidate):
            return candidate
    return None


def _is_line(path: str) -> bool:
    with suppress(UnicodeEncodeError):
        path.encode("utf-8")
        return path.splitlines() == [path]
    return False


def _folder_of(path: str | os.PathLike[str]) -> str:
    """Return the folder a path is in, free of links: behind one, `..` leads elsewhere."""
    return os.path.realpath(os.path.dirname(os.fspath(path)))  # noqa: PTH120


def _relative(path: str, folder: str) -> str:
    itself = os.path.join(_folder_of(path), os.path.basename(path))  # noqa: PTH118, PTH119
    way = relative(itself, folder)
    # A name may begin like a comment, or with a blank.
    return os.path.join(os.curdir, way) if way[0] in "# \t" else way  # noqa: PTH118


def _called(item: Item) -> str:
    title = item.title or os.path.splitext(os.path.basename(item.path))[0]  # noqa: PTH119, PTH122
    return f"{item.artist} - {title}" if item.artist else title


def _one_line(text: str) -> str:
    return " ".join(text.encode("utf-8", "replace").decode().split())


def _safe(title: str) -> str:
    title = unicodedata.normalize("NFC", title)  # some systems take both forms for one name
    signs = (sign if sign.isprintable() and sign not in _FORBIDDEN else "_" for sign in title)
    name = "".join(signs).encode("utf-8", "replace")[:LONGEST_NAME].decode("utf-8", "ignore")
    name = name.strip(" .")  # Windows drops them at the end; a point at the beginning hides
    return f"_{name}" if not name or name.partition(".")[0].casefold() in _DEVICES else name
