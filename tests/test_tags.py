from __future__ import annotations

import errno
import hashlib
import io
import itertools
import json
import os
import shutil
import signal
import stat
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import mutagen
import numpy as np
import pytest
from mutagen import id3
from mutagen.apev2 import BINARY, APEv2, APEValue
from mutagen.asf import ASF, ASFTags
from mutagen.flac import FLAC, Picture
from mutagen.mp4 import MP4, MP4Cover
from mutagen.wavpack import WavPack

from bundles import tone
from host import NO_SUCH_FILE, needs_links
from raw_tags import Field, raw_fields
from tonearm import atomic, audio
from tonearm.errors import TonearmError, UsageError
from tonearm.library import journal, tagging
from tonearm.library.chunks import obstacle
from tonearm.library.delta import Delta, difference, restore
from tonearm.library.examples import from_tags
from tonearm.library.journal import Journal, JournalEntry, JournalError
from tonearm.library.mapping import read_mapping
from tonearm.library.own_tags import OwnTags
from tonearm.library.suggestions import EarlierPredictions, Suggestion, SuggestionSource
from tonearm.library.tagging import Change, Rules, apply, plan
from tonearm.library.tags import Names, TagError, read_genres, read_names, write_genres
from tonearm.library.undo import Restoration, undo
from tonearm.library.wav_info import read_info

HALF_A_PAIR_IS_NO_NAME = pytest.mark.skipif(sys.platform == "win32", reason="it is a name there")

PICTURE = b"\xff\xd8" + np.random.default_rng(0).bytes(20_000)
# Suffix, encoder, bit rate: every kind of tag that FFmpeg can make a file for.
FORMATS = {
    "mp3": ("libmp3lame", None),
    "wav": ("pcm_s16le", None),
    "aiff": ("pcm_s16be", None),
    "ogg": ("vorbis", None),
    "opus": ("libopus", None),
    "flac": ("flac", None),
    "oga": ("flac", None),
    "m4a": ("aac", None),
    "mp4": ("alac", None),
    "wv": ("wavpack", None),
    "tta": ("tta", None),
    "wma": ("wmav2", 64_000),
}


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where journals go."""
    monkeypatch.setenv("TONEARM_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture(scope="session")
def recordings(
    tmp_path_factory: pytest.TempPathFactory, write_audio: Callable[..., Path]
) -> dict[str, Path]:
    """A recording of each kind, with a title and a track number, without a genre."""
    folder = tmp_path_factory.mktemp("recordings")
    return {
        suffix: write_audio(
            folder / f"song.{suffix}",
            tone(440, 0.5, 48_000),
            48_000,
            codec,
            bitrate,
            metadata={"title": "Tïtle", "track": "3"},
        )
        for suffix, (codec, bitrate) in FORMATS.items()
    }


@pytest.fixture
def song(recordings: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """`song("mp3", name=None) -> path` of a copy that may be changed."""

    def copy(suffix: str, name: str | None = None) -> Path:
        return Path(shutil.copy(recordings[suffix], tmp_path / (name or f"song.{suffix}")))

    return copy


def constant_source(
    label: str | None, confidence: float = 0.9, error: str | None = None
) -> SuggestionSource:
    """A source with the same suggestion for every file."""

    def suggest(paths: Any) -> Iterator[Suggestion]:
        return (Suggestion(label, confidence, error) for _ in paths)

    return suggest


def write(
    *paths: Path, label: str = "jazz", journal: Path | None = None, **rules: Any
) -> list[Change]:
    """Plan and apply."""
    with Journal(journal) as notes:
        return list(apply(plan(paths, constant_source(label), Rules(**rules)), notes))


def audio_hash(path: Path) -> tuple[int, str]:
    """Length and hash of the packets that FFmpeg passes to its decoder.

    FFmpeg treats the tag after the last frame of Monkey's Audio as part of it, so the decoded
    samples are hashed instead.
    """
    digest = hashlib.sha256()
    size = 0
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        if path.suffix == ".ape":
            pieces: Iterator[bytes] = (
                bytes(plane) for frame in container.decode(stream) for plane in frame.planes
            )
        else:
            pieces = (bytes(packet) for packet in container.demux(stream) if packet.size)
        try:
            for piece in pieces:
                digest.update(piece)
                size += len(piece)
        except av.error.FFmpegError as error:  # an odd file: it must break off where it did
            digest.update(type(error).__name__.encode())
    return size, digest.hexdigest()


def other_fields(path: Path) -> Counter[Field]:
    """All that is in a file's tags except genre."""
    fields = raw_fields(path)
    if isinstance(tags := mutagen.File(path).tags, ASFTags):
        for key, value in tags.items():
            if key not in ("WM/Genre", "WM/GenreID"):
                fields["asf", key.encode(), repr(value).encode()] += 1
    return fields


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_kind_of_file_gets_its_genre_and_its_bytes_back(
    song: Callable[..., Path], suffix: str
) -> None:
    path = song(suffix)
    before, sound, fields = path.read_bytes(), audio_hash(path), other_fields(path)
    assert read_genres(path) == ()

    assert [change.action for change in write(path, label="Färöese Jazz")] == ["write"]
    assert read_genres(path) == ("Färöese Jazz",)
    assert write(path, label="Soul", policy="append")[0].new == ("Färöese Jazz", "Soul")
    assert read_genres(path) == ("Färöese Jazz", "Soul")
    assert write(path, label="soul", policy="append")[0].action == "keep"
    assert write(path, label="Blues", policy="replace")[0].action == "write"
    assert read_genres(path) == ("Blues",)
    kept = other_fields(path)
    assert audio_hash(path) == sound
    assert fields <= kept
    assert fields == kept or suffix in ("wav", "tta")  # where it had another tag than ID3

    for _ in range(3):
        assert [done.action for done in undo()] == ["restore"]
    assert path.read_bytes() == before
    with pytest.raises(TonearmError, match="nothing to undo"):
        list(undo())


def append_id3v1(path: Path, genre: int = 255) -> None:
    """Append an ID3v1 tag with a title and the number of a genre, by default that of none."""
    with path.open("ab") as file:
        file.write(b"TAG" + b"Old Title".ljust(30, b"\0") + bytes(94) + bytes([genre]))


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def with_frames(path: Path, version: int, *frames: id3.Frame) -> Path:
    tags = id3.ID3()
    for frame in frames:
        tags.add(frame)
    tags.save(path, v2_version=version, v1=2, v23_sep=None)
    return path


@pytest.mark.parametrize("version", [3, 4])
def test_id3_keeps_its_version_and_every_frame(song: Callable[..., Path], version: int) -> None:
    path = with_frames(
        song("mp3"),
        version,
        id3.TIT2(encoding=1, text="Tïtle"),
        id3.TPE1(encoding=1, text=["One", "Two"]),
        id3.TSOP(encoding=1, text="One, The"),  # of 2.4, yet found in 2.3
        id3.TYER(encoding=0, text="1959"),  # of 2.3, yet found in 2.4
        id3.APIC(encoding=0, mime="JPG", type=3, desc="", data=PICTURE),
        id3.PRIV(owner="x", data=b"\0\1"),
    )
    before, fields = path.read_bytes(), other_fields(path)
    write(path, label="Jazz")
    tags = id3.ID3(path, translate=False)
    assert tags.version == (2, version, 0)
    assert tags["TCON"].text == ["Jazz"]
    assert other_fields(path) == fields
    assert len(fields) >= 6
    # The ID3v1 tag behind the audio changes in its genre alone.
    assert before[-128:-125] == b"TAG"
    assert path.read_bytes()[-128:] == before[-128:-1] + bytes([8])
    write(path, label="my own", policy="replace")
    assert path.read_bytes()[-128:] == before[-128:-1] + bytes([255])


