from __future__ import annotations

import ntpath
import os
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from host import names_are_bytes
from stores import at
from tonearm.errors import UsageError
from tonearm.library.entry import COLUMNS, Entry, Model, State, Window
from tonearm.library.path_conditions import stored_path
from tonearm.library.store import SCHEMA_VERSION, Store, StoreError

MODEL = Model("ours/30/00", "ours", ("low", "high"), "30")
OTHER_MODEL = Model("theirs/all/11", "theirs", ("calm",), "all")
PROBABILITIES = {"high": 0.75, "low": 0.25}


def entry(path: str, **changes: object) -> Entry:
    known = Entry(
        path=path,
        size=1000,
        mtime_ns=1_700_000_000_123_456_789,
        model=MODEL.key,
        scanned_at=1.7e9,
        audio="a" * 32,
        duration=61.5,
        genre="high",
        confidence=0.75,
        music=0.875,
        verdict="music",
        tagged=("Rock", "Guitars"),
        artist="Someone",
        title="Ænema \N{SNOWMAN}",
        probabilities=PROBABILITIES,
        segments=(Window(5.25, 15.25, PROBABILITIES),),
        embedding=np.array([1, -2, 0.5], np.float32),
    )
    return replace(known, **changes)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "library.db", create=True)
    store.add_model(MODEL)
    store.add_model(OTHER_MODEL)
    return store


@names_are_bytes
def test_an_entry_comes_back_as_it_was(store: Store) -> None:
    odd = entry("/music/caf\udce9/" + "x" * 255)
    failed = Entry(
        path="/music/b", size=0, mtime_ns=0, model=MODEL.key, scanned_at=1.0, error="is empty"
    )
    store.save([odd, failed])
    with Store(store.path) as other:  # while the first is open
        assert list(other.entries()) == [failed, odd]
        assert other.entry(odd.path) == odd
        assert other.entry("/music/c") is None
        (found,) = (e for e in other.entries() if e.genre)
    assert found.embedding is not None
    assert found.embedding.dtype == np.float32
    assert found.embedding.tolist() == [1, -2, 0.5]


def test_details_are_read_only_if_they_are_needed(store: Store) -> None:
    known = [entry("/m/1"), entry("/m/2")]
    store.save(known)
    store._database.execute("UPDATE files SET segments = 'damaged', embedding = 'damaged'")
    found = list(store.entries(details=False))
    assert found == [replace(each, segments=()) for each in known]
    assert [each.embedding for each in found] == [None, None]


def test_sql_alone_reads_it(store: Store) -> None:
    store.save([entry("/music/ä.mp3")])
    with sqlite3.connect(store.path) as database:
        query = "SELECT CAST(path AS TEXT), genre, json_extract(probabilities, '$.low') FROM files"
        assert database.execute(query).fetchall() == [("/music/ä.mp3", "high", 0.25)]


def test_a_folder_stands_for_what_is_below_it(store: Store) -> None:
    paths = ["/m/a", "/m/a b/1", "/m/a-/1", "/m/a/1", "/m/a/b/2", "/m/a0", "/m/ab"]
    paths = [at(path) for path in paths]
    below = [at(path) for path in ("/m/a", "/m/a/1", "/m/a/b/2")]
    store.save([entry(path) for path in paths])
    assert list(store.paths(["/m/a"])) == below
    assert list(store.paths(["/m/a/", "/m/ab"])) == [*below, at("/m/ab")]
    assert list(store.paths(["/"])) == sorted(paths)
    assert list(store.paths(["/M"])) == []
    assert list(store.paths(["/m/a/b", "/m/a", "/m/a/1", "/m/a"])) == below


def test_a_single_path_is_not_taken_for_its_letters(store: Store) -> None:
    store.save([entry("/m/a"), entry("/n")])
    for single in ("/m", Path("/m")):
        with pytest.raises(UsageError, match=r"under: expected several, as a list, got .*/m"):
            list(store.entries(single))  # type: ignore[arg-type]


