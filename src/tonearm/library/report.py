"""Write one self-contained page that shows a whole library."""

from __future__ import annotations

import html
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from importlib.resources import files

from tonearm import __version__
from tonearm.atomic import write_text
from tonearm.library.outputs import refuse_to_overwrite
from tonearm.library.overview import Overview, overview
from tonearm.library.store import Store
from tonearm.text import printable

# The page is a template and what fills its placeholders. All that depends on the library is data,
# which the page's script inserts as text, so names of files and tracks are never parsed as HTML.
PARTS = "page"
TEMPLATE, STYLE, SCRIPT = "page.html", "page.css", "page.js"


def write_report(
    store: Store,
    target: str | os.PathLike[str],
    mapping: Mapping[str, Sequence[str]] | None = None,
    title: str | None = None,
) -> Overview:
    """Write the page of a library; return the overview it shows.

    Parameters
    ----------
    store
        The store of a scan.
    target
        An HTML file, which appears complete or not at all.
    mapping
        From labels to the words that the user's tags use for them.
    title
        By default, the name of the store without its suffix.

    Raises
    ------
    UsageError
        If the target is a recording or the store.
    TonearmError
        If the store knows no files, or the page cannot be written.
    """
    refuse_to_overwrite(target, store.path)
    view = overview(store, mapping)
    write_text(target, render(view, title or printable(store.path.stem)))
    return view


def render(view: Overview, title: str) -> str:
    """Return the HTML page that shows an overview."""
    about = {"title": title, "version": __version__, "date": time.time()}
    placeholders = {
        "title": html.escape(title),
        "style": _page_part(STYLE),
        "program": _page_part(SCRIPT),
        "data": _inline_json(vars(view) | about),
    }
    return re.sub(r"{{(\w+)}}", lambda match: placeholders[match[1]], _page_part(TEMPLATE))


def _page_part(name: str) -> str:
    return (files(__package__) / PARTS / name).read_text(encoding="utf-8")


def _inline_json(data: object) -> str:
    """Return data as JSON in which no HTML parser sees the end of the enclosing element."""
    text = json.dumps(
        data, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=vars
    )
    return text.replace("<", "\\u003c")
