"""The core stays light: what classifying must never load, and what the core must never need."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from bundles import FRONT_END, tone

HEAVY = (
    *("torch", "lightning", "sklearn", "scipy", "pandas", "matplotlib", "onnx", "librosa"),
    *("fastapi", "pydantic", "uvicorn"),
)

# Refuses to import what only the extras bring, as if it were not installed.
BLOCKER = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError("no " + name, name=name)
sys.meta_path.insert(0, Blocker())
"""


def _run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


def test_no_telemetry_identifier_is_stored(
    tmp_path: Path, write_audio: Callable[..., Path], tiny_bundle: Path
) -> None:
    file = write_audio(tmp_path / "tone.flac", tone(300, 1), FRONT_END.sample_rate)
    home = tmp_path / "home"
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    code = "import sys, tonearm; print(tonearm.Classifier.load(sys.argv[1])(sys.argv[2]).genre)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_bundle), str(file)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "low\n"
    assert list(home.rglob("*")) == []


def test_importing_tonearm_loads_nothing_of_weight() -> None:
    code = "import sys, tonearm; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = set(_run(code).stdout.split())
    assert "tonearm" in loaded
    assert loaded.isdisjoint({*HEAVY, "numpy", "onnxruntime", "av"})


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["classify", "--help"]])
def test_help_loads_nothing_of_weight(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom tonearm.cli.app import main\n"
        "try: main()\n"
        "finally: print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = _run(code, *arguments)
    assert done.returncode == 0
    heavy = set(done.stderr.split()) & {*HEAVY, "numpy", "onnxruntime", "av"}
    assert heavy == set(), "import it within the function of the command"


def test_a_command_is_built_without_the_others() -> None:
    code = (
        "import sys\nfrom tonearm.cli.app import COMMANDS, main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "built = [name for name in COMMANDS if f'tonearm.cli.{name}' in sys.modules]\n"
        "print(*built, file=sys.stderr)"
    )
    assert _run(code, "classify", "--help").stderr == "classify\n"
    assert set(_run(code, "--help").stderr.split()) > {"classify", "benchmark"}


def test_classifying_works_without_the_extras_and_json_without_rich(
    tiny_bundle: Path, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    file = write_audio(tmp_path / "tone.flac", tone(200, 1), FRONT_END.sample_rate)
    code = """
from tonearm.cli.app import main
if __name__ == "__main__":
    arguments = sys.argv[1:]
    for options in (["--json"], ["--csv"], [], ["--workers", "2"]):
        sys.argv = ["tonearm", *arguments, *options]
        try:
            main()
        except SystemExit as end:
            print("exit code", end.code, "rich.console" in sys.modules)
"""
    done = _run(BLOCKER + code, "classify", "--model", str(tiny_bundle), str(file))
    assert (done.returncode, done.stderr) == (0, "")
    answers = re.split(r"^exit code (\d) (\w+)\n", done.stdout, flags=re.MULTILINE)[:-1]
    assert all(str(file) in answer and "low" in answer for answer in answers[::3])
    assert answers[1::3] == ["0"] * 4
    assert answers[2] == "False"


def test_the_core_imports_no_torch() -> None:
    code = """
import sys
from importlib import import_module
from pkgutil import iter_modules
for name in ("audio", "features", "bundle", "classifier", "datasets"):
    part = import_module(f"tonearm.{name}")
    for module in iter_modules(getattr(part, "__path__", ()), f"tonearm.{name}."):
        import_module(module.name)
print(*sys.modules)
"""
    loaded = set(_run(code).stdout.split())
    assert loaded >= {"tonearm.classifier", "tonearm.datasets.folder", "tonearm.features.plot"}
    assert loaded & {"torch", "lightning"} == set()


def test_the_core_depends_on_nothing_heavy() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    core = {requirement.split(">=")[0] for requirement in project["dependencies"]}
    assert core == {"numpy", "av", "onnxruntime", "mutagen", "typer", "rich"}


def test_the_licences_of_what_is_in_the_weights_come_with_the_package() -> None:
    root = Path(__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    texts = "".join((root / name).read_text() for name in project["license-files"])
    for notice in ("2022 Florian Schmid", "developed by Minz Won", "developed by Jordi Pons"):
        assert notice in texts
    assert texts.count("The above copyright notice and this permission notice shall be") == 2


def test_the_source_distribution_has_what_its_makefile_needs() -> None:
    root = Path(__file__).parents[1]
    build = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    included = set(build["targets"]["sdist"]["include"])
    assert included >= {"Makefile", "constraints.txt", "mkdocs.yml", "CONTRIBUTING.md"}
    assert included >= {"src", "tests", "benchmarks", "configs", "docs"}
    assert all((root / name).exists() for name in included)


def test_a_part_that_lacks_its_extra_cannot_be_imported() -> None:
    lacking = {
        "library.head": ("scikit-learn", "learn"),
        "baselines.classical": ("scikit-learn", "learn"),
        "evaluation.report": ("matplotlib", "report"),
        "benchmark.ladder": ("matplotlib", "plot"),
        "serving": ("fastapi", "serve"),
    }
    code = f"""
from importlib import import_module
for part in {list(lacking)}:
    try:
        import_module(f"tonearm.{{part}}")
    except ImportError as error:
        print(type(error).__name__, error)
"""
    assert _run(BLOCKER + code).stdout.splitlines() == [
        f"MissingExtraError this needs {package}, which is not installed: "
        f"pip install 'tonearm[{extra}]'"
        for package, extra in lacking.values()
    ]
