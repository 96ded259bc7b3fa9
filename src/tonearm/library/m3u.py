"""Write playlists that every player reads: M3U8, with one path per line, in UTF-8."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from tonearm.atomic import write_text
from tonearm.library.entry import Entry
from tonearm.text import composed, relative

SUFFIXES = (".m3u8", ".m3u")
MAX_NAME_BYTES = 100  # bytes; names may have 255, but some systems count in other units
_FORBIDDEN = frozenset('<>:"/\\|?*')
_RESERVED = frozenset(
    ("con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)))
)


class Item(NamedTuple):
    """A track in a playlist: its path, its length in seconds, and its artist and title."""

    path: str
    duration: float | None = None
    artist: str | None = None
    title: str | None = None

    @classmethod
    def of(cls, entry: Entry) -> Item:
        """Return the item of a store's entry."""
        return cls(entry.path, entry.duration, entry.artist, entry.title)


def write_playlist(
    target: str | os.PathLike[str],
    items: Iterable[Item],
    *,
    title: str | None = None,
    absolute: bool = False,
) -> tuple[str, ...]:
    """Write a playlist, which appears complete or not at all; return the paths that are left out.

    Parameters
    ----------
    target
        The file, usually with the suffix ``.m3u8``.
    items
        The tracks, in playing order.
    title
        The name that players may show.
    absolute
        Whether to write absolute paths, instead of paths relative to the playlist's folder.

    Raises
    ------
    TonearmError
        If the playlist cannot be written.
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
        lines += [f"#EXTINF:{seconds},{_one_line(_display_title(item))}", line]
    write_text(target, "\n".join(lines) + "\n")
    return tuple(left_out)


def can_hold(target: str | os.PathLike[str], path: str, *, absolute: bool = False) -> bool:
    """Check whether a playlist can hold a path: it must be valid text without line breaks."""
    # `_line` falls back to the path itself; trying that first avoids resolving links.
    return _is_line(path) or (not absolute and _line(path, _folder_of(target)) is not None)


def names_of(titles: Sequence[str]) -> list[str]:
    """Return a file name for each title, without suffix, that every file system accepts.

    Characters that some system forbids become ``_``; names that Windows reserves for devices are
    prefixed with it. Names that are equal apart from case are distinguished by a number.
    """
    names: list[str] = []
    used: set[str] = set()
    for title in titles:
        name = base = _safe_name(title)
        number = 1
        while name.casefold() in used:
            number += 1
            name = f"{base} ({number})"
        used.add(name.casefold())
        names.append(name)
    return names


def _line(path: str, folder: str | None) -> str | None:
    """Return the line for a path, relative to the folder if one is given and the result is valid.

    None means that no line can hold the path: it is not valid text, or contains a line break.
    """
    if folder is not None and _is_line(line := _relative(path, folder)):
        return line
    return path if _is_line(path) else None


def _is_line(path: str) -> bool:
    with suppress(UnicodeEncodeError):
        path.encode("utf-8")
        return path.splitlines() == [path]
    return False


def _folder_of(path: str | os.PathLike[str]) -> str:
    """Return the folder of a path with links resolved, as ``..`` after a link leads elsewhere."""
    return os.path.realpath(os.path.dirname(os.fspath(path)))  # noqa: PTH120


def _relative(path: str, folder: str) -> str:
    resolved = os.path.join(_folder_of(path), os.path.basename(path))  # noqa: PTH118, PTH119
    relative_path = relative(resolved, folder)
    # The path may begin like a comment, with a blank, or like a URL ("Artist: Album/Song.ogg").
    is_ambiguous = relative_path[0] in "# \t" or ":" in relative_path.partition(os.sep)[0]
    return os.path.join(os.curdir, relative_path) if is_ambiguous else relative_path  # noqa: PTH118


def _display_title(item: Item) -> str:
    title = item.title or os.path.splitext(os.path.basename(item.path))[0]  # noqa: PTH119, PTH122
    return f"{item.artist} - {title}" if item.artist else title


def _one_line(text: str) -> str:
    return " ".join(text.encode("utf-8", "replace").decode().split())


def _safe_name(title: str) -> str:
    # Some systems treat composed and decomposed letters as one name.
    characters = (c if c.isprintable() and c not in _FORBIDDEN else "_" for c in composed(title))
    name = "".join(characters).encode("utf-8", "replace")[:MAX_NAME_BYTES].decode("utf-8", "ignore")
    name = name.strip(" .")  # Windows drops them at the end; a leading dot hides a file
    return f"_{name}" if not name or name.partition(".")[0].casefold() in _RESERVED else name
