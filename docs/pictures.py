"""Makes the README's pictures of real output: python docs/pictures.py SONG [SONG ...]

The first song is the one whose spectrogram and explanation are drawn. The songs of the pictures in
the repository are free music from Debian's game packages, see docs/images/README.md.
"""

from __future__ import annotations

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
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True)
        console.print(Text(f"$ {shown}", style="bold"))
        console.print(Text.from_ansi(printed.stdout))
    image.write_text(console.export_svg(title=title), encoding="utf-8")


def main(songs: list[str]) -> None:
    """Draw everything anew."""
    if not songs:
        sys.exit(__doc__)
    # The pictures show the files' names, not where they lie on this machine.
    paths = [Path(song).resolve() for song in songs]
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    os.chdir(folder)
    names = [str(path.relative_to(folder)) for path in paths]
    tonearm = [sys.executable, "-m", "tonearm"]
    photograph(
        [*tonearm, "classify", *names],
        "tonearm classify album/",
        IMAGES / "classify.svg",
        "tonearm",
    )
    photograph(
        [*tonearm, "classify", "--timeline", names[0]],
        f"tonearm classify --timeline {names[0]}",
        IMAGES / "timeline.svg",
        "tonearm",
    )
    for command in ("spectrogram", "explain"):
        image = IMAGES / f"{command}.png"
        subprocess.run([*tonearm, command, names[0], "-o", str(image)], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
