"""The loaders: every layout on disk becomes the same table of tracks."""

from __future__ import annotations

import csv
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from host import names_are_bytes, names_hold_anything, needs_links
from tonearm import media
from tonearm.datasets import LAYOUTS, Dataset, DatasetError, Fold, Track, gtzan_facts, load, split
from tonearm.datasets.gtzan import read_feature_table
from tonearm.datasets.manifest import other_columns, write_folds
from tonearm.datasets.splits import LeftOutWarning, OneGenreWarning, artist_key
from tonearm.errors import TonearmError, UsageError

Program = Callable[..., tuple[int, str, str]]


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def write_csv(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.mark.parametrize("inside", ["", "genres", "gtzan_genre/genres"])
@pytest.mark.parametrize("suffix", [".au", ".wav"])
def test_gtzan_plain(tmp_path: Path, inside: str, suffix: str) -> None:
    root = tmp_path / inside
    for name in ("blues.00000", "blues.00012", "jazz.00033", "rock.00099"):
        touch(root / name.split(".")[0] / f"{name}{suffix}")
    touch(root / "rock" / ".rock.00001.wav.swp")
    data = load(tmp_path)
    assert data.layout == "gtzan"
    assert data.labels == ("blues", "jazz", "rock")
    assert [(t.id, t.split, t.artist, t.kind) for t in data] == [
        ("blues.00000", "valid", "John Lee Hooker", "full"),
        ("blues.00012", "test", None, "full"),
        ("jazz.00033", None, "Coleman Hawkins", "full"),
        ("rock.00099", "train", data.tracks[3].artist, "full"),
    ]
    assert data.citation


@pytest.mark.parametrize("inside", ["genres", "genres_original"])
def test_a_gtzan_track_in_two_formats_is_told(tmp_path: Path, inside: str) -> None:
    for suffix in (".au", ".wav"):
        touch(tmp_path / inside / "blues" / f"blues.00000{suffix}")
    with pytest.raises(DatasetError, match=r"track id 'blues\.00000' occurs more than once"):
        load(tmp_path)


def kaggle(root: Path) -> None:
    for number in range(3):
        touch(root / "genres_original" / "disco" / f"disco.{number:05d}.wav")
        touch(root / "images_original" / "disco" / f"disco{number + 1:05d}.png")
    header = ["filename", "length", "tempo", "label"]
    write_csv(
        root / "features_30_sec.csv",
        [header, ["disco.00000.wav", 661794, 120.5, "disco"]],
    )
    write_csv(
        root / "features_3_sec.csv",
        [header, *([f"disco.00000.{n}.wav", 66149, 120.5 + n, "disco"] for n in range(2))],
    )


@pytest.mark.parametrize("named", [".", "archive", "archive/Data", "archive/Data/genres_original"])
def test_gtzan_kaggle(tmp_path: Path, named: str) -> None:
    kaggle(tmp_path / "archive" / "Data")
    data = load(tmp_path / named)
    assert data.layout == "gtzan-kaggle"
    assert [track.id for track in data] == ["disco.00000", "disco.00001", "disco.00002"]
    assert [track.picture and track.picture.name for track in data] == [
        None,
        "disco00001.png",
        "disco00002.png",
    ]
    (lonely,) = data.picture_tracks
    assert (lonely.id, lonely.path, lonely.split) == ("disco.00003", None, "valid")
    assert [path.name for path in data.feature_tables] == [
        "features_30_sec.csv",
        "features_3_sec.csv",
    ]
    long, short = map(read_feature_table, data.feature_tables)
    assert long.columns == ("length", "tempo")
    assert (long.ids, long.labels) == (("disco.00000",), ("disco",))
    assert short.ids == ("disco.00000", "disco.00000")
    np.testing.assert_array_equal(short.values, [[66149, 120.5], [66149, 121.5]])


@pytest.mark.parametrize(
    ("header", "row", "reason"),
    [
        (["filename", "x", "label"], ["a.wav", "high", "a"], "high"),
        (["filename", "x"], ["a.wav", 1], "expected a table with the columns filename and label"),
    ],
)
def test_a_feature_table_that_is_none_is_told(
    tmp_path: Path, header: list[str], row: list[str | int], reason: str
) -> None:
    table = write_csv(tmp_path / "t.csv", [header, row])
    with pytest.raises(DatasetError, match=reason):
        read_feature_table(table)


def test_info_lists_pictures_and_tables(tmp_path: Path, program: Program) -> None:
    kaggle(tmp_path)
    _, shown, _ = program("data", "info", tmp_path)
    assert "pictures: 2 beside audio, 1 of tracks without audio\n" in shown
    assert "tables:   features_30_sec.csv, features_3_sec.csv\n" in shown


def test_a_folder_with_a_track_table(tmp_path: Path) -> None:
    header = ["track", "genre", "file", "kind", "split", "artist", "title", "seconds", "licence"]
    rows = [
        ["a", "pop", "audio/a.ogg", "full", "train", "Someone", "Song", "30.01", "CC BY"],
        ["b", "rock", "audio/b.ogg", "excerpt", "", "", "", "2.5", "CC BY"],
    ]
    write_csv(tmp_path / "set" / "tracks.csv", [header, *rows])
    data = load(tmp_path / "set")
    assert (data.layout, data.name) == ("gtzan-shared", "set")
    assert "tracks.csv" in data.licence
    a, b = data
    assert a == Track(
        "a",
        tmp_path / "set" / "audio" / "a.ogg",
        "pop",
        artist="Someone",
        title="Song",
        split="train",
        duration=30.01,
        kind="full",
    )
    assert (b.split, b.artist, b.title) == (None, None, None)
    assert data.select(split="train") == (a,)
    assert data.select(kind="excerpt") == (b,)


def test_a_track_table_may_quote_its_header(tmp_path: Path) -> None:
    (tmp_path / "tracks.csv").write_text('"Track","genre","file"\n"a","pop","a.ogg"\n')
    data = load(tmp_path)
    assert (data.layout, data.labels) == ("gtzan-shared", ("pop",))


def test_a_partition_table_without_tracks_is_told(tmp_path: Path) -> None:
    write_csv(tmp_path / "tracks.csv", [["track", "genre", "file"], ["a", "pop", "a.ogg"]])
    write_csv(tmp_path / "partition.csv", [["id", "split"], ["a", "train"]])
    with pytest.raises(DatasetError, match=r"partition\.csv: no column track among id, split"):
        load(tmp_path)


def fma(home: Path, *audio: str) -> None:
    columns = [
        ("album", "id"),
        ("album", "title"),
        ("artist", "id"),
        ("artist", "name"),
        ("set", "split"),
        ("set", "subset"),
        ("track", "duration"),
        ("track", "genre_top"),
        ("track", "title"),
    ]
    tracks = [
        (2, [1, "AWOL", 1, "AWOL", "training", "small", 168, "Hip-Hop", "Food"]),
        (10, [6, "Constant", 6, "Kurt", "validation", "small", 161, "Pop", "Freeway"]),
        (141, [60, "A, B", 54, "Nicky", "test", "medium", 115, "Folk", "One\nTwo"]),
        (1234, [61, "C", 55, "Other", "training", "large", 300, "", "None"]),
    ]
    write_csv(
        home / "fma_metadata" / "tracks.csv",
        [
            ["", *(group for group, _ in columns)],
            ["", *(name for _, name in columns)],
            ["track_id", *([""] * len(columns))],
            *([number, *cells] for number, cells in tracks),
        ],
    )
    for folder in audio:
        (home / folder).mkdir()


@pytest.mark.parametrize("named", ["", "fma_small", "fma_metadata"])
def test_fma_small(tmp_path: Path, named: str) -> None:
    fma(tmp_path, "fma_small")
    data = load(tmp_path / named)
    assert (data.layout, data.name) == ("fma", "FMA small")
    assert data.labels == ("Hip-Hop", "Pop")
    first, second = data
    assert first == Track(
        "000002",
        tmp_path / "fma_small" / "000" / "000002.mp3",
        "Hip-Hop",
        artist="1",
        title="Food",
        album="1",
        split="train",
    )
    assert (second.id, second.split) == ("000010", "valid")


@needs_links
def test_fma_may_be_linked_from_another_disk(tmp_path: Path) -> None:
    fma(tmp_path / "fma")
    (tmp_path / "disk" / "fma_small").mkdir(parents=True)
    (tmp_path / "disk" / "clips").mkdir()
    for target in ("fma_small", "clips"):
        link = tmp_path / "fma" / "fma_small"
        link.symlink_to(tmp_path / "disk" / target)
        for named in (link, tmp_path / "fma"):
            data = load(named)
            assert (data.name, data.labels) == ("FMA small", ("Hip-Hop", "Pop"))
        link.unlink()


def test_numbered_folders_without_fma_s_table_are_no_genres(tmp_path: Path) -> None:
    for number in ("000/000002", "000/000010", "001/001234"):
        touch(tmp_path / "fma_small" / f"{number}.mp3")
    with pytest.raises(DatasetError, match=r"numbered as FMA, whose fma_metadata/tracks\.csv"):
        load(tmp_path / "fma_small")
    touch(tmp_path / "fma_small" / "pop" / "000003.mp3")
    assert load(tmp_path / "fma_small").labels == ("000", "001", "pop")


def test_fma_subsets_hold_the_smaller_ones(tmp_path: Path) -> None:
    fma(tmp_path, "fma_small", "fma_large")
    assert [track.id for track in load(tmp_path / "fma_small")] == ["000002", "000010"]
    large = load(tmp_path)
    assert (large.name, len(large)) == ("FMA large", 4)
    assert large.tracks[3].path == tmp_path / "fma_large" / "001" / "001234.mp3"
    assert large.tracks[3].label is None
    assert large.labels == ("Folk", "Hip-Hop", "Pop")


def test_fma_without_audio_or_with_another_table_is_told(tmp_path: Path) -> None:
    fma(tmp_path)
    with pytest.raises(DatasetError, match="no audio folder"):
        load(tmp_path)
    (tmp_path / "fma_small").mkdir()
    (tmp_path / "fma_metadata" / "tracks.csv").write_text("path,label\n")
    with pytest.raises(DatasetError, match="not FMA's table"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("end", "told"), [("1235,6", ", line 9: 2 cells where"), ("1235,\xc3", ": not UTF-8")]
)
def test_an_fma_table_that_is_cut_short_is_told(tmp_path: Path, end: str, told: str) -> None:
    fma(tmp_path, "fma_small")
    with (tmp_path / "fma_metadata" / "tracks.csv").open("ab") as table:
        table.write(end.encode("latin-1"))
    with pytest.raises(DatasetError) as it:
        load(tmp_path)
    assert f"tracks.csv{told}" in str(it.value)
    assert "\n" not in str(it.value)


@pytest.mark.parametrize(
    ("id_", "duration", "told"),
    [("x1", "30", "track_id 'x1' is not a whole number"), ("7", "3:10", "duration '3:10' is not")],
)
def test_a_word_for_a_number_in_an_fma_table_is_told(
    tmp_path: Path, id_: str, duration: str, told: str
) -> None:
    fma(tmp_path, "fma_full")
    with (tmp_path / "fma_metadata" / "tracks.csv").open("a") as table:
        table.write(f"{id_},61,C,55,Other,training,large,{duration},Folk,Song\n")
    with pytest.raises(DatasetError) as it:
        load(tmp_path)
    assert f"tracks.csv, line 9: {told}" in str(it.value)


def test_a_duration_that_an_fma_table_leaves_out_is_unknown(tmp_path: Path) -> None:
    fma(tmp_path, "fma_full")
    with (tmp_path / "fma_metadata" / "tracks.csv").open("a") as table:
        table.write("2000,61,C,55,Other,training,large,,Folk,Song\n")
    assert [track.duration for track in load(tmp_path)] == [168, 161, 115, 300, None]


def test_a_folder_per_genre(tmp_path: Path) -> None:
    touch(tmp_path / "dub" / "Artist" / "Album" / "01 Song.MP3")
    touch(tmp_path / "dub" / "same.flac")
    touch(tmp_path / "dub" / "same.wav")
    touch(tmp_path / "ska" / "a.b.ogg")
    touch(tmp_path / "ska" / "cover.jpg")
    touch(tmp_path / "ska" / ".hidden.mp3")
    touch(tmp_path / "$RECYCLE.BIN" / "hidden.mp3")
    touch(tmp_path / ".trash" / "gone.mp3")
    touch(tmp_path / "loose.mp3")
    data = load(tmp_path)
    assert data.layout == "folder"
    assert data.labels == ("dub", "ska")
    assert {track.id: track.label for track in data} == {
        "dub/Artist/Album/01 Song": "dub",
        "dub/same.flac": "dub",
        "dub/same.wav": "dub",
        "ska/a.b": "ska",
    }


def test_ids_in_a_folder_are_unique_whatever_the_names(tmp_path: Path) -> None:
    names = ["a.mp3", "a.flac", "a.mp3.wav", "b.ogg", "b.ogg.wav", "c.mp3.flac"]
    for name in names:
        touch(tmp_path / "rock" / name)
    touch(tmp_path / "ska" / "a.mp3")
    ids = {track.path.name: track.id for track in load(tmp_path) if track.path}
    ids.pop("a.mp3")
    assert ids == {
        "a.flac": "rock/a.flac",
        "a.mp3.wav": "rock/a.mp3.wav",
        "b.ogg": "rock/b",
        "b.ogg.wav": "rock/b.ogg.wav",
        "c.mp3.flac": "rock/c.mp3",
    }
    assert len({track.id for track in load(tmp_path)}) == 7


@pytest.mark.parametrize("table", ["tracks.csv", "fma_metadata/tracks.csv"])
def test_a_table_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    (tmp_path / "fma_small").mkdir()
    (tmp_path / table).parent.mkdir(exist_ok=True)
    (tmp_path / table).touch()

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DatasetError, match=re.escape(f"{tmp_path / table}: Permission denied")):
        load(tmp_path)


