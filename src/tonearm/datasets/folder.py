"""Read a folder per genre: the name of the first folder below the root is the label."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tonearm import media
from tonearm.datasets.splits import OneGenreWarning
from tonearm.datasets.track import Dataset, DatasetError, Track, label_text, labels_of
from tonearm.text import printable


def load_folder(root: Path) -> Dataset:
    """Read `root/<genre>/**/<file>`, with the path below the root, without suffix, as the id.

    To keep ids unique, files that differ only in their suffix keep it in the id, and so does a file
    whose name without its suffix is another file's name (`a.mp3.wav` beside `a.mp3`).

    Warns
    -----
    OneGenreWarning
        If there is only one genre.

    Raises
    ------
    DatasetError
        If no folder below the root contains an audio file, or a folder's name cannot be a label.
    """
    files = list(audio_files(root))
    if not files:
        raise DatasetError(f"{root}: no folder in it has an audio file")
    names = [path.relative_to(root) for path in files]
    folders = dict.fromkeys(name.parts[0] for name in names)
    labels = {folder: label_text(folder, printable(str(root / folder))) for folder in folders}
    occurrences = Counter(names) + Counter(name.with_suffix("") for name in names)
    tracks = tuple(
        Track(
            id=(name if occurrences[stem := name.with_suffix("")] > 1 else stem).as_posix(),
            path=path,
            label=labels[name.parts[0]],
        )
        for path, name in zip(files, names, strict=True)
    )
    genres = labels_of(tracks)
    if len(genres) == 1:
        warnings.warn(
            f"{printable(str(root))}: a single genre was found, {genres[0]!r}: if the folders of "
            "the genres lie deeper, name the folder they are in",
            OneGenreWarning,
            stacklevel=4,
        )
    return Dataset(
        name=root.resolve().name,
        root=root,
        tracks=tracks,
        labels=genres,
        layout="folder",
    )


def audio_files(root: Path) -> Iterator[Path]:
    """Yield the audio files in the folders of `root`, sorted and without hidden ones."""
    for genre in sorted(root.iterdir()):
        if genre.is_dir() and not genre.name.startswith("."):
            yield from map(Path, media.recordings([str(genre)]))
