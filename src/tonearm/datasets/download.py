"""Download GTZAN through mirdata, which knows its mirrors, checksums and index."""

from __future__ import annotations

import http.client
import logging
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tonearm.atomic import atomic_path, errors_naming
from tonearm.datasets.track import DatasetError
from tonearm.errors import UsageError, reason_of, with_file
from tonearm.extras import needs
from tonearm.progress import with_progress

# Our name for an edition: mirdata's version, and its name for the archive with the audio.
EDITIONS = {
    "full": ("default", "all"),  # 1,000 tracks, 1.2 GB
    "mini": ("mini", "mini"),  # 100 tracks
}

_STALLED_SECONDS = 60.0  # without a byte from the server, until a download is given up
_BLOCK_BYTES = 2**20

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

    An archive that is already present is not downloaded again. An interrupted download leaves none.

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
            for remote in (dataset._index_data.remote, dataset.remotes[archive]):
                _fetch(remote, to)
            with errors_naming(to):
                dataset.download(partial_download=["index", archive])  # unpacks what is there
        return _validated(to, dataset._index["tracks"])
    except Exception as error:
        # mirdata passes on whatever tarfile, zipfile and the file system raise.
        reason = with_file(error)
        raise DatasetError(f"GTZAN could not be downloaded ({reason}); {BY_HAND}") from error


def _loader(to: Path, edition: str) -> Any:
    if edition not in EDITIONS:
        raise UsageError(f"edition {edition!r} is unknown; there are {', '.join(EDITIONS)}")
    with needs("data"):
        import mirdata
    version, _ = EDITIONS[edition]
    return mirdata.initialize("gtzan_genre", data_home=str(to), version=version)


def _fetch(remote: Any, folder: Path) -> None:
    """Download one of mirdata's files unless it is present; it appears whole or not at all.

    mirdata would write under the file's own name, and refuse what an interrupted download left
    there ever after. It would also wait without end for a server that stalls.
    """
    from mirdata.validate import md5

    path = folder / (remote.destination_dir or "") / remote.filename
    if path.exists():
        if md5(path) != remote.checksum:
            raise DatasetError(
                f"{path}: not the published file, or only a part of it; remove it to download "
                "it again"
            )
        return
    with atomic_path(path) as draft:
        try:
            _copy(remote.url, draft, remote.filename)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
            raise DatasetError(f"{remote.url}: {reason_of(error)}") from error
        if md5(draft) != remote.checksum:
            raise DatasetError(f"{remote.url}: sent another file, or only a part of it")


def _copy(url: str, path: Path, name: str) -> None:
    """Copy a file from the network to disk, with a progress bar that counts megabytes."""
    with urllib.request.urlopen(url, timeout=_STALLED_SECONDS) as response, path.open("wb") as file:
        blocks = iter(partial(response.read, _BLOCK_BYTES), b"")
        total = -(-int(response.headers.get("Content-Length", 0)) // _BLOCK_BYTES)
        for block in with_progress(blocks, total, f"{name}, MB"):
            file.write(block)


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
