"""Writing a genre changes nothing else in a file's tags, or is refused."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from mutagen.flac import FLAC
from mutagen.mp4 import MP4
from mutagen.oggvorbis import OggVorbis

from bundles import tone
from raw_tags import raw_fields
from tonearm.library.id3_frames import DamagedTag, read_frames
from tonearm.library.tags import TagError, check_writable, read_genres, write_genres

# What mutagen drops, changes or joins with another of the same name.
ODD_FRAMES = [
    (b"TPE1", b"\x03Bj\xf6rk"),  # is not what it says it is encoded in
    (b"TDRC", b"\x005 May 1987"),
    (b"TDRL", b"\0Oct 3, 1995"),
    (b"TIT2", b"\0"),
    *[(b"USLT", b"\0eng\0" + text) for text in (b"one", b"two")],
    *[(b"GEOB", b"\0text/plain\0name\0\0" + text) for text in (b"one", b"two")],
    *[(b"POPM", b"me@example.org\0" + rating) for rating in (b"\x10\1", b"\xff\2")],
    *[(b"UFID", b"http://example.org\0" + number) for number in (b"1", b"2")],
    *[(b"WXXX", b"\0\0http://example.org/" + page) for page in (b"1", b"2")],
    *[(b"SYLT", b"\0eng\2\1\0" + text + b"\0\0\0\0\0") for text in (b"one", b"two")],
    *[(b"COMM", b"\0eng\0" + text) for text in (b"one", b"two")],
    *[(b"TXXX", b"\0mood\0" + text) for text in (b"blue", b"green")],
    (b"PRIV", b"sync\0\xff\x00\xe0\xff\xfb\xff\x00"),
    (b"XSOP", b"of no version"),
]


def synchsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def id3_frame(name: bytes, content: bytes, version: int) -> bytes:
    if version == 2:
        return name + len(content).to_bytes(3) + content
    size = synchsafe(len(content)) if version == 4 else len(content).to_bytes(4)
    return name + size + bytes(2) + content


def id3_tag(version: int, table: bytes, flags: int = 0) -> bytes:
    return b"ID3" + bytes([version, 0, flags]) + synchsafe(len(table)) + table


def id3_table(version: int, frames: Iterable[tuple[bytes, bytes]] = ODD_FRAMES) -> bytes:
    return b"".join(id3_frame(name, content, version) for name, content in frames)


def unsynchronised(data: bytes) -> bytes:
    return (
        data.replace(b"\xff\0", b"\xff\0\0")
        .replace(b"\xff\xe0", b"\xff\0\xe0")
        .replace(b"\xff\xfb", b"\xff\0\xfb")
    )


def is_refused(path: Path, reason: str) -> None:
    """Assert that a file is refused, already by `check_writable`, and stays unchanged."""
    before = path.read_bytes()
    for refuse in (check_writable, lambda file: write_genres(file, ["Jazz"])):
        with pytest.raises(TagError) as error:
            refuse(path)
        assert reason in error.value.reason
        assert "\n" not in str(error.value)
    assert path.read_bytes() == before


@pytest.fixture
def tagged(tmp_path: Path, write_audio: Callable[..., Path]) -> Callable[..., Path]:
    """`tagged("mp3", tag) -> path` of a recording with an ID3v2 tag, wherever its kind has it."""

    def make(suffix: str, tag: bytes) -> Path:
        path = tmp_path / f"song.{suffix}"
        if suffix == "dsf":
            sound = b"data" + (12 + 8192).to_bytes(8, "little") + b"\x69" * 8192
            numbers = [(1, 4), (0, 4), (2, 4), (2, 4), (2_822_400, 4), (1, 4), (32_768, 8)]
            numbers += [(4096, 4), (0, 4)]
            form = b"".join(number.to_bytes(size, "little") for number, size in numbers)
            form = b"fmt " + (52).to_bytes(8, "little") + form
            offset = 28 + len(form) + len(sound)
            sizes = (28, offset + len(tag), offset)
            head = b"DSD " + b"".join(size.to_bytes(8, "little") for size in sizes)
            path.write_bytes(head + form + sound + tag)
            return path
        data = write_audio(path, tone(440, 0.5, 44_100), 44_100).read_bytes()
        if suffix in ("wav", "aiff"):
            order = "little" if suffix == "wav" else "big"
            name = b"id3 " if suffix == "wav" else b"ID3 "
            chunk = name + len(tag).to_bytes(4, order) + tag + bytes(len(tag) % 2)
            size = len(data) + len(chunk) - 8
            data = data[:4] + size.to_bytes(4, order) + data[8:] + chunk
        else:
            has_id3 = data.startswith(b"ID3")
            length = sum(b << s for b, s in zip(data[6:10], (21, 14, 7, 0), strict=True))
            data = tag + (data[10 + length :] if has_id3 else data)
        path.write_bytes(data)
        return path

    return make


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("suffix", ["mp3", "tta", "wav", "aiff", "dsf"])
def test_every_other_frame_is_carried_over_as_it_is(
    tagged: Callable[..., Path], suffix: str, version: int
) -> None:
    table = id3_table(version, [*ODD_FRAMES, (b"TCON", b"\0Soul")])
    path = tagged(suffix, id3_tag(version, table + bytes(30)))
    before = raw_fields(path)
    assert sum(kind == "id3" for kind, _, _ in before.elements()) == len(ODD_FRAMES)
    assert read_genres(path) == ("Soul",)
    for genre in ("Jazz", "x" * 5_000, "Färöese"):
        write_genres(path, [genre])
        assert read_genres(path) == (genre,)
        assert raw_fields(path) == before


@pytest.mark.parametrize(("version", "flags"), [(3, 0x80), (4, 0x80), (3, 0xC0), (4, 0xC0)])
def test_unsynchronised_tags_and_extended_headers(
    tagged: Callable[..., Path], version: int, flags: int
) -> None:
    if version == 4:
        table = id3_table(version, [(n, unsynchronised(content)) for n, content in ODD_FRAMES])
    else:
        table = unsynchronised(id3_table(version))
    if flags & 0x40:
        extended = synchsafe(6) + b"\1\0" if version == 4 else (6).to_bytes(4) + bytes(6)
        table = extended + table
    path = tagged("mp3", id3_tag(version, table, flags))
    before = raw_fields(path)
    assert before["id3", b"PRIV", b"\0\0" + dict(ODD_FRAMES)[b"PRIV"]] == 1
    write_genres(path, ["Jazz"])
    assert raw_fields(path) == before
    assert read_genres(path) == ("Jazz",)


def test_sizes_as_itunes_wrote_them_are_put_right() -> None:
    frames = [(b"COMM", b"\0eng\0" + b"c" * 300), (b"TIT2", b"\0Title")]
    wrong = io.BytesIO(id3_tag(4, id3_table(3, frames)))
    assert b"".join(map(bytes, read_frames(wrong))) == id3_table(4, frames)


def test_an_extended_header_that_is_only_announced() -> None:
    table = id3_table(3)
    assert b"".join(map(bytes, read_frames(io.BytesIO(id3_tag(3, table, 0x40))))) == table


@pytest.mark.parametrize(
    "rest",
    [
        b"TIT2\0\0\1\0\0\0too short",
        bytes(20) + b"behind the padding",
        b"no name of a frame",
        b"TIT2",
    ],
)
@pytest.mark.parametrize("version", [3, 4])
def test_what_is_no_frame_is_not_destroyed(
    tagged: Callable[..., Path], version: int, rest: bytes
) -> None:
    tag = id3_tag(version, id3_table(version) + rest)
    with pytest.raises(DamagedTag):
        read_frames(io.BytesIO(tag))
    path = tagged("mp3", tag)
    is_refused(path, "damaged: something in its ID3 tag is no frame")


DATES = [(b"TYE", b"\x001987"), (b"TDA", b"\x000505"), (b"TIM", b"\x001200")]


@pytest.mark.parametrize(
    ("frames", "fits"),
    [
        ([(b"TT2", b"\0Title"), *DATES, (b"TCO", b"\0Soul"), (b"TP1", b"")], True),
        ([(b"COM", b"\0eng\0one"), (b"COM", b"\0engother\0two")], True),
        ([(b"COM", b"\0eng\0one"), (b"COM", b"\0eng\0two")], False),
        ([(b"ULT", b"\0eng\0one"), (b"ULT", b"\0eng\0two")], False),
        ([(b"XYZ", b"\0unknown")], False),
        ([(b"TT2", b"\x05of no encoding")], False),
    ],
)
def test_id3_of_version_2_2_is_translated_whole_or_not_at_all(
    tagged: Callable[..., Path], frames: list[tuple[bytes, bytes]], fits: bool
) -> None:
    path = tagged("mp3", id3_tag(2, id3_table(2, frames) + bytes(10)))
    if fits:
        write_genres(path, ["Jazz"])
        assert read_genres(path) == ("Jazz",)
        kept = [content for kind, _, content in raw_fields(path) if kind == "id3"]
        for name, content in frames:
            assert name == b"TCO" or any(content in other for other in kept)
    else:
        is_refused(path, "a frame of its ID3v2.2 tag would be lost")


@pytest.fixture
def commented(tmp_path: Path, write_audio: Callable[..., Path]) -> Callable[..., Path]:
    """`commented("flac", value) -> path` of a recording with a comment."""

    def make(suffix: str, value: str) -> Path:
        path = write_audio(tmp_path / f"song.{suffix}", tone(440, 0.5, 44_100), 44_100)
        media = FLAC(path) if suffix == "flac" else OggVorbis(path)
        media["ARTIST"] = [value, "Another"]
        media.save()
        return path

    return make


@pytest.mark.parametrize("suffix", ["flac", "ogg"])
@pytest.mark.parametrize(
    "odd", [b"ARTIST=Bj\xf6rk", b"ARTIST-Bjork", b"=RTIST-Bjork", b"\xc4RTIST=Bjor"]
)
def test_comments_that_mutagen_would_damage_are_refused(
    commented: Callable[..., Path], suffix: str, odd: bytes
) -> None:
    path = commented(suffix, "Bjork")
    data = path.read_bytes()
    assert data.count(b"ARTIST=Bjork") == 1
    path.write_bytes(data.replace(b"ARTIST=Bjork", odd.ljust(12)))
    is_refused(path, "is not UTF-8 or has no name")


@pytest.mark.parametrize("suffix", ["flac", "ogg"])
@pytest.mark.parametrize("value", ["Bj\ufffdrk", "x" * 200_000])
def test_comments_that_only_look_odd_are_kept(
    commented: Callable[..., Path], suffix: str, value: str
) -> None:
    path = commented(suffix, value)
    before = raw_fields(path)
    write_genres(path, ["Jazz"])
    assert read_genres(path) == ("Jazz",)
    assert raw_fields(path) == before


def test_a_field_of_mp4_that_mutagen_would_remove_is_refused(
    tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    path = write_audio(tmp_path / "song.m4a", tone(440, 0.5, 44_100), 44_100)
    media = MP4(path)
    media["\xa9nam"], media["desc"], media["\xa9gen"] = "Title", "Tïtle", "Soul"
    media.save()
    lone = path.read_bytes().replace("Tïtle".encode(), b"T\xef\xeftle")
    path.write_bytes(lone)
    before = raw_fields(path)
    write_genres(path, ["Jazz"])
    assert raw_fields(path) == before  # alone of its name, it is written as it is
    path.write_bytes(lone.replace(b"desc", b"\xa9nam"))
    is_refused(path, "cannot be decoded, and writing would destroy it")


def test_a_genre_of_mp4_that_cannot_be_decoded_gives_way(
    tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    path = write_audio(tmp_path / "song.m4a", tone(440, 0.5, 44_100), 44_100)
    media = MP4(path)
    media["\xa9gen"] = "Söul"
    media.save()
    path.write_bytes(path.read_bytes().replace("Söul".encode(), b"S\xf6\xf6ul"))
    write_genres(path, ["Jazz"])
    assert read_genres(path) == ("Jazz",)