@pytest.mark.parametrize("locked", ["pop", "rock/deep"])
def test_a_folder_that_cannot_be_read_costs_only_what_is_in_it(
    tmp_path: Path, lock: Callable[[Path], None], locked: str, program: Program
) -> None:
    for name in ("jazz/a.mp3", "pop/a.mp3", "rock/a.mp3", "rock/deep/b.mp3"):
        touch(tmp_path / name)
    lock(tmp_path / locked)
    told = re.escape(f"{tmp_path / locked}: Permission denied; ")
    with pytest.warns(LeftOutWarning, match=told) as said:
        data = load(tmp_path)
    assert [warning.filename for warning in said] == [__file__]
    expected = {"jazz/a", "pop/a", "rock/a", "rock/deep/b"}
    assert {track.id for track in data} == {id_ for id_ in expected if not id_.startswith(locked)}
    _, _, told = program("data", "info", tmp_path)
    assert told.startswith(f"tonearm: warning: {tmp_path / locked}: Permission denied")
    assert told.count("\n") == 1


def test_folders_that_cannot_be_read_are_told_where_nothing_else_is_there(
    tmp_path: Path, lock: Callable[[Path], None]
) -> None:
    touch(tmp_path / "rock" / "a.mp3")
    lock(tmp_path / "rock")
    with (
        pytest.warns(LeftOutWarning, match="rock: Permission denied"),
        pytest.raises(DatasetError, match="no folder in it has an audio file"),
    ):
        load(tmp_path)
    lock(tmp_path)
    with pytest.raises(DatasetError, match=f"^{re.escape(str(tmp_path))}: Permission denied$"):
        load(tmp_path)


