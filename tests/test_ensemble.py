from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from tonearm.audio import resample
from tonearm.bundle import Bundle
from tonearm.errors import UsageError
from tonearm.features.logmel import FRONT_ENDS, LogMel
from tonearm.library.embedding_layout import embedding_parts
from tonearm.metadata import BundleMetadata
from tonearm.models.student import Student
from tonearm.synth import render
from tonearm.training.ensemble import (
    FCN_FEATURES,
    LONG_FRAMES,
    REPEATED_FRAMES,
    SECOND_FRONT_END,
    STEP_FRAMES,
    Denoiser,
    Ensemble,
    LinearHead,
    TagHead,
)
from tonearm.training.export import export, largest_difference
from tonearm.training.fcn import BENEATH, EMBEDDING, TAGS, Fcn
from tonearm.training.recipe import EnsembleSettings

LABELS = ("blues", "jazz", "metal")
METADATA = BundleMetadata(
    name="ensemble",
    labels=LABELS,
    front_end=FRONT_ENDS["efficientat"],
    second_front_end=SECOND_FRONT_END,
    window_seconds=10.0,
    hop_seconds=10.0,
)

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    torch.manual_seed(0)
    student = Student(len(LABELS), labels=LABELS, audioset_weight=0.2, pretrained=False)
    student.says_music = True
    return Ensemble(student, Fcn().eval(), EnsembleSettings(), LABELS).eval()


def test_the_fcn_hears_the_same_from_samples_at_twice_the_rate() -> None:
    at_32k = render("rock-band", 3.0, 32_000, 0)

    at_16k = np.concatenate(list(resample(at_32k, 32_000, 16_000)))
    published = LogMel(FRONT_ENDS["htk16k"])(at_16k)
    ours = LogMel(SECOND_FRONT_END)(at_32k)
    frames = min(len(published), len(ours))
    audible = published[2 : frames - 2, :90] > -40  # the resampler's slope lies above band 90
    difference = np.abs(published[2 : frames - 2, :90] - ours[2 : frames - 2, :90])
    assert np.median(difference[audible]) < 0.1  # dB


def test_an_ensemble_exports_with_both_inputs(ensemble: Ensemble, tmp_path: Path) -> None:
    # Raises where ONNX Runtime and torch differ, also for windows shorter than the repetition.
    path = export(ensemble, METADATA, tmp_path / "ensemble.onnx")
    outputs = Bundle.load(path).run(
        [np.zeros((1, 300, 128), np.float32), np.zeros((1, 188, 96), np.float32)]
    )
    assert outputs.logits.shape == (1, 3)
    assert outputs.embedding.shape == (1, ensemble.student.embedding_size + FCN_FEATURES)
    assert outputs.music is not None
    assert outputs.music.shape == (1, 1)
    # Whoever learns from the embedding finds its parts in the graph.
    width = ensemble.student.embedding_size
    assert embedding_parts(path, width + FCN_FEATURES) == (width, EMBEDDING, BENEATH)


def test_a_short_window_is_heard_again_and_again(ensemble: Ensemble) -> None:
    once = np.random.default_rng(0).normal(-20, 10, (LONG_FRAMES // 3, 96)).astype(np.float32)
    heard, twice = (
        ensemble.mean_fcn_features([window]) for window in (once, np.tile(once, (2, 1)))
    )
    assert heard.shape == (FCN_FEATURES,)
    assert np.allclose(heard, twice, atol=1e-4)


def test_a_long_window_is_repeated_after_two_layers(ensemble: Ensemble) -> None:
    window = 10 * torch.randn(1, 39 * STEP_FRAMES, 96, generator=torch.manual_seed(0))
    level = 10 - 10 * (window * (np.log(10) / 10)).exp().mean().log10()
    repeated = torch.cat([window, window], dim=1)[:, :REPEATED_FRAMES] + level
    with torch.inference_mode():
        maps, by_frames = ensemble.lower(window), ensemble.fcn.lower(repeated)
    assert maps.shape == by_frames.shape
    # Equal but for where the repetition begins and the frames end.
    away = [*range(9), *range(11, 14)]
    torch.testing.assert_close(maps[..., away], by_frames[..., away], atol=1e-4, rtol=1e-4)
    # What a window lacks of a whole step is left out, and one that is long enough is not repeated.
    with torch.inference_mode():
        torch.testing.assert_close(
            ensemble.lower(torch.cat([window, window[:, :3]], dim=1))[..., :9],
            maps[..., :9],
            atol=0.05,
            rtol=0.05,
        )
        assert ensemble.lower(torch.zeros(1, 1875, 96)).shape[3] == 1875 // 64


def test_the_end_of_a_long_window_is_heard_as_its_repetition_goes_on(ensemble: Ensemble) -> None:
    loop = 10 * torch.randn(1, 10 * STEP_FRAMES, 96, generator=torch.manual_seed(0))
    heard: list[torch.Tensor] = []
    with (
        torch.inference_mode(),
        ensemble.fcn.layer3.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0])),
    ):
        ensemble.lower(loop.repeat(1, 4, 1))
    torch.testing.assert_close(heard[0][..., 39], heard[0][..., 29])


