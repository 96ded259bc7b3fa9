"""What mutagen would destroy in a file's tags by writing them back, or write in vain."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Any, BinaryIO

from mutagen._vorbis import VComment
from mutagen.mp4 import MP4Tags
from mutagen.ogg import OggFileType, OggPage


def tag_loss(path: str | os.PathLike[str], media: Any) -> str | None:
    """Return what would be lost if a genre were written, be it that genre; None if nothing would.

    ID3 is not checked here, since `tonearm.library.id3_frames` carries its frames over as bytes.

    Parameters
    ----------
    path
        The file.
    media
        The file as mutagen has read it, unchanged.
    """
    tags = media.tags
    if isinstance(tags, VComment) and tags and not _are_written_alike(path, media):
        return "a field of its tags is not UTF-8 or has no name, and writing would destroy it"
    if isinstance(tags, MP4Tags):
        if any(name.startswith("\0") for name in tags):
            return "its tags are QuickTime's, whose fields have numbers instead of names"
        # mutagen writes back fields it cannot decode, unless it has decoded another of that name.
        undecodable = [name for name in tags._failed_atoms if name in tags and name != "\xa9gen"]
        if undecodable:
            return "a field of its tags cannot be decoded, and writing would destroy it"
    return None


def _are_written_alike(path: str | os.PathLike[str], media: Any) -> bool:
    """Check whether a file's Vorbis comments are byte for byte what mutagen would write."""
    comments: bytes = media.tags.write(framing=False)
    info: Any = media.info
    with Path(path).open("rb") as file:
        if isinstance(media, OggFileType):
            return comments in _comment_packet(file, info.serial)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:  # FLAC: contiguous
            return content.find(comments) >= 0


def _comment_packet(file: BinaryIO, serial: int) -> bytes:
    """Return the second packet of a stream, which holds the comments in every Ogg codec.

    It begins on a new page and may continue over many.
    """
    pages: list[OggPage] = []
    while len(pages) < 2 or not (pages[-1].complete or len(pages[-1].packets) > 1):
        page = OggPage(file)  # type: ignore[no-untyped-call]
        if page.serial == serial:
            pages.append(page)
    packet: bytes = OggPage.to_packets(pages[1:])[0]  # type: ignore[no-untyped-call]
    return packet
