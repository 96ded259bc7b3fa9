from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from host import names_are_bytes, needs_links
from stores import open_store, track
from tonearm.errors import TonearmError, UsageError
from tonearm.library.entry import Entry
from tonearm.library.m3u import Item, names_of, write_playlist
from tonearm.library.playlists import Choice, Playlist, write_playlists

ODD = "/music/caf\udce9.ogg"  # not UTF-8
SHOWN = "caf\\xe9" if os.name == "posix" else "caf\\xed\\xb3\\xa9"


def lists(
    tmp_path: Path, entries: list[Entry], *, absolute: bool = True, **choice: object
) -> dict[str, list[str]]:
    """The paths in each playlist, by genre."""
    with open_store(tmp_path / "library.db", entries) as store:
        written = write_playlists(
            store,
            tmp_path / "lists",
            Choice(**choice),  # type: ignore[arg-type]
            absolute=absolute,
        )
    return {playlist.genre: paths_in(playlist) for playlist in written}


def paths_in(playlist: Playlist) -> list[str]:
    lines = playlist.path.read_text(encoding="utf-8").splitlines()
    paths = [line for line in lines if not line.startswith("#")]
    assert len(paths) == playlist.tracks
    return paths


def test_a_playlist_is_what_players_read(tmp_path: Path) -> None:
    entries = [
        track(str(tmp_path / "music" / "a ü.ogg"), artist="Sigur\nRós", title="Untitled"),
        track(str(tmp_path / "#1.ogg"), duration=None, confidence=0.7),
    ]
    with open_store(tmp_path / "library.db", entries) as store:
        (jazz,) = write_playlists(store, tmp_path)
    assert jazz.path == tmp_path / "jazz.m3u8"
    assert (
        jazz.path.read_bytes()
        == (
            "#EXTM3U\n#PLAYLIST:jazz\n"
            f"#EXTINF:62,Sigur Rós - Untitled\n{Path('music', 'a ü.ogg')}\n"
            f"#EXTINF:-1,#1\n.{os.sep}#1.ogg\n"
        ).encode()
    )
    assert {path.name for path in tmp_path.iterdir()} == {"jazz.m3u8", "library.db"}


def test_each_track_is_in_the_list_of_its_genre(tmp_path: Path) -> None:
    entries = [
        track("/m/1", "jazz", 0.9),
        track("/m/2", "rock", 0.6),
        track("/m/3", "rock", 0.3),
        track("/m/4", "rock", 0.9, verdict="unsure"),
        track("/m/5", "rock", 0.9, verdict="not music"),
        track("/m/6", "rock", 0.9, missing=True),
    ]
    assert lists(tmp_path, entries) == {"jazz": ["/m/1"], "rock": ["/m/2", "/m/3"]}
    assert lists(tmp_path, entries, min_confidence=0.5) == {"jazz": ["/m/1"], "rock": ["/m/2"]}


def test_a_track_may_be_in_several_lists(tmp_path: Path) -> None:
    probabilities = {"jazz": 0.5, "blues": 0.4, "rock": 0.1}
    entries = [
        track("/m/1", probabilities=probabilities),
        track("/m/2", probabilities={"jazz": 1.0}),
    ]
    found = lists(tmp_path, entries, top=2, min_confidence=0.3)
    assert found == {"blues": ["/m/1"], "jazz": ["/m/2", "/m/1"]}
    assert lists(tmp_path, entries, top=3, min_confidence=0.45) == {"jazz": ["/m/2", "/m/1"]}


def test_a_mapping_names_the_lists(tmp_path: Path) -> None:
    probabilities = {"jazz": 0.4, "blues": 0.3, "rock": 0.3}
    entries = [
        track("/m/1", probabilities=probabilities),
        track("/m/2", "rock"),
        track("/m/3", "hiphop"),
    ]
    mapping = {"jazz": ("Old", "Quiet"), "blues": ("Old",), "rock": ()}
    found = lists(tmp_path, entries, mapping=mapping, min_confidence=0.5)
    assert found == {"Old": ["/m/1"], "hiphop": ["/m/3"]}  # 0.4 and 0.3 are 0.7