def test_how_loud_a_window_is_says_nothing(ensemble: Ensemble) -> None:
    logmel = np.random.default_rng(0).normal(0, 10, (625, 96)).astype(np.float32)
    heard, softly = (ensemble.mean_fcn_features([logmel + gain]) for gain in (0.0, -12.0))
    assert np.allclose(heard, softly, atol=1e-4)
    # But what is next to silent is not brought up to the level of music.
    assert not np.allclose(heard, ensemble.mean_fcn_features([logmel - 60]), atol=1e-2)


def test_a_head_is_the_logistic_regression_it_was_fitted_as() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 2], 20)  # none of the second genre
    features = rng.gamma(2.0, 1.0, (40, EMBEDDING + 7)).astype(np.float32)
    features[truth == 2, 3] += 4.0
    head = LinearHead(EMBEDDING, 3)
    head.fit(features, truth, 1.0)
    with torch.inference_mode():
        shares = head(torch.from_numpy(features)).exp().numpy()
    assert np.allclose(shares.sum(axis=1), 1, atol=1e-5)
    assert shares[:, 1].max() < 0.01

    own = features[:, :EMBEDDING]
    standard = np.clip((own - own.mean(axis=0)) / own.std(axis=0), -5, 5)
    fitted = LogisticRegression(C=1.0, class_weight="balanced", max_iter=2000).fit(standard, truth)
    assert np.allclose(shares[:, [0, 2]], fitted.predict_proba(standard), atol=1e-3)


def test_each_head_has_its_own_regularisation_and_stops_listening_far_out() -> None:
    settings = EnsembleSettings(fcn_regularisation=1e-6, fcn_embedding_regularisation=1.0)
    student = Student(len(LABELS), pretrained=False)
    both = Ensemble(student, Fcn().eval(), settings, LABELS).eval()
    features = np.random.default_rng(0).normal(size=(30, EMBEDDING + BENEATH))
    both.fit_heads(features.astype(np.float32), np.arange(30) % 3)
    assert both.on_all.linear.weight.abs().max() < 1e-3
    assert both.on_embedding.linear.weight.abs().max() > 1e-2

    far = torch.zeros(2, EMBEDDING)
    far[:, 0] = torch.tensor([10.0, 100.0])
    one, other = both.on_embedding(far)
    assert torch.equal(one, other)


def test_the_embedding_is_that_before_denoising(ensemble: Ensemble) -> None:
    denoised = copy.deepcopy(ensemble)
    denoised.denoiser = Denoiser(denoised.embedding_size, 4, 0.0).eval()
    torch.nn.init.ones_(denoised.denoiser.network[-1].bias)
    windows = torch.rand(1, 200, 128), torch.rand(1, 125, 96)
    with torch.inference_mode():
        embedding = denoised.outputs(*windows).embedding
        torch.testing.assert_close(embedding, denoised.embed_windows(*windows))


def half_silent(frames: Floats, beyond_hz: float, fall: float) -> Floats:
    """Lower all bands beyond a frequency."""
    bands = FRONT_ENDS["efficientat"].band_centres > beyond_hz
    return np.where(bands, frames - fall, frames).astype(np.float32)


@pytest.mark.parametrize("kept", [1.0, 0.25, 0.0])
def test_an_ensemble_weighs_its_heads(kept: float) -> None:
    student = Student(len(LABELS), labels=LABELS, audioset_weight=0.2, pretrained=False)
    ensemble = Ensemble(student, Fcn().eval(), EnsembleSettings(full_band=kept), LABELS).eval()
    rng = np.random.default_rng(0)
    frames = rng.normal(0.5, 0.7, (300, 128)).astype(np.float32)
    first = torch.from_numpy(
        np.stack([half_silent(frames, 12_500, fall) for fall in (3.0, 0.4, 0.0)])
    )
    second = torch.from_numpy(rng.normal(-20, 10, (3, 188, 96)).astype(np.float32))
    with torch.inference_mode():
        dull, between, full = ensemble.full_band(first)[:, 0].tolist()
        assert (dull, full) == (0, 1) and 0.1 < between < 0.9
        heard = ensemble.fcn_features(second)
        tags = ensemble.by_tags(ensemble.fcn.dense(heard[:, :EMBEDDING]))
        judged = student.genre_scores(first)
        assert judged.audioset is not None
        at_home = 0.5 * judged.genre + ensemble.on_all(heard)
        elsewhere = ensemble.on_embedding(heard) + 0.3 * tags + 0.1 * judged.audioset
        logits = ensemble(first, second)
        torch.testing.assert_close(logits[0], (at_home + elsewhere)[0] / 2.8)
        for row, share in ((1, between), (2, 1.0)):
            weight = 1 - share * (1 - kept)
            expected = (weight * at_home + elsewhere)[row] * (2.9 / (weight * 1.5 + 1.4)) / 2.8
            torch.testing.assert_close(logits[row], expected)


