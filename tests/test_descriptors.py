"""The classical descriptors: librosa's numbers, finite everywhere, named in order."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest

from tonearm.errors import UsageError
from tonearm.features import tempo
from tonearm.features.descriptors import (
    DESCRIPTOR_RATE,
    FRAMES_PER_SECOND,
    FrameDescriptors,
    describe,
    describe_frames,
    descriptor_names,
    mfcc_columns,
)
from tonearm.synth import STYLES, render

RATE = DESCRIPTOR_RATE
LIBROSA: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mfcc": lambda piece: librosa.feature.mfcc(y=piece, sr=RATE),
    "chroma": lambda piece: librosa.feature.chroma_stft(y=piece, sr=RATE, tuning=0.0),
    "contrast": lambda piece: librosa.feature.spectral_contrast(y=piece, sr=RATE),
    "centroid": lambda piece: librosa.feature.spectral_centroid(y=piece, sr=RATE),
    "bandwidth": lambda piece: librosa.feature.spectral_bandwidth(y=piece, sr=RATE),
    "rolloff": lambda piece: librosa.feature.spectral_rolloff(y=piece, sr=RATE),
    "zero_crossing_rate": librosa.feature.zero_crossing_rate,
    "rms": lambda piece: librosa.feature.rms(y=piece),
    "onsets": lambda piece: librosa.onset.onset_strength(y=piece, sr=RATE),
}


@pytest.fixture(scope="module", params=["orchestral", "rock-band", "swing"])
def piece(request: pytest.FixtureRequest) -> np.ndarray:
    return render(request.param, seconds=4.0, rate=RATE, seed=4)


@pytest.fixture(scope="module")
def frames(piece: np.ndarray) -> FrameDescriptors:
    return describe_frames(piece)


@pytest.mark.parametrize("name", LIBROSA)
def test_frames_are_described_as_by_librosa(
    piece: np.ndarray, frames: FrameDescriptors, name: str
) -> None:
    """Every frame within 1 % of librosa's value, or of 1 % of the usual size near zero."""
    actual = getattr(frames, name)
    expected = LIBROSA[name](piece).T.reshape(actual.shape)
    mean_magnitude = np.abs(expected).mean()
    np.testing.assert_allclose(actual, expected, rtol=0.01, atol=1e-4 * mean_magnitude)


@pytest.mark.parametrize("name", ["mfcc", "contrast", "zero_crossing_rate"])
def test_a_hush_after_music_is_described_as_by_librosa(name: str) -> None:
    """What is 80 dB below the loudest counts as that, and rounding noise has no sign."""
    hush = 1e-11 * np.random.default_rng(0).standard_normal(RATE)
    piece = np.r_[render("swing", seconds=1.0, rate=RATE), hush].astype(np.float32)
    actual = getattr(describe_frames(piece), name)
    expected = LIBROSA[name](piece).T.reshape(actual.shape)
    np.testing.assert_allclose(actual, expected, rtol=0.01, atol=1e-3 * np.abs(expected).mean())


def test_tempogram(piece: np.ndarray, frames: FrameDescriptors) -> None:
    actual = tempo.mean_tempogram(frames.onsets, FRAMES_PER_SECOND)
    expected = librosa.feature.tempogram(
        onset_envelope=frames.onsets, sr=RATE, win_length=len(actual)
    ).mean(axis=1)
    np.testing.assert_allclose(actual, expected, atol=1e-4)
    assert len(actual) == int(8 * FRAMES_PER_SECOND)  # librosa's window, too


def test_tempo_equals_librosa(piece: np.ndarray, frames: FrameDescriptors) -> None:
    actual = tempo.tempo(tempo.mean_tempogram(frames.onsets, FRAMES_PER_SECOND), FRAMES_PER_SECOND)
    assert actual == pytest.approx(librosa.feature.tempo(y=piece, sr=RATE)[0])


@pytest.mark.parametrize("bpm", [60, 75, 90, 120, 140, 180])
def test_tempo_of_clicks(bpm: int) -> None:
    clicks = librosa.clicks(times=np.arange(0.0, 10.0, 60 / bpm), sr=RATE, length=10 * RATE)
    found = describe(clicks)[descriptor_names().index("tempo")]
    octaves = np.log2(found / bpm)
    assert abs(octaves - np.round(octaves)) < 0.05


def test_a_tempo_profile_is_high_at_the_tempo_and_its_fractions_alone() -> None:
    onsets = np.zeros(431, np.float32)
    onsets[::20] = 2.0
    profile = tempo.tempo_profile(onsets, FRAMES_PER_SECOND, 12)
    edges = 40 * 8 ** (np.arange(13) / 12)
    beats = 60 * FRAMES_PER_SECOND / np.array([20, 40, 60])  # 129, 65 and 43 a minute
    high = np.digitize(beats, edges) - 1
    assert profile[high] == pytest.approx(1, abs=0.02)
    assert np.abs(np.delete(profile, high)).max() < 0.1


