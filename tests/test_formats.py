"""Decoding odd and broken files from other projects' tests: samples or one line, and soon."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import numpy as np
import pytest

from tonearm import audio

pytestmark = pytest.mark.shared

# Files in which nothing can be decoded: headers and tags without sound, pictures,
# damage on purpose, and one codec FFmpeg has no decoder for (Monkey's Audio before 3.95).
WITHOUT_AUDIO = {
    "004-adts-sf-escape.aac",
    "006-Pnossnd.aif",
    "008-Poffset.aif",
    "010-Fnonull.aif",
    "016-ilbm.aiff",
    "023-CWE-835-01.aiff",
    "028-oldape.ape",
    "042-invalid_second_streaminfo.flac",
    "049-flac_application.flac",
    "058-106-invalid-streaminfo.flac",
    "059-zero_value_properties.flac",
    "064-test.m4a",
    "066-issue-318.m4a",
    "070-mpeg4_xa9des.m4a",
    "072-zero_value_properties.m4a",
    "074-mp4_extended_size.m4a",
    "075-zero_value_properties_alac.m4a",
    "084-alac_file.m4a",
    "085-empty_custom_field.m4a",
    "087-bad-POPM-frame.mp3",
    "102-utf-8-id3v2.mp3",
    "113-id3_comment_utf_16_with_bom.mp3",
    "124-truncated-64bit.mp4",
    "132-zero_value_properties.ogg",
    "141-no_audio.ogg",
    "187-CWE-835.wma",
    "188-max-numberOfObjectHeaders.wma",
    "189-full.wma",
    "192-zero_value_properties.wma",
    "196-invalid_object_size.wma",
}


def test_every_odd_file_gives_samples_or_one_line(
    shared: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = shared / "data" / "formats"
    with (folder / "MANIFEST.csv").open(newline="") as manifest:
        names = [row["file"] for row in csv.DictReader(manifest)]
    assert len(names) == 182
    failed = set()
    for name in names:
        start_time = time.process_time()
        try:
            recording = audio.read(folder / name, 32000)
            assert np.isfinite(recording.samples).all(), name
            assert len(recording.samples), name
        except audio.AudioError as error:
            failed.add(name)
            assert len(str(error).splitlines()) == 1, name
            assert "Errno" not in str(error), name
        assert time.process_time() - start_time < 10, name
    assert failed == WITHOUT_AUDIO
    assert capfd.readouterr() == ("", "")


def test_length_agrees_with_the_header(shared: Path) -> None:
    """What is much shorter than its header says is called truncated, the rest is whole."""
    folder = shared / "data" / "formats"
    for path in sorted(folder.iterdir()):
        try:
            with audio.stream(path, 16000) as sound:
                for _ in sound:
                    pass
        except audio.AudioError:
            continue
        if sound.info.duration and sound.seconds < 0.5 * sound.info.duration - 0.25:
            assert sound.truncated, path.name


def test_real_recordings_are_whole(shared: Path) -> None:
    for path in sorted((shared / "data" / "wild").glob("*.mp3"))[::4]:
        with audio.stream(path, 16000) as sound:
            assert sum(len(samples) for samples in sound) > 16000
            assert not sound.truncated
