"""The published AudioSet weights of EfficientAT mn04: found on disk, or downloaded."""

from __future__ import annotations

import hashlib
import http.client
import io
import urllib.request
from pathlib import Path

import torch
from torch import Tensor

from tonearm.atomic import atomic_write
from tonearm.errors import TonearmError, reason_of
from tonearm.paths import cache_folder, pretrained_weights

PRETRAINED_FILE = "mn04_as_mAP_432.pt"
PRETRAINED_SHA256 = "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c"
PRETRAINED_URL = (
    f"https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/{PRETRAINED_FILE}"
)


class PretrainedError(TonearmError):
    """The published weights are not available or not the expected file."""


def read_pretrained(path: Path | str | None) -> dict[str, Tensor]:
    """Read the published state dict.

    Parameters
    ----------
    path
        The weight file, or None for that of `find_pretrained`.

    Raises
    ------
    PretrainedError
        If the file is missing and cannot be downloaded, or is not the published one.
    """
    file = find_pretrained() if path is None else Path(path)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise PretrainedError(f"{file}: {reason_of(error)}") from error
    _check(file, content)
    state: dict[str, Tensor] = torch.load(
        io.BytesIO(content), map_location="cpu", weights_only=True
    )
    return state


def find_pretrained() -> Path:
    """Return the path of the published weights, downloading them if they are not found.

    Raises
    ------
    PretrainedError
        If they are not found and the download fails.
    """
    found = pretrained_weights(PRETRAINED_FILE)
    if found is None:
        found = cache_folder("pretrained") / PRETRAINED_FILE
        _download(found)
    return found


def _download(target: Path) -> None:
    try:
        with urllib.request.urlopen(PRETRAINED_URL, timeout=30) as response:
            content = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise PretrainedError(
            f"{PRETRAINED_FILE}: not in the folder TONEARM_PRETRAINED names nor in "
            f"{target.parent}, and {PRETRAINED_URL} cannot be fetched ({error}): "
            "download it elsewhere and set TONEARM_PRETRAINED to its folder"
        ) from error
    _check(target, content)
    try:
        with atomic_write(target) as file:
            file.write(content)
    except OSError as error:
        raise PretrainedError(f"{target}: {reason_of(error)}") from error


def _check(file: Path, content: bytes) -> None:
    digest = hashlib.sha256(content).hexdigest()
    if digest != PRETRAINED_SHA256:
        raise PretrainedError(
            f"{file}: not the published {PRETRAINED_FILE}: sha256 is {digest[:12]}..., "
            f"expected {PRETRAINED_SHA256[:12]}..."
        )