def test_info_counts_tracks_and_known_artists(tmp_path: Path, program: Program) -> None:
    rows = (("a", "rock", "The Band"), ("b", "rock", "band"), ("c", "rock", ""), ("d", "pop", ""))
    for name, *_ in rows:
        touch(tmp_path / f"{name}.mp3")
    lines = "".join(f"{name}.mp3,{label},{artist}\n" for name, label, artist in rows)
    (tmp_path / "tracks.csv").write_text(f"path,label,artist\n{lines}")
    _, shown, _ = program("data", "info", tmp_path / "tracks.csv", "--json")
    genres = {genre.pop("label"): genre for genre in json.loads(shown)["genres"]}
    untold = {"split": None, "kind": None}
    assert genres == {
        "rock": {"tracks": [{**untold, "count": 3}], "seconds": 0, "artists": 1, "with_artist": 2},
        "pop": {"tracks": [{**untold, "count": 1}], "seconds": 0, "artists": 0, "with_artist": 0},
    }


def test_a_single_genre_is_told(tmp_path: Path, program: Program) -> None:
    for genre in ("dub", "ska"):
        touch(tmp_path / "music" / genre / "a.mp3")
    with pytest.warns(OneGenreWarning, match="a single genre was found, 'music'") as said:
        load(tmp_path)
    assert said[0].filename == __file__
    _, _, told = program("data", "info", tmp_path)
    assert told.startswith("tonearm: warning: ")
    assert told.count("\n") == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(tmp_path / "music")


