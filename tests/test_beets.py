from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bundles import tiny_metadata, tone, write_bundle
from tonearm import synth
from tonearm.library.tags import read_genres, write_genres

beets = pytest.importorskip("beets", reason="beets is not installed")
from beets.test.helper import AutotagStub, PluginMixin, TestHelper  # noqa: E402
from beets.ui import UserError  # noqa: E402

ABSENT = Path("/nowhere/words.toml").absolute()

RATE = 32000
FILLED = {"high": ["high"], "low": ["low"], "soul": ["Soul"]}
EMPTY = {"high": [], "low": [], "soul": ["Soul"]}


class Beets(PluginMixin, TestHelper):  # type: ignore[misc]
    """Beets with a library of its own in a temporary folder."""

    preload_plugin = False

    def __init__(self, model: Path, messages: list[str]) -> None:
        self.messages = messages  # what the plugin has logged
        self._model = model

    def run(self, *arguments: str | Path, plugins: str = "tonearm", **settings: Any) -> None:
        """Run `beet` with these plugins and these settings of the one under test."""
        self.messages.clear()
        self.config["tonearm"].set({"auto": True, "model": str(self._model), **settings})
        self.load_plugins(*plugins.split())
        try:
            self.run_command(*map(str, arguments))
        finally:
            self.unload_plugins()

    def genres(self) -> dict[str, list[str]]:
        return {item.title: item.genres for item in self.lib.items()}

    def files(self) -> dict[str, bytes]:
        return {item.title: item.filepath.read_bytes() for item in self.lib.items()}

    def item(self, title: str) -> Any:
        [item] = self.lib.items(f"title:={title}")
        return item


@pytest.fixture
def beet(tiny_bundle: Path) -> Iterator[Beets]:
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = beets.logging.getLogger("beets.tonearm")
    logger.addHandler(handler)
    with Beets(tiny_bundle, messages) as beet:
        beet.config["verbose"] = 0
        beet.config["import"]["quiet"] = True
        yield beet
    logger.removeHandler(handler)


@pytest.fixture
def album(tmp_path: Path, write_audio: Callable[..., Path]) -> Path:
    """A folder to import: two recordings without a genre, and one with."""
    folder = tmp_path / "album"
    folder.mkdir()
    for number, (name, hertz) in enumerate(
        [("high.flac", 5000), ("low.mp3", 200), ("soul.ogg", 200)]
    ):
        tags = {
            "artist": "Duo",
            "album": "Tones",
            "title": name[:-4].rstrip("."),
            "track": str(number + 1),
        }
        write_audio(folder / name, tone(hertz, 1, RATE), RATE, metadata=tags)
    write_genres(folder / "soul.ogg", ["Soul"])
    return folder


@pytest.fixture
def library(beet: Beets, album: Path) -> Beets:
    """Beets with the album in its library, as it was."""
    beet.run("import", "-A", album, auto=False)
    assert beet.genres() == EMPTY
    return beet