def test_onsets_at_both_ends_of_a_clip_recur_at_no_tempo() -> None:
    onsets = np.zeros(101, np.float32)
    onsets[[0, -1]] = 1.0
    assert tempo.tempo_profile(onsets, FRAMES_PER_SECOND, 12).max() < 0.1
    # A beat apart: no more regular than can be, and nothing if a quarter is not there to compare.
    for length, highest in ((86, 1.0), (79, 0.0)):
        onsets = np.zeros(length, np.float32)
        onsets[[0, 60]] = 1.0
        profile = tempo.tempo_profile(onsets, FRAMES_PER_SECOND, 12)
        assert profile.max() == pytest.approx(highest, abs=0.02)


def test_pulse_is_clearer_in_a_beat_than_in_noise() -> None:
    clarity = descriptor_names().index("pulse_clarity")
    noise = 0.1 * np.random.default_rng(0).standard_normal(8 * RATE)
    beat = render("electronic-dance", seconds=8.0, rate=RATE)
    assert describe(beat)[clarity] > 0.5
    assert describe(noise)[clarity] < 0.2


def test_names_are_unique_and_complete() -> None:
    names = descriptor_names()
    assert len(names) == len(set(names)) == len(describe(np.ones(100))) == 124
    page = (Path(__file__).parents[1] / "docs" / "features.md").read_text(encoding="utf-8")
    stated = re.search(r"`describe` returns (\d+) numbers", page)
    assert stated
    assert int(stated[1]) == len(names), "docs/features.md"


def test_names_fit_values() -> None:
    piece = render("swing", seconds=2.0, rate=RATE)
    named = dict(zip(descriptor_names(), describe(piece), strict=True))
    frames = describe_frames(piece)
    assert named["mfcc02_mean"] == pytest.approx(frames.mfcc[:, 1].mean(), rel=1e-4)
    assert named["mfcc20_std"] == pytest.approx(frames.mfcc[:, 19].std(), rel=1e-4)
    change = np.diff(frames.mfcc[:, 0]).std()
    assert named["mfcc01_change_std"] == pytest.approx(change, rel=1e-4)
    assert named["chroma_a_mean"] == pytest.approx(frames.chroma[:, 9].mean(), rel=1e-4)
    assert named["contrast7_std"] == pytest.approx(frames.contrast[:, 6].std(), rel=1e-4)
    assert named["rolloff_mean"] == pytest.approx(frames.rolloff.mean(), rel=1e-4)
    assert named["rms_std"] == pytest.approx(frames.rms.std(), rel=1e-4)


def test_a_sounds_as_a() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440.0 * np.arange(RATE) / RATE)
    frames = describe_frames(tone)
    assert (frames.chroma[5:-5].argmax(axis=1) == 9).all()
    np.testing.assert_allclose(frames.rms[5:-5], 0.5 / np.sqrt(2), rtol=1e-2)
    np.testing.assert_allclose(frames.zero_crossing_rate[5:-5], 880 / RATE, rtol=2e-2)
    np.testing.assert_allclose(frames.centroid[5:-5], 440.0, rtol=5e-2)


def test_mfcc_columns() -> None:
    names = descriptor_names()
    columns = mfcc_columns()
    assert len(columns) == 60
    assert all(names[i].startswith("mfcc") for i in columns)


@pytest.mark.parametrize("samples", [1, 2, 50, 511, 512, 1024, 2048, 5000])
@pytest.mark.parametrize("kind", ["silence", "constant", "noise"])
def test_any_length_is_finite(samples: int, kind: str) -> None:
    signal = {
        "silence": np.zeros(samples),
        "constant": np.full(samples, 0.5),
        "noise": np.random.default_rng(1).uniform(-1, 1, samples),
    }[kind]
    assert np.isfinite(describe(signal)).all()


@pytest.mark.parametrize("style", STYLES)
def test_clip_is_finite(style: str) -> None:
    assert np.isfinite(describe(render(style, seconds=1.0, rate=RATE))).all()


def test_no_samples_are_refused() -> None:
    with pytest.raises(UsageError, match="no samples"):
        describe([])


def test_no_tempo_is_above_the_fastest() -> None:
    tempogram = np.zeros(344)
    tempogram[6], tempogram[120] = 1.0, 1e-9  # lags of 431 and 22 beats a minute
    assert tempo.tempo(tempogram, 43.07) < tempo.FASTEST_BPM