def test_the_number_of_a_genre_is_found_however_it_is_spelled(song: Callable[..., Path]) -> None:
    path = song("mp3")
    append_id3v1(path)
    for genre, number in (("hiphop", 7), ("R and B", 255), ("jazz funk", 29), ("!", 255)):
        write(path, label=genre, policy="replace")
        assert path.read_bytes()[-1] == number


def test_id3_numbers_are_read_as_words(song: Callable[..., Path]) -> None:
    path = with_frames(song("mp3"), 3, id3.TCON(encoding=0, text="(8)(4)Eurodisco"))
    assert read_genres(path) == ("Jazz", "Disco", "Eurodisco")


def test_a_lone_id3v1_tag_is_taken_over_whole(song: Callable[..., Path]) -> None:
    path = song("mp3")
    id3.delete(path)
    assert read_genres(path) == ()
    append_id3v1(path)
    write(path, label="Jazz")
    tags = id3.ID3(path, load_v1=False)
    assert (tags["TIT2"].text, tags["TCON"].text) == (["Old Title"], ["Jazz"])
    assert path.read_bytes()[-128:][:12] == b"TAGOld Title"


def test_id3_of_version_2_2_becomes_2_3(song: Callable[..., Path]) -> None:
    path = song("mp3")
    id3.delete(path)
    title = b"TT2\0\0\6\0Title"
    path.write_bytes(b"ID3\2\0\0\0\0\0" + bytes([len(title)]) + title + path.read_bytes())
    before = path.read_bytes()
    write(path, label="Jazz")
    tags = id3.ID3(path, translate=False)
    assert tags.version == (2, 3, 0)
    assert (tags["TIT2"].text, tags["TCON"].text) == (["Title"], ["Jazz"])
    list(undo())
    assert path.read_bytes() == before


def test_several_genres_stay_several_in_id3_of_version_2_3(song: Callable[..., Path]) -> None:
    wav, mp3 = song("wav"), with_frames(song("mp3"), 3, id3.TIT2(encoding=1, text="Tïtle"))
    tagged = mutagen.File(wav)
    tagged.add_tags()
    tagged.tags.add(id3.TIT2(encoding=1, text="Tïtle"))
    tagged.save(v2_version=3)
    for path in (wav, mp3):
        write_genres(path, ["Jazz", "Rock", "Drum/Bass"])
        assert mutagen.File(path).tags.version == (2, 3, 0)
        assert read_genres(path) == ("Jazz", "Rock", "Drum/Bass")
    assert mp3.read_bytes()[-1] == 8  # an ID3v1 tag has room for the first


def test_an_id3v1_tag_behind_an_apev2_tag_survives(song: Callable[..., Path]) -> None:
    path = song("wv")
    append_id3v1(path)
    before = path.read_bytes()
    write(path, label="Rock")
    assert read_genres(path) == ("Rock",)
    assert path.read_bytes()[-128:] == before[-128:-1] + bytes([17])
    assert path.read_bytes().count(b"APETAGEX") == 2
    list(undo())
    assert path.read_bytes() == before


def test_an_apev2_tag_is_not_taken_for_an_id3v1_tag(song: Callable[..., Path]) -> None:
    # Its name has "TAG" in it, here just as far from the end as an ID3v1 tag begins.
    path = song("mp3")
    tags = APEv2()
    tags["Comment"] = "x" * 51
    tags.save(path)
    tail = path.read_bytes()[-131:]
    assert tail.startswith(b"APETAGEX")
    write(path)
    assert path.read_bytes()[-131:] == tail


@pytest.mark.parametrize(("suffix", "kind"), [("mp3", id3.ID3), ("wv", WavPack)])
def test_an_id3v1_tag_survives_what_cannot_be_written(
    suffix: str, kind: type, song: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = song(suffix)
    append_id3v1(path, genre=17)
    before = path.read_bytes()
    monkeypatch.setattr(kind, "save", full)
    with pytest.raises(TagError, match="No space left"):
        write_genres(path, ["Jazz"])
    assert path.read_bytes() == before


def test_a_genre_in_a_lesser_tag_is_not_overridden(
    song: Callable[..., Path],
) -> None:
    wav, mp3 = song("wav"), song("mp3")
    fields = [(b"IGNR", "Söul".encode("latin-1")), (b"IART", "Öne".encode()), (b"IPRD", b"Two")]
    with wav.open("r+b") as file:
        info = b"INFO"
        for name, text in fields:
            info += name + (len(text) + 1).to_bytes(4, "little") + text + b"\0"
            info += bytes(len(info) % 2)
        file.seek(0, os.SEEK_END)
        file.write(b"LIST" + len(info).to_bytes(4, "little") + info)
        size = file.tell() - 8
        file.seek(4)
        file.write(size.to_bytes(4, "little"))
    id3.delete(mp3)
    tags = APEv2()
    tags.update(Genre=["Söul", "Funk"], Artist="Öne", Album="Two", Title="Tïtle")
    tags.save(mp3)
    assert read_names(wav) == Names(("Söul",), "Öne", "Two", "Tïtle")
    assert read_names(mp3) == Names(("Söul", "Funk"), "Öne", "Two", "Tïtle")
    for path in (wav, mp3):
        lesser = raw_fields(path)
        [change] = write(path)
        assert (change.action, change.reason) == ("keep", "has a genre")
        old = read_genres(path)
        assert write(path, policy="append")[0].action == "write"
        assert read_genres(path) == (*old, "jazz")
        assert write(path, policy="replace")[0].action == "write"
        assert read_names(path) == Names(("jazz",), "Öne", "Two", "Tïtle")
        assert lesser <= raw_fields(path)
    with av.open(str(wav)) as container:
        assert container.metadata["genre"] == "jazz"  # FFmpeg reads nothing but the list


def test_a_new_id3_tag_says_what_the_lesser_tags_say(song: Callable[..., Path]) -> None:
    # The WAV's list is FFmpeg's; programs that read ID3 need not look at anything else.
    wav, mp3 = song("wav"), song("mp3")
    id3.delete(mp3)
    lesser = APEv2()
    lesser.update(Title="Tïtle", Artist=["One", "Two"], Track="3", Year="1959", Comment="Live")
    lesser.save(mp3)
    append_id3v1(mp3)  # its title is cut short
    before = [path.read_bytes() for path in (wav, mp3)]
    write(wav, mp3)
    tags = mutagen.File(wav).tags
    assert [tags[name].text for name in ("TIT2", "TRCK", "TCON")] == [["Tïtle"], ["3"], ["jazz"]]
    tags = id3.ID3(mp3, load_v1=False)
    assert [tags[name].text for name in ("TIT2", "TPE1")] == [["Tïtle"], ["One", "Two"]]
    assert [str(tags.getall(name)[0]) for name in ("TRCK", "TDRC", "COMM")] == ["3", "1959", "Live"]
    list(undo())
    assert [path.read_bytes() for path in (wav, mp3)] == before

    # A date that ID3 has no form for, and what is no text, stay where they are.
    lesser.update(Year="5.3.1959", Comment=APEValue(b"Live", BINARY))
    lesser.save(mp3)
    write(mp3)
    tags = id3.ID3(mp3, load_v1=False)
    assert (tags["TIT2"].text, "TDRC" in tags, tags.getall("COMM")) == (["Tïtle"], False, [])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b"IGNR\5\0\0\0Soul\0\0INAM\1\0\0\0T\0", b"INAM\1\0\0\0T\0IGNR\5\0\0\0Jazz\0\0"),
        (b"INAM\1\0\0\0T", b"INAM\1\0\0\0T\0IGNR\5\0\0\0Jazz\0\0"),
        (b"INAM\2\0\0\0T\0\0\0\0\0", b"INAM\2\0\0\0T\0IGNR\5\0\0\0Jazz\0\0"),
        (b"INAM\1\0\0\0TIART\1\0\0\0A", None),  # not padded, so unclear
    ],
)
def test_the_genre_of_an_info_list_is_replaced_alone(
    fields: bytes, expected: bytes | None, song: Callable[..., Path]
) -> None:
    path = song("wav")
    sound, data = audio_hash(path), path.read_bytes()
    start = data.index(b"LIST")
    stop = start + 8 + int.from_bytes(data[start + 4 : start + 8], "little")
    chunk = b"LIST" + (4 + len(fields)).to_bytes(4, "little") + b"INFO" + fields
    data = data[8:start] + chunk + bytes(len(chunk) % 2) + data[stop:]
    path.write_bytes(b"RIFF" + len(data).to_bytes(4, "little") + data)
    write_genres(path, ["Jazz", "Rock"])
    written = path.read_bytes()
    size = 4 + len(expected if expected else fields)
    assert b"LIST" + size.to_bytes(4, "little") + b"INFO" + (expected or fields) in written
    assert int.from_bytes(written[4:8], "little") == len(written) - 8
    assert read_genres(path) == ("Jazz", "Rock")
    assert audio_hash(path) == sound


