"""The genre in the tags of audio files, whatever their kind, and whose music it is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import mutagen
from mutagen._vorbis import VComment
from mutagen.apev2 import APEv2, APEv2File
from mutagen.asf import ASFTags
from mutagen.flac import FLACNoHeaderError
from mutagen.id3 import ID3, TCON, ID3NoHeaderError
from mutagen.mp4 import MP4Tags
from mutagen.wave import WAVE

from tonearm.audio import NotAudio, size_of
from tonearm.errors import TonearmError
from tonearm.library.chunks import obstacle
from tonearm.library.id3_frames import DamagedTag, read_frames
from tonearm.library.losses import loss
from tonearm.library.tag_words import spelling_of
from tonearm.library.wav_info import WavInfo, read_info
from tonearm.text import printable

Value = TypeVar("Value")

# What the fields of genre, artist, album and title are called, by the kind of tag. ID3 has frames,
# the others are like dictionaries. On opening, mutagen turns MP4's gnre into \xa9gen.
FIELDS: dict[type, tuple[str, str, str, str]] = {
    ID3: ("TCON", "TPE1", "TALB", "TIT2"),
    APEv2: ("Genre", "Artist", "Album", "Title"),
    MP4Tags: ("\xa9gen", "\xa9ART", "\xa9alb", "\xa9nam"),
    ASFTags: ("WM/Genre", "Author", "WM/AlbumTitle", "Title"),
    VComment: ("GENRE", "ARTIST", "ALBUM", "TITLE"),
    WavInfo: ("IGNR", "IART", "IPRD", "INAM"),
}
ID3V1_BYTES = 128  # at the very end of the file, "TAG" first and a genre's number last
NO_ID3V1_GENRE = 255


class TagError(TonearmError):
    """A file's tags cannot be read or written.

    Attributes
    ----------
    path
        The file.
    reason
        One line.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        self.path = os.fspath(path)
        self.reason = reason
        super().__init__(f"{printable(self.path)}: {reason}")


