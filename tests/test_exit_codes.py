"""The exit codes of the program: docs/classify.md, "Exit codes"."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from bundles import FRONT_END, tone
from command_line import commands
from stores import open_store, track

RATE = FRONT_END.sample_rate
Run = Callable[[str], tuple[int, str, str]]
# Of a link to itself, whose reason is another elsewhere, if there are links at all.
circle = partial(
    pytest.param, marks=pytest.mark.skipif(os.name != "posix", reason="other reasons there")
)


@pytest.fixture(scope="module")
def workspace(
    tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path, write_audio: Callable[..., Path]
) -> Path:
    """A folder with two recordings of each of two genres, and unusable files."""
    workspace = tmp_path_factory.mktemp("workspace")
    for label, hertz in (("low", 200), ("high", 5000)):
        (workspace / "genres" / label).mkdir(parents=True)
        (workspace / "noise" / label).mkdir(parents=True)
        for number in range(2):
            song = write_audio(
                workspace / "genres" / label / f"{number}.flac", tone(hertz + number, 3), RATE
            )
            (workspace / "noise" / label / f"{number}.flac").write_text(f"no music {number}")
    shutil.copy(song, workspace / "song.flac")
    shutil.copy(tiny_bundle, workspace / "tiny.onnx")
    (workspace / "empty").mkdir()
    (workspace / "file").write_text("no folder")
    if os.name == "posix":
        (workspace / "loop.csv").symlink_to("loop.csv")
    (workspace / "text.db").write_text("no store, but long enough to be one " * 100)
    for suffix in ("csv", "toml", "yaml", "json", "jsonl", "db", "onnx"):
        (workspace / f"bin.{suffix}").write_bytes(b"path,label\nseed = 'caf\xe9'\n")
    open_store(workspace / "library.db", [track(str(workspace / "song.flac"))]).close()
    return workspace


@pytest.fixture
def run(
    workspace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: Callable[..., tuple[int, str, str]],
) -> Run:
    """`run("classify song.flac") -> (exit code, output, errors)`, in a copy of the folder."""
    folder = tmp_path / "workspace"
    shutil.copytree(workspace, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TONEARM_MODELS", str(folder))
    monkeypatch.setenv("TONEARM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("TONEARM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TONEARM_DATA", raising=False)
    monkeypatch.delenv("TONEARM_UNLABELLED", raising=False)
    return lambda line: program(*shlex.split(line))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("classify song.flac --loud", "--loud"),
        ("classify song.flac --json --csv", "--json and --csv exclude each other"),
        ("classify song.flac --model nope", "no model named 'nope'"),
        ("classify", "Missing argument"),
        ("classify ''", "'' is no file"),
        ("classify absent.mp3 --top 0", "--top"),
        ("classify absent.mp3 --csv --top 2", "--top"),
        ("classify absent.mp3 --workers 0", "--workers"),
        ("classify absent.mp3 --music-threshold 1.5", "--music-threshold"),
        ("classify absent.mp3 --unsure-threshold -1", "--unsure-threshold"),
        ("scan s3://bucket --store made.db", "addresses need --engine ray"),
        ("scan genres", "expected --store"),
        ("export library.db -o table.doc", "the suffix names no format"),
        ("export library.db --embeddings", "a CSV table has no room"),
        ("playlists library.db -o lists --min-confidence 2", "--min-confidence"),
        ("similar song.flac --store library.db --absolute", "--absolute means nothing without"),
        ("tag song.flac --above nan", "above: expected 0 to 1, got nan"),
        ("tag song.flac --below nan", "below: expected 0 to 1, got nan"),
        ("tag --store library.db --from bin.jsonl", "--from and --store exclude each other"),
        ("tag", "expected files or folders"),
        ("tag absent.mp3 --policy all", "--policy"),
        ("tag absent.mp3 --above 2", "--above"),
        ("tag absent.mp3 --above 0.5 --below 0.4", "nothing is at least 0.5"),
        ("tag absent.mp3 --model nope", "no model named 'nope'"),
        ("tag --undo --policy missing", "--policy means nothing with --undo"),
        ("tag --store absent.db --model default", "--model means nothing with --from or"),
        ("learn genres -o mine.doc --model tiny", "expected a name that ends in .onnx"),
        ("learn genres -o mine.onnx --model tiny --genres polka", "no example of polka"),
        ("serve --model nope", "no model named 'nope'"),
        ("explain song.flac --model tiny --genre polka", "does not know the genre 'polka'"),
        ("explain song.flac --model tiny -o picture.doc", "must end in one of"),
        ("spectrogram song.flac -o picture.doc", "must end in one of"),
        ("models nope", "no model named 'nope'"),
        ("data info genres --layout nope", "layout 'nope' is unknown"),
        ("data check genres --shortest nan", "shortest: expected seconds from 0, got nan"),
        ("data split genres --protocol nope", "--protocol"),
        ("data split genres --protocol builtin --folds 3", "--folds means nothing with --protocol"),
        ("data split genres -o parts.txt", "expected a name ending in .csv"),
        ("data download nope", "dataset 'nope' is unknown"),
        ("evaluate nope genres", "no model named 'nope'"),
        ("evaluate tiny genres --fold 1", "--fold means nothing without --protocol"),
        ("evaluate tiny genres --explain 1", "--explain means nothing without --report"),
        ("compare a.csv --csv --json", "exclude each other"),
        ("compare a.csv --csv --markdown", "exclude each other"),
        ("benchmark b --data genres --systems nope", "no system 'nope'"),
        ("benchmark b --data genres --protocol filtered --folds 3", "--folds means nothing with"),
        ("train --schedule.epochs 0", "schedule.epochs must be above 0"),
        ("train", "no data: give --data FOLDER"),
        ("distill --tuning.steps 0", "tuning.steps must be above 0"),
    ],
)
def test_the_command_line_alone_decides_2(run: Run, line: str, complaint: str) -> None:
    skip_without_what_it_needs(line)
    code, output, errors = run(line)
    assert (code, output) == (2, "")
    assert complaint in errors


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("classify absent.mp3", ""),
        ("classify song.flac --model absent.onnx", "absent.onnx: no such file"),
        ("classify song.flac --model ./absent", "absent: no such file"),
        ("classify song.flac --model empty", "without model.onnx, so not that of a finished run"),
        ("classify song.flac --model bin.onnx", "bin.onnx: "),
        ("scan absent --store made.db", "no such file or folder: absent"),
        ("scan genres --store text.db --model tiny", "text.db: file is not a database"),
        ("scan genres --store file/made.db --model tiny", "a file is where its folder should be"),
        circle(
            "scan genres --store loop.csv --model tiny", "loop.csv: Too many levels of symbolic"
        ),
        ("report absent.db", "absent.db: no such store"),
        ("report text.db", "text.db: file is not a database"),
        ("report library.db -o file/page.html", "a file is where its folder should be"),
        ("report library.db --mapping bin.csv", "mapping bin.csv: not UTF-8 (line 2)"),
        ("playlists bin.db -o lists", "bin.db: "),
        ("playlists library.db -o lists --mapping absent.toml", "absent.toml: No such file"),
        ("playlists library.db -o lists --mapping nope", "mapping nope: expected one of .toml"),
        ("playlists library.db -o lists --mapping bin.toml", "bin.toml: not UTF-8 (line 2)"),
        ("playlists library.db -o lists --min-confidence 1", "no track has a trusted genre"),
        ("similar song.flac --store absent.db", "absent.db: no such store"),
        ("similar song.flac --store library.db", "scanned by ours/30/00"),
        ("export absent.db", "absent.db: no such store"),
        (
            "export library.db -o file/table.csv",
            "file/table.csv: a file is where its folder should be",
        ),
        ("tag --undo", "nothing to undo: no journal in"),
        ("tag --undo nope", "no journal nope"),
        ("tag --undo bin.jsonl", "not a journal of tonearm tag"),
        ("tag song.flac --mapping nope", "mapping nope: expected one of .toml"),
        ("tag --from absent.jsonl", "absent.jsonl: No such file"),
        ("tag --from bin.jsonl", "bin.jsonl: not UTF-8 (line 2)"),
        ("tag --store absent.db", "absent.db: no such store"),
        ("tag absent.flac --model tiny", ""),
        (
            "tag song.flac --model tiny --journal file/tags.jsonl",
            "file/tags.jsonl: no journal: a file is where its folder should be",
        ),
        ("learn absent -o mine.onnx --model tiny", "absent: not found"),
        ("learn bin.csv -o mine.onnx --model tiny", "bin.csv: not UTF-8 (line 2)"),
        ("learn genres -o mine.onnx --model tiny", "learning needs two genres of 5 recordings"),
        ("learn genres -o file/mine.onnx --model tiny", "a file is where its folder should be"),
        (
            "learn genres -o mine.onnx --model tiny --min-files 2 --cache file",
            "file: a file is where its folder should be",
        ),
        ("serve --model absent.onnx", "absent.onnx: no such file"),
        ("serve --model tiny --host 192.0.2.1", "192.0.2.1, port 8000: "),
        ("explain absent.mp3 --model tiny", "absent.mp3: "),
        ("explain file --model tiny -o picture.png", "file: "),
        ("spectrogram absent.mp3", "absent.mp3: "),
        ("spectrogram song.flac -o file/picture.png", "picture.png: "),
        ("models absent.onnx", "absent.onnx: no such file"),
        ("models bin.onnx", "bin.onnx: "),
        ("data info absent", "absent: not found"),
        ("data info empty", "no known dataset layout"),
        ("data info bin.csv", "bin.csv: not UTF-8 (line 2)"),
        ("data check noise", ""),
        ("data split genres -o file/parts.csv --folds 2 --protocol random-kfold", "parts.csv: "),
        circle(
            "data split genres -o loop.csv --folds 2 --protocol random-kfold", "loop.csv: Too many"
        ),
        ("evaluate absent.onnx genres", "absent.onnx: no such file"),
        ("evaluate tiny absent", "absent: not found"),
        ("evaluate tiny bin.csv", "bin.csv: not UTF-8 (line 2)"),
        ("evaluate tiny noise", "could be "),
        ("evaluate tiny genres --split nope", "no labelled track with audio"),
        ("evaluate tiny genres --report file/report", "a file is where its folder should be"),
        ("compare absent.csv", "absent.csv: No such file"),
        ("compare bin.csv", "bin.csv: not a CSV file"),
        circle("compare loop.csv", "loop.csv: Too many levels"),
        ("benchmark b --data absent", "absent: not found"),
        ("benchmark b --data genres --systems absent.yaml", "absent.yaml: no such file"),
        ("benchmark b --data genres --systems absent.onnx", "absent.onnx: no such file"),
        ("benchmark b --data genres --systems bin.yaml", "bin.yaml: not UTF-8 (line 2)"),
        ("benchmark b --data noise --folds 2 --systems mfcc-svm", "no track could be decoded"),
        ("benchmark b --data noise --folds 2 --systems tiny", "none of its tracks could be"),
        ("train --config absent.yaml", "absent.yaml: No such file"),
        ("train --config bin.yaml", "bin.yaml: not UTF-8 (line 2)"),
        ("train --data absent", "data.path absent: no such file or folder"),
        ("distill --config absent.yaml", "absent.yaml: No such file"),
        ("distill --config bin.yaml", "bin.yaml: not UTF-8 (line 2)"),
        ("distill --data absent --unlabelled genres", "data.path absent: no such file or folder"),
        ("distill --data genres --data.folds 2 --unlabelled absent", "music absent: no such file"),
    ],
)
def test_what_else_fails_is_1(run: Run, line: str, complaint: str) -> None:
    skip_without_what_it_needs(line)
    code, _, errors = run(line)
    assert code == 1
    assert complaint in errors
    for message in filter(None, errors.splitlines()):  # neither boxes, nor tracebacks, nor bars
        assert message.startswith(("tonearm: ", "mfcc-svm, ", "tiny, ")), message


@pytest.mark.parametrize(
    ("line", "made"),
    [
        ("classify song.flac absent.mp3 --model tiny", None),
        ("scan genres --store new/made.db --model tiny --workers 1", "new/made.db"),
        ("report library.db -o new/page.html", "new/page.html"),
        ("playlists library.db -o new/lists", "new/lists/jazz.m3u8"),
        ("export library.db -o new/table.csv", "new/table.csv"),
        ("tag song.flac absent.flac --model tiny --journal new/notes.jsonl", "new/notes.jsonl"),
        ("learn genres -o new/mine.onnx --model tiny --min-files 2", "new/mine.onnx"),
        ("spectrogram song.flac -o new/picture.png", "new/picture.png"),
        ("explain song.flac --model tiny -o new/picture.png", "new/picture.png"),
        ("data info genres", None),
        ("data split genres -o new/parts.csv --folds 2 --protocol random-kfold", "new/parts.csv"),
        ("evaluate tiny genres --report new/report --explain 0", "new/report/report.html"),
        ("models tiny.onnx", None),
    ],
)
def test_what_succeeds_is_0_and_makes_its_folder(run: Run, line: str, made: str | None) -> None:
    skip_without_what_it_needs(line)
    code, _, errors = run(line)
    assert (code, "Traceback" in errors) == (0, False), errors
    assert made is None or Path(made).is_file()


@pytest.mark.parametrize(
    "line",
    [
        "evaluate tiny absent --report new",
        "evaluate tiny noise --report new",
        "learn noise -o new/mine.onnx --model tiny",
    ],
)
def test_a_folder_is_not_made_for_nothing(run: Run, line: str) -> None:
    skip_without_what_it_needs(line)
    assert run(line)[0] == 1
    assert not Path("new").exists()


def test_no_path_is_checked_before_the_command_says_what_is_wrong_with_it() -> None:
    checked = {
        f"{command.name} {parameter.name}": parameter.type.readable
        for command in commands().values()
        for parameter in command.params
        if hasattr(parameter.type, "readable")
    }
    assert len(checked) > 20
    assert not [name for name, is_checked in checked.items() if is_checked]


def skip_without_what_it_needs(line: str) -> None:
    """Skip a test where an optional package is missing that its command needs."""
    needed = {
        "learn": ("sklearn", "onnx"),
        "serve": ("fastapi", "uvicorn"),
        "explain": ("matplotlib",),
        "spectrogram": ("matplotlib",),
        "benchmark": ("sklearn", "matplotlib", "lightning", "jsonargparse"),
        "train": ("lightning", "jsonargparse"),
        "distill": ("lightning", "jsonargparse"),
    }
    packages = needed.get(line.split()[0], ())
    for package in (*packages, *(("matplotlib", "jinja2") if "--report" in line else ())):
        pytest.importorskip(package)
