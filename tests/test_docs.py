"""The pages against the package: what they show is there, and their Python runs."""

from __future__ import annotations

import ast
import doctest
import inspect
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.version import Version

from bundles import tiny_metadata, write_bundle
from command_line import commands
from tonearm import __version__, bundle, explanation, inputs, loudness, metadata, synth
from tonearm.baselines.feature_sets import FEATURE_SETS
from tonearm.classifier import Classifier
from tonearm.datasets import LAYOUTS, PROTOCOLS, check
from tonearm.datasets.gtzan_facts import facts
from tonearm.evaluation import predictions
from tonearm.evaluation.compare import compare
from tonearm.features.logmel import FRONT_ENDS, LogMelConfig
from tonearm.library import cluster, excerpt, learn
from tonearm.library.rows import COMMON_COLUMNS
from tonearm.library.scan import Scan
from tonearm.library.store import Store
from tonearm.metadata import BundleMetadata
from tonearm.models import model_names, registry
from tonearm.serving import Limits

ROOT = Path(__file__).parents[1]
NAMES = re.findall(
    r"^::: (\S+)$", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.MULTILINE
)
RATE = 22050

WITHHELD = {
    "docs/distill.md": "asks published networks, which are not at hand everywhere",
    "docs/scale-out.md": "reads what a cluster left",
}


def attribute(name: str) -> Any:
    """Give what a name such as `tonearm.audio.read` stands for."""
    module, _, last = name.rpartition(".")
    return getattr(import_module(module), last)


def examples() -> dict[str, list[str]]:
    """Give the Python on each page that has some."""
    pages = {path.relative_to(ROOT).as_posix(): path for path in ROOT.glob("docs/*.md")}
    found = {}
    for name, path in {"README.md": ROOT / "README.md", **pages}.items():
        text = path.read_text(encoding="utf-8")
        found[name] = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return {name: blocks for name, blocks in found.items() if blocks and name not in WITHHELD}


def shown(blocks: list[str]) -> set[str]:
    """Give the functions and classes of Tonearm that some Python imports, by their full names."""
    nodes = [node for block in blocks for node in ast.walk(ast.parse(block))]
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    names = {f"{node.module}.{alias.name}" for node in imports for alias in node.names}
    return {name for name in names if name.startswith("tonearm") and callable(attribute(name))}


def fields_of(*classes: type[Any]) -> list[str]:
    """Give the names of the fields of dataclasses."""
    return [field.name for each in classes for field in fields(each)]


def test_the_version_is_the_one_that_changelog_and_citation_name() -> None:
    changelog, citation = (
        (ROOT / name).read_text(encoding="utf-8") for name in ("CHANGELOG.md", "CITATION.cff")
    )
    (released, date), *_ = re.findall(r"^## \[([0-9.]+)\] - (\S+)$", changelog, re.MULTILINE)
    assert f'version: {released}\ndate-released: "{date}"\n' in citation
    version = Version(__version__)
    if "## [Unreleased]" in changelog:
        assert version.is_devrelease
        assert version > Version(released)
    else:
        assert version == Version(released)


def test_the_container_gets_what_the_package_is_built_from() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = {name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]}
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {"pyproject.toml", "src", project["readme"], *project["license-files"]}
    assert copied == sent == needed


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_container_asks_after_its_health_without_a_proxy(status: int, code: int) -> None:
    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    check = re.search(r"^HEALTHCHECK .*CMD (\[.*?\])$", text.replace("\\\n", ""), re.MULTILINE)
    assert check
    with HTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        _, *arguments = json.loads(check[1].replace(":8000", f":{server.server_port}"))
        environment = {**os.environ, "http_proxy": "http://127.0.0.1:1", "no_proxy": ""}
        completed = subprocess.run(
            [sys.executable, *arguments], env=environment, capture_output=True, check=False
        )
    assert completed.returncode == code


@pytest.mark.parametrize("name", NAMES)
def test_what_the_page_shows_is_there_and_explained(name: str) -> None:
    thing = attribute(name)
    text = inspect.getdoc(thing)
    assert text
    section = re.search(r"^(?:Parameters|Attributes)\n-+\n(.*?)(?=^\w+\n-+$|\Z)", text, re.M | re.S)
    if section is None:  # some have those of another function
        return
    explained = re.findall(
        r"\w+", ", ".join(re.findall(r"^\**(\w[\w, ]*)", section[1], re.MULTILINE))
    )
    if inspect.isfunction(thing):
        assert explained == list(inspect.signature(thing).parameters)
    if inspect.isclass(thing) and is_dataclass(thing):
        missing = {field.name for field in fields(thing)} - set(explained)
        assert missing == set(), f"not among the Attributes of {name}"