def test_many_paths_are_queried_in_batches(store: Store) -> None:
    paths = [at(f"/m/{number:04}") for number in range(1200)]
    deeper, elsewhere = at("/m/0007/x"), at("/n")
    store.save([entry(path) for path in paths])
    store.save([entry(deeper, genre="low"), entry(elsewhere, missing=True)])
    known = sorted([*paths, deeper])
    assert [found.path for found in store.entries(paths)] == known
    assert list(store.paths(paths[::-1])) == known
    assert store.embeddings(under=paths)[0] == known
    assert store.embeddings(under=paths)[1].shape == (1201, 3)
    assert list(store.genres(paths).items()) == [("high", 1200), ("low", 1)]
    store.mark(paths[:2] + paths[-3:], missing=True)
    assert store.count_missing(paths) == 5
    assert list(store.missing(paths)) == paths[:2] + paths[-3:]
    assert store.forget_missing(paths[2:]) == 3
    assert [path for path, _ in store.found_elsewhere(paths)] == paths[:2]
    assert store.forget_missing(paths) == 2
    assert list(store.paths(missing=True)) == [*known[2:-3], elsewhere]


def test_what_is_missing_is_not_shown(store: Store) -> None:
    store.save([entry("/m/1"), entry("/m/2"), entry("/m/3", audio="b")])
    store.mark(["/m/2", "/m/3"], missing=True)
    assert list(store.paths()) == ["/m/1"]
    assert list(store.paths(missing=True)) == ["/m/1", "/m/2", "/m/3"]
    assert store.embeddings()[0] == ["/m/1"]
    assert store.genres() == {"high": 1}
    assert store.models() == {MODEL: 1, OTHER_MODEL: 0}
    assert store.count_missing() == 2

    assert list(store.found_elsewhere()) == [("/m/2", 1.7e9)]  # its sound is in /m/1
    assert store.forget_missing(["/m/2"]) == 1
    assert list(store.paths(missing=True)) == ["/m/1", "/m/3"]
    assert store.forget_missing(["/other"]) == 0
    assert store.forget_missing([]) == 0
    assert store.forget_missing(["/m/1", "/m/3"]) == 1
    assert len(store) == 1


def test_states_and_audio_hashes(store: Store) -> None:
    paths = [f"/m/{number}" for number in range(1200)]
    store.save([entry(path) for path in paths])
    store.save([entry("/m/7", genre=None, error="damaged", audio=None, embedding=None)])
    states = store.states([*paths, "/m/unknown"])
    assert len(states) == 1200
    assert states["/m/8"] == State(1000, 1_700_000_000_123_456_789, MODEL.key, False, False)
    assert states["/m/7"].failed
    found = store.find_by_audio("a" * 32, MODEL.key)
    assert found is not None
    assert found.genre == "high"
    assert store.find_by_audio("a" * 32, OTHER_MODEL.key) is None
    assert store.find_by_audio("b" * 32, MODEL.key) is None


def test_embeddings_are_those_of_one_model(store: Store) -> None:
    assert store.embeddings()[1].shape == (0, 0)
    first, second = at("/m/1"), at("/m/2")
    store.save([entry(second, embedding=np.array([7e4, -7e4, 1e-3], np.float32)), entry(first)])
    calm = {"calm": 1.0}
    store.save([entry("/m/0", model=OTHER_MODEL.key, probabilities=calm, segments=())])
    store.save([entry("/m/3", genre=None, error="damaged", embedding=None)])
    paths, values = store.embeddings()
    assert paths == [first, second]
    assert values.dtype == np.float32
    assert values.tolist() == [[1, -2, 0.5], [65504, -65504, pytest.approx(1e-3, rel=1e-3)]]
    assert store.embeddings(OTHER_MODEL.key)[0] == ["/m/0"]
    assert store.embeddings(under=[first])[0] == [first]
    with pytest.raises(UsageError, match="no model 'nobody'"):
        store.embeddings("nobody")


def test_counts_are_by_genre_or_verdict(store: Store) -> None:
    store.save(
        [
            entry("/m/1"),
            entry("/m/2", verdict="not music"),
            entry("/m/3", verdict=None),
            entry(at("/m/4"), genre=None, verdict=None, error="is empty"),
        ]
    )
    assert list(store.genres().items()) == [("high", 2), ("not music", 1)]
    assert store.errors(["/m"]) == {"is empty": 1}


def test_a_batch_is_written_whole_or_not_at_all(store: Store) -> None:
    store.save([entry("/m/1")])
    with pytest.raises(StoreError, match="NOT NULL"):
        store.save([entry("/m/1", genre="low"), entry("/m/2", size=None)])
    assert [e.genre for e in store.entries()] == ["high"]


