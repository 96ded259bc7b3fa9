"""Stage 3 of a distillation: the upper layers of the FCN learn, and go half of the way back."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from tonearm.models.student import Student
from tonearm.training import refine as stage
from tonearm.training.ensemble import Ensemble
from tonearm.training.fcn import Fcn
from tonearm.training.recipe import EnsembleSettings, Recipe, RefinementSettings, StudentSettings
from tonearm.training.refine import UpperLayers, draw_segments, refine, refinement_name

LABELS = ("blues", "jazz", "metal")
TRUTH = np.array([0, 0, 0, 2, 2])  # none of the second


def recipe(**changes: object) -> Recipe:
    settings = RefinementSettings(segments=12, steps=30, batch_size=6, mixup=0.0, smoothing=0.0)
    return Recipe(
        checkpoint_steps=10,
        student=StudentSettings(window_seconds=1.0, hop_seconds=1.0),
        refinement=replace(settings, **changes),  # type: ignore[arg-type]
    )


def clips() -> list[list[np.ndarray]]:
    """Clips of two timbres, each as it is and once more, louder at the top."""
    rng = np.random.default_rng(0)
    made = []
    for genre in TRUTH:
        slope = np.linspace(0, -30, 96) if genre else np.linspace(-30, 0, 96)
        frames = (rng.normal(-20, 6, (150, 96)) + slope).astype(np.float32)
        made.append([frames, frames + np.linspace(0, 10, 96, dtype=np.float32)])
    return made


def audible_fcn() -> Fcn:
    """An untrained FCN in which something reaches the top."""
    fcn = Fcn().eval()
    for layer in (fcn.layer1, fcn.layer2, fcn.layer3, fcn.layer4, fcn.layer5):
        torch.nn.init.kaiming_normal_(layer.conv.weight)
    return fcn


def make_ensemble() -> Ensemble:
    torch.manual_seed(0)
    fcn = audible_fcn()
    student = Student(len(LABELS), labels=LABELS, audioset_weight=0.0, pretrained=False)
    ensemble = Ensemble(student, fcn, EnsembleSettings(), LABELS).eval()
    heard = np.stack([ensemble.mean_fcn_features([clip[0]]) for clip in clips()])
    ensemble.fit_heads(heard, TRUTH)
    return ensemble


def upper(ensemble: Ensemble) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in UpperLayers(ensemble).state_dict().items()}


class Learned(NamedTuple):
    folder: Path
    ensemble: Ensemble


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Learned:
    """An ensemble that has gone the whole way, and what that has left."""
    folder, ensemble = tmp_path_factory.mktemp("learned"), make_ensemble()
    refine(recipe(share=1.0), ensemble, clips(), TRUTH, folder)
    return Learned(folder, ensemble)


def test_the_upper_layers_learn_and_the_lower_ones_stay(learned: Learned) -> None:
    folder, ensemble = learned
    with (folder / "history.csv").open() as file:
        losses = [float(row["on_all"]) for row in csv.DictReader(file)]
    assert losses[-1] < 0.7 * losses[0]
    now = dict(ensemble.fcn.named_parameters())
    before = dict(make_ensemble().fcn.named_parameters())
    lower = [name for name in before if not name.startswith(("layer4", "layer5"))]
    assert all(torch.equal(now[name], before[name]) for name in lower)
    assert not ensemble.training
    window = torch.from_numpy(clips()[3][0][:50])[None]
    with torch.inference_mode():
        assert ensemble.on_all(ensemble.fcn_features(window)).argmax() == 2


def test_what_was_learned_is_gone_any_share_of_without_learning_it_again(
    learned: Learned, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deaf(*_: object) -> None:
        raise AssertionError("nothing is left to hear for")

    monkeypatch.setattr(stage, "draw_segments", deaf)
    before, whole = upper(make_ensemble()), upper(learned.ensemble)
    assert not torch.equal(before["layer4.conv.weight"], whole["layer4.conv.weight"])
    for share in (1.0, 0.5):
        ensemble = make_ensemble()
        refine(recipe(share=share), ensemble, clips(), TRUTH, learned.folder)
        for name, value in upper(ensemble).items():
            expected = before[name] + share * (whole[name] - before[name])
            torch.testing.assert_close(value, expected, msg=name)


def test_what_was_learned_is_known_by_all_it_depends_on_and_not_by_the_share_of_it() -> None:
    plain = refinement_name(recipe(share=1.0), [], [], LABELS)
    assert refinement_name(recipe(share=0.5), [], [], LABELS) == plain
    others = (replace(recipe(), seed=1), recipe(steps=31), recipe(degraded_copies=9))
    assert len({plain, *(refinement_name(other, [], [], LABELS) for other in others)}) == 4


def test_segments_are_mixed_if_the_recipe_says_so(tmp_path: Path) -> None:
    losses = []
    for mixup in (0.0, 1.0):
        brief = recipe(segments=6, steps=1, mixup=mixup)
        refine(brief, make_ensemble(), clips(), TRUTH, tmp_path / str(mixup))
        with (tmp_path / str(mixup) / "history.csv").open() as file:
            (row,) = csv.DictReader(file)
        losses.append(row["on_all"])
    assert losses[0] != losses[1]


def test_segments_are_balanced_over_genres_and_degraded_as_often_as_is_set() -> None:
    ensemble = make_ensemble()
    maps, genres = draw_segments(recipe(segments=20, smoothing=0.3), ensemble, clips(), TRUTH)
    assert maps.shape[:2] == (20, 128)
    assert maps.dtype == torch.float16
    torch.testing.assert_close(genres.sum(dim=1), torch.ones(20))
    torch.testing.assert_close(genres.sum(dim=0), torch.tensor([9.0, 2.0, 9.0]))
    seeded = replace(recipe(segments=4), seed=1)
    others, genres = draw_segments(seeded, ensemble, clips(), TRUTH)
    assert genres.argmax(dim=1).tolist() == [0, 2, 0, 2]
    assert not torch.equal(others, maps[:4])

    # Segments are cut from the first seconds of a clip alone.
    start = recipe(segments=20)
    start = replace(start, tuning=replace(start.tuning, clip_seconds=2.0))
    frames = round(2.0 * stage.SECOND_FRONT_END.frames_per_second)
    both = [
        draw_segments(
            start, ensemble, [[each[:length] for each in clip] for clip in clips()], TRUTH
        )
        for length in (frames, None)
    ]
    assert torch.equal(both[0][0], both[1][0])

    one = [
        [
            np.full((150, 96), -20.0, np.float32),
            np.tile(np.linspace(-60, 0, 96, dtype=np.float32), (150, 1)),
        ]
    ]
    for share, versions in ((0.0, 1), (1.0, 1), (0.5, 2)):
        chosen = recipe(segments=8, degraded_share=share)
        maps, _ = draw_segments(chosen, ensemble, one, np.array([1]))
        assert len(torch.unique(maps.flatten(1).float().mean(dim=1).round(decimals=3))) == versions
