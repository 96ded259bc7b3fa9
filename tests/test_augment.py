from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tonearm.features.logmel import FRONT_ENDS, LogMel, LogMelConfig
from tonearm.training.augment import Batch, apply_gain, crop, mixup, vary
from tonearm.training.experiment import AugmentSettings

FRONT_END = FRONT_ENDS["mel16k"]
OFF = AugmentSettings(
    stretch=0.0,
    transpose=0.0,
    gain_db=0.0,
    tilt_db=0.0,
    lowpass_probability=0.0,
    time_masks=0,
    band_masks=0,
    mixup=0.0,
)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def ramp(frames: int) -> np.ndarray:
    """A clip whose every frame holds its own number."""
    return np.repeat(np.arange(frames, dtype=np.float32)[:, None], FRONT_END.n_mels, axis=1)


def noise(seconds: float, config: LogMelConfig) -> np.ndarray:
    samples = rng().normal(0, 0.05, round(seconds * config.sample_rate))
    return samples.astype(np.float32)


def test_with_everything_off_a_crop_is_a_plain_stretch() -> None:
    got = crop(ramp(400), 188, FRONT_END, OFF, 0.0, rng())

    assert got.shape == (188, 96)
    assert got.dtype == np.float32
    assert np.array_equal(np.diff(got[:, 0]), np.ones(187))


def test_a_short_clip_is_repeated_not_padded() -> None:
    got = crop(ramp(50), 188, FRONT_END, OFF, 0.0, rng())[:, 0]

    assert set(np.diff(got)) == {1.0, -49.0}
    assert set(got) == set(range(50))
    generator = rng()
    begins = [crop(ramp(50), 188, FRONT_END, OFF, 0.0, generator)[0, 0] for _ in range(500)]
    assert set(begins) == set(range(50))


def test_long_clips_are_looped_as_well() -> None:
    generator = rng()

    looped = [
        (np.diff(crop(ramp(999), 188, FRONT_END, OFF, 0.5, generator)[:, 0]) < 0).any()
        for _ in range(200)
    ]

    assert 0.4 < np.mean(looped) < 0.6


def test_tempo_varies_both_ways_within_its_bounds() -> None:
    generator = rng()
    settings = replace(OFF, stretch=0.2)

    speeds = [
        np.diff(crop(ramp(999), 188, FRONT_END, settings, 0.0, generator)[:, 0]).mean()
        for _ in range(100)
    ]

    assert 1 / 1.21 < min(speeds) < 0.9
    assert 1.1 < max(speeds) < 1.21


def test_transposing_moves_a_tone_by_the_semitones() -> None:
    rate = FRONT_END.sample_rate
    tone = np.sin(2 * np.pi * 2000.0 * np.arange(rate) / rate).astype(np.float32)
    logmel = LogMel(FRONT_END)(tone)
    generator = rng()

    peaks = [
        FRONT_END.band_centres[
            crop(logmel, 40, FRONT_END, replace(OFF, transpose=4.0), 0.0, generator)[20].argmax()
        ]
        for _ in range(100)
    ]

    moved = 12 * np.log2(np.array(peaks) / 2000.0)
    assert -4.6 < moved.min() < -3
    assert 3 < moved.max() < 4.6


def test_tempo_and_pitch_only_blend_what_is_there() -> None:
    clip = rng().random((300, FRONT_END.n_mels), dtype=np.float32)
    settings = replace(OFF, stretch=0.2, transpose=4.0)
    generator = rng()
    crops = np.stack([crop(clip, 100, FRONT_END, settings, 0.0, generator) for _ in range(50)])
    assert 0 <= crops.min() < 0.01
    assert 0.99 < crops.max() <= 1
    # And where the pitch all but stays, every band stays where it is.
    near = crop(clip, 300, FRONT_END, replace(OFF, transpose=1e-6), 0.0, rng())
    np.testing.assert_allclose(near, clip, atol=1e-4)


@pytest.mark.parametrize("name", list(FRONT_ENDS))
@pytest.mark.parametrize("decibels", [-12.0, 9.0])
def test_gain_in_the_spectrogram_equals_gain_of_the_samples(name: str, decibels: float) -> None:
    config = FRONT_ENDS[name]
    samples = noise(0.5, config)
    logmel = torch.from_numpy(LogMel(config)(samples))

    louder = LogMel(config)(samples * np.float32(10 ** (decibels / 20)))

    got = apply_gain(logmel[None], torch.tensor(decibels), config)[0].numpy()
    np.testing.assert_allclose(got, louder, atol=2e-3)


def test_a_low_pass_leaves_silence_above_and_nothing_changed_below() -> None:
    logmel = torch.from_numpy(LogMel(FRONT_END)(noise(1.0, FRONT_END)))[None]
    settings = replace(OFF, lowpass_probability=1.0, lowpass_hz=3000.0)

    dulled = vary(logmel, FRONT_END, settings, rng())[0]

    below = FRONT_END.band_centres < 2900
    torch.testing.assert_close(dulled[:, below], logmel[0, :, below], atol=1e-4, rtol=1e-4)
    assert dulled[:, -1].abs().max() < 1e-3
    assert logmel[0, :, -1].min() > 0.01


