"""The log-mel front end: equal to the references, whole or streamed, at any length."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tonearm.errors import UsageError
from tonearm.features.logmel import FRONT_ENDS, LogMel, LogMelConfig
from tonearm.features.mel import mel_filterbank
from tonearm.features.stft import hann
from tonearm.synth import STYLES, render

SMALL = LogMelConfig(
    sample_rate=8000,
    n_fft=64,
    win_length=50,
    hop_length=20,
    n_mels=8,
    f_min=0,
    f_max=4000,
    preemphasis=0.97,
)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return 0.2 * np.random.default_rng(seed).standard_normal(samples, dtype=np.float32)


def joined(log_mel: LogMel, blocks: list[np.ndarray]) -> np.ndarray:
    parts = [part.copy() for part in log_mel.stream(blocks)]
    return np.concatenate([np.empty((0, log_mel.config.n_mels), np.float32), *parts])


@pytest.mark.parametrize("style", STYLES)
def test_equals_librosa(style: str) -> None:
    samples = render(style, seconds=3.0, rate=22050, seed=1)
    actual = LogMel(FRONT_ENDS["librosa"])(samples)
    mel = librosa.feature.melspectrogram(y=samples, sr=22050)
    expected = librosa.power_to_db(mel, ref=1.0, top_db=None).T
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["mel16k", "mel22k", "htk16k", "htk32k"])
def test_equals_librosa_with_the_settings_that_the_page_states(name: str) -> None:
    config = FRONT_ENDS[name]
    rate = config.sample_rate
    samples = render(STYLES[0], seconds=1.0, rate=rate, seed=1)
    mel = librosa.feature.melspectrogram(
        y=samples,
        sr=rate,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        n_mels=config.n_mels,
        fmax={"mel22k": 11_025}.get(name, 8_000),
        htk=name.startswith("htk"),
        norm=None if name.startswith("htk") else "slaney",
        pad_mode="reflect",
    )
    if name == "htk32k":  # the values of "htk16k": twice the samples have four times the power
        mel /= 4
    in_db = name.startswith("htk")
    expected = librosa.power_to_db(mel, top_db=None) if in_db else np.log10(1 + 1e4 * mel)
    np.testing.assert_allclose(LogMel(config)(samples), expected.T, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("htk", "scale"), [(False, "slaney"), (True, "htk")])
@pytest.mark.parametrize("norm", ["slaney", None])
def test_filterbank_equals_librosa(htk: bool, scale: str, norm: str | None) -> None:
    actual = mel_filterbank(16000, 512, 40, 50.0, 7000.0, scale, norm)
    expected = librosa.filters.mel(
        sr=16000, n_fft=512, n_mels=40, fmin=50.0, fmax=7000.0, htk=htk, norm=norm
    )
    np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["efficientat", "mel16k", "htk16k"])
def test_equals_published_front_end(name: str, shared: Path, monkeypatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(shared / "reference"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    import frontends

    rate = FRONT_ENDS[name].sample_rate
    samples = render(STYLES[0], seconds=2.0, rate=rate, seed=2) + 0.01 * noise(2 * rate)
    wave = torch.from_numpy(samples)[None]
    if name == "efficientat":
        reference = frontends.EfficientAT().melspec(wave)
    elif name == "mel16k":
        reference = frontends._LogMel16k()(wave)
    else:
        power = frontends.power_spec(wave, 512, 256, torch.hann_window(512))
        bank = torch.from_numpy(frontends.mel_htk(16000, 512, 96))
        reference = 10 * torch.log10(torch.clamp(bank @ power, min=1e-10))
    actual = LogMel(FRONT_ENDS[name])(samples)
    np.testing.assert_allclose(actual, reference[0].numpy().T, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_frames_per_second(name: str) -> None:
    config = FRONT_ENDS[name]
    # One sample more, which pre-emphasis takes.
    frames = LogMel(config)(noise(3 * config.sample_rate + 1))
    assert frames.shape == (1 + int(3 * config.frames_per_second), config.n_mels)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_streaming_equals_whole(name: str) -> None:
    log_mel = LogMel(FRONT_ENDS[name])
    samples = noise(70_000)
    whole = log_mel(samples)
    cuts = np.sort(np.random.default_rng(3).integers(0, len(samples), 30))
    np.testing.assert_allclose(joined(log_mel, np.split(samples, cuts)), whole, atol=1e-5)


@settings(max_examples=150, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 90), max_size=12),
    padding=st.sampled_from(["reflect", "zeros"]),
    preemphasis=st.sampled_from([0.0, 0.97]),
)
def test_any_blocks_equal_whole(lengths: list[int], padding: str, preemphasis: float) -> None:
    log_mel = LogMel(replace(SMALL, padding=padding, preemphasis=preemphasis))
    blocks = [noise(length, seed=i) for i, length in enumerate(lengths)]
    whole = log_mel(np.concatenate([np.empty(0, np.float32), *blocks]))
    streamed = joined(log_mel, blocks)
    assert streamed.shape == whole.shape
    assert (len(whole) > 0) == (sum(lengths) > 0)
    assert np.isfinite(whole).all()
    np.testing.assert_allclose(streamed, whole, atol=1e-5)


@pytest.mark.parametrize("name", FRONT_ENDS)
@pytest.mark.parametrize("samples", [0, 1, 2, 100, 512, 513, 514, 1025, 1026])
def test_short_signals(name: str, samples: int) -> None:
    config = FRONT_ENDS[name]
    frames = LogMel(config)(noise(samples))
    covered = max(1, samples - 1) if config.preemphasis else samples
    if config.padding == "reflect":
        covered = max(covered, config.n_fft // 2 + 1)
    assert len(frames) == (1 + covered // config.hop_length if samples else 0)
    assert (len(frames) > 0) == (samples > 0)
    assert np.isfinite(frames).all()


def test_silence_is_finite() -> None:
    for config in FRONT_ENDS.values():
        assert np.isfinite(LogMel(config)(np.zeros(5000))).all()


@pytest.mark.parametrize(
    ("samples", "message"),
    [(np.zeros((100, 2)), r"mono.*\(100, 2\)"), (np.zeros(100, np.int16), r"float.*int16")],
)
def test_what_is_no_mono_sound_is_refused(samples: np.ndarray, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LogMel(SMALL)(samples)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_settings_round_trip(name: str) -> None:
    config = FRONT_ENDS[name]
    assert LogMelConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wavelets": 3}, "unknown front end settings: wavelets"),
        ({"scale": "bark"}, "unknown front end scale 'bark'"),
        ({"window": "flat"}, "unknown front end window 'flat'"),
        ({"log": "sqrt"}, "unknown front end log 'sqrt'"),
        ({"hop_length": 0}, "hop_length"),
        ({"n_fft": 65}, "even n_fft .* got n_fft 65"),
        ({"hop_length": 65}, "hop_length <= n_fft, got n_fft 64 and hop_length 65"),
        ({"f_max": 9000.0}, "f_max"),
        ({"win_length": 16_384, "n_fft": 512}, "needs win_length <= n_fft, got 16384 and 512"),
        ({"gain": 1e30}, r"gain: expected a number up to 1e\+12"),
        ({"shift": "4"}, "shift: expected a number"),
        ({"shift": True}, "shift: expected a number"),
        ({"offset": 0.0}, "offset: expected more than 0"),
        ({"divisor": -1.0}, "divisor: expected more than 0"),
    ],
)
def test_settings_that_cannot_be_computed_are_refused(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        LogMelConfig.from_dict({**SMALL.to_dict(), **change})


def test_missing_settings_are_refused() -> None:
    with pytest.raises(UsageError, match=r"incomplete front end settings.*n_fft"):
        LogMelConfig.from_dict({"sample_rate": 8000})


def test_hann_is_periodic_or_symmetric() -> None:
    np.testing.assert_allclose(hann(8), np.hanning(9)[:8], atol=1e-7)
    np.testing.assert_allclose(hann(8, "hann_symmetric"), np.hanning(8), atol=1e-7)


def test_efficientats_front_end_scales_the_logarithm_as_published() -> None:
    config = FRONT_ENDS["efficientat"]
    samples = noise(8_000)
    plain = replace(config, offset=1e-30, shift=0.0, divisor=1.0)
    mel = np.exp(LogMel(plain)(samples).astype(np.float64))
    expected = (np.log(mel + 1e-5) + 4.5) / 5.0
    np.testing.assert_allclose(LogMel(config)(samples), expected, atol=1e-4)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_a_single_sample_has_a_frame(name: str) -> None:
    log_mel = LogMel(FRONT_ENDS[name])
    for blocks in ([noise(1)], [noise(0), noise(1)], [noise(1), noise(0)]):
        assert len(list(log_mel.stream(blocks))) == 1


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_a_tone_at_the_centre_of_a_band_is_loudest_in_it(name: str) -> None:
    config = FRONT_ENDS[name]
    seconds = np.arange(config.sample_rate // 4) / config.sample_rate
    for share in (0.4, 0.6, 0.8, 0.95):
        band = round(share * config.n_mels)
        tone = 0.5 * np.sin(2 * np.pi * config.band_centres[band] * seconds)
        middle = LogMel(config)(tone)[3:-3]
        assert set(middle.argmax(axis=1)) == {band}