@pytest.fixture
def lastgenre(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The genres that last.fm returns to lastgenre, by title of the track; none for others."""
    pytest.importorskip("pylast", reason="pylast, which lastgenre needs, is not installed")
    from beetsplug.lastgenre.client import LastFmClient

    genres_by_title: dict[str, list[str]] = {}
    monkeypatch.setattr(
        LastFmClient,
        "fetch",
        lambda self, kind, model, *_: (
            genres_by_title.get(model.title, []) if kind == "track" else []
        ),
    )
    return genres_by_title


def test_import_fills_what_is_empty(beet: Beets, album: Path) -> None:
    beet.run("import", "-A", album)
    assert beet.genres() == FILLED
    assert beet.messages == []
    high = beet.item("high")
    assert high.tonearm_genre == "high"
    assert 0.5 < high.tonearm_confidence <= 1
    assert "tonearm_genre" not in beet.item("soul")
    # As beets does of an import without corrections: the files stay as they came.
    assert read_genres(high.filepath) == ()


@pytest.mark.parametrize("write", [True, False])
def test_import_writes_where_beets_writes(beet: Beets, album: Path, write: bool) -> None:
    beet.config["import"]["write"] = write
    beet.config["import"]["quiet_fallback"] = "asis"
    beet.config["match"]["strong_rec_thresh"] = 0.9  # whatever the stub proposes is taken
    stub = AutotagStub(AutotagStub.IDENT).install()
    try:
        beet.run("import", album)
    finally:
        stub.restore()
    items = list(beet.lib.items())
    assert {item.title for item in items} == {f"Applied Track {n}" for n in (1, 2, 3)}
    assert sorted(item.genres for item in items) == [["Soul"], ["high"], ["low"]]
    for item in items:
        written = read_genres(item.filepath)
        assert written == (tuple(item.genres) if write or item.genres == ["Soul"] else ())


def test_import_of_single_tracks_by_genre_in_the_path(beet: Beets, album: Path) -> None:
    beet.lib.path_formats = [("default", "$genres/$title")]
    beet.run("import", "-A", "-s", album)
    paths = {item.filepath.relative_to(beet.lib_path).as_posix() for item in beet.lib.items()}
    assert paths == {"high/high.flac", "low/low.mp3", "Soul/soul.ogg"}


def test_import_that_pretends_changes_nothing(
    beet: Beets, album: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    beet.run("import", "-A", album, pretend=True)
    assert beet.genres() == EMPTY
    assert "tonearm_genre" not in beet.item("high")
    assert "+ high" in capsys.readouterr().out
    assert beet.lib.albums()[0].genres == []


def test_import_goes_on_after_a_file_that_does_not_decode(
    beet: Beets, album: Path, write_audio: Callable[..., Path]
) -> None:
    torn = write_audio(album / "torn.m4a", tone(200, 1, RATE), RATE, metadata={"title": "torn"})
    before, mark, after = torn.read_bytes().partition(b"mdat")
    audio, index, tags = after.partition(b"moov")
    torn.write_bytes(before + mark + bytes(len(audio) - 4) + audio[-4:] + index + tags)
    beet.run("import", "-A", album)
    assert beet.genres() == {**FILLED, "torn": []}
    [message] = beet.messages
    assert message.startswith(f"{torn}: its aac audio does not decode")


@pytest.mark.parametrize("plugins", ["lastgenre tonearm", "tonearm lastgenre"])
def test_import_leaves_what_lastgenre_found(
    beet: Beets, album: Path, lastgenre: dict[str, list[str]], plugins: str
) -> None:
    lastgenre["high"] = ["ambient"]
    beet.config["lastgenre"].set({"source": "track", "title_case": False})
    beet.run("import", "-A", album, plugins=plugins)
    assert beet.genres() == {**FILLED, "high": ["ambient"]}
    assert "tonearm_genre" not in beet.item("high")
    assert "tonearm_genre" in beet.item("low")


def test_album_gets_the_commonest_genre_of_its_tracks(
    beet: Beets, album: Path, write_audio: Callable[..., Path]
) -> None:
    (album / "soul.ogg").unlink()
    tags = {"artist": "Duo", "album": "Tones", "title": "deep", "track": "3"}
    write_audio(album / "deep.flac", tone(100, 1, RATE), RATE, metadata=tags)
    beet.run("import", "-A", album)
    [found] = beet.lib.albums()
    assert found.genres == ["low"]
    assert beet.genres() == {"high": ["high"], "low": ["low"], "deep": ["low"]}


def test_command_fills_and_writes(library: Beets) -> None:
    library.run("tonearm")
    assert library.genres() == FILLED
    assert library.messages == ["2 given a genre, 1 had one already"]
    assert read_genres(library.item("high").filepath) == ("high",)
    assert library.lib.albums()[0].genres == ["high"]
    library.run("tonearm")
    assert library.messages == ["3 had one already"]
    library.run("tonearm", "title:nothing")
    assert library.messages == ["no tracks"]


@pytest.mark.parametrize("options", [("-W",), ()])
def test_command_writes_no_tags_where_it_shall_not(
    library: Beets, options: tuple[str, ...]
) -> None:
    before = library.files()
    library.config["import"]["write"] = bool(options)  # -W is stronger
    library.run("tonearm", *options)
    assert library.genres() == FILLED
    assert library.files() == before


def test_pretending_changes_nothing(library: Beets, capsys: pytest.CaptureFixture[str]) -> None:
    before = library.files()
    library.run("tonearm", "-p", "-f")
    assert library.messages == ["would be: 3 given a genre"]
    output = capsys.readouterr().out
    assert "- Soul" in output
    assert "+ low" in output
    assert library.genres() == EMPTY
    assert library.files() == before
    assert "tonearm_genre" not in library.item("low")
    assert library.lib.albums()[0].genres == []


def test_force_replaces(library: Beets) -> None:
    library.run("tonearm", force=True)
    assert library.genres() == {"high": ["high"], "low": ["low"], "soul": ["low"]}
    assert read_genres(library.item("soul").filepath) == ("low",)
    assert library.lib.albums()[0].genres == ["low"]
    library.run("tonearm", "-F", force=True)
    assert library.messages == ["3 had one already"]


def test_threshold(library: Beets) -> None:
    library.run("tonearm", "--threshold", "1", "title:high")
    [unsure, summary] = library.messages
    assert (summary, unsure.endswith("%)")) == ("1 not sure", True)
    high = library.item("high")
    assert high.genres == []
    assert 0.5 < high.tonearm_confidence < 1  # kept: the doubtful ones can be looked for
    library.run("tonearm", threshold=0)
    assert library.genres() == FILLED


def test_mapping_to_own_words(library: Beets, tmp_path: Path) -> None:
    mapping = tmp_path / "words.json"
    mapping.write_text(json.dumps({"high": ["Bright", "Whistles"], "low": "", "middel": "x"}))
    library.run("tonearm", mapping=str(mapping))
    assert library.genres() == {"high": ["Bright", "Whistles"], "low": [], "soul": ["Soul"]}
    assert read_genres(library.item("high").filepath) == ("Bright", "Whistles")
    assert library.item("low").tonearm_genre == "low"
    low = library.item("low").filepath
    assert library.messages == [
        "the model never predicts middel: it knows low, high",
        f"{low}: low, which is mapped to nothing",
        "1 given a genre, 1 mapped to nothing, 1 had one already",
    ]


def test_blanks_are_no_genre(library: Beets) -> None:
    for title in ("high", "low"):
        item = library.item(title)
        item.genres = [" "]
        item.store()
    library.run("tonearm")
    assert library.genres() == FILLED


def test_what_is_not_music_is_left_alone(library: Beets, tmp_path: Path) -> None:
    outputs = ("logits", "embedding", "music")  # of this model, high sounds are not music
    model = write_bundle(tmp_path / "critic.onnx", tiny_metadata(), outputs=outputs)
    library.run("tonearm", "--model", model)
    assert library.genres() == {**EMPTY, "low": ["low"]}
    assert library.messages[0].endswith("high.flac: not music")


def test_what_is_no_longer_music_has_no_genre_to_look_for(library: Beets, tmp_path: Path) -> None:
    library.run("tonearm", "title:high")
    assert library.item("high").tonearm_genre == "high"
    outputs = ("logits", "embedding", "music")
    model = write_bundle(tmp_path / "critic.onnx", tiny_metadata(), outputs=outputs)
    library.run("tonearm", "--model", model, "title:high", force=True)
    high = library.item("high")
    assert "tonearm_genre" not in high
    assert "tonearm_confidence" not in high


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 3}, "tonearm.threshold: expected 0 to 1, got 3"),
        ({"workers": 0}, "tonearm.workers: expected 1 or more, got 0"),
        ({"mapping": str(ABSENT)}, re.escape(f"mapping {ABSENT}: No such file")),
        ({"model": "nobody"}, "no model named 'nobody'"),
    ],
)
def test_wrong_settings_are_one_line(
    library: Beets, album: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        library.run("tonearm", **settings)
    if "model" not in settings:
        with pytest.raises(UserError, match=message):
            library.run("import", "-A", album, **settings)


def test_the_program_itself(
    tmp_path: Path, tiny_bundle: Path, write_audio: Callable[..., Path]
) -> None:
    """Configuration file, threads of the importer, queries, several workers, the shipped model."""
    (tmp_path / "new").mkdir()
    for number, style in enumerate(synth.STYLES[:2]):
        tags = {"artist": "Band", "album": "Pieces", "title": style, "track": str(number + 1)}
        piece = synth.render(style, 4.0, RATE)
        write_audio(tmp_path / "new" / f"{style}.mp3", piece, RATE, metadata=tags)
    settings = {
        "directory": str(tmp_path / "music"),
        "library": str(tmp_path / "music.db"),
        "plugins": ["tonearm"],
        "tonearm": {"model": str(tiny_bundle), "mapping": "words.toml", "threads": 2},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(settings))
    (tmp_path / "words.toml").write_text('low = ["Deep", "Slow"]')

    def beet(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "beets", *arguments]
        environment = {**os.environ, "BEETSDIR": str(tmp_path), "HOME": str(tmp_path)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    beet("import", "-q", "-A", str(tmp_path / "new"))
    query = ("-f", "$genres, $tonearm_genre, $tonearm_confidence", "tonearm_confidence:0.51..")
    lines = beet("ls", *query).stdout.splitlines()
    assert [line.rpartition(", ")[0] for line in lines] == ["Deep; Slow, low"] * 2
    done = beet("tonearm", "--force", "--pretend", "--model", "default", "--workers", "2")
    assert done.stderr.splitlines()[-1].startswith("tonearm: would be: ")


def test_loading_the_plugin_is_light() -> None:
    code = (
        "import sys, beetsplug.tonearm as plugin; plugin.TonearmPlugin().commands(); "
        "print({'av', 'onnxruntime', 'tonearm.audio', 'tonearm.classifier'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
