"""Stage 4 of a distillation: what is heard amid noise becomes what is heard without."""

from __future__ import annotations

import copy
import csv
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from test_ensemble import METADATA
from test_refine import audible_fcn
from tonearm.bundle import Bundle
from tonearm.features.logmel import LogMel
from tonearm.models.student import Student
from tonearm.synth import STYLES, render
from tonearm.training import degradations
from tonearm.training import denoise as stage
from tonearm.training.degradations import add_noise, noise_numbers
from tonearm.training.denoise import ClipFrames, Pairs, denoise, embed_pairs
from tonearm.training.ensemble import SECOND_FRONT_END, Denoiser, Ensemble
from tonearm.training.export import export
from tonearm.training.recipe import DenoisingSettings, EnsembleSettings, Recipe, StudentSettings
from tonearm.training.teachers import STUDENT_FRONT_END

LABELS = ("blues", "jazz", "metal")
RATE = STUDENT_FRONT_END.sample_rate


def recipe(**changes: object) -> Recipe:
    settings = DenoisingSettings(hidden=16, dropout=0.0, steps=120, batch_size=16)
    return Recipe(
        checkpoint_steps=40,
        student=StudentSettings(window_seconds=1.0, hop_seconds=1.0),
        denoising=replace(settings, **changes),  # type: ignore[arg-type]
    )


def make_ensemble() -> Ensemble:
    torch.manual_seed(0)
    fcn = audible_fcn()
    student = Student(
        len(LABELS), labels=LABELS, audioset_weight=0.2, pretrained=False, embedding_size=32
    )
    student.says_music = True
    return Ensemble(student, fcn, EnsembleSettings(), LABELS).eval()


def sounds(seed: int) -> list[list[ClipFrames]]:
    """Pieces of all styles, each as it is and twice amid noise."""
    rng = np.random.default_rng(seed)
    made = []
    for style in STYLES:
        piece = render(style, 3.0, RATE, seed)
        noisy = [add_noise(piece, snr, rng) for snr in (10.0, 20.0)]
        made.append(
            [
                ClipFrames(LogMel(STUDENT_FRONT_END)(samples), LogMel(SECOND_FRONT_END)(samples))
                for samples in (piece, *noisy)
            ]
        )
    return made


class Learned(NamedTuple):
    folder: Path
    ensemble: Ensemble
    pairs: Pairs  # what it learned from


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Learned:
    """An ensemble that has learned to denoise, and what that has left."""
    folder, ensemble, pairs = tmp_path_factory.mktemp("learned"), make_ensemble(), []

    def noting(*arguments: Any) -> Pairs:
        pairs.append(embed_pairs(*arguments))
        return pairs[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stage, "embed_pairs", noting)
        denoise(recipe(), ensemble, sounds(0), folder)
    return Learned(folder, ensemble, pairs[0])


def is_as_learned(ensemble: Ensemble, learned: Learned) -> None:
    assert ensemble.denoiser is not None
    assert learned.ensemble.denoiser is not None
    for name, value in learned.ensemble.denoiser.state_dict().items():
        torch.testing.assert_close(ensemble.denoiser.state_dict()[name], value, msg=name)


def test_what_is_heard_amid_noise_comes_nearer_to_what_is_heard_without(learned: Learned) -> None:
    folder, ensemble, _ = learned
    assert ensemble.denoiser is not None
    assert not ensemble.denoiser.training
    with (folder / "history.csv").open() as file:
        errors = [float(row["error"]) for row in csv.DictReader(file)]
    assert errors[-1] < 0.8 * errors[0]

    noisy, clean = embed_pairs(recipe(), ensemble, sounds(1))  # pieces it has not heard
    with torch.inference_mode():
        deviation = ensemble.denoiser.deviation
        before = ((noisy - clean) / deviation).square().mean(dim=1)
        after = ((ensemble.denoiser(noisy) - clean) / deviation).square().mean(dim=1)
    amid_noise = before > 0
    assert amid_noise.float().mean() == pytest.approx(2 / 3)  # the others are as they are
    assert after[amid_noise].mean() < 0.8 * before[amid_noise].mean()
    assert after[~amid_noise].mean() < 0.3 * before[amid_noise].mean()


def test_what_is_heard_is_standardised_after_a_single_step_too(tmp_path: Path) -> None:
    ensemble, heard = make_ensemble(), sounds(0)[:2]
    denoise(recipe(steps=1), ensemble, heard, tmp_path)
    assert ensemble.denoiser is not None
    noisy = embed_pairs(recipe(), ensemble, heard).noisy
    torch.testing.assert_close(ensemble.denoiser.mean, noisy.mean(dim=0))


def test_a_new_denoiser_changes_nothing_and_learns_in_every_part() -> None:
    denoiser = Denoiser(6, 4, dropout=0.0)
    heard = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(denoiser(heard), heard)
    denoiser.scale_to(heard)
    torch.testing.assert_close(denoiser(heard), heard)
    torch.nn.init.normal_(denoiser.network[-1].weight)
    denoiser(heard).square().sum().backward()
    for name, parameter in denoiser.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_exported_model_denoises_too_and_its_embedding_stays(
    learned: Learned, tmp_path: Path
) -> None:
    ensemble = copy.deepcopy(learned.ensemble)
    noisy = sounds(2)[0][1]
    first = torch.from_numpy(noisy.first[:100])[None]
    second = torch.from_numpy(noisy.second[:62])[None]
    bundle = Bundle.load(export(ensemble, METADATA, tmp_path / "with.onnx"))
    said = bundle.run([first.numpy(), second.numpy()])
    with torch.inference_mode():
        expected = ensemble.outputs(first, second)
        ensemble.denoiser = None
        without = ensemble.outputs(first, second)
    np.testing.assert_allclose(said.logits, expected.logits, atol=1e-3)
    np.testing.assert_allclose(said.embedding, without.embedding, atol=1e-3)
    assert not np.allclose(said.logits, without.logits, atol=1e-2)


def test_what_was_learned_is_not_learned_again(
    learned: Learned, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deaf(*_: object) -> None:
        raise AssertionError("nothing is left to hear for")

    monkeypatch.setattr(stage, "embed_pairs", deaf)
    ensemble = make_ensemble()
    denoise(recipe(), ensemble, [], learned.folder)
    is_as_learned(ensemble, learned)


def test_a_killed_stage_goes_on_to_the_same_end(
    learned: Learned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    def log(line: str) -> None:
        if "step 40/" in line:
            raise Killed

    monkeypatch.setattr(stage, "embed_pairs", lambda *_: learned.pairs)
    with pytest.raises(Killed):
        denoise(recipe(), make_ensemble(), [], tmp_path, log)
    resumed = make_ensemble()
    denoise(recipe(), resumed, [], tmp_path)
    is_as_learned(resumed, learned)


def test_each_noisy_copy_has_noise_of_its_own() -> None:
    numbers = noise_numbers(3)
    assert {
        degradations.DEGRADATIONS[number % len(degradations.DEGRADATIONS)] for number in numbers
    } == {degradations._random_noise}
    assert len(set(numbers)) == 3
