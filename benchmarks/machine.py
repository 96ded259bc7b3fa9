"""Says on what a benchmark ran: processor, cores, versions; nothing that names the machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import av


def notes(packages: Iterable[str] = ("numpy", "av", "onnxruntime")) -> str:
    """Describe the machine and versions in one line, leaving out packages not installed."""
    parts = [f"{_processor()}, {os.cpu_count()} cores", f"Python {platform.python_version()}"]
    for package in packages:
        with suppress(PackageNotFoundError):
            parts.append(f"{package} {version(package)}")
    decoder = ".".join(map(str, av.library_versions["libavcodec"]))
    return ", ".join([*parts, f"libavcodec {decoder}"])


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