def test_a_list_of_cue_points_is_no_info(song: Callable[..., Path]) -> None:
    path = song("wav")
    data = path.read_bytes()
    start = data.index(b"LIST")
    before = read_info(path)
    assert before
    cues = b"LIST\x14\0\0\0adtllabl\x08\0\0\0\1\0\0\0end\0"
    data = data[8:start] + cues + data[start:]
    path.write_bytes(b"RIFF" + len(data).to_bytes(4, "little") + data)
    assert read_info(path) == before


def test_an_id3_tag_before_flac_fills_gaps(song: Callable[..., Path]) -> None:
    path = song("flac")
    media = FLAC(path)
    del media["title"]
    media.save()
    tag = with_frames(path.with_suffix(".id3"), 3, id3.TIT2(text="Tïtle"), id3.TCON(text="(17)"))
    path.write_bytes(tag.read_bytes()[:-128] + path.read_bytes())
    assert read_names(path) == Names(("Rock",), title="Tïtle")
    assert write(path)[0].reason == "has a genre"


def test_the_number_of_mp4_gives_way(song: Callable[..., Path]) -> None:
    path = song("m4a")
    media = MP4(path)
    media["covr"] = [MP4Cover(PICTURE)]
    media["\xa9gen"] = "A long placeholder"
    media.save()
    # As iTunes writes it: an atom that holds a number; here a free one fills what it leaves.
    spelled = path.read_bytes()
    offset = spelled.index(b"\xa9gen") - 4
    size = int.from_bytes(spelled[offset : offset + 4], "big")
    number = b"\0\0\0\x1agnre\0\0\0\x12data" + bytes(8) + b"\0\5"
    free = (size - len(number)).to_bytes(4, "big") + b"free"
    atoms = (number + free).ljust(size, b"\0")
    path.write_bytes(spelled[:offset] + atoms + spelled[offset + size :])
    assert read_genres(path) == ("Disco",)
    write(path, label="Jazz", policy="replace")
    assert read_genres(path) == ("Jazz",)
    assert b"gnre" not in path.read_bytes()
    assert MP4(path)["covr"] == [PICTURE]


def test_the_number_of_asf_gives_way(song: Callable[..., Path]) -> None:
    path = song("wma")
    media = ASF(path)
    media["WM/GenreID"] = "(4)"
    media.save()
    write(path, label="Jazz")
    assert read_genres(path) == ("Jazz",)
    assert "WM/GenreID" not in ASF(path)


def test_mp4_with_numbered_fields_is_refused(song: Callable[..., Path]) -> None:
    # As `ffmpeg -movflags use_metadata_tags` writes it: "keys" names the fields, FFmpeg reads no
    # others there.
    path = song("m4a")
    path.write_bytes(path.read_bytes().replace(b"\xa9nam", b"\0\0\0\1"))
    before = path.read_bytes()
    [change] = write(path)
    assert (change.action, "QuickTime's" in change.reason) == ("fail", True)
    assert path.read_bytes() == before


def test_pictures_do_not_fill_the_journal(song: Callable[..., Path], state: Path) -> None:
    flac = FLAC(song("flac"))
    picture = Picture()
    picture.data = PICTURE
    flac.add_picture(picture)
    flac.save()
    mp3 = with_frames(
        song("mp3"), 4, id3.APIC(encoding=0, mime="image/jpeg", type=3, desc="", data=PICTURE)
    )
    write(Path(flac.filename), mp3, song("wav"), song("aiff"))
    [notes] = (state / "journals").iterdir()
    assert notes.stat().st_size < 16_000
    assert FLAC(flac.filename).pictures[0].data == PICTURE
    list(undo())