def test_one_label_in_two_forms_of_unicode_is_one_genre(tmp_path: Path) -> None:
    composed, apart = "R\u00f3ck", "Ro\u0301ck"
    write_csv(tmp_path / "m.csv", [["path", "label"], ["o\u0301.mp3", apart], ["b.mp3", composed]])
    data = load(tmp_path / "m.csv")
    assert data.labels == (composed,)
    assert data.tracks[0].path == tmp_path / "o\u0301.mp3"  # a file goes by its very name


def test_blanks_before_quotes_are_no_part_of_a_cell(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text('"Path" , "Label"\na.mp3, "rock, or pop"\n')
    (track,) = load(tmp_path / "m.csv")
    assert (track.id, track.label) == ("a.mp3", "rock, or pop")
    (tmp_path / "tracks.csv").write_text('"track", "genre", "file"\n1, "ska", "a.mp3"\n')
    assert load(tmp_path).labels == ("ska",)


def test_quotes_commas_and_line_breaks_in_cells_are_read(tmp_path: Path) -> None:
    lines = [
        'path, artist ,"title" ,label',
        'a.mp3, "Ann, Bob" ,"He said ""so"" , twice"\t, "rock"',
        '"b ""x"".mp3",,12" mix ,"drum and',
        'bass" ',
        "c.mp3",
        'd.mp3,"",7" ,""',
    ]
    (tmp_path / "m.csv").write_text("\n".join(lines))
    assert [
        (track.id, track.artist, track.title, track.label) for track in load(tmp_path / "m.csv")
    ] == [
        ("a.mp3", "Ann, Bob", 'He said "so" , twice', "rock"),
        ('b "x".mp3', None, '12" mix', "drum and bass"),
        ("c.mp3", None, None, None),
        ("d.mp3", None, '7"', None),
    ]


def test_blank_lines_before_the_header_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("\n  \n,,\npath,label\na.mp3,pop\n")
    assert load(tmp_path / "m.csv").labels == ("pop",)
    (tmp_path / "tracks.csv").write_text("\ntrack,genre,file\n1,ska,a.mp3\n")
    assert load(tmp_path).labels == ("ska",)


@names_hold_anything
def test_names_with_line_breaks_are_told_in_one_line(tmp_path: Path, program: Program) -> None:
    for name in ("bad\nname.csv", "no\nsuch.csv"):
        if name.startswith("bad"):
            (tmp_path / name).write_text("a,b\n1,2\n")
        with pytest.raises(DatasetError) as caught:
            load(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path}/{name}: ".replace("\n", "\\n"))
    (tmp_path / "good\nname.csv").write_text("path,label\na.mp3,pop\n")
    _, shown, _ = program("data", "info", tmp_path / "good\nname.csv")
    assert "good\\nname (manifest): tracks" in shown
    touch(tmp_path / "more\nmusic" / "rock" / "rock.00099.wav")
    touch(tmp_path / "more\nmusic" / "rock" / "Song.wav")
    with pytest.warns(LeftOutWarning, match=r"more\\nmusic: 1 recording is left out"):
        load(tmp_path / "more\nmusic")


def test_a_csv_manifest(tmp_path: Path) -> None:
    table = tmp_path / "lists" / "mine.csv"
    elsewhere = str(Path("/b.mp3").absolute())
    rows = [
        ["path", "label", "artist", "split", "duration", "mood"],
        ["../a.mp3", "Pop", "Ä, B", "train", "3.5", "sad"],
        [elsewhere, "", "", "", "", ""],
    ]
    write_csv(table, rows)
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())  # as Excel writes it
    a, b = load(table)
    assert a == Track(
        "../a.mp3", tmp_path / "lists" / "../a.mp3", "Pop", "Ä, B", split="train", duration=3.5
    )
    assert b == Track(elsewhere, Path(elsewhere), None)


def test_a_parquet_manifest(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "path": ["a.mp3", "b.mp3"],
        "label": ["x", None],
        "id": [1, 2],
        "duration": [2.5, None],
    }
    parquet.write_table(pa.table(columns), tmp_path / "m.parquet")
    assert load(tmp_path / "m.parquet").tracks == (
        Track("1", tmp_path / "a.mp3", "x", duration=2.5),
        Track("2", tmp_path / "b.mp3", None),
    )
    content = bytearray((tmp_path / "m.parquet").read_bytes())
    content[8:60] = bytes(52)  # its first column, as on a disk that fails
    (tmp_path / "m.parquet").write_bytes(content)
    with pytest.raises(DatasetError, match=r"m\.parquet: "):
        load(tmp_path / "m.parquet")