def test_copies_of_the_same_audio_are_listed_once(tmp_path: Path) -> None:
    entries = [track("/m/1", audio="a"), track("/m/2", audio="a"), track("/m/3"), track("/m/4")]
    assert lists(tmp_path, entries) == {"jazz": ["/m/1", "/m/3", "/m/4"]}


def test_a_name_that_fits_takes_the_place_of_a_copys_that_does_not(tmp_path: Path) -> None:
    entries = [track("/m/1\n", audio="a"), track("/m/2", audio="a"), track("/m/0\n", audio="b")]
    store = open_store(tmp_path / "odd.db", entries)
    with store:
        [playlist] = write_playlists(store, tmp_path / "lists")
    assert (playlist.tracks, playlist.left_out) == (1, ("/m/0\n",))
    assert playlist.path.read_text().endswith(f"{Path('/m/2')}\n")


def test_links_are_looked_up_once_for_each_track_of_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved: list[str] = []
    resolve = os.path.realpath

    def counted(path: str, **options: bool) -> str:
        resolved.append(os.fspath(path))
        return resolve(path, **options)

    monkeypatch.setattr(os.path, "realpath", counted)
    lists(tmp_path, [track(f"/m/{i}/a") for i in range(100)], absolute=False, limit=10)
    assert len([path for path in resolved if path.startswith("/m/")]) == 10


@pytest.mark.parametrize(
    ("sort", "expected"),
    [("confidence", "cabd"), ("path", "abcd"), ("artist", "cdba")],
)
def test_the_tracks_are_sorted(sort: str, expected: str, tmp_path: Path) -> None:
    entries = [
        track("/m/a", confidence=0.8),
        track("/m/b", confidence=0.7, artist="Zappa"),
        track("/m/c", confidence=0.9, artist="The Animals", album="A"),
        track("/m/d", confidence=0.6, artist="animals", album="b"),
    ]
    found = lists(tmp_path, entries, sort=sort)["jazz"]
    assert "".join(path[-1] for path in found) == expected
    assert lists(tmp_path, entries, sort=sort, limit=2)["jazz"] == found[:2]


def test_the_random_order_depends_on_the_seed(tmp_path: Path) -> None:
    entries = [track(f"/m/{i}") for i in range(30)]
    first = lists(tmp_path, entries, sort="random", seed=1)["jazz"]
    assert first != [entry.path for entry in entries]
    assert first == lists(tmp_path, entries, sort="random", seed=1)["jazz"]
    assert set(lists(tmp_path, entries, sort="random", limit=7)["jazz"]) < set(first)


@pytest.mark.parametrize("choice", [{"top": 0}, {"min_confidence": 2}, {"limit": 0}, {"sort": "x"}])
def test_impossible_choices_are_refused(choice: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(choice)).replace("_", "-")):
        Choice(**choice)  # type: ignore[arg-type]


def test_names_that_no_line_of_text_holds_are_left_out(tmp_path: Path) -> None:
    target = tmp_path / "x.m3u8"
    items = [
        Item(ODD),
        Item("/music/two\nlines.ogg"),
        Item("/music/end\n"),
        Item("/music/fine.ogg"),
    ]
    left_out = write_playlist(target, items, absolute=True)
    assert left_out == (ODD, "/music/two\nlines.ogg", "/music/end\n")
    assert target.read_text() == "#EXTM3U\n#EXTINF:-1,fine\n/music/fine.ogg\n"


@names_are_bytes
def test_a_path_is_no_url(tmp_path: Path) -> None:
    names = ["Suite: I/a.ogg", "a: b.ogg", "Suite/I: a.ogg"]
    write_playlist(tmp_path / "x.m3u8", [Item(str(tmp_path / name)) for name in names])
    lines = (tmp_path / "x.m3u8").read_text().splitlines()
    assert lines[2::2] == ["./Suite: I/a.ogg", "./a: b.ogg", "Suite/I: a.ogg"]