def test_what_examples_use_is_on_the_page() -> None:
    explained = {attribute(name) for name in NAMES}
    used = {name for blocks in examples().values() for name in shown(blocks)}
    assert {name for name in used if attribute(name) not in explained} == set()


@pytest.mark.parametrize(
    ("page", "names"),
    [
        pytest.param("data.md", LAYOUTS, id="layouts"),
        pytest.param("data.md", PROTOCOLS, id="protocols"),
        pytest.param("train.md", model_names(), id="networks"),
        pytest.param("features.md", FRONT_ENDS, id="front ends"),
        pytest.param("evaluate.md", [f"{name}-" for name in FEATURE_SETS], id="feature sets"),
        pytest.param("scan.md", COMMON_COLUMNS, id="columns of an export"),
        pytest.param("bundle.md", fields_of(BundleMetadata, LogMelConfig), id="model files"),
    ],
)
def test_a_table_lists_all_there_are(page: str, names: Iterable[str]) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    cells = re.findall(r"^\|(.*?)\|", text, re.MULTILINE)
    rows = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    assert set(names) - set(rows) == set(), f"without a row in docs/{page}"


@pytest.mark.parametrize(
    ("page", "statement"),
    [
        ("classify.md", f"less than {inputs.SHORTEST_SECONDS:g} s of audio"),
        ("classify.md", f"nothing above {20 * np.log10(inputs.SILENCE_PEAK):.0f} dB of full scale"),
        ("classify.md", f"fewer than {loudness.HEARD_SHARE:.0%} of its tenths of a second"),
        ("classify.md", f"that it is music is below {metadata.MUSIC_THRESHOLD:.0%}."),
        ("classify.md", f"the best genre has less than {metadata.UNSURE_THRESHOLD:.0%},"),
        ("data.md", f"below `--shortest` ({check.SHORTEST_SECONDS:g} s)"),
        ("data.md", f"below {check.STATED_SHARE:.0%} of the duration the dataset states"),
        ("explain.md", f"by default {explanation.EXPLAINED_SECONDS:g} s around the middle"),
        ("learn.md", f"fewer than `--min-files` ({learn.FEWEST_FILES})"),
        ("scale-out.md", f"recordings in each Parquet file ({cluster.PARTITION_FILES})"),
        ("scan.md", f"by default {excerpt.DEFAULT_SECONDS:g}; `all` for everything"),
        ("serve.md", f"of one upload ({Limits.megabytes:g})"),
        ("serve.md", f"besides those being classified ({Limits.waiting})"),
        ("serve.md", f"no data of the upload arrived for {Limits.idle_seconds:g} s"),
    ],
)
def test_a_limit_on_a_page_is_that_of_the_code(page: str, statement: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert statement in " ".join(text.split()).replace(" %", "%")


def test_every_command_and_option_is_on_a_page() -> None:
    pages = (ROOT / "README.md", *ROOT.glob("docs/*.md"))
    text = "".join(path.read_text(encoding="utf-8") for path in pages)
    wanted = {
        name: [
            word
            for parameter in command.params
            for word in (*parameter.opts, *getattr(parameter.type, "choices", ()))
        ]
        for name, command in commands().items()
        if not hasattr(command, "commands")
    }
    missing = [name for name in wanted if not re.search(rf"{name}\b", text)]
    missing += [
        f"{name} {word}"
        for name, words in wanted.items()
        for word in words
        if not re.search(rf"(?<!\w){word}\b", text)
    ]
    assert missing == [], "neither in the README nor in docs/"


def test_what_contributing_names_is_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = "".join(re.findall(r"^\|.*\|$", text, re.MULTILINE))
    folders = ("benchmarks", "configs", "docs", "src", "tests")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    code = "".join(path.read_text(encoding="utf-8") for path in paths if path.suffix == ".py")
    words = set(re.findall(r"\w+", code))
    gone = []
    for name in re.findall(r"`([^`]+)`", table):
        if re.search(r"(/|\.\w{2})$", name):
            is_there = any(path.as_posix().endswith("/" + name.strip("/")) for path in paths)
        else:
            is_there = re.findall(r"\w+", name)[-1] in words
        if not is_there:
            gone.append(name)
    assert gone == [], "in its table, but neither a file nor in the code"


def test_the_table_of_the_readme_is_what_its_command_prints() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    names = re.search(r"^tonearm compare \{(.*)\}\.csv --markdown$", text, re.MULTILINE)
    assert names
    folder = ROOT / "docs" / "results" / "predictions" / "gtzan"
    runs = {name: predictions.read(folder / f"{name}.csv") for name in names[1].split(",")}
    assert compare(runs).to_markdown() in text


@pytest.mark.parametrize(
    "module",
    [
        ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "src").rglob("*.py"))
        if ">>> " in path.read_text(encoding="utf-8")
    ],
)
def test_the_examples_in_docstrings_run(module: str) -> None:
    assert doctest.testmod(import_module(module)).failed == 0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model of the shipped one's genres that answers at once, in the place of that."""
    folder = tmp_path_factory.mktemp("models")
    labels = bundle.Bundle.load(bundle.builtin()["default"]).metadata.labels
    outputs = ("logits", "embedding", "music")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TONEARM_MODELS", str(folder))
        yield write_bundle(
            folder / "default.onnx",
            tiny_metadata(labels=labels),
            labels=len(labels),
            outputs=outputs,
        )


