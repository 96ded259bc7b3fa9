"""Clips played otherwise: pitch, tempo, noise and codec, and what is kept of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tonearm.features.logmel import FRONT_ENDS, LogMel
from tonearm.synth import render, write_wav
from tonearm.training import degradations
from tonearm.training.degradations import DEGRADATIONS, Degradation

RATE = 22_050
FRONT_END = FRONT_ENDS["htk32k"]


def tone(hertz: float, seconds: float = 2.0) -> np.ndarray:
    times = np.arange(round(seconds * RATE)) / RATE
    return (0.5 * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def pitch(samples: np.ndarray) -> float:
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    return float(
        np.abs(np.fft.rfft(middle * np.hanning(len(middle)))).argmax() * RATE / len(middle)
    )


@pytest.mark.parametrize("semitones", [-1.5, 1.0])
def test_transposing_moves_the_pitch_and_keeps_the_length(semitones: float) -> None:
    played = degradations.pitch_shift(tone(440.0), RATE, semitones)
    assert pitch(played) == pytest.approx(440.0 * 2 ** (semitones / 12), abs=2)
    assert len(played) == pytest.approx(2 * RATE, rel=0.05)


@pytest.mark.parametrize("factor", [0.9, 1.08])
def test_another_tempo_keeps_the_pitch_and_changes_the_length(factor: float) -> None:
    played = degradations.time_stretch(tone(440.0), RATE, factor)
    assert pitch(played) == pytest.approx(440.0, abs=2)
    assert len(played) == pytest.approx(2 * RATE / factor, rel=0.05)


def test_noise_lies_as_far_below_as_is_said() -> None:
    clean = tone(440.0)
    noise = degradations.add_noise(clean, 20.0, np.random.default_rng(0)) - clean
    assert 10 * np.log10(np.mean(clean**2) / np.mean(noise**2)) == pytest.approx(20, abs=0.2)
    loud = degradations.add_noise(2 * clean, 20.0, np.random.default_rng(0))
    assert (loud.min(), loud.max()) == (-1, 1)  # as a recording cannot be louder


def test_strengths_are_drawn_both_ways_within_their_bounds() -> None:
    shift, noise, stretch, codec = DEGRADATIONS
    clean = tone(440.0, 0.5)
    draws = [np.random.default_rng(seed) for seed in range(16)]
    moved = [12 * np.log2(pitch(shift(clean, RATE, rng)[0]) / 440) for rng in draws]
    assert -1.7 < min(moved) < -0.75
    assert 0.75 < max(moved) < 1.7
    speeds = [len(clean) / len(stretch(clean, RATE, rng)[0]) for rng in draws]
    assert 0.85 < min(speeds) < 0.95
    assert 1.05 < max(speeds) < 1.15
    added = [np.mean((noise(clean, RATE, rng)[0] - clean) ** 2) for rng in draws]
    ratios = 10 * np.log10(np.mean(clean**2) / np.array(added))
    assert 14.5 < ratios.min() < 20
    assert 25 < ratios.max() < 30.5
    piece = render("rock-band", 0.5, RATE, seed=1)
    heard = {codec(piece, RATE, rng)[0].tobytes() for rng in draws}
    assert 1 < len(heard) <= 3, "at several bit rates"


def test_a_codec_keeps_to_its_bit_rate(tmp_path: Path) -> None:
    path = tmp_path / "piece.opus"
    for kilobits in (24, 48):
        noise = 0.1 * np.random.default_rng(0).standard_normal(2 * 48_000)
        degradations.encode(path, noise.astype(np.float32), 48_000, "libopus", 1000 * kilobits)
        assert path.stat().st_size == pytest.approx(2 * 1000 * kilobits / 8, rel=0.3)


def test_a_recording_is_played_the_same_way_again(tmp_path: Path) -> None:
    path = tmp_path / "piece.wav"
    write_wav(path, render("electronic-dance", 3.0, RATE, seed=1), RATE)
    plain = LogMel(FRONT_END)(
        degradations.resampled(render("electronic-dance", 3.0, RATE, seed=1), RATE, 32_000)
    )
    seen = []
    for number in range(len(DEGRADATIONS) + 1):
        frames, again = (
            np.concatenate(list(Degradation(FRONT_END, number, 60.0).rows(path))) for _ in range(2)
        )
        np.testing.assert_array_equal(frames, again)
        assert frames.shape[1] == FRONT_END.n_mels
        assert len(frames) == pytest.approx(len(plain), rel=0.15)
        # It is still that piece: as bright and as dull in the same bands.
        assert np.corrcoef(frames[:, :60].mean(axis=0), plain[:, :60].mean(axis=0))[0, 1] > 0.8
        assert not any(frames.shape == other.shape and np.allclose(frames, other) for other in seen)
        seen.append(frames)


def test_a_click_is_played_too(tmp_path: Path) -> None:
    path = tmp_path / "click.wav"
    write_wav(path, tone(440.0, 0.02), RATE)
    for number in range(len(DEGRADATIONS)):
        frames = np.concatenate(list(Degradation(FRONT_END, number, 60.0).rows(path)))
        assert len(frames) == 2
        assert np.isfinite(frames).all()


def test_only_the_beginning_is_played(tmp_path: Path) -> None:
    path = tmp_path / "piece.wav"
    write_wav(path, render("rock-band", 3.0, RATE, seed=1), RATE)
    for number in range(len(DEGRADATIONS)):
        frames = np.concatenate(list(Degradation(FRONT_END, number, 1.0).rows(path)))
        assert len(frames) / FRONT_END.frames_per_second == pytest.approx(1.0, abs=0.15)
    # Other numbers, lengths and front ends are kept apart.
    kinds = (
        Degradation(FRONT_END, 0, 1.0),
        Degradation(FRONT_END, 4, 1.0),
        Degradation(FRONT_END, 0, 2.0),
    )
    assert len({kind.folder_name() for kind in kinds}) == 3


def test_what_is_stored_is_known_by_the_versions_of_degradations_and_features(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = Degradation(FRONT_END, 0, 1.0)
    names = {kind.folder_name()}
    for version in ("CACHE_VERSION", "DEGRADATION_VERSION"):
        with monkeypatch.context() as patch:
            patch.setattr(degradations, version, 99)
            names.add(kind.folder_name())
    assert len(names) == 3
