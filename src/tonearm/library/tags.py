"""Genre, artist, album and title in the tags of audio files of any format."""

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
from mutagen.flac import FLAC, FLACNoHeaderError
from mutagen.id3 import ID3, TCON, ID3NoHeaderError
from mutagen.mp4 import MP4Tags
from mutagen.wave import WAVE

from tonearm.audio import NotAudio, size_of
from tonearm.errors import FileError, reason_of
from tonearm.library.chunks import obstacle
from tonearm.library.id3_frames import ID3V1_BYTES, DamagedTag, read_frames
from tonearm.library.id3_takeover import frames_for
from tonearm.library.tag_losses import tag_loss
from tonearm.library.tag_words import normalised_spelling
from tonearm.library.wav_info import WavInfo, read_info, write_genre
from tonearm.text import printable

Value = TypeVar("Value")

# The names of the genre, artist, album and title fields in each kind of tag. ID3 has frames, the
# others behave like dictionaries. When it opens a file, mutagen turns MP4's gnre into \xa9gen.
FIELDS: dict[type, tuple[str, str, str, str]] = {
    ID3: ("TCON", "TPE1", "TALB", "TIT2"),
    APEv2: ("Genre", "Artist", "Album", "Title"),
    MP4Tags: ("\xa9gen", "\xa9ART", "\xa9alb", "\xa9nam"),
    ASFTags: ("WM/Genre", "Author", "WM/AlbumTitle", "Title"),
    VComment: ("GENRE", "ARTIST", "ALBUM", "TITLE"),
    WavInfo: ("IGNR", "IART", "IPRD", "INAM"),
}
NO_ID3V1_GENRE = 255


class TagError(FileError):
    """A file's tags cannot be read or written."""