@pytest.fixture(scope="module")
def desk(
    tmp_path_factory: pytest.TempPathFactory, write_audio: Callable[..., Path], model: Path
) -> Path:
    """A folder that holds what the pages speak of."""
    folder = tmp_path_factory.mktemp("desk")

    def piece(name: str, style: str = synth.STYLES[0], seconds: float = 3.0, seed: int = 0) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_audio(path, synth.render(style, seconds, RATE, seed), RATE)

    piece("concert.flac", seconds=25.0)
    for name in ("song.mp3", "song.flac", "a.mp3", "b.flac", "Music/Jazz/c.ogg"):
        piece(name, seconds=90.0 if name == "song.mp3" else 3.0)
    for number in range(10):
        for style in synth.STYLES[:2]:
            piece(f"Examples/{style}/{number}.flac", style, seed=number)
    for genre, style in zip(("blues", "jazz"), synth.STYLES, strict=False):
        for part, count in (("train", 3), ("valid", 2)):
            own = [t for t, fact in facts().items() if t.startswith(genre) and fact.split == part]
            for number, track in enumerate(own[:count]):
                piece(f"gtzan/genres/{genre}/{track}.wav", style, seed=number)
    (folder / "runs/hybrid").mkdir(parents=True)
    shutil.copy(model, folder / "runs/hybrid/model.onnx")
    (folder / "words.toml").write_text('hiphop = "Hip-Hop"\n')
    with Store(folder / "library.db", create=True) as store:
        list(Scan(store, [str(folder / "Music"), str(folder / "song.flac")]))
    return folder


@pytest.mark.parametrize("page", examples())
def test_the_python_of_a_page_runs(
    page: str, desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = shutil.copytree(desk, tmp_path / "desk")
    monkeypatch.chdir(here)
    monkeypatch.setattr(registry, "_networks", dict(registry._networks))  # for a page's own
    monkeypatch.setenv("TONEARM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TONEARM_STATE", str(tmp_path / "state"))
    at_hand: dict[str, Any] = {
        "__name__": "__main__",
        "io": io,
        "upload": Path("song.mp3").read_bytes(),
        "samples": np.asarray(synth.render(synth.STYLES[0], 3.0, RATE)),
        "rate": RATE,
        "paths": ["song.mp3", "gone.mp3"],
    }
    for number, block in enumerate(examples()[page]):
        exec(compile(block, f"{page}, example {number + 1}", "exec"), at_hand)


@pytest.mark.parametrize("name", ["default", *FRONT_ENDS])
def test_a_model_gives_the_same_without_tonearm(
    name: str,
    tmp_path: Path,
    write_audio: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if name != "default":
        front_end = FRONT_ENDS[name]
        metadata = tiny_metadata(front_end=front_end, temperature=200.0)
        write_bundle(tmp_path / "default.onnx", metadata, mels=front_end.n_mels)
    monkeypatch.setenv("TONEARM_MODELS", str(tmp_path))
    classifier = Classifier.load()
    rate = classifier.sample_rate
    samples = np.asarray(synth.render(synth.STYLES[0], 12.4, rate))
    samples[rate : rate + rate // 10] = 0  # where the last digit of a frame decides (`full_band`)
    silence = np.zeros(round(10.1 * rate), np.float32)
    for sound in (samples[: round(0.6 * rate)], samples, np.concatenate([samples, silence])):
        song = write_audio(tmp_path / "song.wav", sound, rate)
        code = examples()["docs/bundle.md"][0].replace("song.mp3", str(song))
        found: dict[str, Any] = {}
        exec(compile(code, "docs/bundle.md", "exec"), found)
        prediction = classifier(song)
        there = dict(zip(found["model"]["labels"], found["probabilities"], strict=True))
        # Another FFT may round the faintest treble otherwise, to which the default is sensitive.
        accuracy = 1e-3 if name == "default" else 1e-5
        assert there == pytest.approx(prediction.probabilities, abs=accuracy)
        assert found.get("music") == pytest.approx(prediction.music, abs=1e-5)
        assert 1e-3 < max(there.values()) < 1 - 1e-3
