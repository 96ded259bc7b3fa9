"""Download GTZAN through mirdata, which knows its mirrors, checksums and index."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tonearm.datasets.track import DatasetError
from tonearm.errors import UsageError, reason_of
from tonearm.extras import needs

# Our name for an edition: mirdata's version, and its name for the archive with the audio.
EDITIONS = {
    "full": ("default", "all"),  # 1,000 tracks, 1.2 GB
    "mini": ("mini", "mini"),  # 100 tracks
}

BY_HAND = (
    "get genres.tar.gz or the Kaggle edition of GTZAN by hand, unpack it, and point "
    "`tonearm data check` at the folder"
)


@dataclass(frozen=True)
class Validation:
    """How the audio files in `root` compare with GTZAN's index.

    Attributes
    ----------
    tracks
        Number of tracks there should be.
    missing, altered
        Paths of the missing files, and of those with a different checksum.
    """

    root: Path
    tracks: int
    missing: tuple[str, ...]
    altered: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether every file is present and unaltered."""
        return not self.missing and not self.altered


def download_gtzan(to: Path, edition: str = "full") -> Validation:
    """Download GTZAN's audio, unpack it, and compare it with its index.

    An archive that is already present is not downloaded again.

    Raises
    ------
    UsageError
        If there is no such edition.
    MissingExtraError
        If mirdata is not installed.
    DatasetError
        If downloading or unpacking failed; the message says what to do instead.
    """
    dataset = _loader(to, edition)
    _, archive = EDITIONS[edition]
    try:
        with _quiet():
            # The beat and tempo annotations are not needed for genres.
            dataset.download(partial_download=["index", archive])
        return _validated(to, dataset._index["tracks"])
    except Exception as error:
        # mirdata passes on whatever urllib, tarfile, zipfile and the file system raise.
        reason = reason_of(error)
        raise DatasetError(f"GTZAN could not be downloaded ({reason}); {BY_HAND}") from error


def _loader(to: Path, edition: str) -> Any:
    if edition not in EDITIONS:
        raise UsageError(f"edition {edition!r} is unknown; there are {', '.join(EDITIONS)}")
    with needs("data"):
        import mirdata
    version, _ = EDITIONS[edition]
    return mirdata.initialize("gtzan_genre", data_home=str(to), version=version)


def _validated(root: Path, index: Mapping[str, Mapping[str, Any]]) -> Validation:
    from mirdata import validate

    audio = {track: {"audio": files["audio"]} for track, files in index.items()}
    missing, altered = validate.validate_files(audio, str(root), verbose=False)
    return Validation(root, len(audio), _paths(missing), _paths(altered))


def _paths(found: Mapping[str, list[str]]) -> tuple[str, ...]:
    return tuple(path for paths in found.values() for path in paths)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress mirdata's messages, which it logs as warnings on the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
