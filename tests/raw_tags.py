"""The fields of a file's tags as bytes, read without mutagen, whose parser loses some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

Field = tuple[str, bytes, bytes]  # kind of tag, name, content with what says how to read it

GENRES = {
    ("id3", b"TCON"),
    ("vorbis", b"GENRE"),
    ("mp4", b"\xa9GEN"),
    ("mp4", b"GNRE"),
    ("ape", b"GENRE"),
    ("info", b"IGNR"),
}


def raw_fields(path: Path) -> Counter[Field]:
    """All fields but the genre, and how often each is there, of all tags but ASF's and ID3v2.2.

    Frames have neither unsynchronisation nor the flag that says so. Numbers of MP4 have no leading
    zeros, and nothing says of what type they are or what file a cover was.
    """
    data = path.read_bytes()
    found = (*_id3v2(data), *_id3v1(data), *_flac(data), *_ogg(data), *_mp4(data), *_ape(data))
    found += tuple(_other_chunks(data))
    return Counter(field for field in found if (field[0], field[1].upper()) not in GENRES)


def _synchsafe(digits: bytes) -> int:
    return sum(byte << shift for byte, shift in zip(digits, (21, 14, 7, 0), strict=True))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Chunks of WAV, AIFF and DSDIFF."""
    order, width = ("little", 4) if data.startswith(b"RIFF") else ("big", 4)
    if data.startswith(b"FRM8"):
        width = 8
    offset = 4 + width + 4
    while offset + 4 + width <= len(data):
        size = int.from_bytes(data[offset + 4 : offset + 4 + width], order)  # type: ignore[arg-type]
        start = offset + 4 + width
        yield data[offset : offset + 4], data[start : start + size]
        offset = start + size + size % 2


def id3v2_tag(data: bytes) -> bytes:
    """The file from its ID3v2 tag on; empty if there is none."""
    if data.startswith(b"DSD "):
        offset = int.from_bytes(data[20:28], "little")
        data = data[offset:] if offset else b""
    elif data.startswith((b"RIFF", b"FORM", b"FRM8")):
        data = next((body for name, body in _chunks(data) if name.upper() == b"ID3 "), b"")
    return data if data.startswith(b"ID3") else b""


def _id3v2(data: bytes) -> Iterator[Field]:
    tag = id3v2_tag(data)
    if not tag or tag[3] not in (3, 4):  # 2.2 becomes 2.3
        return
    version, tag_flags = tag[3], tag[5]
    body = tag[10 : 10 + _synchsafe(tag[6:10])]
    if version == 3 and tag_flags & 0x80:
        body = body.replace(b"\xff\0", b"\xff")
    if tag_flags & 0x40:
        body = body[_synchsafe(body[:4]) if version == 4 else 4 + int.from_bytes(body[:4]) :]
    while len(body) > 10 and body[0]:
        size = _synchsafe(body[4:8]) if version == 4 else int.from_bytes(body[4:8])
        name, flags, content = body[:4], int.from_bytes(body[8:10]), body[10 : 10 + size]
        if version == 4 and (tag_flags & 0x80 or flags & 0x02):
            flags, content = flags & ~0x02, content.replace(b"\xff\0", b"\xff")
        yield "id3", name, flags.to_bytes(2) + content
        body = body[10 + size :]


def _id3v1(data: bytes) -> Iterator[Field]:
    if data[-128:-125] == b"TAG" and data[-131:-123] != b"APETAGEX":
        yield "id3v1", b"", data[-128:-1]


def _flac(data: bytes) -> Iterator[Field]:
    if not data.startswith((b"fLaC", b"ID3")) or b"fLaC" not in data:
        return
    offset, last = data.index(b"fLaC") + 4, False
    while not last:
        kind, last = data[offset] & 0x7F, bool(data[offset] & 0x80)
        size = int.from_bytes(data[offset + 1 : offset + 4])
        block = data[offset + 4 : offset + 4 + size]
        if kind == 4:
            yield from _comments(block)
        elif kind != 1:  # padding
            yield "flac", bytes([kind]), block
        offset += 4 + size