def test_the_share_given_of_the_examples_is_dulled() -> None:
    logmel = torch.from_numpy(LogMel(FRONT_END)(noise(0.5, FRONT_END)))[None].repeat(200, 1, 1)

    varied = vary(logmel, FRONT_END, replace(OFF, lowpass_probability=0.3), rng())

    silenced = varied[:, :, -1].amax(dim=1) < 1e-3
    assert 0.2 < silenced.float().mean() < 0.4


def test_the_level_varies_both_ways_within_its_bounds() -> None:
    logmel = torch.full((200, 5, 96), 3.0)  # where the offset hardly counts

    decibels = 10 * (vary(logmel, FRONT_END, replace(OFF, gain_db=6.0), rng()) - logmel)

    assert -6 < decibels.min() < -5.5
    assert 5.5 < decibels.max() < 6.01
    assert decibels.std(dim=(1, 2)).max() < 0.01


def test_with_everything_off_nothing_varies() -> None:
    logmel = torch.from_numpy(LogMel(FRONT_END)(noise(1.0, FRONT_END)))[None]

    torch.testing.assert_close(vary(logmel, FRONT_END, OFF, rng()), logmel, atol=1e-5, rtol=1e-5)


def test_masks_hide_stretches_of_time_and_bands_behind_the_mean() -> None:
    logmel = torch.rand(8, 100, 96)
    settings = replace(OFF, time_masks=1, time_mask_seconds=0.5, band_masks=1, band_mask_share=0.25)

    masked = vary(logmel, FRONT_END, settings, rng())

    hidden = (masked - logmel).abs() > 1e-4
    in_time, in_bands = hidden.all(dim=2), hidden.all(dim=1)
    assert 1 <= int(in_time.sum(dim=1).max()) <= 32
    assert 1 <= int(in_bands.sum(dim=1).max()) <= 24
    torch.testing.assert_close(
        masked[in_time], logmel.mean(dim=(0, 1)).expand_as(masked[in_time]), atol=1e-4, rtol=1e-4
    )


def test_equal_generators_vary_equally() -> None:
    logmel = torch.rand(4, 100, 96)

    one, other = (vary(logmel, FRONT_END, AugmentSettings(), rng()) for _ in range(2))

    assert torch.equal(one, other)


def test_mixing_keeps_targets_distributions_and_favours_the_example_itself() -> None:
    targets = torch.eye(4).repeat(4, 1)
    frames = targets[:, None, :].expand(16, 5, 4)
    descriptors = targets.clone()
    descriptors[3] = torch.nan

    mixed = mixup(Batch(frames, descriptors, targets), 0.4, rng())

    torch.testing.assert_close(mixed.target.sum(dim=1), torch.ones(16))
    assert (mixed.target[targets.bool()] >= 0.5).all()
    assert (mixed.target.amax(dim=1) < 0.999).any()
    torch.testing.assert_close(mixed.logmel[:, 0], mixed.target)
    assert mixed.descriptors is not None
    assert mixed.descriptors[3].isnan().all()


def test_without_mixing_the_batch_is_left_alone() -> None:
    batch = Batch(torch.rand(2, 3, 4), None, torch.eye(2))

    assert mixup(batch, 0.0, rng()) is batch


def test_a_tilt_turns_around_1_khz_by_decibels_an_octave() -> None:
    logmel = torch.from_numpy(LogMel(FRONT_END)(noise(1.0, FRONT_END)))[None].repeat(200, 1, 1)

    tilted = vary(logmel, FRONT_END, replace(OFF, tilt_db=3.0), rng())

    # In "mel16k" a value is log10(1 + 10000 * mel).
    power = (10 ** tilted.double() - 1) / (10 ** logmel.double() - 1)
    decibels = 10 * power.mean(dim=1).log10().numpy()
    centres = FRONT_END.band_centres
    octaves = np.log2(np.maximum(centres, 50.0) / 1000.0)
    slopes = decibels[:, -1] / octaves[-1]
    assert -3 <= slopes.min() < -2.5
    assert 2.5 < slopes.max() <= 3.001
    np.testing.assert_allclose(decibels, slopes[:, None] * octaves, atol=0.05)


def test_any_stretch_may_be_masked_up_to_the_ends() -> None:
    logmel = torch.rand(500, 20, 96)
    settings = replace(OFF, time_masks=1, time_mask_seconds=0.2)

    hidden = ((vary(logmel, FRONT_END, settings, rng()) - logmel).abs() > 1e-4).any(dim=2)

    assert hidden[:, 0].any()
    assert hidden[:, -1].any()