@needs_links
def test_the_way_from_a_folder_behind_a_link_is_right(tmp_path: Path) -> None:
    for name in ("disk/deep/lists", "music"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "lists").symlink_to(tmp_path / "disk" / "deep" / "lists")
    (tmp_path / "music" / "a.ogg").touch()
    (tmp_path / "disk" / "deep" / "b.ogg").touch()
    (tmp_path / "short").symlink_to(tmp_path / "disk" / "deep")
    tracks = [Item(str(tmp_path / "music" / "a.ogg")), Item(str(tmp_path / "short" / "b.ogg"))]
    write_playlist(tmp_path / "lists" / "x.m3u8", tracks)
    ways = (tmp_path / "lists" / "x.m3u8").read_text().splitlines()[2::2]
    assert ways == [str(Path("../../../music/a.ogg")), str(Path("../b.ogg"))]
    assert all((tmp_path / "lists" / way).exists() for way in ways)


@names_are_bytes
def test_a_folder_whose_name_is_no_text_is_led_around(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9"))
    write_playlist(folder / "x.m3u8", [Item(str(folder / "a.ogg")), Item("/music/a.ogg")])
    assert (folder / "x.m3u8").read_text().splitlines()[2] == "a.ogg"


def test_file_names_are_safe_everywhere() -> None:
    titles = [
        "R&B / Soul",
        "rock",
        "Rock",
        "ROCK",
        "CON",
        "nul.x",
        "...",
        "a. ",
        "é" * 200,
        "a\n<b>",
    ]
    assert names_of(titles) == [
        "R&B _ Soul", "rock", "Rock (2)", "ROCK (3)", "_CON", "_nul.x", "_", "a", "é" * 50, "a__b_",
    ]  # fmt: skip


def test_a_playlist_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "x.m3u8"
    with pytest.raises(TonearmError, match=re.escape(f"{target}: ")):
        write_playlist(target, [])


def test_the_command(tmp_path: Path, program: Callable[..., tuple[int, str, str]]) -> None:
    store, folder = tmp_path / "library.db", tmp_path / "lists"
    (tmp_path / "words.csv").write_text("rock,Guitars/Noise\n")
    open_store(store, [track("/m/1"), track("/m/2", "rock"), track(ODD, "rock")]).close()
    named = ("playlists", store, "-o", folder)
    code, output, errors = program(*named, "--absolute", "--mapping", tmp_path / "words.csv")
    assert code == 0
    assert output == f"1  {folder / 'Guitars_Noise.m3u8'}\n1  {folder / 'jazz.m3u8'}\n"
    assert errors.count("\n") == 1
    assert SHOWN in errors
    assert program(*named, "--min-confidence", 0.9)[:2] == (1, "")
    code, _, errors = program(*named, "--seed", 1)
    assert (code, "--seed means nothing without --sort random" in errors) == (2, True)


def test_tracks_of_a_model_without_verdicts_are_listed(tmp_path: Path) -> None:
    assert lists(tmp_path, [track("/m/a", verdict=None)]) == {"jazz": ["/m/a"]}


def test_the_lowest_confidence_is_enough(tmp_path: Path) -> None:
    entries = [track("/m/a", confidence=0.5), track("/m/b", confidence=0.4)]
    assert lists(tmp_path, entries, min_confidence=0.5) == {"jazz": ["/m/a"]}


def test_albums_are_sorted_whatever_their_case(tmp_path: Path) -> None:
    entries = [
        track("/m/1", artist="Zappa", album="C"),
        track("/m/2", artist="Zappa", album="b"),
    ]
    assert lists(tmp_path, entries, sort="artist")["jazz"] == ["/m/2", "/m/1"]


def test_a_short_track_has_a_length(tmp_path: Path) -> None:
    write_playlist(tmp_path / "list.m3u8", [Item("/m/jingle.ogg", 0.4)])  # 0 would be none
    assert "#EXTINF:1,jingle" in (tmp_path / "list.m3u8").read_text().splitlines()
