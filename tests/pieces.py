"""Writes folders of synthetic pieces."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tonearm.synth import STYLES, render, write_wav

RATE = 22050


def write_pieces(folder: Path, labels: Iterable[str], count: int, seconds: float = 1.0) -> Path:
    """Make a folder per label that holds `0.wav`, `1.wav`, ..., all in a style of its own."""
    for label, style in zip(labels, STYLES, strict=False):
        (folder / label).mkdir(parents=True)
        for seed in range(count):
            write_wav(folder / label / f"{seed}.wav", render(style, seconds, RATE, seed), RATE)
    return folder