def test_only_what_sounds_above_gtzan_is_of_full_band(ensemble: Ensemble) -> None:
    rng = np.random.default_rng(0)
    sound = render("rock-band", 5.0, 32_000, 0)
    at_22k = np.concatenate(list(resample(sound, 32_000, 22_050)))
    again = np.concatenate(list(resample(at_22k, 22_050, 32_000)))
    hiss = rng.normal(0, 1, len(again)).astype(np.float32)
    hiss *= np.sqrt(np.mean(again**2) / np.mean(hiss**2))
    # A cymbal, next to nothing below 10 kHz, four times a second.
    strikes = np.exp(-np.arange(len(again)) % 8_000 / 1_000).astype(np.float32)
    bright = again + 0.5 * strikes * np.diff(np.diff(hiss, prepend=0), prepend=0)
    heard = {
        "dull": again,
        "dull and soft": again / 50,
        "dull, hiss 30 dB below": again + hiss * 10 ** (-30 / 20),
        "silence": 0 * again,
        "bright": bright,
        "bright and soft": bright / 50,
    }
    front_end = LogMel(FRONT_ENDS["efficientat"])
    for name, samples in heard.items():
        with torch.inference_mode():
            share = ensemble.full_band(torch.from_numpy(front_end(samples))[None]).item()
        assert share == (1.0 if "bright" in name else 0.0), name


def test_an_export_compares_heads_of_dull_and_of_full_windows(
    ensemble: Ensemble, tmp_path: Path
) -> None:
    changed = Ensemble(
        ensemble.student, Fcn().eval(), EnsembleSettings(full_band=0.0), LABELS
    ).eval()
    bundle = Bundle.load(export(changed, METADATA, tmp_path / "ensemble.onnx"))
    assert largest_difference(changed, bundle) < 1e-4
    changed.on_all.linear.bias.data[0] += 1.0  # which full windows do not ask
    assert largest_difference(changed, bundle) > 0.1


def test_tags_speak_for_the_genres_they_name() -> None:
    logits = torch.full((1, len(TAGS)), -6.0)
    logits[0, TAGS.index("heavy metal")] = 2.0  # a kind of metal
    logits[0, TAGS.index("indie pop")] = 1.0
    logits[0, TAGS.index("soul")] = 9.0  # no genre here
    head = TagHead(["metal", "pop", "Hip Hop", "opera"])
    shares = head(logits).exp()[0]
    expected = torch.tensor([2.0, 1.0, -6.0]).sigmoid()
    torch.testing.assert_close(shares[:3], expected)
    # What no tag names is neither helped nor held back.
    torch.testing.assert_close(shares[3], expected.log().mean().exp())


def test_tags_that_name_no_two_genres_are_left_out(ensemble: Ensemble) -> None:
    labels = ("opera", "polka", "metal")
    student = ensemble.student
    assert not TagHead(labels).of_use and TagHead(LABELS).of_use
    first, second = torch.zeros(1, 300, 128), torch.zeros(1, 188, 96)
    without = Ensemble(student, Fcn().eval(), EnsembleSettings(), labels).eval()
    with torch.inference_mode():
        said = without(first, second)
        weightless = Ensemble(student, Fcn().eval(), EnsembleSettings(fcn_tags=0.0), LABELS).eval()
        for name in ("fcn", "on_all", "on_embedding"):
            getattr(weightless, name).load_state_dict(getattr(without, name).state_dict())
        torch.testing.assert_close(weightless(first, second), said)
    with pytest.raises(UsageError, match="no head is left"):
        Ensemble(student, Fcn(), EnsembleSettings(student=0.0, fcn=0.0, fcn_embedding=0.0), labels)
    at_home = EnsembleSettings(student=0.0, fcn_embedding=0.0, full_band=0.0)
    with pytest.raises(UsageError, match="of full band"):
        Ensemble(student, Fcn(), at_home, labels)