@pytest.mark.parametrize("kind", ["date", "timestamp", "text"])
def test_a_parquet_column_beyond_python_is_named(tmp_path: Path, kind: str) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    odd = {
        "date": pa.array([10**7], pa.date32()),
        "timestamp": pa.array([10**17], pa.timestamp("ms")),
        "text": pa.array([b"caf\xe9"], pa.binary()).view(pa.string()),
    }
    parquet.write_table(pa.table({"path": ["a.mp3"], "odd": odd[kind]}), tmp_path / "m.parquet")
    with pytest.raises(DatasetError, match=r"m\.parquet: column 'odd' cannot be read: \S+"):
        load(tmp_path / "m.parquet")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no rows"),
        ("path,label\n", "no rows"),
        ("name,label\na,b\n", "no column of paths"),
        ("path,label\na,b,c\n", "line 2: more cells"),
        ("path;label;title\na;b;c, d\n", r"more cells .* \(path;label;title\)"),
        ("path,label\n,b\n", "line 2: the path is empty"),
        ("path,id\na,1\nb,1\n", "'1' occurs more than once"),
        ("path,duration\na,long\n", "line 2: duration 'long' is not a number"),
        ("path,duration\n\n\na,nan\n", "line 4: duration 'nan' is not a number"),
        ("path,duration\na,inf\n", "'inf' is not a number"),
        ("path,duration\na,-3\n", "'-3' is not a number"),
        ("path,label,Label \na,b,c\n", "more than one column 'label'"),
        ('path,label\na,"ro\nb,jazz\nc,pop\n', "line 2: unexpected end of data"),
        ('path,label,by\na,x,y\n\nb,"ro,y\nc,jazz,"A, B"\nd,x,y\n', "line 4: .* a quote"),
        ('"path,label\na,x\n', "line 1: unexpected end of data"),
        ("\n\npath,duration\na,-3\n", "line 4: duration '-3' is not a number"),
        ("path,label\na,x\nb,x\by\n", r"line 3: label 'x\\x08y' is not a line of text"),
    ],
)
def test_a_wrong_manifest_is_told_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "m.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match=told) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_of_parts_divide_the_genres_in_them(tmp_path: Path) -> None:
    for name in ("Train/rock/album/a.mp3", "Train/jazz/b.mp3", "val/rock/c.mp3", "test/jazz/d.mp3"):
        touch(tmp_path / name)
    data = load(tmp_path)
    assert (data.layout, data.labels) == ("folder", ("jazz", "rock"))
    assert {(track.id, track.label, track.split) for track in data} == {
        ("Train/rock/album/a", "rock", "train"),
        ("Train/jazz/b", "jazz", "train"),
        ("val/rock/c", "rock", "valid"),
        ("test/jazz/d", "jazz", "test"),
    }
    (fold,) = split(data, "builtin")
    assert "mp3" not in f"{data} {fold}"  # which many tracks would flood a terminal with
    assert [len(part) for part in (fold.train, fold.valid, fold.test)] == [2, 1, 1]

    touch(tmp_path / "test" / "e.mp3")
    with pytest.raises(
        DatasetError, match=r"test/e\.mp3 is in no folder of a genre, and Train, te"
    ):
        load(tmp_path)
    touch(tmp_path / "techno" / "f.mp3")  # so the others are names of genres as well
    assert load(tmp_path).labels == ("Train", "techno", "test", "val")


def test_the_column_of_hugging_faces_audiofolder_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file_name,genre\na/1.mp3,jazz\n")
    (track,) = load(tmp_path / "metadata.csv")
    assert (track.path, track.label) == (tmp_path / "a" / "1.mp3", "jazz")


@pytest.mark.filterwarnings("ignore::tonearm.datasets.OneGenreWarning")
def test_white_space_in_labels_is_a_blank(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text('path,label\na,drum\tand  bass\nb,"drum and\nbass"\n')
    assert load(tmp_path / "m.csv").labels == ("drum and bass",)


@names_hold_anything
@pytest.mark.filterwarnings("ignore::tonearm.datasets.OneGenreWarning")
def test_white_space_in_folders_is_a_blank_of_labels(tmp_path: Path) -> None:
    touch(tmp_path / "genres" / "drum\tand bass" / "a.mp3")
    (track,) = load(tmp_path / "genres")
    assert (track.id, track.label) == (r"drum\tand bass/a", "drum and bass")


@names_are_bytes
def test_a_folder_whose_name_cannot_be_a_label_is_told(tmp_path: Path) -> None:
    touch(tmp_path / os.fsdecode(b"chans\xf3n") / "a.mp3")
    with pytest.raises(DatasetError, match=r"chans\\xf3n: label 'chans\\udcf3n' is not a line"):
        load(tmp_path)


@names_are_bytes
def test_ids_can_be_written_whatever_the_names_of_files(tmp_path: Path) -> None:
    touch(tmp_path / "rock" / os.fsdecode(b"caf\xe9.mp3"))
    touch(tmp_path / "ska" / "a.mp3")
    track, _ = load(tmp_path)
    assert track.id == r"rock/caf\xe9"
    with pytest.raises(TonearmError, match=r"folds\.csv: not UTF-8: .*caf\\xe9"):
        write_folds(tmp_path / "folds.csv", [Fold("f", (track,), ())])
    assert not (tmp_path / "folds.csv").exists()


@pytest.mark.parametrize("name", ["track", "label", "fold", "seed", "artist"])
def test_a_genre_that_predictions_could_not_hold_is_told_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "m.csv").write_text(f"path,label\na.mp3,rock\nb.mp3,{name}\n")
    with pytest.raises(DatasetError, match=f"line 3: a genre may not be called '{name}'"):
        load(tmp_path / "m.csv")


