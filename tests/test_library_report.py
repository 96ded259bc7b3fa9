from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pages import check_page, needs_node, run_script
from stores import MODEL, at, failure, open_store, track
from tonearm.errors import TonearmError
from tonearm.library import journal, projection
from tonearm.library.entry import Model
from tonearm.library.overview import overview
from tonearm.library.report import render, write_report
from tonearm.library.similarity import unit_vectors
from tonearm.library.store import Store
from tonearm.library.tag_words import TagWords

EVIL = '</script><script>alert(1)</script><!-- & "'
ODD, SHOWN, SPELLED = "caf\udce9.ogg", "caf\\xe9.ogg", "caf%E9.ogg"  # not UTF-8
if os.name != "posix":  # where names are text
    ODD, SHOWN, SPELLED = "caf\u202e.ogg", "caf\\u202e.ogg", "caf%E2%80%AE.ogg"

# Linear RGB as it looks without red, green or blue cones: Machado, Oliveira & Fernandes (2009).
SIGHTS = {
    "all cones": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def data_of(page: str) -> dict[str, Any]:
    """What the page's program reads."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    return json.loads(found)  # type: ignore[no-any-return]


def blobs(count: int, groups: int, width: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around some directions, and the group of each."""
    random = np.random.default_rng(1)
    members = np.arange(count) % groups
    centres = random.normal(size=(groups, width))
    vectors = centres[members] + 0.3 * random.normal(size=(count, width))
    return unit_vectors(vectors.astype(np.float32)), members


def test_the_page_holds_what_the_store_knows(tmp_path: Path) -> None:
    tracks = [
        track("/music/a/1.ogg", "jazz", artist="Nina", title=EVIL, tagged=("Bebop",)),
        track("/music/a/2.ogg", "blues", 0.9, tagged=("Smooth Jazz",), duration=None),
        track("/music/b/3.ogg", "rock", 0.6, tagged=("Hip-Hop/Rap",)),
        track("/music/b/4.ogg", "rock", tagged=("Polka",)),
        track("/music/b/5.ogg", "rock", tagged=("polka!",)),
        track("/music/b/6.ogg", "rock", 0.3, verdict="unsure", tagged=("Jazz",)),
        track("/music/b/7.ogg", "rock", verdict="not music"),
        track(f"/music/b/{ODD}", "hiphop"),
        track("/music/b/gone.ogg", missing=True),
        failure("/music/x.mp3", "is empty"),
        failure("/music/y.mp3", "given up after 130 s"),
        failure("/music/z.mp3", "given up after 140 s"),
    ]
    entries = [replace(each, path=at(each.path)) for each in tracks]
    target = tmp_path / "deep" / "page.html"
    with open_store(tmp_path / "library.db", entries) as store:
        write_report(store, target, title="<b>Mine</b>")
    page = target.read_text(encoding="utf-8")
    data = data_of(page)

    assert data["root"] == at("/music")
    assert data["root_address"] == f"file:///{Path(at('/music')).as_posix().lstrip('/')}"
    assert data["labels"] == list(MODEL.labels)
    assert data["models"] == [{"name": "ours", "excerpt": "30", "files": 11}]
    assert data["missing"] == 1
    columns = data["tracks"]
    spelled = columns.pop("spelled")
    assert {len(column) for column in columns.values()} == {8}
    assert data["folders"] == ["a", "b"]
    assert columns["title"][0] == EVIL
    assert columns["name"][-1] == SHOWN
    assert spelled == {"7": f"b/{SPELLED}"}
    assert columns["confidence"][:3] == [800, 900, 600]
    assert columns["verdict"] == [0, 0, 0, 0, 0, 1, 2, 0]
    assert columns["seconds"][:3] == [62, 0, 62]
    assert min(columns["x"] + columns["y"]) >= 0
    assert data["tags"] == {
        "untagged": 1,
        "written": 0,
        "agreeing": 1,
        "disagreeing": [[1, "Smooth Jazz", ["jazz"]], [2, "Hip-Hop/Rap", ["hiphop"]]],
        "foreign": [["Polka", 2, "rock"]],
    }
    assert [(kind, len(files)) for kind, files in data["errors"]] == [
        ("given up after N s", 2),
        ("is empty", 1),
    ]

    assert page.count("</script>") == 2  # none came in by a title
    assert "<title>&lt;b&gt;Mine&lt;/b&gt; · Tonearm</title>" in page
    assert "{{" not in page
    # Nothing is loaded from anywhere: the one address names SVG.
    assert set(re.findall(r"https?://[^\"']+", page)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<link|<img|@import|url\(|\bsrc=|innerHTML", page)
    check_page(page)


PAGE_TRIAL = """
const walk = ["ArrowUp", "ArrowRight", "ArrowRight", "ArrowLeft", "ArrowUp", "+", "ArrowDown"];
const kept_by = walk.map((key) => {
  canvas.dispatch("keydown", { key });
  return nameOf(kept);
});
const { zoom } = view;
document.dispatch("keydown", { key: "Escape" });

// A button that is pressed stays the same, or the keyboard's focus would be lost.
const pressed = ["genres", "pairs"].map((id) => {
  const before = descendants(known[id], "button");
  before[0].click();
  const after = descendants(known[id], "button");
  return after.map((made, at) => before[at] === made && made.attributes["aria-pressed"]);
});

known.search.value = "m";
known.search.dispatch("input");
console.log(JSON.stringify({ kept_by, zoom, pressed, found: known.found.textContent,
  matches: known.matches.children.length, card: known.card.hidden,
  sure: known["confidence-lead"].textContent,
  hatched: descendants(known.histogram, "i").filter((bar) => bar.className === "unsure").length,
  rows: descendants(known.disagreeing, "tr").length,
  scopes: descendants(known.disagreeing, "th").map((cell) => cell.scope) }));
"""


@needs_node
def test_the_page_is_worked_with_the_keyboard(tmp_path: Path) -> None:
    places = {"middle": (5, 5), "left": (1, 5), "right": (9, 5), "above": (5, 9), "beside": (6, 9)}
    tags = [("Jazz",), ("Rock",), ("Rock",), (), ()]
    tracks = [
        track(f"/m/{name}", "blues", title=name, tagged=tag)
        for name, tag in zip(places, tags, strict=True)
    ]
    more = [track(f"/m/more/{number}", verdict="unsure") for number in range(41)]
    with open_store(tmp_path / "l.db", [*tracks, *more]) as store:
        view = overview(store)
    order = [places.get(name, (0, 0)) for name in view.tracks.name]
    view.tracks.x, view.tracks.y = ([6553 * place[axis] for place in order] for axis in (0, 1))
    page = render(view, "mine")
    data = json.dumps({"textContent": json.dumps(data_of(page))})
    done = run_script(page, f"known.data = {data};", PAGE_TRIAL, tmp_path)
    assert done == {
        "kept_by": ["middle", "right", "right", "middle", "above", "above", "middle"],
        "zoom": 1.6,
        "pressed": [["true"], ["true", "false"]],
        "card": True,
        "found": "42 tracks, the first 40 listed",
        "matches": 40,
        "sure": "How probable the genre of the blues tracks is: "
        "the median is 80 %, and 0 % have 90 % or more.",
        "hatched": 20,
        "rows": 3,
        "scopes": ["col"] * 3,
    }


def test_what_tonearm_wrote_agrees_with_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, replaced = at("/m/own.ogg"), at("/m/replaced.ogg")
    changes = [(own, (), ("jazz",)), (replaced, ("Bebop",), ("rock",))]
    monkeypatch.setattr(journal, "genre_changes", lambda: iter(changes))
    tracks = [
        track(own, tagged=("jazz",)),
        track(replaced, tagged=("rock",)),
        track(at("/m/theirs.ogg"), tagged=("jazz",)),
    ]
    with open_store(tmp_path / "l.db", tracks) as store:
        view = overview(store)
    assert (view.tags.written, view.tags.agreeing, view.tags.disagreeing) == (1, 2, [])


@pytest.mark.usefixtures("on_another_drive")
def test_a_file_on_another_drive_is_shown_by_its_whole_path(tmp_path: Path) -> None:
    with open_store(tmp_path / "library.db", [track(at("/music/a.mp3"))]) as store:
        view = overview(store)
    assert (view.folders, view.tracks.name) == ([Path(at("/music")).as_posix()], ["a.mp3"])


def test_files_that_another_system_analysed_are_shown_without_an_address(tmp_path: Path) -> None:
    foreign = "C:\\Music\\a.mp3" if os.name == "posix" else "/Music/a.mp3"
    with open_store(tmp_path / "library.db", [track(foreign)]) as store:
        view = overview(store)
    assert (view.root_address, view.tracks.name) == ("", [Path(foreign).name])


def test_embeddings_of_another_model_are_not_on_the_map(tmp_path: Path) -> None:
    other = Model("other", "other", ("polka",), "all")
    alien = replace(
        track(at("/m/alien.ogg")), model="other", genre="polka", probabilities={"polka": 1}
    )
    with open_store(tmp_path / "l.db", [track(at(f"/m/{name}.ogg")) for name in "ab"]) as store:
        store.add_model(other)
        store.save([alien])
        view = overview(store)
    assert view.labels == [*MODEL.labels, "polka"]
    assert (view.tracks.name, view.tracks.x[1]) == (["a.ogg", "alien.ogg", "b.ogg"], -1)
    assert (view.tracks.second[1], view.tracks.runner_up[1]) == (-1, 0)


def test_results_of_another_model_written_meanwhile_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = Model("theirs/30/00", "theirs", ("calm",), "30")
    new = replace(track(at("/m/2")), model=calm.key, genre="calm", probabilities={"calm": 1.0})
    with open_store(tmp_path / "l.db", [track(at("/m/1"))]) as store, Store(store.path) as other:
        whole = store.models

        def interrupted() -> dict[Model, int]:
            known = whole()
            other.add_model(calm)
            other.save([new])
            return known

        monkeypatch.setattr(store, "models", interrupted)
        view = overview(store)
    assert (view.labels, view.tracks.name) == (list(MODEL.labels), ["1"])


def test_a_store_without_files_has_no_page(tmp_path: Path) -> None:
    with (
        open_store(tmp_path / "l.db", []) as store,
        pytest.raises(TonearmError, match="no file is known"),
    ):
        write_report(store, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_store_of_failures_has_one(tmp_path: Path) -> None:
    with open_store(tmp_path / "l.db", [failure(at("/m/a.mp3"), "is empty")]) as store:
        view = write_report(store, tmp_path / "page.html")
    assert (len(view.tracks), view.map) == (0, None)


@pytest.mark.parametrize(
    ("tag", "labels"),
    [
        ("hip-hop", {"hiphop"}),
        ("Hip Hop/Rap", {"hiphop"}),
        ("RAP", {"hiphop"}),
        ("Pop/Rock", {"rock"}),
        ("Jazz & Blues", {"jazz", "blues"}),
        ("Blúes", {"blues"}),
        ("Hard Bop", {"jazz"}),
        ("Trip-Hop", set()),
        ("Rockabilly", set()),
        ("", set()),
        ("???", set()),
    ],
)
def test_tags_are_read_as_labels(tag: str, labels: set[str]) -> None:
    assert TagWords(MODEL.labels).meant([tag]) == labels


def test_user_words_mean_what_the_mapping_says() -> None:
    words = TagWords(
        MODEL.labels, {"jazz": ("Rock (slow)",), "rock": ("Loud",), "polka": ("Jazz",)}
    )
    assert words.meant(["rock slow"]) == {"jazz"}
    assert words.meant(["LOUD", "Blues"]) == {"rock", "blues"}
    assert words.meant(["Jazz"]) == {"jazz"}  # the model has no polka


@pytest.mark.parametrize("labels", [("Dub", "Reggae"), ("Reggae", "Dub")])
def test_a_label_of_its_own_is_no_kind_of_another(labels: tuple[str, str]) -> None:
    words = TagWords(labels)
    assert words.meant(["dub"]) == {"Dub"}
    assert words.meant(["Dancehall"]) == words.meant(["reggae"]) == {"Reggae"}


def test_words_of_signs_alone_are_told_apart() -> None:
    words = TagWords(["hip-hop", "jazz"], {"jazz": ["♫"]})
    assert [words.meant([tag]) for tag in ("♫", "♪")] == [{"jazz"}, set()]
    assert words.meant(["Hip _ Hop"]) == {"hip-hop"}


@pytest.mark.parametrize("landmarks", [1000, 120])
def test_the_map_keeps_neighbours_together(landmarks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "LANDMARKS", landmarks)
    vectors, members = blobs(200, 5)
    points = projection.lay_out(vectors)
    assert points.shape == (200, 2)
    assert points.min() >= 0
    assert points.max() <= 1
    assert np.ptp(points, axis=0).max() == pytest.approx(1)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + 9 * np.eye(200)
    nearest = distances.argsort(axis=1)[:, :5]
    assert (members[nearest] == members[:, None]).mean() > 0.95
    found = projection.faithfulness(vectors, points)
    assert found.kept > 4 * found.chance
    assert (found.nearest, found.reach) == (10, 30)
    assert np.array_equal(points, projection.lay_out(vectors))  # the same again


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_few_tracks_have_a_map(count: int) -> None:
    vectors, _ = blobs(count, 2, width=3)
    points = projection.lay_out(vectors)
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()
    assert projection.faithfulness(vectors, points).kept <= 1


def test_equal_tracks_have_a_map() -> None:
    points = projection.lay_out(np.ones((20, 4), np.float32) / 2)
    assert np.isfinite(points).all()


def test_the_colours_stay_apart_for_colour_blind_readers() -> None:
    program = Path(projection.__file__).with_name("page") / "page.js"
    (listed,) = re.findall(r"const COLOURS = \[(.*?)\]", program.read_text("utf-8"), re.DOTALL)
    colours = re.findall(r"#(\w{6})", listed)
    assert len(colours) == 10
    rgb = np.array([[int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)] for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    for sight in SIGHTS.values():
        seen = _oklab(np.clip(linear @ np.transpose(sight), 0, 1))
        assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 0.1


def _oklab(linear: np.ndarray) -> np.ndarray:
    """Ottosson's OKLab (2020) of linear RGB."""
    cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    axes = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.cbrt(linear @ np.transpose(cones)) @ np.transpose(axes)  # type: ignore[no-any-return]


def test_the_command(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: Callable[..., tuple[int, str, str]],
) -> None:
    monkeypatch.chdir(tmp_path)
    open_store(tmp_path / "mine.db", [track(at("/m/a.ogg"), tagged=("Slow",))]).close()
    (tmp_path / "words.toml").write_text('blues = "Slow"\n')
    assert program("report", "mine.db", "--mapping", "words.toml") == (0, "mine.html\n", "")
    page = (tmp_path / "mine.html").read_text(encoding="utf-8")
    assert data_of(page)["tags"]["disagreeing"] == [[0, "Slow", ["blues"]]]
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []
    code, _, errors = program("report", "mine.db", "-o", "mine.db")
    assert (code, "mine.db is the store itself" in errors) == (2, True)
    assert (tmp_path / "mine.db").read_bytes().startswith(b"SQLite")


def test_times_and_foreign_tags_are_in_order(tmp_path: Path) -> None:
    entries = [
        track(at("/m/1"), scanned_at=2e9, tagged=("Antifolk",)),
        track(at("/m/2"), scanned_at=3e9, tagged=("Polka",)),
        track(at("/m/3"), scanned_at=1e9, tagged=("Polka",)),
    ]
    with open_store(tmp_path / "library.db", entries) as store:
        view = overview(store)
    assert (view.first, view.last) == (1e9, 3e9)
    assert [row[:2] for row in view.tags.foreign] == [("Polka", 2), ("Antifolk", 1)]
