"""Examines the pages that Tonearm makes, without a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")


class Page(HTMLParser):
    """A page's elements, of which each must be closed.

    Attributes
    ----------
    elements
        Name and attributes of each, in order.
    addresses
        What the page asks for.
    """

    VOID = frozenset({"meta", "img", "br", "link", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    @property
    def addresses(self) -> list[str]:
        return [
            value or ""
            for _, attributes in self.elements
            for name, value in attributes.items()
            if name in ("src", "href")
        ]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def check_page(text: str) -> None:
    """Check what readers without sight go by, and that paper shows the bars, on white."""
    elements = Page(text).elements
    names = [name for name, _ in elements]
    assert dict(elements)["html"] == {"lang": "en"}
    assert names.count("main") == names.count("title") == names.count("h1") == 1
    levels = [int(name[1]) for name in names if re.fullmatch(r"h\d", name)]
    assert all(below <= above + 1 for above, below in pairwise(levels))
    for name, attributes in elements:
        if name == "th":
            assert attributes["scope"] in ("col", "row")
        if name == "img":
            assert attributes["alt"]
        if name == "div" and attributes.get("class") == "table":  # scrolled if it is too wide
            assert attributes["tabindex"] == "0"
            assert attributes["role"] == "region"
            assert attributes["aria-label"]
    assert "print-color-adjust: exact" in text
    assert re.findall(r"@media .*prefers-color-scheme: dark", text) == [
        "@media screen and (prefers-color-scheme: dark"
    ]


def run_script(text: str, before: str, after: str, folder: Path) -> Any:
    """Run a page's script between other lines, the last of which prints JSON; return its value."""
    *_, script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    trial = folder / "trial.js"
    stand_ins = Path(__file__).with_name("document.js").read_text("utf-8")
    trial.write_text("\n".join((stand_ins, before, script, after)), encoding="utf-8")
    completed = subprocess.run(
        ["node", trial], capture_output=True, text=True, timeout=30, check=False
    )
    assert completed.returncode == 0, completed.stderr
    return json.loads(completed.stdout)