def test_numbers_on_an_album_are_no_ids(tmp_path: Path) -> None:
    table = tmp_path / "tags.csv"
    table.write_text("Path,Artist,Track,Genre,Mood\na/1.mp3,A,1,pop,x\nb/1.mp3,B,1,pop,y\n")
    data = load(table)
    assert [track.id for track in data] == ["a/1.mp3", "b/1.mp3"]
    assert other_columns(data)["b/1.mp3"] == {"track": "1", "mood": "y"}
    table.write_text(table.read_text().replace(",B,1,", ",B,2,"))
    assert [track.id for track in load(table)] == ["1", "2"]


def test_a_column_of_ids_comes_before_one_of_numbers_on_an_album(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("path,label,track_id,track\na.mp3,jazz,x,1\nb.mp3,rock,y,2\n")
    assert [track.id for track in load(table)] == ["x", "y"]


def test_spellings_of_columns_and_parts_are_one(tmp_path: Path) -> None:
    text = "Path, Genre ,SPLIT\na.mp3,pop,Training\nb.mp3,jazz,val\nc.mp3,jazz,TEST\nd.mp3,pop,7\n"
    (tmp_path / "m.csv").write_text(text)
    assert [(track.label, track.split) for track in load(tmp_path / "m.csv")] == [
        ("pop", "train"),
        ("jazz", "valid"),
        ("jazz", "test"),
        ("pop", "7"),
    ]
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"Path": ["a.mp3"], " Label": ["x"]}), tmp_path / "m.parquet")
    assert load(tmp_path / "m.parquet").labels == ("x",)


def test_what_cannot_be_divided_is_told_by_the_name_of_its_table(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "m.csv", [["path", "label"], ["a.mp3", "x"]])
    with pytest.raises(DatasetError, match=re.escape(f"{path}: 5 folds asked of 1 artists")):
        split(load(path), "artist-kfold")


@pytest.mark.parametrize("inside", ["", "genres", "genres_original"])
def test_a_genre_beside_those_of_gtzan_makes_a_folder_per_genre(
    tmp_path: Path, inside: str
) -> None:
    for name in ("blues/blues.00000.wav", "jazz/jazz.00033.wav", "polka/one.wav"):
        touch(tmp_path / inside / name)
    data = load(tmp_path)
    assert data.layout == "folder"
    assert [(track.id, track.label) for track in data] == [
        ("blues/blues.00000", "blues"),
        ("jazz/jazz.00033", "jazz"),
        ("polka/one", "polka"),
    ]
    named = load(tmp_path, "gtzan-kaggle" if inside == "genres_original" else "gtzan")
    assert named.labels == ("blues", "jazz")


@pytest.mark.parametrize("inside", ["", "genres_original"])
def test_a_stray_file_leaves_gtzan_what_it_is_and_is_told(
    tmp_path: Path, inside: str, program: Program
) -> None:
    for name in ("rock/rock.00099.mp3", "rock/Song.mp3", "jazz/jazz.00033.wav", "notes/a.txt"):
        touch(tmp_path / inside / name)
    with pytest.warns(LeftOutWarning, match="1 recording is left out") as said:
        data = load(tmp_path)
    assert len(said) == 1
    assert data.layout.startswith("gtzan")
    assert [(track.id, track.split) for track in data] == [
        ("jazz.00033", None),
        ("rock.00099", "train"),
    ]
    _, _, told = program("data", "info", tmp_path)
    assert told.count("\n") == 1
    assert told.startswith("tonearm: warning: ")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        everything = load(tmp_path / inside, "folder")
    assert [track.label for track in everything] == ["jazz", "rock", "rock"]


@pytest.mark.parametrize("inside", ["genres", "genres_original"])
@pytest.mark.parametrize("locked", ["rock", "polka", "rock/deep"])
def test_a_folder_of_gtzan_that_cannot_be_read_is_told(
    tmp_path: Path, lock: Callable[[Path], None], inside: str, locked: str
) -> None:
    for name in ("rock/rock.00099.wav", "jazz/jazz.00033.wav", f"{locked}/x.txt"):
        touch(tmp_path / inside / name)
    lock(tmp_path / inside / locked)
    told = re.escape(f"{tmp_path / inside / locked}: Permission denied")
    with pytest.warns(LeftOutWarning, match=told) as said:
        data = load(tmp_path)
    assert [warning.filename for warning in said] == [__file__]
    assert data.layout.startswith("gtzan")
    assert data.labels == (("jazz",) if locked == "rock" else ("jazz", "rock"))


def test_pictures_of_gtzan_that_cannot_be_read_are_told(
    tmp_path: Path, lock: Callable[[Path], None]
) -> None:
    kaggle(tmp_path)
    lock(tmp_path / "images_original")
    with pytest.warns(LeftOutWarning, match="images_original: Permission denied"):
        data = load(tmp_path)
    assert [track.picture for track in data] == [None] * 3


def test_the_recordings_of_gtzan_are_walked_through_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("rock/rock.00099.wav", "jazz/jazz.00033.wav"):
        touch(tmp_path / "genres" / name)
    walks: list[str] = []
    recordings = media.recordings

    def walking(paths: Iterable[str], *unreadable: Callable[[OSError], object]) -> Iterator[str]:
        for path in recordings(paths, *unreadable):
            walks.append(path)
            yield path

    monkeypatch.setattr(media, "recordings", walking)
    assert load(tmp_path).layout == "gtzan"
    assert len(walks) == 2


