"""The rooms of the package stand as docs/design.md says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "tonearm"


def _levels() -> dict[str, int]:
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    _, _, rest = design.partition("Imports point one way: ")
    sentence, _, _ = rest.partition(".\n")
    return {
        room: level
        for level, rooms in enumerate(sentence.split("→"))
        for room in re.findall(r"`(\w+)`", rooms)
    }


def _imported(file: Path) -> Iterator[str]:
    """Give the rooms that a module imports from, within functions and for type checkers too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "tonearm":
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tonearm."):
            yield str(node.module).split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (n.name.split(".")[1] for n in node.names if n.name.startswith("tonearm."))


def test_imports_point_one_way() -> None:
    levels = _levels()
    for room in levels:
        assert (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").is_file(), room
    upward = []
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room in levels:
            upward += [
                f"{file.relative_to(PACKAGE)} imports {other}"
                for other in _imported(file)
                if other != room and levels.get(other, len(levels)) <= levels[room]
            ]
    assert upward == [], "against the order in docs/design.md"


def test_packages_are_explained() -> None:
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    packages = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}
    explained = set(re.findall(r"^\| `tonearm\.(\w+)`", design, re.MULTILINE))
    assert packages - explained == set(), "not in the table of docs/design.md"
    assert packages - _levels().keys() == set(), "not in its sentence about imports"


def test_what_holds_arrays_is_not_compared_by_value() -> None:
    """`==` of two such objects would raise: arrays have no single truth value."""
    arrays = re.compile(r"\b(NDArray|Floats|Doubles|FloatArray|Samples|Tensor)\b")
    compared = []
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            decorators = map(ast.unparse, getattr(node, "decorator_list", ()))
            if not any("dataclass" in text and "eq=False" not in text for text in decorators):
                continue
            compared += [
                f"{file.relative_to(PACKAGE)}: {ast.unparse(field)}"
                for field in ast.iter_child_nodes(node)
                if isinstance(field, ast.AnnAssign)
                and arrays.search(re.sub(r"Callable\[.*\]", "", ast.unparse(field.annotation)))
                and "compare=False" not in ast.unparse(field)
            ]
    assert compared == [], "give these dataclasses eq=False, or such fields compare=False"
