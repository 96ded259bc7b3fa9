"""Decoding files that the tests write: the signal, the window, the errors, the limits."""

from __future__ import annotations

import errno
import io
import os
import pickle
import random
import re
import socket
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import av
import librosa
import numpy as np
import pytest
from scipy import signal

from host import NO_SUCH_FILE, NO_SUCH_PATH, names_are_bytes, names_hold_anything, reason
from tonearm import audio
from tonearm.audio.container import OpenFile
from tonearm.audio.source import Clock, LimitedFile
from tonearm.errors import UsageError

Write = Callable[..., Path]


def tone(rate: int, seconds: float = 1.0, frequency: float = 440.0) -> np.ndarray:
    moments = np.arange(round(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * frequency * moments)).astype(np.float32)


def noise(rate: int, seconds: float, channels: int | None = None, seed: int = 0) -> np.ndarray:
    shape = round(rate * seconds) if channels is None else (channels, round(rate * seconds))
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def decibels(reference: np.ndarray, decoded: np.ndarray) -> float:
    """Signal to noise ratio of `decoded`."""
    error = reference.astype(float) - decoded
    return float(10 * np.log10((reference.astype(float) ** 2).mean() / ((error**2).mean() + 1e-30)))


# What is decoded


@pytest.mark.parametrize(
    ("suffix", "codec", "tolerance"),
    [
        (".wav", "pcm_u8", 2**-7),
        (".wav", "pcm_s16le", 2**-15),
        (".wav", "pcm_s24le", 2**-23),
        (".wav", "pcm_s32le", 1e-7),
        (".wav", "pcm_f32le", 0),
        (".wav", "pcm_f64le", 0),
        (".nut", "pcm_s64le", 1e-7),
        (".flac", "flac", 2**-15),
        (".m4a", "alac", 2**-15),
        (".wv", "wavpack", 2**-15),
        (".aiff", "pcm_s16be", 2**-15),
        (".au", "pcm_s16be", 2**-15),
        (".caf", "pcm_s16be", 2**-15),
    ],
)
def test_lossless_formats_give_the_signal_back(
    tmp_path: Path, write_audio: Write, suffix: str, codec: str, tolerance: float
) -> None:
    left, right = tone(44100), tone(44100, frequency=1000)
    path = write_audio(tmp_path / f"a{suffix}", np.stack([left, right]), 44100, codec)
    recording = audio.read(path, 44100)
    assert recording.samples.dtype == np.float32
    assert recording.rate == 44100
    assert not recording.truncated
    assert recording.duration == pytest.approx(1.0)
    np.testing.assert_allclose(recording.samples, (left + right) / 2, atol=tolerance + 1e-7)


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        (".mp3", "libmp3lame"),
        (".ogg", "vorbis"),
        (".opus", "libopus"),
        (".m4a", "aac"),
        (".aac", "aac"),
        (".ac3", "ac3"),
        (".mp2", "mp2"),
        (".wma", "wmav2"),
        (".webm", "libopus"),
    ],
)
def test_lossy_formats_give_the_tone_at_its_pitch_and_level(
    tmp_path: Path, write_audio: Write, suffix: str, codec: str
) -> None:
    stereo = np.stack([tone(48000, 2.0)] * 2)
    path = write_audio(tmp_path / f"a{suffix}", stereo, 48000, codec, bitrate=192_000)
    recording = audio.read(path, 16000)
    assert recording.duration == pytest.approx(2.0, abs=0.1)
    middle = recording.samples[8000:24000]
    assert np.abs(np.fft.rfft(middle)).argmax() == 440
    assert np.sqrt((middle**2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("channels", range(1, 9))
def test_mono_is_the_mean_of_the_channels(
    tmp_path: Path, write_audio: Write, channels: int
) -> None:
    sound = noise(44100, 0.5, channels)
    for suffix, codec in ((".wav", "pcm_f32le"), (".flac", "flac"), (".wv", "wavpack")):
        path = write_audio(tmp_path / f"a{suffix}", sound, 44100, codec)
        samples = audio.read(path, 44100).samples
        np.testing.assert_allclose(samples, sound.mean(axis=0), atol=2e-5)


def test_many_channels_without_a_layout(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).integers(-9000, 9000, (800, 24), np.int16)
    path = write_wave(tmp_path / "a.wav", sound, 8000)
    np.testing.assert_allclose(
        audio.read(path, 8000).samples, sound.mean(axis=1) / 2**15, atol=1e-6
    )


def test_opposite_channels_cancel_and_loud_ones_are_not_clipped(
    tmp_path: Path, write_audio: Write
) -> None:
    sound = 1.5 * tone(44100)
    path = write_audio(tmp_path / "a.wav", np.stack([sound, -sound]), 44100, "pcm_f32le")
    assert np.abs(audio.read(path, 44100).samples).max() < 1e-6
    path = write_audio(tmp_path / "b.wav", np.stack([sound, sound]), 44100, "pcm_f32le")
    assert audio.read(path, 44100).samples.max() == pytest.approx(0.75, abs=1e-3)


def test_samples_in_memory_stay_as_they_are() -> None:
    samples = tone(16000)
    before = samples.copy()
    for new_rate in (16000, 22050):
        for piece in audio.resample(samples, 16000, new_rate):
            piece[:] = 1.0
    np.testing.assert_array_equal(samples, before)


@pytest.mark.parametrize("new_rate", [16000, 22050])
@pytest.mark.parametrize(
    "samples", [np.zeros((2, 100), np.float32), np.zeros((100, 2)), np.zeros(100, np.int16)]
)
def test_samples_that_cannot_be_resampled(samples: np.ndarray, new_rate: int) -> None:
    with pytest.raises(UsageError, match=r"expected mono float\[n\]"):
        audio.resample(samples, 16000, new_rate)


@pytest.mark.parametrize("rate", [16000, 22050, 32000, 48000])
def test_resampling_agrees_with_soxr(tmp_path: Path, write_audio: Write, rate: int) -> None:
    moments = np.arange(5 * 44100) / 44100
    sweep = (0.5 * signal.chirp(moments, 20, 5, 0.4 * min(rate, 44100))).astype(np.float32)
    path = write_audio(tmp_path / "a.wav", sweep, 44100, "pcm_f32le")
    resampled = audio.read(path, rate).samples
    expected = librosa.resample(sweep, orig_sr=44100, target_sr=rate, res_type="soxr_vhq")
    assert abs(len(resampled) - len(expected)) <= 1
    inside = slice(rate // 50, 5 * rate - rate // 50)  # the edges are a matter of taste
    assert decibels(expected[inside], resampled[inside]) > 70


def test_resampling_leaves_nothing_above_half_the_rate(tmp_path: Path, write_audio: Write) -> None:
    path = write_audio(tmp_path / "a.wav", tone(44100, frequency=10_000), 44100, "pcm_f32le")
    samples = audio.read(path, 16000).samples[1000:-1000]
    assert np.abs(samples).max() < 1e-4


def test_blocks_are_of_one_length_and_equal_to_the_whole(
    tmp_path: Path, write_audio: Write
) -> None:
    path = write_audio(tmp_path / "a.flac", noise(44100, 5.3), 44100)
    whole = audio.read(path, 22050).samples
    pieces = list(audio.blocks(path, 22050, block_seconds=0.5))
    assert {len(piece) for piece in pieces[:-1]} == {11025}
    assert 0 < len(pieces[-1]) <= 11025
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_stream_reports_what_it_delivered(tmp_path: Path, write_audio: Write) -> None:
    path = write_audio(tmp_path / "a.flac", noise(44100, 3.0), 44100)
    with audio.stream(path, 16000, block_seconds=1.0) as sound:
        assert sound.info.codec == "flac"
        next(sound)
        assert sound.seconds == 1.0
        assert len(list(sound)) == 2
        assert sound.seconds == pytest.approx(3.0)
        assert not sound.truncated


def test_a_stream_can_be_left_early(tmp_path: Path, write_audio: Write) -> None:
    path = write_audio(tmp_path / "a.flac", noise(44100, 3.0), 44100)
    with audio.stream(path, 16000, block_seconds=1.0) as sound:
        next(sound)
    assert list(sound) == []


def test_change_of_rate_and_channels_midway(tmp_path: Path, write_audio: Write) -> None:
    first = write_audio(tmp_path / "a.mp3", tone(44100, 2.0), 44100)
    second = write_audio(tmp_path / "b.mp3", np.stack([tone(22050, 2.0)] * 2), 22050)
    joined = tmp_path / "both.mp3"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    recording = audio.read(joined, 16000)
    assert recording.duration == pytest.approx(4.0, abs=0.3)
    for part in (recording.samples[8000:24000], recording.samples[40000:56000]):
        assert np.abs(np.fft.rfft(part)).argmax() == 440


def test_damage_in_float_samples_becomes_silence(tmp_path: Path, write_audio: Write) -> None:
    sound = tone(44100)
    path = write_audio(tmp_path / "a.wav", sound, 44100, "pcm_f32le")
    data = bytearray(path.read_bytes())
    end = len(data) // 4 * 4
    for position, value in ((4000, np.nan), (8000, np.inf), (12000, -np.inf), (16000, 1e30)):
        offset = end - 4 * 44100 + 4 * position
        data[offset : offset + 4] = np.float32(value).tobytes()
    path.write_bytes(data)
    for rate in (44100, 16000):
        samples = audio.read(path, rate).samples
        assert np.isfinite(samples).all()
        assert np.abs(samples).max() < 0.7


def test_picture_and_video_beside_the_sound_are_ignored(tmp_path: Path, write_audio: Write) -> None:
    path = tmp_path / "film.mkv"
    write_film(path, seconds=2.0)
    recording = audio.read(path, 16000)
    assert recording.duration == pytest.approx(2.0, abs=0.05)
    assert not recording.truncated


def test_a_picture_that_outlasts_the_sound_does_not_make_it_break_off(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    write_film(path, seconds=2.0, picture_seconds=6.0)
    assert not audio.read(path, 16000).truncated
    assert audio.probe(path).duration == pytest.approx(2.0, abs=0.05)
    identity = audio.identify(path)
    assert identity.duration == pytest.approx(2.0, abs=0.05)
    assert not identity.truncated


def test_sound_that_begins_late_does_not_break_off(tmp_path: Path) -> None:
    for name, pictures in (("film.mkv", 6.0), ("sound.mka", None)):
        path = tmp_path / name
        write_film(path, seconds=2.0, picture_seconds=pictures, late=3.0)
        assert not audio.read(path, 16000).truncated, name
        assert audio.probe(path).duration == pytest.approx(2.0, abs=0.05), name
        assert not audio.identify(path).truncated, name


def test_a_late_sound_is_as_long_as_mkvmerge_says(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    by_mkvmerge = {"_STATISTICS_WRITING_APP": "mkvmerge v88.0"}
    write_film(path, seconds=2.0, picture_seconds=6.0, late=3.0, sound_tags=by_mkvmerge)
    data = path.read_bytes()
    assert data.count(b"00:00:05.000") == 1  # FFmpeg says when the sound ends, mkvmerge its length
    path.write_bytes(data.replace(b"00:00:05.000", b"00:00:02.000"))
    assert audio.probe(path).duration == pytest.approx(2.0, abs=0.05)
    assert audio.identify(path).duration == pytest.approx(2.0, abs=0.05)


def test_a_film_without_the_duration_of_its_sound_is_not_truncated(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    write_film(path, seconds=2.0, picture_seconds=6.0)
    data = path.read_bytes()
    assert data.count(b"DURATION") == 2  # one tag for the pictures, one for the sound
    path.write_bytes(data.replace(b"DURATION", b"NOT_SAID"))
    assert not audio.read(path, 16000).truncated
    assert audio.identify(path).duration == pytest.approx(2.0, abs=0.05)


def test_a_gap_in_the_sound_is_no_early_end(tmp_path: Path, write_audio: Write) -> None:
    whole = write_audio(tmp_path / "a.mka", noise(16000, 6.0), 16000, "flac")
    gappy = tmp_path / "gap.mka"
    with av.open(str(whole)) as source, av.open(str(gappy), "w") as target:
        track = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.pts is not None and not 2.0 < packet.pts * packet.time_base < 4.0:
                packet.stream = track
                target.mux(packet)
    recording = audio.read(gappy, 16000)
    assert recording.duration == pytest.approx(4.0, abs=0.6)
    assert not recording.truncated
    assert not audio.identify(gappy).truncated
    gappy.write_bytes(gappy.read_bytes()[: gappy.stat().st_size * 2 // 3])
    assert audio.read(gappy, 16000).truncated


def test_probe_reads_the_header(tmp_path: Path, write_audio: Write) -> None:
    path = write_audio(tmp_path / "a.mp3", noise(44100, 2.0, 2), 44100, bitrate=128_000)
    info = audio.probe(path)
    assert (info.container, info.codec) == ("mp3", "mp3")
    assert (info.sample_rate, info.channels) == (44100, 2)
    assert info.duration == pytest.approx(2.0, abs=0.1)


# Windows


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        (".wav", None),
        (".flac", None),
        (".mp3", None),
        (".ogg", None),
        (".opus", None),
        (".m4a", None),
        (".aac", None),
        (".mka", "flac"),
        (".wma", "wmav2"),
        (".ac3", "ac3"),
    ],
)
def test_window_is_the_same_part_of_the_whole(
    tmp_path: Path, write_audio: Write, suffix: str, codec: str | None
) -> None:
    sound = noise(48000, 12.0, 2)
    sound[1] = sound[0]
    path = write_audio(tmp_path / f"a{suffix}", sound, 48000, codec, bitrate=192_000)
    whole = audio.read(path, 16000).samples
    window = audio.read(path, 16000, start=7.321, duration=1.5)
    assert len(window.samples) == 24000
    assert not window.truncated
    begin, slack = round(7.321 * 16000), 1600
    around = whole[begin - slack : begin + 24000 + slack].astype(float)
    offset = np.abs(signal.correlate(around, window.samples.astype(float), "valid")).argmax()
    assert abs(offset - slack) / 16000 <= 0.05
    assert np.corrcoef(around[offset : offset + 24000], window.samples)[0, 1] > 0.9


@pytest.mark.parametrize("suffix", [".mp3", ".opus", ".ogg"])  # AAC's noise differs at each reading
def test_window_is_right_from_its_first_sample(
    tmp_path: Path, write_audio: Write, suffix: str
) -> None:
    path = write_audio(tmp_path / f"a{suffix}", noise(48000, 8.0, 2), 48000, bitrate=96_000)
    whole = audio.read(path, 48000).samples
    for start in (3.0, 4.321):
        first = audio.read(path, 48000, start=start, duration=0.02).samples
        expected = whole[round(start * 48000) :][: len(first)]
        assert decibels(expected, first) > 20, start


@pytest.fixture
def count_bytes_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """`count_bytes_read() -> int`: how much has been read of all files."""
    bytes_read = 0
    plain_read = LimitedFile.read

    def counting_read(source: LimitedFile, size: int = -1, /) -> bytes:
        nonlocal bytes_read
        data = plain_read(source, size)
        bytes_read += len(data)
        return data

    monkeypatch.setattr(LimitedFile, "read", counting_read)
    return lambda: bytes_read


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".opus", ".m4a"])
def test_window_does_not_read_what_comes_before(
    tmp_path: Path, write_audio: Write, suffix: str, count_bytes_read: Callable[[], int]
) -> None:
    path = write_audio(tmp_path / f"a{suffix}", noise(48000, 60.0), 48000, bitrate=192_000)
    audio.read(path, 16000, start=50.0, duration=1.0)
    assert count_bytes_read() < 0.4 * path.stat().st_size


def test_window_of_a_sound_that_begins_late_does_not_read_what_comes_before(
    tmp_path: Path, count_bytes_read: Callable[[], int]
) -> None:
    path = tmp_path / "a.mka"
    write_film(path, seconds=60.0, picture_seconds=None, late=40.0)
    whole = audio.read(path, 16000).samples
    before = count_bytes_read()
    window = audio.read(path, 16000, start=50.0, duration=1.0).samples
    assert count_bytes_read() - before < 0.4 * path.stat().st_size
    np.testing.assert_array_equal(window, whole[50 * 16000 : 51 * 16000])


def test_window_over_the_end_and_after_it(tmp_path: Path, write_audio: Write) -> None:
    for suffix in (".wav", ".mp3", ".ogg"):
        path = write_audio(tmp_path / f"a{suffix}", noise(44100, 5.0), 44100)
        assert audio.read(path, 16000, start=4.0, duration=9.0).duration == pytest.approx(
            1.0, abs=0.1
        )
        with pytest.raises(audio.TooShort, match=r"ends at 5\.\d+ s"):
            audio.read(path, 16000, start=60.0)


@pytest.mark.parametrize(("suffix", "rate"), [(".opus", 48000), (".oga", 44100)])
def test_window_of_joined_files(tmp_path: Path, write_audio: Write, suffix: str, rate: int) -> None:
    links = [
        write_audio(tmp_path / f"{seed}{suffix}", noise(rate, 6.0, seed=seed), rate)
        for seed in (1, 2)
    ]
    path = tmp_path / f"joined{suffix}"
    path.write_bytes(b"".join(link.read_bytes() for link in links))
    whole = audio.read(path, rate)
    assert whole.duration == pytest.approx(12.0, abs=0.1)
    for start in (2, 5, 8):  # in the first, in both, in the second
        window = audio.read(path, rate, start=start, duration=2.0)
        assert not window.truncated
        expected = whole.samples[start * rate : (start + 2) * rate]
        np.testing.assert_array_equal(window.samples, expected)
    assert audio.identify(path).duration == pytest.approx(12.0, abs=0.1)


@pytest.mark.parametrize("suffix", [".wav", ".w64"])
@pytest.mark.parametrize("codec", ["adpcm_ms", "adpcm_ima_wav"])
def test_window_of_adpcm(tmp_path: Path, write_audio: Write, suffix: str, codec: str) -> None:
    path = write_audio(tmp_path / f"a{suffix}", noise(22050, 60.0), 22050, codec)
    whole = audio.read(path, 22050).samples
    window = audio.read(path, 22050, start=55.0, duration=1.0).samples
    np.testing.assert_array_equal(window, whole[55 * 22050 : 56 * 22050])


def test_window_where_the_format_cannot_seek(
    tmp_path: Path, write_audio: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_audio(tmp_path / "a.flac", noise(16000, 5.0), 16000)
    whole = audio.read(path, 16000).samples
    monkeypatch.setattr(OpenFile, "seek", lambda file, seconds: False)
    window = audio.read(path, 16000, start=3.0, duration=1.0).samples
    np.testing.assert_array_equal(window, whole[48000:64000])


def test_window_behind_damage_that_a_seek_fails_at(tmp_path: Path, write_audio: Write) -> None:
    path = write_audio(tmp_path / "a.flac", noise(44100, 30.0), 44100)
    content = bytearray(path.read_bytes())
    hole = slice(int(0.35 * len(content)), int(0.65 * len(content)))
    content[hole] = bytes(hole.stop - hole.start)
    path.write_bytes(content)
    whole = audio.read(path, 44100)
    assert whole.truncated
    window = audio.read(path, 44100, start=14.0, duration=2.0)
    np.testing.assert_array_equal(window.samples, whole.samples[14 * 44100 : 16 * 44100])


def test_seek_that_lands_too_late_is_not_trusted(
    tmp_path: Path, write_audio: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_audio(tmp_path / "a.flac", noise(16000, 9.0), 16000)
    whole = audio.read(path, 16000).samples
    plain_seek = OpenFile.seek
    monkeypatch.setattr(OpenFile, "seek", lambda file, seconds: plain_seek(file, 6.0))
    window = audio.read(path, 16000, start=3.0, duration=1.0).samples
    np.testing.assert_array_equal(window, whole[48000:64000])


# Damage


def test_file_that_breaks_off_gives_what_there_is(tmp_path: Path, write_audio: Write) -> None:
    for suffix in (".wav", ".flac", ".mp3", ".ogg", ".mka"):
        path = write_audio(tmp_path / f"a{suffix}", noise(44100, 6.0), 44100)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        recording = audio.read(path, 16000)
        assert recording.truncated, suffix
        assert 2.0 < recording.duration < 4.5
        if suffix in (".wav", ".flac", ".mp3"):
            assert not audio.read(path, 16000, duration=1.0).truncated


def test_a_file_that_breaks_off_is_as_long_as_what_is_left(
    tmp_path: Path, write_audio: Write
) -> None:
    for suffix in (".wav", ".flac", ".mp3", ".aiff"):
        path = write_audio(tmp_path / f"a{suffix}", noise(44100, 6.0), 44100)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        identity = audio.identify(path)
        assert identity.truncated, suffix
        assert identity.duration == pytest.approx(audio.read(path, 44100).duration, abs=0.2), suffix


def test_a_length_guessed_from_the_size_is_not_believed_behind_a_large_tag(
    tmp_path: Path, write_audio: Write
) -> None:
    parts = [
        write_audio(tmp_path / f"{bitrate}.mp3", noise(44100, 6.0), 44100, bitrate=bitrate)
        for bitrate in (64_000, 192_000)
    ]
    # Without the first frame of each, which says how many follow, FFmpeg divides the size by the
    # first bit rate.
    sync = b"\xff\xfb"
    sound = b"".join(sync + part.read_bytes().split(sync, 2)[2] for part in parts)
    tag = b"ID3\3\0\0" + bytes((0, 0x20, 0, 0)) + bytes(0x20 << 14)  # as with a cover in it
    path = tmp_path / "a.mp3"
    path.write_bytes(tag + sound)
    recording = audio.read(path, 44100)
    assert recording.duration == pytest.approx(12.0, abs=0.3)
    assert not recording.truncated
    identity = audio.identify(path)
    assert identity.duration == pytest.approx(12.0, abs=0.3)
    assert not identity.truncated


def test_damage_in_the_middle_is_skipped(tmp_path: Path, write_audio: Write) -> None:
    for suffix in (".flac", ".mp3"):
        path = write_audio(tmp_path / f"a{suffix}", noise(44100, 6.0), 44100)
        data = bytearray(path.read_bytes())
        middle, length = len(data) // 2, len(data) // 10
        data[middle : middle + length] = bytes(length)
        path.write_bytes(data)
        recording = audio.read(path, 16000)
        assert recording.truncated, suffix
        assert recording.duration == pytest.approx(6.0, abs=1.2)
        assert not audio.read(path, 16000, duration=2.0).truncated, suffix
    assert audio.read(path, 16000, duration=4.0).truncated  # MP3: FLAC's decoder skips silently


def test_tags_and_junk_at_the_ends_are_no_damage(tmp_path: Path, write_audio: Write) -> None:
    path = write_audio(tmp_path / "a.mp3", noise(44100, 3.0), 44100, metadata={"title": "A" * 5000})
    path.write_bytes(path.read_bytes() + b"TAG" + b"junk" * 31 + b"\0")
    assert not audio.read(path, 16000).truncated


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".ogg", ".m4a", ".wav", ".opus"])
def test_injected_faults_end_in_samples_or_an_audio_error(
    tmp_path: Path, write_audio: Write, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = write_audio(tmp_path / f"a{suffix}", noise(48000, 2.0, 2), 48000).read_bytes()
    rng = random.Random(suffix)
    path = tmp_path / f"damaged{suffix}"
    for case in range(30):
        data = bytearray(whole)
        if case % 3 == 0:
            del data[rng.randrange(len(data)) :]
        for _ in range(rng.choice((0, 1, 10, 100)) if case % 3 == 0 else case):
            # Every third time within the header, where it hurts most.
            end = min(len(data), 400) if case % 3 == 1 else len(data)
            if end:
                data[rng.randrange(end)] = rng.randrange(256)
        path.write_bytes(data)
        start_time = time.process_time()
        try:
            for samples in audio.blocks(path, 16000, start=rng.choice((0, 1.2))):
                assert np.isfinite(samples).all()
        except audio.AudioError as error:
            assert "\n" not in str(error)
        assert time.process_time() - start_time < 10
    assert capfd.readouterr() == ("", "")  # neither FFmpeg nor PyAV says anything


@pytest.mark.parametrize("rate", [0, 1, 2_000_000, 2**31 - 1])
def test_absurd_sample_rates_are_survived(tmp_path: Path, rate: int) -> None:
    path = write_wave(tmp_path / "a.wav", np.zeros((4000, 1), np.int16), 8000)
    data = bytearray(path.read_bytes())
    data[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(audio.AudioError):
        audio.read(path, 32000)


def test_absurd_lengths_are_survived(tmp_path: Path) -> None:
    path = write_wave(tmp_path / "a.wav", np.zeros((8000, 1), np.int16), 8000)
    data = bytearray(path.read_bytes())
    data[40:44] = (2**31).to_bytes(4, "little")  # 37 hours
    path.write_bytes(data)
    assert audio.read(path, 8000).duration == pytest.approx(1.0)


# What is no audio


def test_missing_folder_empty_and_odd_files(tmp_path: Path) -> None:
    (tmp_path / "empty.mp3").touch()
    (tmp_path / "text.mp3").write_text("Nothing to hear here.\n" * 200)
    (tmp_path / "noise.mp3").write_bytes(bytes(20_000))
    for path, expected in [
        ("missing.mp3", NO_SUCH_FILE.lower()),
        ("", "is a folder"),
        ("empty.mp3", "is empty"),
        ("text.mp3", "not a media file"),
        ("noise.mp3", ""),
        ("a\0b", "null"),
        ("x" * 300, reason("file name too long", (tmp_path / ("x" * 300)).lstat).lower()),
        (
            "empty.mp3/inside",
            reason("not a directory", (tmp_path / "empty.mp3" / "inside").lstat).lower(),
        ),
    ]:
        with pytest.raises(audio.NotAudio) as caught:
            audio.read(os.path.join(tmp_path, path), 16000)  # noqa: PTH118 (a Path refuses some)
        assert expected in caught.value.reason
    with pytest.raises(audio.NotAudio, match=re.escape(NO_SUCH_PATH.lower())):
        audio.read("", 16000)


@pytest.mark.skipif(os.name != "posix", reason="no pipes with names of files here")
def test_pipes_and_sockets_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe.mp3")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)  # the path of a socket is limited to a hundred bytes
        listener.bind("socket.mp3")
        for path in (tmp_path / "pipe.mp3", tmp_path / "socket.mp3", Path("/dev/zero")):
            with pytest.raises(audio.NotAudio, match="not a regular file"):
                audio.read(path, 16000)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root, or Windows, may read everything"
)
def test_unreadable_file(tmp_path: Path, write_audio: Write) -> None:
    path = write_audio(tmp_path / "a.wav", tone(8000), 8000)
    path.chmod(0)
    with pytest.raises(audio.NotAudio, match="permission denied"):
        audio.read(path, 16000)


def test_film_without_sound(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    write_film(path, seconds=0.5, sound=False)
    with pytest.raises(audio.NotAudio, match="holds no audio, only video"):
        audio.read(path, 16000)


def test_codec_nobody_knows(tmp_path: Path) -> None:
    path = write_wave(tmp_path / "a.wav", np.zeros((8000, 1), np.int16), 8000)
    data = bytearray(path.read_bytes())
    data[20:22] = (0x7A7A).to_bytes(2, "little")
    path.write_bytes(data)
    for call in (audio.probe, lambda path: audio.read(path, 16000)):
        with pytest.raises(audio.Undecodable, match="no decoder"):
            call(path)


def test_header_without_sound(tmp_path: Path) -> None:
    path = write_wave(tmp_path / "a.wav", np.zeros((0, 1), np.int16), 8000)
    with pytest.raises(audio.AudioError):
        audio.read(path, 16000)


def test_playlist_opens_no_other_file(tmp_path: Path, write_audio: Write) -> None:
    target = write_audio(tmp_path / "a.wav", tone(8000), 8000)
    (tmp_path / "list.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n"
    )
    (tmp_path / "list.ffconcat").write_text("ffconcat version 1.0\nfile 'a.wav'\n")
    for name in ("list.m3u8", "list.ffconcat"):
        with pytest.raises(audio.NotAudio):
            audio.read(tmp_path / name, 16000)


@pytest.mark.parametrize(
    "name",
    [
        "a%03d.wav",
        "-y.wav",
        pytest.param("http:x.wav", marks=names_hold_anything),
        pytest.param("né\n\x1b[31m.wav", marks=names_hold_anything),
        pytest.param("x" * 251 + ".wav", marks=names_hold_anything),
        pytest.param("latin-\udce9-\udcff.wav", marks=names_are_bytes),
    ],
)
def test_names_of_any_kind(tmp_path: Path, write_audio: Write, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(write_audio(tmp_path / "a.wav", tone(8000), 8000).read_bytes())
    assert audio.read(path, 16000).duration == pytest.approx(1.0)
    path.write_bytes(b"x")
    with pytest.raises(audio.NotAudio) as caught:
        audio.read(path, 16000)
    assert str(caught.value).isprintable()
    assert caught.value.path == str(path)
    str(caught.value).encode()  # fit for any terminal and for JSON


def test_metadata_in_another_encoding(tmp_path: Path, write_audio: Write) -> None:
    path = write_audio(tmp_path / "a.wav", tone(8000), 8000, metadata={"title": "Plain"})
    data = path.read_bytes()
    assert b"Plain" in data
    path.write_bytes(data.replace(b"Plain", b"Pl\xe4\xffn"))
    assert audio.read(path, 16000).duration == pytest.approx(1.0)


@pytest.mark.parametrize("suffix", [".flac", ".mp3", ".m4a", ".ogg"])
def test_an_open_file_is_read_as_its_path_is(
    tmp_path: Path, write_audio: Write, suffix: str
) -> None:
    path = write_audio(tmp_path / f"a{suffix}", tone(44100, 4.0), 44100)
    expected = audio.read(path, 16000, 1.5, 2.0)
    with path.open("rb") as file:
        for source in (file, io.BytesIO(path.read_bytes())):
            for _ in range(2):  # from its beginning, wherever it was left
                assert (
                    audio.read(source, 16000, 1.5, 2.0).samples.tolist()
                    == expected.samples.tolist()
                )
            assert audio.identify(source) == audio.identify(path)
            assert audio.probe(source) == audio.probe(path)
            assert not source.closed


def test_open_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(audio.NotAudio, match="<file>: is empty"):
        audio.read(io.BytesIO(), 16000)
    with pytest.raises(audio.NotAudio, match="<file>: is not a media file"):
        audio.read(io.BytesIO(b"no music" * 100), 16000)
    with pytest.raises(UsageError, match="opened as binary, got a text"):
        audio.read(io.StringIO("no music"), 16000)
    reading, writing = os.pipe()
    os.close(writing)
    with (
        os.fdopen(reading, "rb") as pipe,
        pytest.raises(UsageError, match=r"expected a file that can be sought in .*BytesIO"),
    ):
        audio.read(pipe, 16000)
    closed = io.BytesIO(b"abc")
    closed.close()
    with pytest.raises(UsageError, match="closed file"):
        audio.read(closed, 16000)
    for source in (None, b"song.mp3", 3):
        with pytest.raises(UsageError, match=f"a file open as binary, got {type(source).__name__}"):
            audio.read(source, 16000)  # type: ignore[arg-type]

    class TooMuch(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(2 * (size or 0))

    with pytest.raises(audio.ReadFailed, match=r"<file>: read\(\d+\) returned \d+ bytes"):
        audio.read(TooMuch(bytes(1_000_000)), 16000)


@pytest.mark.parametrize("suffix", [".flac", ".mp3", ".m4a", ".ogg", ".wav"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_read_that_fails_is_not_the_end_of_the_file(
    tmp_path: Path, write_audio: Write, suffix: str, share: float
) -> None:
    path = write_audio(tmp_path / f"a{suffix}", noise(44100, 8.0), 44100)

    class Failing(io.BytesIO):
        error: Exception

        def read(self, size: int | None = -1) -> bytes:
            if size and self.tell() + size > share * path.stat().st_size:
                raise self.error
            return super().read(size)

    file = Failing(path.read_bytes())
    file.error = OSError(errno.EIO, os.strerror(errno.EIO))
    for function in (partial(audio.read, rate=16000), audio.identify):
        with pytest.raises(audio.ReadFailed, match="<file>: input/output error"):
            function(file)
    file.error = RuntimeError("the time of this task is over")  # of the caller's own
    with pytest.raises(RuntimeError, match="the time of this task is over"):
        audio.read(file, 16000)


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".wav"])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), RuntimeError("late")])
def test_a_single_read_that_fails_is_told_wherever_it_is(
    tmp_path: Path, write_audio: Write, suffix: str, error: Exception
) -> None:
    class Flaky(io.BytesIO):
        """Fails once; FFmpeg's FLAC decoder crashes where data follow what seemed to be the end."""

        def __init__(self, content: bytes, failing: int) -> None:
            super().__init__(content)
            self.left = failing

        def read(self, size: int | None = -1) -> bytes:
            if size:
                self.left -= 1
                if self.left == 0:
                    raise error
            return super().read(size)

    path = write_audio(tmp_path / f"a{suffix}", noise(22050, 40.0), 22050)
    expected = audio.ReadFailed if isinstance(error, OSError) else RuntimeError
    told = 0
    while told < 40:
        file = Flaky(path.read_bytes(), told + 1)
        try:
            audio.read(file, 16000, 30.0, 2.0)
        except expected:
            told += 1
        else:
            break  # it needs fewer reads
    assert told > 3
    assert told == 40 or file.left > 0


def test_errors_of_a_file_object_reach_the_caller(tmp_path: Path, write_audio: Write) -> None:
    class Unseekable(io.BytesIO):
        """Its connection breaks at a later seek."""

        seeks = 0

        def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
            self.seeks += 1
            if self.seeks > 6:
                raise ConnectionError("the server is gone")
            return super().seek(position, whence)

    path = write_audio(tmp_path / "a.ogg", noise(22050, 40.0), 22050)
    with pytest.raises(audio.ReadFailed, match="<file>: the server is gone"):
        audio.read(Unseekable(path.read_bytes()), 16000, 30.0)

    class Gone(io.BytesIO):
        def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
            raise OSError(errno.ESTALE, "Stale file handle")

    with pytest.raises(audio.ReadFailed, match="stale file handle"):
        audio.read(Gone(path.read_bytes()), 16000)


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(audio.NotAudio("a.mp3", "is empty")))
    assert (str(error), error.path, error.reason) == ("a.mp3: is empty", "a.mp3", "is empty")


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"rate": 0}, "rate"),
        ({"rate": "16000"}, "rate must be a whole number from .* not '16000'"),
        ({"rate": 16000.5}, "rate"),
        ({"rate": 16000, "start": -1.0}, "start"),
        ({"rate": 16000, "start": float("nan")}, "start"),
        ({"rate": 16000, "duration": 0.0}, "duration"),
        ({"rate": 16000, "time_limit": 0.0}, "time_limit"),
    ],
)
def test_parameters_out_of_range(parameters: dict[str, float], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        audio.stream("a.mp3", **parameters)


# Limits


def test_time_limit(tmp_path: Path, write_audio: Write) -> None:
    path = write_audio(tmp_path / "a.flac", noise(44100, 20.0), 44100)
    with pytest.raises(audio.TimedOut, match=r"limit of 0\.001 s"):
        audio.read(path, 32000, time_limit=0.001)
    for inspect in (audio.probe, audio.identify):
        with pytest.raises(UsageError, match="time_limit must be more than 0 s, not 0"):
            inspect(path, time_limit=0)


def test_time_between_blocks_does_not_count(tmp_path: Path, write_audio: Write) -> None:
    path = write_audio(tmp_path / "a.wav", noise(16000, 2.0), 16000)
    for _ in audio.blocks(path, 16000, block_seconds=0.5, time_limit=1.0):
        time.sleep(0.4)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the peak")
def test_memory_is_flat_over_an_hour(tmp_path: Path) -> None:
    path = tmp_path / "hour.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 22050, 0, "NONE", ""))
        file.setnframes(3600 * 22050)
        file.writeframesraw(bytes(4))
    data = bytearray(path.read_bytes())
    data[40:44] = (3600 * 22050 * 4).to_bytes(4, "little")
    path.write_bytes(data)
    with path.open("r+b") as file:
        file.truncate(44 + 3600 * 22050 * 4)  # a hole: takes no room on the disk
    code = (
        "import sys; from tonearm import audio\n"
        "seconds = sum(len(b) for b in audio.blocks(sys.argv[1], 16000)) / 16000\n"
        "status = open('/proc/self/status').read()\n"
        "print(seconds, int(status.split('VmHWM:')[1].split()[0]) / 1024)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    seconds, megabytes = map(float, run.stdout.split())
    assert seconds == pytest.approx(3600)
    assert megabytes < 150


# Writing what FFmpeg's encoders do not


def write_wave(path: Path, samples: np.ndarray, rate: int) -> Path:
    """A plain WAV of int16[n, channels], with a 44-byte header that tests can spoil."""
    with wave.open(str(path), "wb") as file:
        file.setparams((samples.shape[1], 2, rate, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def write_film(
    path: Path,
    seconds: float,
    sound: bool = True,
    *,
    picture_seconds: float | None = 0.0,  # as long as the sound
    late: float = 0.0,
    sound_tags: Mapping[str, str] | None = None,
) -> None:
    """A film whose sound begins `late`; its picture_seconds are None where there is no picture."""
    with av.open(str(path), "w") as film:
        pictures = None if picture_seconds is None else film.add_stream("mpeg4", rate=10)
        track = film.add_stream("flac", rate=16000, layout="mono") if sound else None
        if track is not None:
            track.metadata.update(sound_tags or {})
        if pictures is not None:
            pictures.width = pictures.height = 64
            for _ in range(round((picture_seconds or seconds) * 10)):
                frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))
                film.mux(pictures.encode(frame))
            film.mux(pictures.encode(None))
        if track is not None:
            piece = av.AudioFrame.from_ndarray(tone(16000, seconds)[None], "fltp", "mono")
            piece.sample_rate = 16000
            piece.pts = round(late * 16000)
            film.mux(track.encode(piece))
            film.mux(track.encode(None))


def test_a_wav_without_its_last_padding_byte_is_whole(tmp_path: Path, write_audio: Write) -> None:
    path = write_audio(tmp_path / "a.wav", tone(16_000), 16_000)
    data = path.read_bytes()
    path.write_bytes(data[:4] + (len(data) - 7).to_bytes(4, "little") + data[8:])
    assert not audio.identify(path).truncated


def test_the_time_of_all_blocks_counts_together() -> None:
    clock = Clock(0.05)
    for _ in range(4):
        with clock:
            time.sleep(0.02)
            expired = clock.expired
    assert expired
