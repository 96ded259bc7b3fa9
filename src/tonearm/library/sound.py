"""Whether two files sound the same, which is all that tagging promises about the rest of them."""

from __future__ import annotations

import hashlib
import os

from tonearm import audio
from tonearm.audio import AudioError

# FFmpeg takes the tag behind the last frame for a part of it: of these, what is decoded counts.
TAGS_IN_PACKETS = frozenset({"ape"})


def sound_of(path: str | os.PathLike[str]) -> str | None:
    """Return what tells a file's sound from all others, whatever its tags; None if it has none.

    That is a hash of what FFmpeg hands its decoder; of Monkey's Audio, of what the decoder gives.
    """
    try:
        info = audio.probe(path)
        if info.container not in TAGS_IN_PACKETS:
            return audio.identify(path).digest
        heard = hashlib.sha256()
        for samples in audio.blocks(path, info.sample_rate):
            heard.update(samples.tobytes())
        return heard.hexdigest()
    except AudioError:
        return None