def test_text_that_is_no_unicode_does_not_stop_a_write(store: Store) -> None:
    store.save([entry("/m/1", artist="\udcff", tagged=("\ud800",))])
    (found,) = store.entries()
    assert (found.artist, found.tagged) == ("?", ("?",))


def test_what_is_no_store_is_refused_in_one_line(tmp_path: Path, store: Store) -> None:
    with pytest.raises(StoreError, match="no such store"):
        Store(tmp_path / "new" / "folder" / "nothing.db")
    for create in (False, True):
        with pytest.raises(StoreError, match=r"x{300}: "):  # a longer name than any file's
            Store("x" * 300, create=create)
    assert not (tmp_path / "new").exists()
    text = tmp_path / "text.db"
    text.write_text("no database, but long enough to be one " * 100)
    other, versioned, marked = (
        tmp_path / f"{name}.db" for name in ("other", "versioned", "marked")
    )
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE mine (column)")
    for path, pragma in ((versioned, "user_version"), (marked, "application_id")):
        with sqlite3.connect(path) as database:
            database.execute(f"PRAGMA {pragma} = 1")
            database.execute("CREATE TABLE mine (column)")
    store.close()
    with sqlite3.connect(store.path) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database.close()
    files = (text, other, versioned, marked, store.path)
    before = {path: path.read_bytes() for path in files}
    for path, reason in (
        (text, "not a database"),
        (other, "not a store"),
        (versioned, "another program's file"),
        (marked, "another program's file"),
        (store.path, "newer than this Tonearm reads"),
        (text / "x.db", "a file is where its folder should be"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(StoreError, match=reason) as caught:
            Store(path, create=True)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in before} == before


# Not `SCHEMA`, which may change: stores as Tonearm 0.1 made them are in use.
VERSION_1 = """
CREATE TABLE models (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, name TEXT NOT NULL, labels TEXT NOT NULL,
    excerpt TEXT NOT NULL);
CREATE TABLE files (
    path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    missing INTEGER NOT NULL, scanned_at REAL NOT NULL,
    model INTEGER NOT NULL REFERENCES models (id), audio TEXT, duration REAL,
    truncated INTEGER NOT NULL, genre TEXT, confidence REAL, music REAL, verdict TEXT, error TEXT,
    tagged TEXT NOT NULL, artist TEXT, album TEXT, title TEXT, probabilities TEXT, segments TEXT,
    embedding BLOB);
CREATE INDEX files_by_audio ON files (audio);
INSERT INTO models VALUES (1, 'ours/30/00', 'ours', '["low", "high"]', '30');
INSERT INTO files VALUES (
    CAST('/m/1' AS BLOB), 1000, 1, 0, 2.5, 1, 'aa', 61.5, 0, 'high', 0.75, 0.875, 'music', NULL,
    '["Rock"]', 'Someone', NULL, 'Song', '{"high": 0.75, "low": 0.25}',
    '[[5.25, 15.25, [0.25, 0.75]]]', x'003c00c0');
PRAGMA application_id = 0x746E726D;
PRAGMA user_version = 1;
"""


@pytest.mark.parametrize("create", [False, True])  # read, and scanned into
def test_a_store_of_the_first_version_goes_on_to_work(tmp_path: Path, create: bool) -> None:
    path = tmp_path / "old.db"
    database = sqlite3.connect(path)
    database.executescript(VERSION_1)
    database.close()
    with Store(path, create=create) as store:
        (known,) = store.entries()
        assert (known.path, known.genre, known.probabilities) == ("/m/1", "high", PROBABILITIES)
        assert known.segments == (Window(5.25, 15.25, PROBABILITIES),)
        assert store.models() == {MODEL: 1}
        store.save([replace(known, path="/m/2"), entry("/m/3")])
        assert [found.path for found in store.entries()] == ["/m/1", "/m/2", "/m/3"]


@pytest.mark.parametrize(
    "damage",
    [
        *(f"{c} = x'ff'" for c in COLUMNS if c not in ("path", "missing", "truncated")),
        "probabilities = 'x'",
        "probabilities = '[1]'",
        "probabilities = NULL",
        'probabilities = \'{"high": "0.75"}\'',
        "embedding = x'010203'",
        "embedding = 'text'",
        "model = 99",
        "tagged = 'null'",
        "tagged = '\"Rock\"'",
        "segments = '[[0, 1, [0.5]]]'",
        "segments = '7'",
        "duration = 'long'",
        "duration = 9e999",
        "scanned_at = 1e300",
        "confidence = 7",
        "probabilities = '{\"high\": Infinity}'",
        "segments = '[[0, 1, [NaN, 0.5]]]'",
        f"segments = '[[0, 1{'0' * 400}, [0.5, 0.5]]]'",  # beyond any float
        "embedding = x'007e0000'",
        "genre = 'polka'",
        "genre = NULL",
        "verdict = 'noise'",
    ],
)
def test_a_damaged_entry_is_named(store: Store, damage: str) -> None:
    first, damaged, last = (at(f"/m/{number}") for number in "123")
    store.save([entry(first), entry(damaged), entry(last)])
    at_path = "WHERE path = CAST(? AS BLOB)"
    store._database.execute(f"UPDATE files SET {damage} {at_path}", [damaged])
    assert [found.path for found in store.entries([first, last])] == [first, last]
    for read in (lambda: list(store.entries()), lambda: store.entry(damaged)):
        with pytest.raises(StoreError) as caught:
            read()
        assert str(caught.value).startswith(f"{store.path}: damaged: wrong values for {damaged}")


@pytest.mark.parametrize(
    "blob", ["x'010203'", "x'01020304'", "x'0102030405060708'", "'sixsix'", "x'0000007e0000'"]
)
def test_a_damaged_embedding_is_named(store: Store, blob: str) -> None:
    store.save([entry("/m/1"), entry("/m/2"), entry("/m/3")])
    store._database.execute(
        f"UPDATE files SET embedding = {blob} WHERE path = CAST('/m/2' AS BLOB)"
    )
    with pytest.raises(StoreError, match="damaged: wrong values for /m/2"):
        store.embeddings()


def test_a_damaged_model_is_named(store: Store) -> None:
    store.save([entry("/m/1")])
    store._database.execute("UPDATE files SET model = 99")
    with pytest.raises(StoreError, match="damaged: wrong values for /m/1"):
        store.states(["/m/1"])
    store._database.execute("UPDATE models SET labels = '{}'")
    with Store(store.path) as other, pytest.raises(StoreError, match="for model ours/30/00"):
        other.models()


def test_an_empty_file_becomes_a_store_only_if_asked(tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.touch()
    with pytest.raises(StoreError, match="not a store of tonearm scan, but an empty file"):
        Store(empty)
    assert empty.read_bytes() == b""
    with Store(empty, create=True):
        pass
    with Store(empty) as store:
        assert len(store) == 0


@pytest.mark.skipif(os.name != "posix", reason="elsewhere two slashes begin a server's name")
def test_a_path_is_not_taken_for_an_address(tmp_path: Path) -> None:
    path = tmp_path / "50 %25?mode=ro#.db"
    with Store(f"/{path}", create=True) as store:
        assert len(store) == 0
    assert path.exists()


def test_a_drives_letter_is_the_same_in_either_case(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as windows:
        windows.setattr(os, "path", ntpath)
        found = [
            stored_path(path) for path in ("c:\\Music\\a", "C:\\Music\\a", "\\\\nas\\music\\a")
        ]
    assert found == ["C:\\Music\\a", "C:\\Music\\a", "\\\\nas\\music\\a"]


def test_a_store_on_a_read_only_drive_can_be_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = ["/music/a", "/music/b"]
    store.save(map(entry, known))
    store.close()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    before = store.path.read_bytes(), sorted(store.path.parent.iterdir())
    with Store(store.path) as fixed:
        assert list(fixed.paths()) == known
        assert sorted(store.path.parent.iterdir()) == before[1]
        with pytest.raises(StoreError, match="readonly"):
            fixed.mark(known, missing=True)
    assert (store.path.read_bytes(), sorted(store.path.parent.iterdir())) == before
    with pytest.raises(StoreError, match="it or its folder is read-only"):
        Store(store.path, create=True)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) == store.path)
    with pytest.raises(StoreError, match="it or its folder is read-only"):
        Store(store.path, create=True)
    Path(f"{store.path}-wal").write_bytes(b"not yet moved over")
    with pytest.raises(StoreError, match=r"the end of a scan is in .*-wal still"):
        Store(store.path)


@pytest.mark.skipif(os.name != "posix", reason="only POSIX limits the size of files")
@pytest.mark.parametrize("size", ["0", "4096"])
def test_a_store_on_a_full_disk_can_be_read(store: Store, size: str) -> None:
    store.save([entry("/music/a")])
    store.close()
    script = """
import resource, sys
from tonearm.library.store import Store, StoreError

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)  # as on a full disk
print(list(Store(sys.argv[1]).paths()))
try:
    Store(sys.argv[1], create=True)
except StoreError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, store.path, size],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"['/music/a']\n{store.path}: no room beside it on its disk\n"


def test_another_process_may_hold_the_file_while_a_store_is_made(tmp_path: Path) -> None:
    path = tmp_path / "library.db"
    busy = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    busy.execute("BEGIN IMMEDIATE")  # readers may still look, but nobody can switch to WAL
    later = threading.Timer(0.3, busy.execute, ["COMMIT"])
    later.start()
    with Store(path, create=True) as store:
        store.add_model(MODEL)
    later.join()
    busy.close()


def test_a_process_that_holds_the_file_for_too_long_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "folder" / "library.db"
    Store(path, create=True).close()
    monkeypatch.setattr("tonearm.library.store._WAIT_SECONDS", 0.05)
    path.unlink()
    busy = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    busy.execute("BEGIN IMMEDIATE")
    later = threading.Timer(5.0, busy.execute, ["COMMIT"])  # so that nothing waits for ever
    later.start()
    with pytest.raises(StoreError, match="database is locked"):
        Store(path, create=True)
    later.cancel()
    busy.close()


def test_a_full_disk_is_reported(store: Store) -> None:
    store.save([entry("/m/1")])
    store._database.execute("PRAGMA max_page_count = 1")  # no more than there are
    with pytest.raises(StoreError, match="disk is full"):
        store.save(entry(f"/m/{number}", title="x" * 5000) for number in range(100))
    assert list(store.paths()) == ["/m/1"]


def test_a_failure_is_no_result_for_other_files(store: Store) -> None:
    failed = entry("/m/1", genre=None, probabilities={}, segments=(), embedding=None, error="odd")
    store.save([failed])
    assert store.find_by_audio("a" * 32, MODEL.key) is None
    store.save([entry("/m/2")])
    found = store.find_by_audio("a" * 32, MODEL.key)
    assert found is not None
    assert found.path == "/m/2"


def test_only_what_could_be_compared_counts_as_incomparable(store: Store) -> None:
    other = {"model": OTHER_MODEL.key, "probabilities": {"calm": 1.0}, "segments": ()}
    store.save([entry("/m/1"), entry("/m/2", **other), entry("/m/3", **other)])
    store.save([entry("/m/4", **other, genre=None, error="odd", embedding=None)])
    store.mark(["/m/3"], missing=True)
    assert store.count_incomparable(MODEL.key) == 1


def test_a_power_cut_does_not_damage_a_store(store: Store) -> None:
    assert store._scalar("PRAGMA journal_mode") == "wal"
    assert store._scalar("PRAGMA synchronous") >= 1  # NORMAL


def test_a_write_waits_for_that_of_another_process(store: Store) -> None:
    busy = sqlite3.connect(store.path, check_same_thread=False, isolation_level=None)
    busy.execute("BEGIN IMMEDIATE")
    later = threading.Timer(0.3, busy.execute, ["COMMIT"])
    later.start()
    store.save([entry("/m/1")])
    later.join()
    busy.close()
    assert list(store.paths()) == ["/m/1"]


def test_the_genres_of_a_window_are_ranked(store: Store) -> None:
    store.save([entry("/m/1")])
    (found,) = store.entries()
    assert list(found.segments[0].probabilities) == ["high", "low"]


def test_an_error_that_is_no_unicode_does_not_stop_a_write(store: Store) -> None:
    changes = {"genre": None, "probabilities": {}, "segments": (), "embedding": None}
    store.save([entry("/m/1", error="no such file: \udcff", **changes)])
    assert list(store.errors()) == ["no such file: ?"]


def test_a_file_beside_a_folder_does_not_end_the_folder(store: Store) -> None:
    below = [at(path) for path in ("/m/a", "/m/a/1", "/m/a/b/2")]
    store.save([entry(path) for path in below])
    assert list(store.paths(["/m/a", "/m/a/1"])) == below
