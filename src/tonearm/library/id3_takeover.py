"""ID3 frames for what a file's other tags say: programs ignore those once it has an ID3 tag."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mutagen.apev2 import APETextValue
from mutagen.id3 import COMM, TALB, TDRC, TIT2, TPE1, TRCK, Frame

# The fields of APEv2 and of WAV's INFO list that each frame stands for.
FIELDS: dict[type[Frame], tuple[str, ...]] = {
    TPE1: ("Artist", "IART"),
    TALB: ("Album", "IPRD"),
    TIT2: ("Title", "INAM"),
    TRCK: ("Track", "ITRK", "IPRT"),
    TDRC: ("Year", "ICRD"),
    COMM: ("Comment", "ICMT"),
}
_DATE = re.compile(r"\d{4}(\D|$)")  # mutagen would read "15.3.1999" as a day of the year 15


def frames_for(tags: Mapping[str, Any]) -> Iterator[Frame]:
    """Yield a frame for each field of an APEv2 tag or INFO list that has an equivalent."""
    for kind, names in FIELDS.items():
        fields = [tags[name] for name in names if name in tags]
        # APEv2 may hold bytes and links, too.
        texts = [field for field in fields if isinstance(field, list | APETextValue)]
        values = [value for text in texts for value in text if value.strip()]
        if kind is TDRC:
            values = [value for value in values if _DATE.match(value)]
        if values:
            yield kind(encoding=3, text=values)