def test_binary_manifests_are_told(tmp_path: Path) -> None:
    for name, reason in (("m.csv", "not UTF-8"), ("m.parquet", "Parquet")):
        (tmp_path / name).write_bytes(b"\xff\xfe\x00junk" * 9)
        with pytest.raises(DatasetError, match=f"{name}: .*{reason}"):
            load(tmp_path / name)


def test_folds_are_a_manifest_again(tmp_path: Path) -> None:
    tracks = tuple(
        Track(str(n), tmp_path / "a" / f"{n}.mp3", "xy"[n % 2], kind="full") for n in range(4)
    )
    write_folds(tmp_path / "one.csv", [Fold("f", tracks[:2], tracks[2:])])
    again = load(tmp_path / "one.csv")
    assert [(t.id, t.label, t.split, t.kind) for t in again] == [
        ("0", "x", "train", "full"),
        ("1", "y", "train", "full"),
        ("2", "x", "valid", "full"),
        ("3", "y", "valid", "full"),
    ]
    assert again.tracks[0].path == tmp_path / "a" / "0.mp3"
    write_folds(
        tmp_path / "k.csv", [Fold("1", tracks[:2], tracks[2:]), Fold("2", tracks[2:], tracks[:2])]
    )
    with (tmp_path / "k.csv").open() as file:
        assert [(row["id"], row["fold"]) for row in csv.DictReader(file)] == [
            ("2", "1"),
            ("3", "1"),
            ("0", "2"),
            ("1", "2"),
        ]


@pytest.mark.filterwarnings("ignore::tonearm.datasets.LeakWarning")
def test_folds_keep_what_the_table_says(tmp_path: Path) -> None:
    rows = [
        ["path", "label", "genre", "title", "album", "duration", "picture", "mood", "fold"],
        ["a/1.mp3", "x", "x of a kind", "One", "LP", "30.5", "p/1.png", "sad", "7"],
        ["a/2.mp3", "x", "", "Two", "", "", "", "", "7"],
    ]
    data = load(write_csv(tmp_path / "m.csv", rows))
    folds = split(data, "artist-kfold", folds=2)
    write_folds(tmp_path / "out" / "k.csv", folds, other_columns(data))
    again = load(tmp_path / "out" / "k.csv")
    one = next(track for track in again if track.id == "a/1.mp3")
    assert (one.title, one.album, one.duration) == ("One", "LP", 30.5)
    assert one.picture is not None
    assert one.picture.resolve() == tmp_path / "p" / "1.png"
    assert {track.split for track in again} == {"1", "2"}
    with (tmp_path / "out" / "k.csv").open() as file:
        assert {row["id"]: (row["mood"], row["genre"]) for row in csv.DictReader(file)} == {
            "a/1.mp3": ("sad", "x of a kind"),
            "a/2.mp3": ("", ""),
        }
    # What was written is divided again as it was.
    assert [{t.id for t in fold.valid} for fold in split(again, "builtin")] == [
        {t.id for t in fold.valid} for fold in folds
    ]


@pytest.mark.filterwarnings("ignore::tonearm.datasets.LeakWarning")
def test_folds_keep_what_a_track_table_says(tmp_path: Path, program: Program) -> None:
    header = ["track", "genre", "file", "split", "licence"]
    rows = [[n, "xy"[n % 2], f"{n}.mp3", "wild", f"CC {n}"] for n in range(4)]
    rows.append([4, "", "4.mp3", "wild", ""])
    table = write_csv(tmp_path / "set" / "tracks.csv", [header, *rows])
    code, output, _ = program("data", "split", table.parent, "--folds", 2, "-o", tmp_path / "k.csv")
    assert code == 0
    assert "without a label or in no part of this split: 1 tracks" in output
    with (tmp_path / "k.csv").open() as file:
        written = list(csv.DictReader(file))
    assert {row["id"]: row["licence"] for row in written} == {str(n): f"CC {n}" for n in range(4)}
    assert "split" not in written[0]


@needs_links
@pytest.mark.parametrize("shared", [True, False])
def test_a_division_is_written_over_nothing_it_comes_from(
    tmp_path: Path, shared: bool, program: Program
) -> None:
    header = ["track", "genre", "file"] if shared else ["id", "genre", "path"]
    rows = [[n, "xy"[n % 2], f"{n}.mp3"] for n in range(8)]
    table = write_csv(tmp_path / "tracks.csv", [header, *rows])
    before = table.read_bytes()
    (tmp_path / "link.csv").symlink_to(table)
    (tmp_path / "song.csv").symlink_to(touch(tmp_path / "0.mp3"))
    told = {
        "tracks.csv": "is of the dataset itself",
        "link.csv": "is of the dataset itself",
        "song.csv": "is the name of a recording",
        "new.MP3": "is the name of a recording",
        "folds.parquet": "is the name of a Parquet file",
    }
    data = tmp_path if shared else table
    arguments = ("data", "split", data, "--folds", 2, "-o")
    for name, reason in told.items():
        code, _, errors = program(*arguments, tmp_path / name)
        assert (code, f"tonearm: {tmp_path / name} {reason}" in errors) == (2, True)
    assert table.read_bytes() == before
    assert not (tmp_path / "0.mp3").stat().st_size
    assert not (tmp_path / "new.MP3").exists()
    for _ in range(2):  # its own output may be written over
        assert program(*arguments, tmp_path / "folds.csv")[0] == 0