def test_files_that_hold_no_tags_are_refused_in_one_line(
    tmp_path: Path, song: Callable[..., Path]
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no music")
    broken = song("flac", "broken.flac")
    broken.write_bytes(broken.read_bytes()[:30])
    noise = tmp_path / "noise.wav"
    noise.write_bytes(b"\xbf" * 600)  # whose chunk names are no letters
    for path, reason in [
        (text, "unknown"),
        (broken, "damaged"),
        (noise, "damaged$"),
        (tmp_path / "absent.mp3", NO_SUCH_FILE.lower()),
        (tmp_path, "is a folder"),
    ]:
        with pytest.raises(TagError, match=reason) as error:
            read_genres(path)
        assert "\n" not in str(error.value)
        with pytest.raises(TagError, match=reason):
            write_genres(path, ["Jazz"])


def test_files_that_cannot_hold_a_tag_are_reported_beforehand(song: Callable[..., Path]) -> None:
    wav = song("wav").read_bytes()
    data = wav.index(b"data") + 4
    unknown = b"\xff\xff\xff\xff"
    unsaid = "a WAV file that does not say where its sound ends, and a tag would begin"
    broken = "so that a tag would be taken for sound"
    for content, suffix, reason in [
        (wav[: len(wav) // 2], "wav", f"a WAV file that breaks off, {broken}"),
        (song("aiff").read_bytes()[:-999], "aiff", f"an AIFF file that breaks off, {broken}"),
        (wav[:4] + unknown + wav[8:data] + unknown + wav[data + 4 :], "wav", unsaid),
        (wav[:4] + bytes(4) + wav[8:], "wav", unsaid),
        (b"RF64" + wav[4:], "wav", "a kind of WAV (RF64) that tags cannot be written to"),
        (song("mp3").read_bytes(), "flac", "is called .flac, but is no FLAC file"),
    ]:
        path = song("mp3", f"odd.{suffix}")
        path.write_bytes(content)
        [planned] = plan([path], constant_source("jazz"))
        assert (planned.action, planned.reason) == ("fail", reason)
        with pytest.raises(TagError) as error:
            write_genres(path, ["Jazz"])
        assert error.value.reason == reason
        assert path.read_bytes() == content


@pytest.mark.parametrize("error", [ValueError(), mutagen.MutagenError(), KeyError(OSError())])
def test_an_error_that_says_nothing_is_one_of_the_file(
    song: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(mutagen, "File", fail)
    with pytest.raises(TagError, match=r"song\.mp3: damaged$"):
        read_genres(song("mp3"))


@pytest.mark.parametrize("chunk", [bytes(8), b"junk" + bytes(4)])
def test_what_only_looks_like_chunks_is_not_walked_for_long(tmp_path: Path, chunk: bytes) -> None:
    path = tmp_path / "long.wav"
    content = b"WAVEdata" + bytes(4) + chunk * (5 << 20)
    path.write_bytes(b"RIFF" + len(content).to_bytes(4, "little") + content)
    began = time.process_time()
    assert obstacle(path) is None
    assert time.process_time() - began < 0.5


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    # Nobody writes into the pipe, and nothing ends the zeros: to open them is to hang.
    pipe, zeros = tmp_path / "pipe.mp3", tmp_path / "zeros.mp3"
    os.mkfifo(pipe)
    zeros.symlink_to("/dev/zero")
    for path in (pipe, zeros):
        with pytest.raises(TagError, match="is not a regular file"):
            read_genres(path)
        with pytest.raises(TagError, match="is not a regular file"):
            write_genres(path, ["Jazz"])


@pytest.mark.parametrize(
    ("rules", "confidence", "action", "new", "reason"),
    [
        ({}, 0.9, "keep", ("Soul",), "has a genre"),
        ({"policy": "replace"}, 0.9, "write", ("jazz",), "replaced"),
        ({"policy": "append"}, 0.9, "write", ("Soul", "jazz"), "added"),
        ({"policy": "replace", "above": 0.95}, 0.9, "keep", ("Soul",), "less sure than 0.95"),
        ({"policy": "replace", "above": 0.9}, 0.9, "write", ("jazz",), "replaced"),
        ({"policy": "replace", "below": 0.9}, 0.9, "keep", ("Soul",), "not less sure than 0.9"),
        ({"policy": "replace", "below": 0.9}, 0.8, "write", ("jazz",), "replaced"),
        ({"policy": "replace", "mapping": {"jazz": ()}}, 0.9, "keep", ("Soul",), "never written"),
        ({"policy": "replace", "mapping": {"jazz": ("A", "B")}}, 0.9, "write", ("A", "B"), ""),
        ({"policy": "replace", "mapping": {"jazz": ("Soul",)}}, 0.9, "keep", ("Soul",), "already"),
        ({"policy": "append", "mapping": {"jazz": ("SOUL",)}}, 0.9, "keep", ("Soul",), "already"),
        ({"policy": "append", "mapping": {"jazz": ("s-oúl",)}}, 0.9, "keep", ("Soul",), "already"),
        ({"policy": "append", "mapping": {"jazz": ("!",)}}, 0.9, "write", ("Soul", "!"), "added"),
    ],
)
def test_rules(
    song: Callable[..., Path],
    rules: dict[str, Any],
    confidence: float,
    action: str,
    new: tuple[str, ...],
    reason: str,
) -> None:
    path = song("flac")
    write_genres(path, ["Soul"])
    [change] = plan([path], constant_source("jazz", confidence), Rules(**rules))
    assert (change.action, change.old, change.new) == (action, ("Soul",), new)
    assert reason in change.reason


@pytest.mark.parametrize("old", ["Soul/Jazz", "jazz; Soul", "R&B / Soul/Jazz"])
def test_a_genre_is_not_added_to_a_text_that_lists_it(old: str, song: Callable[..., Path]) -> None:
    path = song("flac")
    write_genres(path, [old])
    assert write(path, label="jazz", policy="append")[0].reason == "is there already"
    assert write(path, label="R&B/Soul", policy="append")[0].new == (old, "R&B/Soul")


def test_rules_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown policy 'all'"):
        Rules(policy="all")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="nothing is at least"):
        Rules(above=0.5, below=0.5)


@needs_links
def test_only_files_that_may_be_written_are_classified(
    song: Callable[..., Path], tmp_path: Path
) -> None:
    tagged, link, bare = song("flac", "tagged.flac"), tmp_path / "link.flac", song("mp3")
    write_genres(tagged, ["Soul"])
    link.symlink_to(bare)
    requested: list[str] = []

    def source(paths: Any) -> Iterator[Suggestion]:
        requested.extend(paths)
        return iter([Suggestion("jazz", 1.0)])

    changes = list(plan([tagged, bare, link, bare, tmp_path / "absent.mp3"], source))
    assert requested == [str(bare)]
    assert [change.action for change in changes] == ["keep", "write", "keep", "keep", "fail"]
    assert changes[2].reason == changes[3].reason == "the same file as one before"
    with pytest.raises(UsageError, match="paths: expected several, as a list"):
        next(plan(str(tagged), source))


def test_a_file_without_a_suggestion_is_a_failure(song: Callable[..., Path]) -> None:
    [change] = plan([song("flac")], constant_source(None, error="silent"))
    assert (change.action, change.reason, change.new) == ("fail", "silent", ())


@needs_links
def test_a_link_is_followed_and_stays(song: Callable[..., Path], tmp_path: Path) -> None:
    path, link = song("flac"), tmp_path / "link.flac"
    link.symlink_to(path.name)
    assert write(link)[0].action == "write"
    assert link.is_symlink()
    assert read_genres(path) == ("jazz",)


def test_hard_links_are_refused(song: Callable[..., Path], tmp_path: Path) -> None:
    path = song("flac")
    os.link(path, tmp_path / "other.flac")
    change = write(path)[0]
    assert (change.action, "2 hard links" in change.reason) == ("fail", True)


def test_read_only_files_are_refused(song: Callable[..., Path]) -> None:
    path = song("flac")
    path.chmod(0o444)
    change = write(path)[0]
    assert (change.action, change.reason) == ("fail", "read-only")


def test_folders_that_cannot_be_written_to_are_refused_beforehand(
    song: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = song("flac")
    path.parent.chmod(0o555)
    if os.access(path.parent, os.W_OK):  # the superuser's tests
        allowed = os.access

        def access(which: Any, mode: int) -> bool:
            return allowed(which, mode) and not (mode & os.W_OK and Path(which).is_dir())

        monkeypatch.setattr(os, "access", access)
    try:
        [planned] = plan([path], constant_source("jazz"))
    finally:
        path.parent.chmod(0o755)
    assert (planned.action, planned.reason) == ("fail", "its folder is read-only")


def test_what_fails_for_now_is_told_beforehand_and_stays_to_be_undone(
    song: Callable[..., Path],
) -> None:
    path = song("flac")
    write(path)
    path.chmod(0o444)
    planned, done = list(undo(dry_run=True)), list(undo())
    assert [(one.action, one.reason) for one in planned] == [("fail", "read-only")]
    assert planned == done
    path.chmod(0o644)
    assert [done.action for done in undo()] == ["restore"]


@pytest.mark.parametrize("suffix", ["mp3", "tta", "flac"])
def test_where_the_audio_follows_the_tag_bytes_are_compared_not_packets(
    song: Callable[..., Path], suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # To take a file apart into packets costs more than all the rest of tagging.
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the packets were read")

    monkeypatch.setattr(audio, "identify", fail)
    path = song(suffix)
    if suffix == "mp3":
        append_id3v1(path)
    for label in ("Rock", "x" * 5_000, "Jazz"):  # into a new tag, a longer one and its padding
        assert write(path, label=label, policy="replace")[0].action == "write"


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_changed_byte_of_the_audio_is_detected(
    song: Callable[..., Path], suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(path: Path, genres: Any) -> None:
        write_genres(path, genres)
        content = bytearray(path.read_bytes())
        content[content.rindex(sound) + 20] ^= 1
        path.write_bytes(content)

    path = song(suffix)
    with av.open(str(path)) as container:
        sound = max((bytes(packet) for packet in container.demux(audio=0)), key=len)[-400:]
    if suffix in ("ogg", "opus", "oga"):
        sound = sound[-100:]  # pages cut packets into pieces
    monkeypatch.setattr(tagging, "write_genres", careless)
    before = path.read_bytes()
    assert write(path)[0].reason == "writing its tags would change the audio"
    assert path.read_bytes() == before


def test_audio_that_cannot_be_compared_is_left_alone(
    song: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(path: Path, **_: object) -> None:
        raise audio.ReadFailed(str(path), "input/output error")

    for suffix, function in (("mp3", "probe"), ("m4a", "identify")):
        path = song(suffix)
        before = path.read_bytes()
        with monkeypatch.context() as patched:
            patched.setattr(audio, function, lost)
            assert write(path)[0].reason == "input/output error"
        assert path.read_bytes() == before


def test_the_end_of_an_id3_tag_does_not_become_audio(song: Callable[..., Path]) -> None:
    # Version 2.4 allows a tag to end with a copy of its header, which mutagen does not know. Left
    # before the audio, it hides the frame that tells the length and the gapless ends.
    path = song("mp3")
    content = path.read_bytes()
    length = 10 + sum(
        byte << shift for byte, shift in zip(content[6:10], (21, 14, 7, 0), strict=True)
    )
    head = content[:5] + bytes([content[5] | 0x10]) + content[6:10]
    path.write_bytes(head + content[10:length] + b"3DI" + head[3:] + content[length:])
    before = path.read_bytes()
    [change] = write(path)
    assert (change.action, change.reason) == (
        "fail",
        "its ID3 tag has a footer, which writing would not replace",
    )
    assert path.read_bytes() == before


def test_files_whose_audio_would_change_are_left_alone(tmp_path: Path) -> None:
    # The fragments say where in the file their sound lies, which a tag before them moves.
    path = tmp_path / "live.m4a"
    options = {"movflags": "frag_keyframe+empty_moov", "frag_duration": "500000"}
    with av.open(str(path), "w", format="mp4", options=options) as output:
        stream = output.add_stream("aac", rate=44_100, layout="mono")
        for start in range(0, 3 * 44_100, 44_100):
            samples = tone(440, 1, 44_100)[None].astype(np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44_100, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    before = path.read_bytes()
    [change] = write(path)
    assert (change.action, change.reason) == ("fail", "writing its tags would change the audio")
    assert path.read_bytes() == before
    assert list(tmp_path.glob(".tonearm-*")) == []


def test_permissions_stay_and_the_time_if_asked(song: Callable[..., Path]) -> None:
    path = song("flac")
    path.chmod(0o640)
    os.utime(path, ns=(10**18, 10**18))
    state = path.stat()
    with Journal() as notes:
        list(apply(plan([path], constant_source("jazz")), notes, keep_mtime=True))
    assert stat.S_IMODE(path.stat().st_mode) == (0o640 if os.name == "posix" else 0o666)
    assert (path.stat().st_uid, path.stat().st_gid) == (state.st_uid, state.st_gid)
    assert path.stat().st_mtime_ns == 10**18
    write(path, policy="replace", label="soul")
    assert path.stat().st_mtime_ns > 10**18
    list(undo())
    assert path.stat().st_mtime_ns == 10**18


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="gives files away")
def test_a_file_of_another_user_keeps_its_group_and_mode(
    song: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, chown = song("flac"), os.chown
    chown(path, 1234, 4321)
    path.chmod(0o2660)

    def unprivileged(which: Path, user: int, group: int) -> None:
        if user != -1:
            raise PermissionError(1, "Operation not permitted")
        chown(which, user, group)

    monkeypatch.setattr(os, "chown", unprivileged)
    assert write(path)[0].action == "write"
    state = path.stat()
    assert (state.st_uid, state.st_gid, stat.S_IMODE(state.st_mode)) == (0, 4321, 0o2660)


def test_attributes_stay(song: Callable[..., Path]) -> None:
    path = song("flac")
    try:
        os.setxattr(path, "user.mood", b"blue")
    except (AttributeError, OSError):
        pytest.skip("no extended attributes here")
    write(path)
    assert os.getxattr(path, "user.mood") == b"blue"


@pytest.mark.skipif(os.name != "posix", reason="elsewhere names are text, and paths are short")
@pytest.mark.parametrize(
    "name",
    [b"x" * 250 + b".flac", b"\xc3\xa4" * 125 + b".flac", b"x." + b"y" * 253, b"\xff\xfe\n.flac"],
)
def test_any_file_name_can_be_tagged(
    song: Callable[..., Path], tmp_path: Path, name: bytes
) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    song("flac").rename(path)
    before = path.read_bytes()
    assert write(path)[0].action == "write"
    assert read_genres(path) == ("jazz",)
    assert [done.action for done in undo()] == ["restore"]
    assert path.read_bytes() == before


def test_a_file_that_changes_meanwhile_is_left_alone(
    song: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = song("flac")
    changes = list(plan([path], constant_source("jazz")))
    write_genres(path, ["Soul"])
    with Journal() as notes:
        [failed] = apply(changes, notes)
    assert (failed.action, failed.new) == ("fail", ())
    assert "since the plan" in failed.reason

    def meddle(copy: Path, target: Path) -> None:
        os.utime(target)

    monkeypatch.setattr(tagging, "prepare", meddle)
    failed = write(path, policy="replace")[0]
    assert (failed.action, "meanwhile" in failed.reason) == ("fail", True)
    with pytest.raises(TonearmError, match="no journal in"):
        list(undo())
    assert read_genres(path) == ("Soul",)
    assert list(path.parent.glob(".tonearm-*")) == []


def test_a_full_disk_costs_nothing(
    song: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = song("flac")
    before = path.read_bytes()

    monkeypatch.setattr(shutil, "copyfile", full)
    assert write(path)[0].reason == "No space left on device"
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert list(path.parent.glob(".tonearm-*")) == []


def test_a_full_disk_under_the_journal_leaves_none(
    song: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, notes = song("flac"), tmp_path / "notes.jsonl"
    before = path.read_bytes()

    class Full(io.BufferedWriter):
        flush = full

    def open_full(self: Path, mode: str = "r", *rest: Any) -> Any:
        file = whole_open(self, mode, *rest)
        return Full(file.detach()) if self == notes else file

    whole_open = Path.open
    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(JournalError, match=r"notes\.jsonl: no journal: No space left"):
        write(path, journal=notes)
    monkeypatch.undo()
    assert not notes.exists()
    assert path.read_bytes() == before


def test_without_a_journal_nothing_is_written(song: Callable[..., Path], tmp_path: Path) -> None:
    path = song("flac")
    before = path.read_bytes()
    (tmp_path / "file").write_text("precious\n")
    with pytest.raises(JournalError, match="not a journal"):
        write(path, journal=tmp_path / "file")
    with pytest.raises(JournalError, match="no journal: "):
        write(path, journal=tmp_path / "file" / "deeper")
    assert (tmp_path / "file").read_text() == "precious\n"
    assert path.read_bytes() == before


def test_an_empty_file_becomes_a_journal(song: Callable[..., Path], tmp_path: Path) -> None:
    path, notes = song("flac"), tmp_path / "notes.jsonl"  # as mktemp makes one
    notes.touch()
    before = path.read_bytes()
    assert [change.action for change in write(path, journal=notes)] == ["write"]
    assert [done.action for done in undo(notes)] == ["restore"]
    assert path.read_bytes() == before


def test_undo_leaves_alone_what_has_changed_since(song: Callable[..., Path], state: Path) -> None:
    changed, fine, gone = song("flac"), song("mp3"), song("ogg")
    before = fine.read_bytes()
    write(changed, fine, gone)
    write_genres(changed, ["My Own"])
    gone.unlink()
    [notes] = (state / "journals").iterdir()
    expected = {str(gone): "fail", str(fine): "restore", str(changed): "fail"}
    planned = {done.path: done.action for done in undo(dry_run=True)}
    assert planned == expected
    assert read_genres(fine) == ("jazz",)
    done = list(undo())
    assert {one.path: one.action for one in done} == expected
    assert {one.reason for one in done} >= {"changed since it was tagged, which counts as undone"}
    assert fine.read_bytes() == before
    assert read_genres(changed) == ("My Own",)
    # What could not be undone can be tried again, but is in no other run's way.
    again = {one.path: one.action for one in undo(notes)}
    assert again == {**expected, str(fine): "keep"}
    with pytest.raises(TonearmError, match=r"every journal in .* is undone"):
        list(undo())


def test_the_latest_run_is_undone_first_though_the_clock_was_set_back(
    song: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = song("mp3")
    versions = [path.read_bytes()]
    for label, days in (("jazz", 9), ("ska", 3), ("pop", 3)):
        monkeypatch.setattr(time, "time_ns", lambda days=days: days * 86_400 * 10**9)
        write(path, label=label, policy="replace")
        versions.append(path.read_bytes())
    while len(versions) > 1:
        assert path.read_bytes() == versions.pop()
        assert [done.action for done in undo()] == ["restore"]
    assert path.read_bytes() == versions.pop()


@needs_links
def test_what_is_gone_or_replaced_does_not_keep_undo_from_the_run_before(
    song: Callable[..., Path],
) -> None:
    first = song("mp3")
    before = first.read_bytes()
    write(first)
    odd = [song("flac", f"{name}.flac") for name in ("gone", "empty", "folder", "pipe", "link")]
    write(*odd)
    for path in odd:
        path.unlink()
    gone, empty, folder, pipe, link = odd
    empty.touch()
    folder.mkdir()
    link.symlink_to("nowhere.flac")
    if hasattr(os, "mkfifo"):
        os.mkfifo(pipe)
    else:
        pipe.touch()
    changed = "changed since it was tagged, which counts as undone"
    assert {Path(done.path): done.reason for done in undo()} == {
        **dict.fromkeys((empty, folder, pipe, link), changed),
        gone: "is gone, which counts as undone",
    }
    assert [done.path for done in undo()] == [str(first)]
    assert first.read_bytes() == before


def test_a_journal_of_several_runs_is_walked_back_whole(
    song: Callable[..., Path], tmp_path: Path
) -> None:
    path, notes = song("mp3"), tmp_path / "notes.jsonl"
    before = path.read_bytes()
    for label in ("jazz", "soul", "jazz"):
        write(path, label=label, policy="replace", journal=notes)
    with notes.open("ab") as file:
        file.write(b'{"path": "/torn')
    write(path, label="funk", policy="replace", journal=notes)
    assert list(undo(notes)) == [Restoration(str(path), (), ("funk",), "restore", "as it was")]
    assert path.read_bytes() == before
    assert [done.action for done in undo(notes)] == ["keep"]


def test_what_tonearm_wrote_itself_is_no_genre_to_learn_from(song: Callable[..., Path]) -> None:
    own, added, corrected = (song("mp3", f"{name}.mp3") for name in ("own", "added", "corrected"))
    write_genres(added, ("Bop",))
    assert [change.new for change in write(own, corrected)] == [("jazz",), ("jazz",)]
    write(added, policy="append")
    write(added, policy="replace", label="rock")
    write_genres(corrected, ("Soul",))

    found = from_tags([own, added, corrected])
    assert {t.path: t.label for t in found.tracks} == {added: "Bop", corrected: "Soul"}
    assert (found.unlabelled, found.written) == (0, 1)

    list(undo())  # the last run: should its genre be there again, someone has entered it
    assert OwnTags().without(added, ("rock",)) == ("rock",)
    assert OwnTags().without(added, read_genres(added)) == ("Bop",)


def test_journals_of_tomorrow_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"tonearm_journal": 9}\n')
    with pytest.raises(JournalError, match="format 9"):
        journal.locate(path)
    path.write_text('{"tonearm_journal": 1}\n{"path": "a"}\n')
    assert journal.locate(path) == ([], 1)
    delta = {"pieces": [[None, 4]], "own": "bm8gemxpYg=="}
    entry = {"path": "a", "before": "", "after": "", "mtime_ns": 0, "old": [], "new": []}
    path.write_text(f'{{"tonearm_journal": 1}}\n{json.dumps(entry | {"delta": delta})}\n')
    assert journal.locate(path) == ([], 1)
    with pytest.raises(TonearmError, match="no journal"):
        list(undo(tmp_path / "absent"))
    with pytest.raises(TonearmError, match=r"x{300}"):  # a longer name than any file's
        list(undo("x" * 300))


def test_the_entries_of_a_journal_are_not_in_memory_at_once(tmp_path: Path) -> None:
    notes, own = tmp_path / "notes.jsonl", os.urandom(20_000)
    with Journal(notes) as file:
        for number in range(100):
            delta = Delta(((None, len(own)),), own)
            file.append(JournalEntry(f"/m/{number}.ogg", "", "", number, (), ("jazz",), delta))
    tracemalloc.start()
    try:
        places, damaged = journal.locate(notes)
        assert tracemalloc.get_traced_memory()[1] < 40 * len(own)
    finally:
        tracemalloc.stop()
    assert ([path for path, _ in places], damaged) == ([f"/m/{n}.ogg" for n in range(100)], 0)
    wanted = [places[40], places[3]]
    entries = journal.entries_at(notes, [position for _, position in wanted])
    assert [(entry.path, entry.delta.own) for entry in entries] == [(p, own) for p, _ in wanted]

    notes.write_bytes(notes.read_bytes()[1:])
    with pytest.raises(JournalError, match=r"notes\.jsonl: changed while it was read$"):
        journal.entries_at(notes, [places[7][1]])


def write_and_edit(path: Path, state: Path, edit: dict[str, Any]) -> bytes:
    """Tag a file, then change values of the only entry in its journal; return the file's bytes."""
    write(path)
    [notes] = (state / "journals").iterdir()
    first, entry = notes.read_text().splitlines()
    notes.write_text(f"{first}\n{json.dumps(json.loads(entry) | edit)}\n")
    return path.read_bytes()


@pytest.mark.parametrize(
    "edit",
    [
        {"path": 5},
        {"path": "a\0b"},
        pytest.param({"path": "\ud800"}, marks=HALF_A_PAIR_IS_NO_NAME),
        {"after": None},
        {"mtime_ns": "x"},
        {"mtime_ns": 1.5},
        {"mtime_ns": 10**40},
        {"old": "Rock"},
        {"new": [1]},
        {"delta": {"pieces": [["0", 4]], "own": "eJwDAAAAAAE="}},
        {"delta": 7},
    ],
)
def test_a_journal_edited_by_hand_is_refused_in_one_line(
    song: Callable[..., Path], state: Path, edit: dict[str, Any]
) -> None:
    path = song("flac")
    written = write_and_edit(path, state, edit)
    with pytest.raises(JournalError, match=r"damaged entries, whose files cannot be restored: 1$"):
        list(undo())
    assert path.read_bytes() == written


def test_a_damaged_entry_costs_its_file_alone_and_is_reported(
    song: Callable[..., Path], state: Path
) -> None:
    first, second = song("mp3"), song("flac")
    first_before, second_before = first.read_bytes(), second.read_bytes()
    write(first, second)
    [notes] = (state / "journals").iterdir()
    notes.write_bytes(notes.read_bytes().replace(b'{"path"', b'{"pa\x00h"', 1))
    done = []
    with pytest.raises(JournalError, match="damaged entries"):
        for restoration in undo(notes):
            done.append((restoration.path, restoration.action))
    assert done == [(str(second), "restore")]
    assert second.read_bytes() == second_before
    assert first.read_bytes() != first_before


@pytest.mark.parametrize("edit", [{"before": "0" * 64}, {"delta": Delta(((0, 9),), b"").to_dict()}])
def test_a_journal_that_gives_other_bytes_is_not_believed(
    song: Callable[..., Path], state: Path, edit: dict[str, Any]
) -> None:
    path = song("flac")
    written = write_and_edit(path, state, edit)
    for _ in range(2):  # it stays to be undone, by a journal that was kept
        [done] = undo()
        assert (done.action, done.reason) == ("fail", "the journal does not give its bytes")
    assert path.read_bytes() == written
    assert list(path.parent.glob(".tonearm-*")) == []


@pytest.mark.parametrize("rest", ["", '{"path": "/torn', '7\n\n["path"]\n', "[" * 100_000])
def test_a_journal_without_an_entry_has_nothing_to_undo(tmp_path: Path, rest: str) -> None:
    notes = tmp_path / "notes.jsonl"
    notes.write_text('{"tonearm_journal": 1}\n' + rest)
    before = notes.read_bytes()
    with pytest.raises(TonearmError, match=r"nothing to undo: .*notes\.jsonl records no change"):
        list(undo(notes))
    assert notes.read_bytes() == before


def test_leftovers_of_a_killed_process_go_in_time(
    song: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = "0123456789abcdef"
    leftovers = {f".tonearm-{number}{suffix}" for suffix in ("", ".flac", ".partial", ".\u00e9")}
    others = {".tonearm-library.db", ".tonearm-undo.jsonl", f".tonearm-{number}.mp3.bak"}
    for name in leftovers | others:
        (tmp_path / name).write_bytes(b"x")
    path = song("flac")
    write(path)
    assert all((tmp_path / name).exists() for name in leftovers)
    monkeypatch.setattr(atomic, "LEFT_OVER_SECONDS", -1.0)
    list(undo(dry_run=True))
    assert all((tmp_path / name).exists() for name in leftovers)
    list(undo())
    assert {name for name in leftovers | others if (tmp_path / name).exists()} == others
    for name in leftovers:
        (tmp_path / name).write_bytes(b"x")
    write(path)
    assert {name for name in leftovers | others if (tmp_path / name).exists()} == others


def test_a_drive_that_cannot_sync_folders_is_written_to(
    song: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def picky(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(handle)

    monkeypatch.setattr(os, "fsync", picky)
    path = song("mp3")
    old = path.read_bytes()
    assert [done.action for done in write(path)] == ["write"]
    assert path.read_bytes() != old
    assert [done.action for done in undo()] == ["restore"]
    assert path.read_bytes() == old


def test_without_a_home_folder_it_is_said_where_a_journal_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    for variable in ("TONEARM_STATE", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(TonearmError, match=r"^no home folder: set HOME or TONEARM_STATE$"):
        journal.find()


CALLS = {"open", "write", "flush", "fsync", "close", "replace", "rename", "unlink", "chmod"}
CALLS |= {"sendfile", "truncate", "utime", "chown", "copy_file_range", "mkdir"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes")
@pytest.mark.parametrize("action", ["tag", "undo"])
def test_killed_at_any_step_there_is_the_old_file_or_the_new(
    song: Callable[..., Path], tmp_path: Path, action: str
) -> None:
    path, notes = song("mp3"), tmp_path / "notes.jsonl"
    old = path.read_bytes()
    write(path, journal=notes)
    new = path.read_bytes()
    seen = set()
    for step in itertools.count():
        if action == "tag":
            path.write_bytes(old)
            notes.unlink(missing_ok=True)
        else:
            path.write_bytes(new)
        child = os.fork()
        if child == 0:
            _kill_at(step)
            if action == "tag":
                write(path, journal=notes)
            else:
                list(undo(notes))
            sys.setprofile(None)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        found = path.read_bytes()
        assert found in (old, new), f"neither old nor new at step {step}"
        seen.add(found)
        if found == new or (notes.exists() and notes.stat().st_size):
            assert {done.action for done in undo(notes)} <= {"restore", "keep"}
        assert path.read_bytes() == old
        for leftover in tmp_path.glob(".tonearm-*"):
            leftover.unlink()
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
    assert step > 20
    assert seen == {old, new}


def _kill_at(step: int) -> None:
    """Kill this process before one of the calls that change something on the disk."""
    count = itertools.count()

    def watch(_frame: Any, event: str, call: Any) -> None:
        if event == "c_call" and call.__name__ in CALLS and next(count) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(watch)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"", b"x"),
        (b"abc", b""),
        (b"a" * 1000, b"a" * 1000),
        (bytes(range(256)) * 20, b"tag" + bytes(range(256)) * 20),
        (b"tag" + bytes(range(256)) * 20, bytes(range(256)) * 20),
    ],
)
def test_a_delta_restores(tmp_path: Path, old: bytes, new: bytes) -> None:
    assert restored(tmp_path, old, new) == old


def test_a_delta_is_small_where_files_share_much(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    head, picture, music = rng.bytes(300), rng.bytes(9000), rng.bytes(3_000_000)
    old = head + picture + bytes(500) + music + b"TAG" + bytes(125)
    new = head + b"genre" * 5 + picture + bytes(475) + music + b"TAG" + bytes(124) + b"\x08"
    assert restored(tmp_path, old, new) == old
    assert len(difference(tmp_path / "old", tmp_path / "new").own) < 2000
    assert restored(tmp_path, new, old + b"more") == new
    longer = old + rng.bytes(5000)
    assert restored(tmp_path, longer, old) == longer
    assert len(difference(tmp_path / "old", tmp_path / "new").own) < 5100


def restored(folder: Path, old: bytes, new: bytes) -> bytes:
    (folder / "old").write_bytes(old)
    (folder / "new").write_bytes(new)
    delta = difference(folder / "old", folder / "new")
    assert Delta.from_dict(delta.to_dict()) == delta
    output = io.BytesIO()
    restore(delta, folder / "new", output)
    return output.getvalue()


MAPPING = {"hiphop": ("Hip-Hop",), "metal": (), "rock": ("Rock", "Guitars")}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.toml", 'hiphop = "Hip-Hop"\nmetal = ""\nrock = ["Rock", "Guitars"]'),
        ("m.json", '{"hiphop": "Hip-Hop", "metal": [], "rock": ["Rock", " Guitars "]}'),
        ("m.csv", "label,genre\nhiphop,Hip-Hop\nmetal,\nrock,Rock\nrock,Guitars\n\n"),
        ("m.csv", "Label, Genre\nhiphop,Hip-Hop\nmetal,\nrock,Rock\nrock,Guitars\n"),
        ("m.CSV", "\ufeffhiphop,Hip-Hop\nmetal,\nrock,Rock\nrock,Guitars\n"),
    ],
)
def test_mappings(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_mapping(tmp_path / name) == MAPPING


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("m.txt", "", "expected one of .toml, .json, .csv"),
        ("m.toml", "rock = 1", "rock: expected a word"),
        ("m.toml", "rock", "m.toml: "),
        ("m.json", "[]", "expected a table"),
        ("m.json", '{"rock": [1]}', "rock: expected a word"),
        ("m.json", '{"rock": ["Rock", "\\ud800"]}', r"rock: expected words of one .* '\\ud800'"),
        ("m.toml", 'rock = "Ro\\u0000ck"', "rock: expected words of one line"),
        ("m.csv", 'rock,"Rock\nRoll"', "rock: expected words of one line"),
        ("m.json", '{"a\\nb": 1}', r"a\\nb: expected a word"),
        ("m.csv", "rock", "line 1: expected label and genre"),
        ("m.csv", f"rock,{'x' * 200_000}", "m.csv: field larger"),
        ("m.json", "[" * 100_000, "m.json: (maximum recursion|Stack overflow)"),
        ("m.toml", "a = " + "[" * 100_000, "m.toml: maximum recursion"),
    ],
)
def test_invalid_mappings(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(TonearmError, match=complaint) as error:
        read_mapping(tmp_path / name)
    assert "\n" not in str(error.value)


def test_predictions(tmp_path: Path, song: Callable[..., Path]) -> None:
    path = song("flac")
    named = f"{path.parent}/./song.flac"
    lines = tmp_path / "p.jsonl"
    lines.write_text(
        f'{{"path": {json.dumps(named)}, "genre": "jazz", "confidence": 0.5}}\n\n'
        '{"path": "b.mp3", "genre": null, "error": "silent"}\n'
        '{"path": "rain.mp3", "genre": "jazz", "confidence": 0.9, "verdict": "not music"}\n'
    )
    known = EarlierPredictions.read(lines)
    assert known.paths == (named, "b.mp3", "rain.mp3")
    assert list(known([str(path), "b.mp3", "rain.mp3", "c.mp3"])) == [
        Suggestion("jazz", 0.5),
        Suggestion(None, error="silent"),
        Suggestion(None, error="not music"),
        Suggestion(None, error="no prediction"),
    ]
    with pytest.raises(TonearmError, match="No such file"):
        EarlierPredictions.read(tmp_path / "absent.jsonl")


PREDICTION = {"path": "a", "genre": "x", "confidence": 0.5}


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{",
        "[" * 100_000,
        '{"path": "a"}',
        json.dumps(PREDICTION).replace("0.5", "1" + "0" * 400),
        *(json.dumps(PREDICTION | {"confidence": odd}) for odd in ("y", np.nan, -0.1, 1.5)),
        json.dumps(PREDICTION | {"path": "a\0"}),
        json.dumps(PREDICTION | {"path": 3}),
        *(json.dumps(PREDICTION | {"genre": odd}) for odd in (3, ["j"], {"j": 0.5})),
        pytest.param(json.dumps(PREDICTION | {"path": "\ud800"}), marks=HALF_A_PAIR_IS_NO_NAME),
        *(json.dumps(PREDICTION | {"genre": odd}) for odd in ("", "\ud800", "a\0", "a\nb")),
    ],
)
def test_a_line_that_is_no_prediction_is_named(tmp_path: Path, line: str) -> None:
    lines = tmp_path / "p.jsonl"
    lines.write_text(f"\n{line}\n")
    with pytest.raises(TonearmError, match=r"p\.jsonl:2: expected an object"):
        EarlierPredictions.read(lines)


def test_predictions_may_begin_with_a_byte_order_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = tmp_path / "p.jsonl"
    lines.write_text('{"path": "a", "genre": "x", "confidence": 1}\n', encoding="utf-8-sig")
    assert EarlierPredictions.read(lines).paths == ("a",)
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines.read_text(encoding="utf-8")))
    assert EarlierPredictions.read("-").paths == ("a",)


def test_a_table_in_the_place_of_predictions_is_called_one(tmp_path: Path) -> None:
    table = tmp_path / "found.csv"
    table.write_text("path,duration,genre,confidence\na.mp3,30,jazz,0.9\n")
    with pytest.raises(TonearmError, match=r"found\.csv: CSV: .*classify --json"):
        EarlierPredictions.read(table)


@pytest.mark.shared
def test_every_odd_file_survives_tagging(shared: Path, tmp_path: Path) -> None:
    originals = sorted((shared / "data" / "formats").iterdir())
    music = tmp_path / "music"
    music.mkdir()
    paths = [Path(shutil.copyfile(original, music / original.name)) for original in originals]
    changes = write(*paths, label="Färöese Jazz", policy="replace")
    written = {Path(change.path).name for change in changes if change.action == "write"}
    for original, path, change in zip(originals, paths, changes, strict=True):
        assert "\n" not in change.reason
        if path.name not in written:
            assert path.read_bytes() == original.read_bytes()
            continue
        assert read_genres(path) == ("Färöese Jazz",)
        # A new tag may say more: who has written it, or what an ID3v1 tag says.
        assert other_fields(path) >= other_fields(original), path.name
        try:
            sound = audio_hash(original)
        except (av.error.FFmpegError, IndexError):  # no audio that FFmpeg finds
            continue
        assert audio_hash(path) == sound, path.name
    assert len(written) >= 160
    assert {Path(done.path).name for done in undo() if done.action == "restore"} == written
    for original, path in zip(originals, paths, strict=True):
        assert path.read_bytes() == original.read_bytes()


def test_an_entry_is_on_the_disk_before_its_file_is_replaced(
    song: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, notes, sync, synced = song("mp3"), tmp_path / "notes.jsonl", os.fsync, []

    def noting(handle: int) -> None:
        sync(handle)
        if notes.exists() and os.path.samestat(os.fstat(handle), notes.stat()):
            synced.append((read_genres(path), b'"new": ["jazz"]' in notes.read_bytes()))

    monkeypatch.setattr(os, "fsync", noting)
    write(path, journal=notes)
    assert synced == [((), True)]


@pytest.mark.skipif(os.name != "posix", reason="folders cannot be synced")
def test_the_folders_of_the_journal_and_of_the_file_are_synced(
    song: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, notes, sync, synced = song("mp3"), tmp_path / "notes" / "n.jsonl", os.fsync, []

    def noting(handle: int) -> None:
        sync(handle)
        synced.append((os.fstat(handle).st_ino, read_genres(path)))

    monkeypatch.setattr(os, "fsync", noting)
    write(path, journal=notes)
    assert (notes.parent.stat().st_ino, ()) in synced
    assert synced[-1] == (path.parent.stat().st_ino, ("jazz",))


def test_a_full_disk_leaves_what_the_journal_has(
    song: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, notes = song("flac"), song("mp3"), tmp_path / "notes.jsonl"
    before = first.read_bytes()

    def failing(self: Journal, record: dict[str, Any]) -> None:
        if record["path"] == str(second):
            monkeypatch.setattr(os, "fsync", full)
        append(self, record)

    append = Journal._append
    monkeypatch.setattr(Journal, "_append", failing)
    with pytest.raises(JournalError, match="no journal: No space left"):
        write(first, second, journal=notes)
    monkeypatch.undo()
    assert {done.path: done.action for done in undo(notes)}[str(first)] == "restore"
    assert first.read_bytes() == before


def test_a_file_that_was_there_is_not_removed_for_want_of_room(
    song: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, notes = song("flac"), tmp_path / "notes.jsonl"
    notes.touch()
    monkeypatch.setattr(journal, "sync_folder", full)
    with pytest.raises(JournalError, match="no journal: No space left"):
        write(path, journal=notes)
    assert notes.exists()


def test_a_journal_that_goes_on_after_it_was_undone_can_be_undone_again(
    song: Callable[..., Path], state: Path
) -> None:
    path, notes = song("mp3"), state / "journals" / "mine.jsonl"
    before = path.read_bytes()
    write(path, journal=notes)
    list(undo(notes))
    write(path, label="soul", journal=notes)
    assert OwnTags().without(path, ("soul",)) == ()
    assert [done.action for done in undo()] == ["restore"]
    assert path.read_bytes() == before


def test_what_was_not_written_after_all_is_not_tonearms(
    song: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = song("mp3")

    def changed(*_: object) -> None:
        raise TagError(path, "changed by another program meanwhile")

    monkeypatch.setattr(tagging, "put_in_place", changed)
    assert [change.action for change in write(path)] == ["fail"]
    write_genres(path, ("jazz",))
    assert OwnTags().without(path, ("jazz",)) == ("jazz",)


def test_a_table_of_words_may_have_blanks_and_a_label_called_label(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("label,genre\n rock ,Rock\nlabel,genre\n")
    assert read_mapping(tmp_path / "m.csv") == {"rock": ("Rock",), "label": ("genre",)}


def test_a_file_replaced_meanwhile_by_one_of_the_same_time_is_left_alone(
    song: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, prepare = song("flac"), tagging.prepare

    def meddle(copy: Path, target: Path) -> None:
        prepare(copy, target)
        other = Path(shutil.copy2(target, target.with_suffix(".new")))
        other.replace(target)

    monkeypatch.setattr(tagging, "prepare", meddle)
    [failed] = write(path)
    assert (failed.action, "meanwhile" in failed.reason) == ("fail", True)
    assert read_genres(path) == ()


def test_a_tagged_file_is_on_the_disk_before_it_takes_its_place(
    song: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sync, synced = song("flac"), os.fsync, []

    def noting(handle: int) -> None:
        sync(handle)
        synced.append(os.fstat(handle).st_ino)

    monkeypatch.setattr(os, "fsync", noting)
    write(path)
    assert path.stat().st_ino in synced
    list(undo())
    assert path.stat().st_ino in synced
