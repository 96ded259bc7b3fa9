"""What the system that the tests run on says, and what it cannot do."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tonearm.errors import reason_of


def reason(posix: str, act: Callable[[], object]) -> str:
    """Give the reason for a refusal: POSIX's own words, or what another system says when asked."""
    if os.name == "posix":
        return posix
    try:
        act()
    except OSError as error:
        return reason_of(error)
    raise AssertionError("the system refused nothing")


NO_SUCH_FILE = reason("No such file or directory", Path("no such file").stat)
NO_SUCH_PATH = reason("No such file or directory", Path("no such folder/file").stat)
IS_A_FOLDER = reason("Is a directory", Path(os.curdir).read_bytes)


def _makes_links() -> bool:
    with TemporaryDirectory() as folder:
        link = Path(folder) / "link"
        try:
            link.symlink_to("nowhere")
        except OSError:  # Windows asks for a privilege
            return False
        return link.is_symlink()


MAKES_LINKS = _makes_links()

names_are_bytes = pytest.mark.skipif(
    sys.platform in ("win32", "darwin"), reason="names are UTF-8 there"
)
names_hold_anything = pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
deletes_files_in_use = pytest.mark.skipif(
    os.name != "posix", reason="elsewhere a file or folder in use cannot be deleted"
)
sends_ctrl_c = pytest.mark.skipif(
    os.name != "posix", reason="elsewhere no process can send Ctrl-C to one"
)
needs_links = pytest.mark.skipif(not MAKES_LINKS, reason="no symbolic links here")