def test_folds_go_to_a_new_folder(tmp_path: Path) -> None:
    tracks = (Track("song", tmp_path / "song.mp3", "x"),)
    write_folds(tmp_path / "new" / "folder" / "one.csv", [Fold("f", tracks, ())])
    assert load(tmp_path / "new" / "folder" / "one.csv").tracks[0].path == (
        tmp_path / "new" / "folder" / ".." / ".." / "song.mp3"
    )


@pytest.mark.usefixtures("on_another_drive")
def test_folds_name_what_is_on_another_drive_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folds(tmp_path / "one.csv", [Fold("f", (Track("song", Path("song.mp3"), "x"),), ())])
    rows = (tmp_path / "one.csv").read_text().splitlines()
    assert rows[1].startswith(f"{tmp_path / 'song.mp3'},")


def test_nothing_known_is_told_with_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"looked for .*tracks\.csv.*genres_original.*folder"):
        load(tmp_path)
    with pytest.raises(DatasetError, match="not found"):
        load(tmp_path / "gone")
    with pytest.raises(UsageError, match="layout 'mp3' is unknown; there are gtzan"):
        load(tmp_path, "mp3")
    touch(tmp_path / "notes.txt")
    with pytest.raises(DatasetError, match="no known dataset layout"):
        load(tmp_path / "notes.txt")
    with pytest.raises(DatasetError, match=r"notes\.txt: not a folder"):
        load(tmp_path / "notes.txt", "folder")


EVERY_LAYOUT = ("gtzan", "gtzan-kaggle", "gtzan-shared", "fma", "folder", "manifest")


def test_no_layout_is_left_out() -> None:
    assert set(LAYOUTS) == set(EVERY_LAYOUT), "try it, too"


@pytest.mark.parametrize("layout", EVERY_LAYOUT)
def test_a_layout_that_does_not_fit_is_told(tmp_path: Path, layout: str) -> None:
    with pytest.raises(DatasetError, match=re.escape(str(tmp_path))):
        load(tmp_path, layout)


def test_the_facts_of_gtzan() -> None:
    facts = gtzan_facts.facts()
    assert len(facts) == 1000
    sizes = Counter(fact.split for fact in facts.values())
    assert sizes == {"train": 443, "valid": 197, "test": 290, None: 70}
    artists: dict[str, set[str]] = {}
    for fact in facts.values():
        if fact.artist and fact.split:
            artists.setdefault(artist_key(fact.artist), set()).add(fact.split)
    assert all(len(splits) == 1 for splits in artists.values())
    for group in gtzan_facts.repetitions():
        assert sum(facts[id_].split is not None for id_ in group) <= 1


def test_the_whole_of_gtzan_gets_the_published_partition(tmp_path: Path) -> None:
    for genre in gtzan_facts.GENRES:
        for number in range(100):
            touch(tmp_path / genre / f"{gtzan_facts.track_id(genre, number)}.wav")
    data = load(tmp_path)
    assert len(data) == 1000
    (fold,) = split(data, "filtered")
    assert (len(fold.train), len(fold.valid), len(fold.test)) == (443, 197, 290)


@pytest.mark.shared
def test_the_shared_gtzan(shared: Path) -> None:
    data: Dataset = load(shared / "data" / "gtzan")
    assert (data.layout, data.name, len(data)) == ("gtzan-shared", "GTZAN", 498)
    assert data.labels == gtzan_facts.GENRES
    facts = gtzan_facts.facts()
    assert all(track.split == facts[track.id].split for track in data)
    assert all(track.path is not None and track.path.is_file() for track in data)
    assert len(data.picture_tracks) + sum(t.picture is not None for t in data) == 601
    table = read_feature_table(data.feature_tables[0])
    assert table.values.shape == (len(table.ids), 58)
    assert set(table.ids) >= {track.id for track in data.picture_tracks}
    assert len(load(shared / "data" / "wild")) == 38


def test_the_length_of_a_song_is_not_that_of_its_clip(tmp_path: Path) -> None:
    fma(tmp_path, "fma_large", "fma_full")
    assert {track.duration for track in load(tmp_path / "fma_large")} == {None}
    assert [track.duration for track in load(tmp_path / "fma_full")] == [168, 161, 115, 300]


def test_gtzan_in_capitals_is_gtzan(tmp_path: Path) -> None:
    touch(tmp_path / "blues" / "BLUES.00000.WAV")
    (track,) = load(tmp_path)
    assert (track.id, track.split, track.artist) == ("blues.00000", "valid", "John Lee Hooker")


def test_pictures_have_the_artists_of_the_partition_table(tmp_path: Path) -> None:
    write_csv(tmp_path / "tracks.csv", [["track", "genre", "file"], ["a", "pop", "a.ogg"]])
    touch(tmp_path / "images_original" / "pop" / "pop00001.png")
    row = ["pop.00001", "train", "Someone"]
    write_csv(tmp_path / "partition.csv", [["track", "split", "artist"], row])
    (lonely,) = load(tmp_path).picture_tracks
    assert (lonely.id, lonely.split, lonely.artist) == ("pop.00001", "train", "Someone")


def test_the_command_divides_by_the_seed(tmp_path: Path, program: Program) -> None:
    rows = [[f"{n}.ogg", "ab"[n % 2], f"artist {n}"] for n in range(20)]
    table = write_csv(tmp_path / "t.csv", [["path", "label", "artist"], *rows])
    for seed in (1, 2):
        program("data", "split", table, "--seed", seed, "-o", tmp_path / f"{seed}.csv")
    assert (tmp_path / "1.csv").read_text() != (tmp_path / "2.csv").read_text()
