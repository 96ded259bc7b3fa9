"""Makes the README's pictures of real output: python docs/pictures.py SONG [SONG ...]

The first song is the one that is explained. Those in the repository's pictures are free music from
Debian's packages ufoai-music, 0ad-data, supertuxkart-data, nexuiz-music and frozen-bubble-data, and
a sentence spoken by espeak-ng.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

IMAGES = Path(__file__).with_name("images")
WIDTH = 86  # columns


def photograph(command: list[str], shown: str, image: Path, title: str) -> None:
    """Run a command and draw what it prints, below the line that a person would have typed."""
    terminal = os.environ | {"FORCE_COLOR": "1", "COLUMNS": str(WIDTH), "TERM": "xterm-256color"}
    printed = subprocess.run(command, env=terminal, check=True, capture_output=True, text=True)
    # What would be wiped out on a terminal is left out: the progress bar's lines.
    lines = [line for line in printed.stdout.splitlines() if "━" not in line]
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True)
        console.print(Text(f"$ {shown}", style="bold"))
        console.print(Text.from_ansi("\n".join(line for line in lines if line.strip())))
    image.write_text(console.export_svg(title=title), encoding="utf-8")


def main() -> None:
    """Draw everything anew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("songs", nargs="+", type=Path, metavar="SONG")
    # The pictures show the files' names, not where they lie on this machine.
    paths = [song.resolve() for song in parser.parse_args().songs]
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    os.chdir(folder)
    names = [str(path.relative_to(folder)) for path in paths]
    tonearm = [sys.executable, "-m", "tonearm"]
    photograph(
        [*tonearm, "classify", *names], "tonearm classify *", IMAGES / "classify.svg", "tonearm"
    )
    image = str(IMAGES / "explain.png")
    subprocess.run([*tonearm, "explain", names[0], "-o", image], check=True)


if __name__ == "__main__":
    main()
