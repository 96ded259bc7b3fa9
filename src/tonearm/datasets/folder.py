"""Reads a folder per genre: the first folder below the root is the label."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tonearm.datasets.track import Dataset, DatasetError, Track, labels_of

# What FFmpeg decodes and music collections hold. A file with another name is no track: a folder
# of music also has covers, playlists and notes in it.
AUDIO_SUFFIXES = tuple(
    f".{name}"
    for name in (
        *("aac", "ac3", "aif", "aifc", "aiff", "alac", "amr", "ape", "au", "caf", "dsf", "flac"),
        *("m4a", "m4b", "mka", "mp2", "mp3", "mp4", "mpc", "oga", "ogg", "opus", "ra", "snd"),
        *("spx", "tak", "tta", "wav", "webm", "wma", "wv"),
    )
)


def load_folder(root: Path) -> Dataset:
    """Read `root/<genre>/**/<file>`; the path below the root, without suffix, is the id.

    Where two files differ in their suffix alone, both keep theirs in the id.

    Raises
    ------
    DatasetError
        No folder below the root has an audio file in it.
    """
    files = audio_files(root)
    stems = [path.relative_to(root).with_suffix("").as_posix() for path in files]
    occurrences = Counter(stems)
    tracks = tuple(
        Track(
            id=path.relative_to(root).as_posix() if occurrences[stem] > 1 else stem,
            path=path,
            label=path.relative_to(root).parts[0],
        )
        for path, stem in zip(files, stems, strict=True)
    )
    if not tracks:
        raise DatasetError(f"{root}: no folder in it has an audio file")
    return Dataset(
        name=root.resolve().name,
        root=root,
        tracks=tracks,
        labels=labels_of(tracks),
        layout="folder",
    )


def audio_files(root: Path) -> list[Path]:
    """List the audio files in the folders of `root`, sorted, hidden ones left out."""
    return sorted(
        path
        for path in root.glob("*/**/*")
        if path.suffix.lower() in AUDIO_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and path.is_file()
    )