def _ogg(data: bytes) -> Iterator[Field]:
    for packet in _second_packets(data):
        for mark in (b"\x03vorbis", b"OpusTags", b"\x84", b"\x04", b"\x81theora", b""):
            if packet.startswith(mark):  # FLAC's is the kind of the block, then its length
                yield from _comments(packet[4 if len(mark) == 1 else len(mark) :])
                break


def _comments(block: bytes) -> Iterator[Field]:
    offset = 4 + int.from_bytes(block[:4], "little")
    yield "vorbis", b"(vendor)", block[4:offset]
    count = int.from_bytes(block[offset : offset + 4], "little")
    offset += 4
    for _ in range(count):
        size = int.from_bytes(block[offset : offset + 4], "little")
        name, sign, value = block[offset + 4 : offset + 4 + size].partition(b"=")
        yield "vorbis", name, sign + value
        offset += 4 + size


def _second_packets(data: bytes) -> Iterator[bytes]:
    """The second packet of every stream in an Ogg file."""
    packets: dict[bytes, list[bytes]] = {}
    offset = 0
    while data[offset : offset + 4] == b"OggS":
        sizes = data[offset + 27 : offset + 27 + data[offset + 26]]
        stream = packets.setdefault(data[offset + 14 : offset + 18], [b""])
        offset += 27 + len(sizes)
        for size in sizes:
            if len(stream) < 3:
                stream[-1] += data[offset : offset + size]
                if size < 255:
                    stream.append(b"")
            offset += size
    yield from (stream[1] for stream in packets.values() if len(stream) > 1)


def _atoms(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    offset = 0
    while offset + 8 <= len(data):
        size, name, head = (
            int.from_bytes(data[offset : offset + 4]),
            data[offset + 4 : offset + 8],
            8,
        )
        if size == 1:
            size, head = int.from_bytes(data[offset + 8 : offset + 16]), 16
        size = size or len(data) - offset
        yield name, data[offset + head : offset + size]
        offset += max(size, 8)


def _mp4(data: bytes) -> Iterator[Field]:
    if data[4:8] != b"ftyp":
        return
    level = [data]
    for name in (b"moov", b"udta", b"meta", b"ilst"):
        level = [body for parent in level for found, body in _atoms(parent) if found == name]
        if name == b"meta":
            level = [body[4:] for body in level]
    for ilst in level:
        for name, body in _atoms(ilst):
            parts = list(_atoms(body))
            values = [part for kind, part in parts if kind == b"data"]
            full = [part[4:] for kind, part in parts if name == b"----" and kind != b"data"]
            for value in values or [body]:
                yield "mp4", name, b":".join(full) + b"=" + value[8:].lstrip(b"\0")


def _ape(data: bytes) -> Iterator[Field]:
    end = len(data) - 128 if data[-128:-125] == b"TAG" else len(data)
    footer = data[end - 32 : end]
    if footer[:8] != b"APETAGEX":
        end = len(data)
        footer = data[end - 32 : end]
    if footer[:8] != b"APETAGEX":
        return
    size, count = (int.from_bytes(footer[at : at + 4], "little") for at in (12, 16))
    items = data[end - size : end - 32]
    for _ in range(count):
        length = int.from_bytes(items[:4], "little")
        flags, (name, _, rest) = items[4:8], items[8:].partition(b"\0")
        yield "ape", name, flags + rest[:length]
        items = rest[length:]


def _other_chunks(data: bytes) -> Iterator[Field]:
    if data.startswith((b"RIFF", b"FORM")):
        for name, body in _chunks(data):
            if name == b"LIST" and body.startswith(b"INFO"):
                for field, content in _chunks(b"RIFF" + bytes(4) + body):
                    yield "info", field, content
            elif name.upper() != b"ID3 " and name not in (b"data", b"SSND"):
                yield "chunk", name, body
