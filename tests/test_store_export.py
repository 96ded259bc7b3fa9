from __future__ import annotations

import csv
import gc
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from host import needs_links
from stores import at
from tonearm.errors import MissingExtraError, UsageError
from tonearm.library.entry import Entry, Model, Window
from tonearm.library.exporting import ExportError, export
from tonearm.library.store import Store

MODEL = Model("tiny/30/00", "tiny", ("low", "model"), "30")  # a genre called like a column
ODD = at("/music/caf\udce9.mp3")  # not UTF-8
PROBABILITIES = {"low": 0.75, "model": 0.25}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three files: one with an odd name, one that failed, one that is missing."""
    store = Store(tmp_path / "library.db", create=True)
    store.add_model(MODEL)
    known = {"size": 10, "mtime_ns": 1_700_000_000_123_456_789, "model": MODEL.key}
    classified = Entry(
        path=ODD,
        scanned_at=1_700_000_000.9,
        audio="a" * 32,
        duration=61.5,
        genre="low",
        confidence=0.75,
        verdict="music",
        tagged=("Rock", "Pop"),
        title='Say; "what"\nnow',
        album="Car\rriage",
        probabilities=PROBABILITIES,
        segments=(Window(5.0, 15.0, PROBABILITIES),),
        embedding=np.array([1, -0.5], np.float32),
        **known,
    )
    failed = Entry(path=at("/music/b.mp3"), scanned_at=0.0, error="is empty", **known)
    gone = Entry(path=at("/music/z.mp3"), scanned_at=0.0, missing=True, error="is empty", **known)
    store.save([classified, failed, gone])
    return store


def test_csv_has_a_column_for_every_genre(store: Store, tmp_path: Path) -> None:
    target = tmp_path / "library.csv"
    export(store, target)
    with target.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        failed, classified = csv.DictReader(file)
    assert (failed["path"], failed["error"]) == (at("/music/b.mp3"), "is empty")
    assert failed["genre"] == ""
    assert classified["path"] == ODD
    assert classified["title"] == 'Say; "what"\nnow'
    assert classified["album"] == "Car\rriage"
    assert b"\r\n" not in target.read_bytes()
    assert classified["tagged"] == "Rock; Pop"
    assert (classified["p_low"], classified["p_model"], classified["model"]) == (
        "0.75",
        "0.25",
        "tiny/30/00",
    )
    assert classified["scanned_at"] == "2023-11-14T22:13:20+00:00"
    assert classified["mtime_ns"] == "1700000000123456789"


def test_json_lines_hold_everything(store: Store, tmp_path: Path) -> None:
    target = tmp_path / "library.jsonl"
    export(store, target, missing=True, timeline=True, embeddings=True)
    failed, classified, gone = map(json.loads, target.read_text(encoding="ascii").splitlines())
    assert (failed["genre"], failed["probabilities"], failed["embedding"]) == (None, {}, None)
    assert classified["path"] == ODD
    assert classified["tagged"] == ["Rock", "Pop"]
    assert classified["probabilities"] == PROBABILITIES
    assert classified["segments"] == [{"start": 5.0, "end": 15.0, "probabilities": PROBABILITIES}]
    assert classified["embedding"] == [1, -0.5]
    assert gone["missing"] is True
    export(store, target)
    plain = json.loads(target.read_text(encoding="ascii").splitlines()[1])
    assert classified.keys() - plain.keys() == {"segments", "embedding"}


def test_parquet_has_types(store: Store, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    target = tmp_path / "library.parquet"
    export(store, target, timeline=True, embeddings=True)
    failed, classified = parquet.read_table(target).to_pylist()
    assert (failed["error"], failed["p_low"]) == ("is empty", None)
    assert classified["path"] == at("/music/caf\\udce9.mp3")
    assert (classified["p_low"], classified["p_model"], classified["tagged"]) == (
        0.75,
        0.25,
        ["Rock", "Pop"],
    )
    (segment,) = classified["segments"]
    assert dict(segment["probabilities"]) == PROBABILITIES
    assert classified["embedding"] == [1, -0.5]
    export(store, target, under=["/nowhere"])
    assert parquet.read_table(target).num_rows == 0


def test_parquet_without_pyarrow_says_what_to_install(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"tonearm\[data\]"):
        export(store, tmp_path / "library.parquet")
    assert sorted(path.suffix for path in tmp_path.iterdir() if path.suffix == ".parquet") == []


@needs_links
def test_what_cannot_be_written_leaves_the_old_table(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "library.csv"
    target.write_text("old")
    real = tmp_path / "link.csv"
    real.symlink_to(target)

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(ExportError, match=r"library\.csv: No space left on device"):
            export(store, target)
    assert target.read_text() == "old"
    assert not list(tmp_path.glob("*.partial"))
    assert not list(tmp_path.glob(".*.partial"))
    export(store, real)
    assert real.is_symlink()
    assert target.read_bytes().startswith(b"path,")


def test_a_target_that_the_system_refuses_is_named(store: Store) -> None:
    with pytest.raises(ExportError, match=r"x{300}\.csv: "):  # a longer name than any file's
        export(store, f"{'x' * 300}.csv")


@pytest.mark.parametrize(
    ("target", "options", "reason"),
    [
        ("library", {}, "suffix"),
        ("library.txt", {}, "suffix"),
        ("library.csv", {"embeddings": True}, "no room"),
        ("-", {"timeline": True}, "no room"),
        ("-", {"format": "parquet"}, "standard output"),
        ("-", {"format": "xml"}, "unknown format"),
        ("library.db", {"format": "csv"}, "is the store itself"),
        ("song.mp3", {"format": "csv"}, "is a recording"),
        pytest.param("link.csv", {}, "is a recording", marks=needs_links),
    ],
)
def test_what_makes_no_sense_is_refused(
    store: Store,
    target: str,
    options: dict[str, object],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("song.mp3").write_text("sound")
    if target == "link.csv":
        Path(target).symlink_to("song.mp3")
    with pytest.raises(UsageError, match=reason):
        export(store, target, **options)  # type: ignore[arg-type]
    assert Path("song.mp3").read_text() == "sound"
    assert len(store) == 3


def test_a_reader_who_stops_leaves_the_store_at_rest(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complaints: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)

    class Full(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(Full()))  # type: ignore[type-var]
    failed: BaseException | None = None
    with Store(store.path) as library:
        try:
            export(library, format="jsonl")
        except OSError as error:
            failed = error  # which holds on to all that was under way
    assert failed is not None
    failed = None
    gc.collect()
    assert complaints == []


def test_the_program_writes_to_standard_output(
    store: Store, program: Callable[..., tuple[int, str, str]]
) -> None:
    for options, lines in ((["/music/b.mp3"], 2), (["--format", "jsonl", "--missing"], 3)):
        code, output, errors = program("export", store.path, *options)
        assert (code, errors) == (0, "")
        assert len(output.splitlines()) == lines
    code, output, errors = program("export", store.path, "/musik")
    complaint = f"tonearm: {store.path} knows no file in /musik\n"
    assert (code, output, errors) == (1, "", complaint)
    code, output, errors = program("export", store.path, "/musik", "/music/b.mp3")
    assert (code, len(output.splitlines()), errors) == (0, 2, complaint)
    assert program("export", store.path, "/music/z.mp3")[0] == 1
    assert program("export", store.path, "/music/z.mp3", "--missing")[::2] == (0, "")


def test_an_old_table_stays_where_there_is_nothing_to_write(
    store: Store, tmp_path: Path, program: Callable[..., tuple[int, str, str]]
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("old")
    assert program("export", store.path, "/musik", "-o", table)[0] == 1
    Store(tmp_path / "empty.db", create=True).close()
    code, _, errors = program("export", tmp_path / "empty.db", "-o", table)
    assert (code, errors) == (1, f"tonearm: {tmp_path / 'empty.db'} knows no file\n")
    assert table.read_text() == "old"


def test_rows_are_counted(store: Store, tmp_path: Path) -> None:
    assert export(store, tmp_path / "a.csv") == 2
    assert export(store, tmp_path / "a.jsonl", missing=True) == 3


def test_a_store_whose_files_are_all_missing_is_exported_if_asked(
    store: Store, program: Callable[..., tuple[int, str, str]]
) -> None:
    store.mark(list(store.paths()), missing=True)
    assert program("export", store.path)[:2] == (1, "")
    code, output, errors = program("export", store.path, "--format", "jsonl", "--missing")
    assert (code, len(output.splitlines()), errors) == (0, 3, "")