def read_genres(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the genres in a file's tags, in tag order and without blank ones.

    Raises
    ------
    TagError
        If the file is missing, damaged or in a format whose tags mutagen cannot read.
    """
    with _tag_errors(path):
        return _first(map(_genres, _all_tags(path))) or ()


@dataclass(frozen=True)
class Names:
    """The names in a file's tags.

    Attributes
    ----------
    genres
        In tag order, without blank ones.
    artist, album, title
        None if absent or blank. If there are several values, the first that is not blank.
    """

    genres: tuple[str, ...] = ()
    artist: str | None = None
    album: str | None = None
    title: str | None = None


def read_names(path: str | os.PathLike[str]) -> Names:
    """Return the genres, artist, album and title in a file's tags.

    Raises
    ------
    TagError
        If the file is missing, damaged or in a format whose tags mutagen cannot read.
    """
    with _tag_errors(path):
        found = list(_all_tags(path))
        genres = _first(map(_genres, found)) or ()
        artist, album, title = (
            _first(_first_value(tags, _field_names(tags)[index]) for tags in found)
            for index in (1, 2, 3)
        )
        return Names(genres, artist, album, title)


def write_genres(path: str | os.PathLike[str], genres: Sequence[str]) -> None:
    """Set the genres in a file's tags and leave every other field as it is.

    ID3v2.3 and ID3v2.4 tags keep their version, 2.2 becomes 2.3, and a new tag is 2.4. An existing
    ID3v1 tag gets the number of the first genre, if that genre has one, and a WAV's INFO list the
    first genre; neither is ever added. A new ID3 tag takes over what other tags say, which programs
    then no longer read. Numbered genres (MP4's ``gnre``, ASF's ``WM/GenreID``) are replaced by the
    written one.

    This modifies the file in place; `tonearm.library.tagging` calls it on a copy.

    Raises
    ------
    TagError
        If mutagen cannot write tags to the file, or another field would be lost.
    """
    with _tag_errors(path):
        media, tags = _open_to_write(path)
        field, *_ = _field_names(tags)
        if field == "TCON":
            _write_id3(path, tags, genres)
            if isinstance(media, WAVE) and genres:
                write_genre(path, genres[0])  # all that FFmpeg reads of a file with an INFO list
            return
        tags[field] = list(genres)
        if "WM/GenreID" in tags:
            del tags["WM/GenreID"]
        # An ID3v1 tag may follow the APEv2 tag, and mutagen would drop it.
        with _id3v1_preserved(path, genres) if field == "Genre" else nullcontext():
            media.save(path)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Check that `write_genres` would accept a file, as far as possible without writing.

    Raises
    ------
    TagError
        If the file cannot hold a tag, or other fields would be lost.
    """
    with _tag_errors(path):
        _open_to_write(path)


def _open_to_write(path: str | os.PathLike[str]) -> tuple[mutagen.FileType, Any]:
    """Return a file and its tag, holding everything that must be written back besides the genre.

    Raises
    ------
    TagError
        If the file cannot hold a tag, or something would be lost.
    """
    media = _open(path)
    reason = obstacle(path)
    if reason is not None:
        raise TagError(path, reason)
    tags: Any = media.tags
    if isinstance(tags, ID3):
        return media, _id3_to_write(path, media)
    reason = tag_loss(path, media)
    if reason is not None:
        raise TagError(path, reason)
    return media, tags


def _open(path: str | os.PathLike[str]) -> mutagen.FileType:
    size_of(path)  # refuses pipes and devices, which mutagen would wait for or read from forever
    media: mutagen.FileType | None = mutagen.File(path)
    # A plain APEv2File is not an audio format, but an unknown file that could have an APE tag.
    if media is None or (type(media) is APEv2File and media.tags is None):
        raise TagError(path, "a kind of file whose tags are unknown")
    if media.tags is None:
        try:
            media.add_tags()  # in memory
        except (mutagen.MutagenError, NotImplementedError):
            raise TagError(path, "a kind of file that has no tags") from None
    return media


def _all_tags(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Yield the tag that genres are written to, then any other tag that may fill its gaps."""
    media = _open(path)
    yield media.tags
    yield from _lesser_tags(path, media)


def _lesser_tags(path: str | os.PathLike[str], media: mutagen.FileType) -> Iterator[Any]:
    """Yield the tags of a file that genres are not written to."""
    tags: Any = media.tags
    with suppress(mutagen.MutagenError, ValueError):  # no such tag, or a damaged one
        if isinstance(media, WAVE):
            yield read_info(path)
        elif isinstance(media, FLAC):
            yield ID3(path)  # type: ignore[no-untyped-call]
        elif type(tags) is ID3:
            yield APEv2(path)  # type: ignore[no-untyped-call]


def _field_names(tags: Any) -> tuple[str, str, str, str]:
    """Return the names of the genre, artist, album and title fields in this kind of tag."""
    for kind, names in FIELDS.items():
        if isinstance(tags, kind):
            return names
    raise mutagen.MutagenError(f"unknown kind {type(tags).__name__}")


def _genres(tags: Any) -> tuple[str, ...]:
    """Return the genres in a tag of any kind, without blank ones."""
    field, *_ = _field_names(tags)
    if field == "TCON":
        found = [genre for frame in tags.getall(field) for genre in frame.genres]
    else:
        found = [str(genre) for genre in tags.get(field, ())]
    return tuple(genre for genre in map(str.strip, found) if genre)


def _first_value(tags: Any, field: str) -> str | None:
    """Return the first value of a field that is not blank, or None."""
    return _first(map(str.strip, map(str, tags.get(field, ()))))


def _first(values: Iterable[Value]) -> Value | None:
    """Return the first value that is not empty, or None."""
    return next(filter(None, values), None)


def _id3_to_write(path: str | os.PathLike[str], media: mutagen.FileType) -> Any:
    """Return a file's ID3 tag with all frames but the genre, ready to be written back.

    mutagen writes its `unknown_frames` unchanged, but only in the version they were read in. It
    cannot write version 2.2, so it must have understood every frame of a 2.2 tag.
    """
    found: Any = media.tags
    tags = type(found)()
    is_older = found.version < (2, 3)  # these versions have other frame names
    try:
        tags.load(path, translate=is_older, v2_version=_id3_version(found), load_v1=False)
        with Path(path).open("rb") as file:
            tags._pre_load_header(file)  # seeks to the start of the tag, whatever the file format
            others = [frame for frame in read_frames(file) if not frame.is_genre]
    except ID3NoHeaderError:
        # There is no ID3v2 tag yet. Players will ignore other tags once there is one, so the new
        # tag takes over what they say: `found` has everything in the ID3v1 tag already.
        for lesser in _lesser_tags(path, media):
            for frame in frames_for(lesser):
                found.setall(frame.FrameID, [frame])
        return found
    if not is_older:
        tags.clear()
        tags.unknown_frames = [b"".join(map(bytes, others))]
        return tags
    tags.delall("TCON")
    # If two frames have the same name, mutagen keeps one of them or joins them.
    if len(tags) != sum(bool(frame.content) for frame in others):
        raise TagError(path, "a frame of its ID3v2.2 tag would be lost in 2.3, which is written")
    return tags


def _id3_version(tags: Any) -> int:
    return 3 if tags.version[:2] in ((2, 2), (2, 3)) else 4


def _write_id3(path: str | os.PathLike[str], tags: Any, genres: Sequence[str]) -> None:
    """Write a tag from `_id3_to_write`, with a genre frame added."""
    frame = TCON(encoding=3, text=list(genres))  # type: ignore[no-untyped-call]
    tags.setall("TCON", [frame])
    # Inside a WAV, AIFF or DSF file, there is no ID3v1 tag.
    with _id3v1_preserved(path, genres) if type(tags) is ID3 else nullcontext():
        # Several values are separated by NUL, even in 2.3.
        tags.save(path, v2_version=_id3_version(tags), v23_sep=None)


@contextmanager
def _id3v1_preserved(path: str | os.PathLike[str], genres: Sequence[str]) -> Iterator[None]:
    """Remove a file's ID3v1 tag for the block, then restore it with the first genre's number.

    If the block fails, the tag is restored unchanged.
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
            if file.read(8) == b"APETAGEX":  # this "TAG" is part of an APEv2 tag's signature
                tag = b""
        if tag:
            file.truncate(start)
    try:
        yield
        known = {normalised_spelling(name): number for number, name in enumerate(TCON.GENRES)}
        first = normalised_spelling(genres[0]) if genres else ""
        number = known.get(first, NO_ID3V1_GENRE)
        tag = tag and tag[:-1] + bytes([number])
    finally:
        if tag:
            with Path(path).open("ab") as file:
                file.write(tag)


@contextmanager
def _tag_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn any exception raised for a file into a `TagError`."""
    try:
        yield
    except TagError:
        raise
    except NotAudio as error:
        raise TagError(path, error.reason) from error
    except DamagedTag as error:
        raise TagError(path, str(error)) from error
    except OSError as error:
        raise TagError(path, reason_of(error)) from error
    except Exception as error:  # odd files make mutagen raise ValueError, struct.error and others
        raise TagError(path, _reason(path, error)) from error


def _reason(path: str | os.PathLike[str], error: Exception) -> str:
    """Return why mutagen failed, with its own message if it is meant for users."""
    # If the cause is another library's error, such as a codec's, mutagen only passes on its text.
    cause = error.args[0] if error.args else None
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    with suppress(OSError):
        if (reason := obstacle(path)) is not None:
            return reason
    if isinstance(error, FLACNoHeaderError):
        return "is called .flac, but is no FLAC file"
    is_from_mutagen = isinstance(error, mutagen.MutagenError) and not isinstance(cause, Exception)
    reason = printable(" ".join(str(error).split()))
    return f"damaged: {reason}" if reason and is_from_mutagen else "damaged"