def read_genres(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the genres a file's tags name, in their order; none where they are blank.

    Raises
    ------
    TagError
        If the file is not there or holds no tags that mutagen knows.
    """
    with _one_line_errors(path):
        return _first_of(map(_genres, _all_tags(path))) or ()


@dataclass(frozen=True)
class Names:
    """What a file's tags call it by.

    Attributes
    ----------
    genres
        In their order; none where they are blank.
    artist, album, title
        None where they are blank. Of several artists, the first.
    """

    genres: tuple[str, ...] = ()
    artist: str | None = None
    album: str | None = None
    title: str | None = None


def read_names(path: str | os.PathLike[str]) -> Names:
    """Return the genres, the artist, the album and the title that a file's tags name.

    Raises
    ------
    TagError
        If the file is not there or holds no tags that mutagen knows.
    """
    with _one_line_errors(path):
        found = list(_all_tags(path))
        genres = _first_of(map(_genres, found)) or ()
        artist, album, title = (
            _first_of(_text(tags, _fields(tags)[place]) for tags in found) for place in (1, 2, 3)
        )
        return Names(genres, artist, album, title)


def write_genres(path: str | os.PathLike[str], genres: Sequence[str]) -> None:
    """Make a file's tags name these genres; every other field keeps its value.

    ID3v2.3 and ID3v2.4 tags keep their version, 2.2 becomes 2.3, a new tag is 2.4. An ID3v1 tag at
    the end of the file gets the number of the first genre, if there is one for it, and is never
    added. Numbered genres (MP4's ``gnre``, ASF's ``WM/GenreID``) give way to the written one.

    The file is changed in place: `tonearm.library.tagging` does it to a copy.

    Raises
    ------
    TagError
        If the file holds no tags that mutagen can write, or another field would be lost.
    """
    with _one_line_errors(path):
        media, tags = _opened_to_write(path)
        field, *_ = _fields(tags)
        if field == "TCON":
            _write_id3(path, tags, genres)
            return
        tags[field] = list(genres)
        if "WM/GenreID" in tags:
            del tags["WM/GenreID"]
        # Where there is one, an ID3v1 tag follows the APEv2 tag, and mutagen would drop it.
        with _id3v1_kept(path, genres) if field == "Genre" else nullcontext():
            media.save(path)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Refuse what `write_genres` would refuse, as far as that can be seen without writing.

    Raises
    ------
    TagError
        If the file has no place for a tag, or other fields would be lost.
    """
    with _one_line_errors(path):
        _opened_to_write(path)


def _opened_to_write(path: str | os.PathLike[str]) -> tuple[mutagen.FileType, Any]:
    """Return a file and its tag, with all that is to be written again beside the genre.

    Raises
    ------
    TagError
        If there is no place for it, or something would be lost.
    """
    media = _open(path)
    reason = obstacle(path)
    if reason is not None:
        raise TagError(path, reason)
    tags: Any = media.tags
    if isinstance(tags, ID3):
        return media, _id3_to_write(path, tags)
    reason = loss(path, media)
    if reason is not None:
        raise TagError(path, reason)
    return media, tags


def _open(path: str | os.PathLike[str]) -> mutagen.FileType:
    size_of(path)  # mutagen would open a pipe or a device, and wait or read for ever
    media: mutagen.FileType | None = mutagen.File(path)
    # A bare APEv2File is no kind of audio: something unknown that could have an APE tag.
    if media is None or (type(media) is APEv2File and media.tags is None):
        raise TagError(path, "a kind of file whose tags are unknown")
    if media.tags is None:
        try:
            media.add_tags()  # in memory
        except (mutagen.MutagenError, NotImplementedError):
            raise TagError(path, "a kind of file that has no tags") from None
    return media


def _all_tags(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Yield a file's tag of the kind that is written, then what may say what that leaves out."""
    media = _open(path)
    tags: Any = media.tags
    yield tags
    if isinstance(media, WAVE):
        yield read_info(path)
    elif type(tags) is ID3:
        with suppress(mutagen.MutagenError, ValueError):  # there is none, or it is damaged
            yield APEv2(path)  # type: ignore[no-untyped-call]


def _fields(tags: Any) -> tuple[str, str, str, str]:
    """Return what a tag's kind calls its fields of genre, artist, album and title."""
    for kind, names in FIELDS.items():
        if isinstance(tags, kind):
            return names
    raise mutagen.MutagenError(f"unknown kind {type(tags).__name__}")


def _genres(tags: Any) -> tuple[str, ...]:
    """Return what the genre field in a tag of any kind says, without blanks."""
    field, *_ = _fields(tags)
    if field == "TCON":
        found = [genre for frame in tags.getall(field) for genre in frame.genres]
    else:
        found = [str(genre) for genre in tags.get(field, ())]
    return tuple(genre for genre in map(str.strip, found) if genre)


def _text(tags: Any, field: str) -> str | None:
    """Return the first value of a field that is not blank."""
    return _first_of(map(str.strip, map(str, tags.get(field, ()))))


def _first_of(values: Iterable[Value]) -> Value | None:
    """Return the first value that is not empty."""
    return next(filter(None, values), None)


def _id3_to_write(path: str | os.PathLike[str], found: Any) -> Any:
    """Return a tag that holds what is to be written beside the genre: all other frames.

    mutagen writes its `unknown_frames` as they are. It does so only in the version they were read
    in: of a tag of version 2.2, which it cannot write, it must have understood every frame.
    """
    tags = type(found)()
    old = found.version < (2, 3)  # here frames have other names
    try:
        tags.load(path, translate=old, v2_version=_id3_version(found), load_v1=False)
        with Path(path).open("rb") as file:
            tags._pre_load_header(file)  # goes to where the tag begins, by the kind of file
            others = [frame for frame in read_frames(file) if not frame.is_genre]
    except ID3NoHeaderError:
        # The first tag of version 2: players will look at it alone, so it takes all that an ID3v1
        # tag says, not the genre only.
        return found
    if not old:
        tags.clear()
        tags.unknown_frames = [b"".join(map(bytes, others))]
        return tags
    tags.delall("TCON")
    # Of two frames of the same name, mutagen keeps one, or joins them.
    if len(tags) != sum(bool(frame.content) for frame in others):
        raise TagError(path, "a frame of its ID3v2.2 tag would be lost in 2.3, which is written")
    return tags


def _id3_version(tags: Any) -> int:
    return 3 if tags.version[:2] in ((2, 2), (2, 3)) else 4


def _write_id3(path: str | os.PathLike[str], tags: Any, genres: Sequence[str]) -> None:
    """Write a tag as `_id3_to_write` returns it, with its genre frame."""
    frame = TCON(encoding=3, text=list(genres))  # type: ignore[no-untyped-call]
    tags.setall("TCON", [frame])
    # Several values are separated by NUL, also in 2.3.
    version = _id3_version(tags)
    if type(tags) is ID3:
        with _id3v1_kept(path, genres):
            tags.save(path, v2_version=version, v23_sep=None)
    else:
        tags.save(path, v2_version=version, v23_sep=None)  # in a chunk of WAV, AIFF, DSF


@contextmanager
def _id3v1_kept(path: str | os.PathLike[str], genres: Sequence[str]) -> Iterator[None]:
    """Take the ID3v1 tag off a file, and put it back with the number of the first genre.

    If the block fails, it is put back as it was.
    """
    with Path(path).open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - ID3V1_BYTES)
        file.seek(start)
        tag = file.read()
        if len(tag) < ID3V1_BYTES or not tag.startswith(b"TAG"):
            tag = b""
        elif start >= 3:
            file.seek(start - 3)
            if file.read(8) == b"APETAGEX":  # within another tag's name
                tag = b""
        if tag:
            file.truncate(start)
    try:
        yield
        known = {spelling_of(name): number for number, name in enumerate(TCON.GENRES)}
        number = known.get(spelling_of(genres[0]), NO_ID3V1_GENRE) if genres else NO_ID3V1_GENRE
        tag = tag and tag[:-1] + bytes([number])
    finally:
        if tag:
            with Path(path).open("ab") as file:
                file.write(tag)


@contextmanager
def _one_line_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn whatever goes wrong with one file into a `TagError`."""
    try:
        yield
    except TagError:
        raise
    except NotAudio as error:
        raise TagError(path, error.reason) from error
    except DamagedTag as error:
        raise TagError(path, f"damaged: {error}") from error
    except OSError as error:
        raise TagError(path, error.strerror or str(error)) from error
    except Exception as error:  # mutagen lets ValueError, struct.error and others of odd files out
        cause = error.args[0] if error.args else None
        if isinstance(cause, OSError) and cause.strerror:
            raise TagError(path, cause.strerror) from error
        raise TagError(path, _reason(path, error)) from error


def _reason(path: str | os.PathLike[str], error: Exception) -> str:
    """Say why mutagen failed, in its own words where they are meant for people."""
    with suppress(OSError):
        if (reason := obstacle(path)) is not None:
            return reason
    if isinstance(error, FLACNoHeaderError):
        return "is called .flac, but is no FLAC file"
    # Of another error, such as a codec's, mutagen only hands on the words.
    cause = error.args[0] if error.args else None
    is_own = isinstance(error, mutagen.MutagenError) and not isinstance(cause, Exception)
    reason = printable(" ".join(str(error).split()))
    return f"damaged: {reason}" if reason and is_own else "damaged"
