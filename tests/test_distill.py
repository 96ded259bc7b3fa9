"""Distillation: segments kept on disk, both stages, going on after a break, and the bundle."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from setting_ranges import numbers, unbounded, with_setting
from teachers_stand_in import random_outputs, replace_teachers
from tonearm.benchmark.ladder import run_benchmark
from tonearm.benchmark.systems import DistilledSystem, find_system
from tonearm.bundle import Bundle
from tonearm.classifier import Classifier
from tonearm.datasets import Dataset, LeakWarning, Track
from tonearm.datasets.cache import FeatureCache
from tonearm.datasets.storage import StoredArray
from tonearm.datasets.track import DatasetError
from tonearm.errors import TonearmError, UsageError
from tonearm.evaluation.crossval import Round
from tonearm.features.logmel import LogMel
from tonearm.models import audioset
from tonearm.models.mobilenet import AudioSetMobileNet
from tonearm.models.student import Student
from tonearm.synth import STYLES, render, write_wav
from tonearm.training import conditions, fcn, imitate, transfer_set
from tonearm.training import tune as stage
from tonearm.training.denoise import denoising_name
from tonearm.training.distill import distill
from tonearm.training.mel_power import to_power
from tonearm.training.optimisation import Optimisation
from tonearm.training.recipe import (
    ConditionSettings,
    DenoisingSettings,
    DistillOptimiserSettings,
    EnsembleSettings,
    ImitationSettings,
    Recipe,
    RefinementSettings,
    StudentSettings,
    TransferSettings,
    TuningSettings,
    music_folders,
    parse_recipe,
)
from tonearm.training.refine import refinement_name
from tonearm.training.runfolder import RunError
from tonearm.training.soft_labels import soft_labels
from tonearm.training.targets import TargetBatch, TargetSpace, collate
from tonearm.training.teacher_heads import StudentWithTeacherHeads, imitation_losses
from tonearm.training.teachers import STUDENT_FRONT_END, TeacherOutputs
from tonearm.training.transfer_set import EvenlySpaced, TransferSegment, TransferStore
from tonearm.training.tune import Examples, _draw, tuning_name

RATE = 16_000
LABELS = ("blues", "jazz")
SHORT = TransferSettings(segments=2, segment_seconds=3.5, spacing_seconds=4.0, shortest_seconds=6.0)


def tiny(**changes: object) -> Recipe:
    """A recipe that runs in seconds."""
    recipe = Recipe(
        checkpoint_steps=2,
        student=StudentSettings(embedding_size=16, audioset_weight=0.3),
        ensemble=EnsembleSettings(fcn=0.0, fcn_embedding=0.0, fcn_tags=0.0),
        transfer=SHORT,
        imitation=ImitationSettings(epochs=1, batch_size=3, components=8),
        tuning=TuningSettings(
            steps=3,
            labelled=2,
            unlabelled=1,
            crop_seconds=(1.0, 2.0),
            crop_shares=(0.5, 0.5),
        ),
    )
    return replace(recipe, **changes)  # type: ignore[arg-type]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Put a list in the place of the teachers, which notes how many frames each was asked about."""
    count: list[int] = []

    def answer(samples: np.ndarray, logmel: np.ndarray) -> TeacherOutputs:
        count.append(len(logmel))
        return random_outputs(np.random.default_rng(round(1e3 * float(np.abs(samples).sum()))))

    replace_teachers(monkeypatch, answer)
    torch.manual_seed(0)
    tagger = AudioSetMobileNet().eval()
    monkeypatch.setattr("tonearm.models.mobilenet.load_pretrained", lambda: tagger)
    return count


def piece(path: Path, seconds: float, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(path, render(STYLES[seed % len(STYLES)], seconds, RATE, seed=seed), RATE)
    return path


@pytest.fixture
def music(tmp_path: Path) -> Path:
    for number in range(3):
        piece(tmp_path / "music" / f"{number}.wav", 9.0, seed=number)
    return tmp_path / "music"


@pytest.fixture
def tracks(tmp_path: Path) -> list[Track]:
    return [
        Track(f"{label}.{number}", piece(tmp_path / label / f"{number}.wav", 1.5, seed), label)
        for seed, (label, number) in enumerate((la, n) for la in LABELS for n in range(2))
    ]


# --- segments


def test_lessons_are_made_once_and_hold_what_was_heard(
    tmp_path: Path, music: Path, asked: list[int]
) -> None:
    files = sorted(music.glob("*.wav"))
    found = TransferStore(tmp_path / "cache", progress=False).of_music(files, SHORT)
    assert len(found) == len(asked) == 6
    assert len({segment.recording for segment in found}) == 3
    again = TransferStore(tmp_path / "cache", progress=False).of_music(files[::-1], SHORT)
    assert len(asked) == 6
    for one, other in zip(found, again, strict=True):
        assert one.recording == other.recording
        np.testing.assert_array_equal(one.logmel(), other.logmel())
        np.testing.assert_array_equal(one.outputs.musicnn, other.outputs.musicnn)
    other_settings = replace(SHORT, segments=1)
    TransferStore(tmp_path / "cache", progress=False).of_music(files, other_settings)
    assert len(asked) == 9


def test_each_lesson_is_of_its_own_stretch(tmp_path: Path, music: Path, asked: list[int]) -> None:
    (file, *_) = music.glob("*.wav")
    three = replace(SHORT, segments=3, segment_seconds=1.0, spacing_seconds=2.0)
    found = TransferStore(tmp_path / "cache", progress=False).of_music([file], three)
    assert len(found) == 3
    for segment, stretch in zip(found, EvenlySpaced(three)(file), strict=True):
        samples = transfer_set.audio.read(file, STUDENT_FRONT_END.sample_rate, *stretch).samples
        expected = LogMel(STUDENT_FRONT_END)(samples)
        np.testing.assert_allclose(segment.logmel(), expected, atol=5e-3)


def test_lessons_of_other_teachers_or_recordings_have_another_digest(
    tmp_path: Path, music: Path, asked: list[int]
) -> None:
    files = sorted(music.glob("*.wav"))
    found = TransferStore(tmp_path / "cache", progress=False).of_music(files, SHORT)
    outputs = found[-1].outputs
    retold = replace(found[-1], outputs=outputs._replace(audioset=outputs.audioset + 0.1))
    sets = (found, found[:-1], [*found[:-1], retold])
    assert len({transfer_set.transfer_digest(segments) for segments in sets}) == 3
    assert transfer_set.transfer_digest(iter(found)) == transfer_set.transfer_digest(found)


def test_a_clip_is_one_lesson_of_the_front_end(tmp_path: Path, asked: list[int]) -> None:
    clip = piece(tmp_path / "clip.wav", 1.0)
    store = TransferStore(tmp_path / "cache", progress=False)
    segment = store.of_clips([clip], 60.0)[0]
    assert segment is not None
    assert asked == [segment.length]
    samples = transfer_set.audio.read(clip, STUDENT_FRONT_END.sample_rate).samples
    expected = LogMel(STUDENT_FRONT_END)(samples)
    np.testing.assert_allclose(segment.logmel(), expected, atol=5e-3)
    looped = segment.logmel(10, 2 * segment.length)
    np.testing.assert_array_equal(looped[: segment.length - 10], segment.logmel(10))
    np.testing.assert_array_equal(looped[segment.length - 10 :][:30], segment.logmel(0, 30))


def test_what_cannot_be_heard_is_told_and_does_not_stop_the_rest(
    tmp_path: Path, asked: list[int]
) -> None:
    good = piece(tmp_path / "good.wav", 1.0)
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no audio at all")
    store = TransferStore(tmp_path / "cache", progress=False)
    scrap = piece(tmp_path / "scrap.wav", 0.2)  # would fail as features, hours later
    found = store.of_clips([bad, good, tmp_path / "missing.wav", scrap], 60.0)
    assert [segment is not None for segment in found] == [False, True, False, False]
    refused = sorted(Path(refused.path).name for refused in store.refused)
    assert refused == ["bad.wav", "missing.wav", "scrap.wav"]
    assert all("\n" not in str(refused) for refused in store.refused)
    store.of_clips([good], 60.0)
    assert store.refused == (), "those of the last call"


def test_a_strange_recording_does_not_stop_the_rest(
    tmp_path: Path, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    strange, good = piece(tmp_path / "strange.wav", 1.0), piece(tmp_path / "good.wav", 1.0, seed=1)
    read = transfer_set.audio.read

    def odd(path: Path, *arguments: float) -> object:
        if path == strange:
            raise ZeroDivisionError("of one kind")
        return read(path, *arguments)

    monkeypatch.setattr(transfer_set.audio, "read", odd)
    store = TransferStore(tmp_path / "cache", progress=False)
    found = store.of_clips([strange, good], 60.0)
    assert [segment is not None for segment in found] == [False, True]
    (refused,) = store.refused
    assert str(refused) == f"{strange}: unexpected ZeroDivisionError: of one kind"


def test_a_lesson_broken_off_while_written_is_made_again(tmp_path: Path, asked: list[int]) -> None:
    clip = piece(tmp_path / "clip.wav", 1.0)
    TransferStore(tmp_path / "cache", progress=False).of_clips([clip], 60.0)
    for suffix, end in ((".npz", -100), (".npz", 0), (".npy", -100)):
        stored = next((tmp_path / "cache").rglob(f"*{suffix}"))
        stored.write_bytes(stored.read_bytes()[:end])
        assert TransferStore(tmp_path / "cache", progress=False).of_clips([clip], 60.0)[0]
    assert len(asked) == 4


def test_segments_are_spread_over_a_recording(tmp_path: Path) -> None:
    plan = EvenlySpaced(TransferSettings())
    for seconds, count in ((15.0, 0), (30.0, 2), (100.0, 5)):
        path = tmp_path / f"{seconds}.wav"
        write_wav(path, np.zeros(round(seconds * 8000), np.float32), 8000)
        stretches = plan(path)
        assert len(stretches) == count
        assert all(start >= 1 and start + length <= seconds for start, length in stretches)
    crowded = EvenlySpaced(TransferSettings(spacing_seconds=4.0, shortest_seconds=8.0))
    write_wav(path, np.zeros(9 * 8000, np.float32), 8000)
    assert {start for start, _ in crowded(path)} == {1.0}, "none before the beginning"


def test_silence_and_sounds_teach_nothing(tmp_path: Path, asked: list[int]) -> None:
    write_wav(tmp_path / "silence.wav", np.zeros(9 * RATE, np.float32), RATE)
    piece(tmp_path / "sound.wav", 2.0)
    store = TransferStore(tmp_path / "cache", progress=False)
    assert store.of_music(sorted(tmp_path.glob("*.wav")), SHORT) == []
    assert (asked, store.refused) == ([], ())


# --- targets, soft labels


def test_targets_are_standard_and_come_back_from_a_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(5, 1506)).astype(np.float32)
    heard = []
    for _ in range(40):
        one = random_outputs(rng)
        latent = rng.normal(size=(2, 5)).astype(np.float32)
        heard.append(one._replace(musicnn=3 + latent @ mixing, fcn=one.fcn * 4 + 2))
    space = TargetSpace.fit(heard, components=5)
    targets = [space(one) for one in heard]
    maps = np.concatenate([target.musicnn for target in targets])
    np.testing.assert_allclose(np.cov(maps.T, bias=True), np.eye(5), atol=1e-3)
    embeddings = np.stack([target.fcn for target in targets])
    np.testing.assert_allclose(embeddings.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(embeddings.std(axis=0), 1, atol=1e-4)
    shares = torch.from_numpy(heard[0].audioset).sigmoid()
    np.testing.assert_allclose(targets[0].audioset, shares, atol=1e-6)

    silent = [one._replace(fcn=np.zeros(64, np.float32)) for one in heard]
    assert not TargetSpace.fit(silent, components=5)(silent[0]).fcn.any()

    torch.save(space.to_state(), tmp_path / "space.pt")
    back = TargetSpace.from_state(torch.load(tmp_path / "space.pt", weights_only=True))
    np.testing.assert_array_equal(back(heard[0]).musicnn, targets[0].musicnn)

    loud, limit = (heard[0].musicnn.copy() for _ in range(2))
    loud[:, 7], limit[:, 7] = 1e6, space.mean[7] + 6 * space.deviation[7]
    of_loud, of_limit = (space(heard[0]._replace(musicnn=maps)).musicnn for maps in (loud, limit))
    np.testing.assert_allclose(of_loud, of_limit, atol=1e-4)  # no map outweighs all others

    batch = collate(targets[:2], [None, 1], torch.device("cpu"))
    np.testing.assert_allclose(batch.musicnn[0], targets[0].musicnn.mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(batch.musicnn[1], targets[1].musicnn[1])
    assert 0 <= batch.audioset.min() <= batch.audioset.max() <= 1


def test_each_teacher_is_imitated_by_a_head_of_its_own() -> None:
    rng = np.random.default_rng(0)
    space = TargetSpace.fit([random_outputs(rng) for _ in range(6)], components=5)
    student = Student(2, embedding_size=16, width=0.1, pretrained=False)
    network = StudentWithTeacherHeads(student, space).eval()
    said = network(torch.randn(2, 64, 128))
    undecided = said.student._replace(audioset=torch.zeros(2, 527))
    said = said._replace(student=undecided)
    _, *as_said = said
    names = ("musicnn", "musicnn_tags", "fcn", "fcn_tags")
    for name in names:
        targets = TargetBatch(*as_said, torch.zeros(2, 527))
        targets = targets._replace(**{name: getattr(said, name) + 3})
        losses = {each: loss.item() for each, loss in imitation_losses(said, targets).items()}
        assert losses.pop("audioset") == pytest.approx(527 * np.log(2), rel=1e-5)
        assert losses == pytest.approx({each: 9 * (each == name) for each in names})

    settings = DistillOptimiserSettings(lr=3.0, pretrained_lr=1.0, audioset_lr=2.0)
    rates = {id(each): rate for group, rate in network.groups(settings) for each in group}
    assert rates.keys() == {id(each) for each in network.parameters()}
    parts = (student.features, student.audioset, student.project, student.classifier, network.fcn)
    found = [{rates[id(each)] for each in part.parameters()} for part in parts]
    assert found == [{1.0}, {2.0}, {3.0}, {3.0}, {3.0}]


def test_soft_labels_follow_the_teachers_and_audioset() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([0, 1] * 10)

    def of(genre: int) -> TeacherOutputs:
        one = random_outputs(rng)
        return one._replace(mn04=one.mn04 + 3 * genre, fcn=one.fcn - 3 * genre)

    clips, heard = [of(genre) for genre in truth], [of(genre) for genre in truth]
    shares = soft_labels(clips, truth, heard, ("x", "y"), regularisation=0.01, audioset_weight=1.0)
    assert shares.argmax(axis=1).tolist() == truth.tolist()
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    # AudioSet knows these and is heard; a genre without clips is possible, but just so.
    for one in heard:
        one.audioset[:] = 0.0
    heard[-1].audioset[list(audioset.GENRES["jazz"].values())] = -8.0
    known = soft_labels(
        clips, truth, heard, ("blues", "jazz", "pop"), regularisation=0.01, audioset_weight=1.0
    )
    assert known.argmax(axis=1).tolist() == [*truth[:-1], 0]
    assert (known[:, 2] < 0.01).all()
    # How seldom it hears a genre in all the music does not count.
    for one in heard:
        one.audioset[:] = rng.normal(-20, 1, len(one.audioset))
    labels = ("blues", "jazz")
    common = soft_labels(clips, truth, heard, labels, regularisation=0.01, audioset_weight=0.5)
    for one in heard:
        one.audioset[list(audioset.GENRES["jazz"].values())] -= 5.0
    rare = soft_labels(clips, truth, heard, labels, regularisation=0.01, audioset_weight=0.5)
    np.testing.assert_allclose(rare, common, atol=1e-4)
    # It counts as much as it is said to.

    def log_odds(weight: float) -> np.ndarray:
        weights = {"regularisation": 0.01, "audioset_weight": weight}
        return np.diff(np.log(soft_labels(clips, truth, heard, labels, **weights)))

    alone, half, whole = map(log_odds, (0.0, 0.2, 0.4))
    assert np.abs(half - alone).max() > 0.1
    np.testing.assert_allclose(whole - alone, 2 * (half - alone), atol=0.01)


# --- conditions


def test_conditions_that_are_off_change_nothing_and_others_do_what_they_say() -> None:
    off = ConditionSettings(
        gain_low=0,
        gain_high=0,
        tilt_probability=0,
        equaliser_probability=0,
        lowpass_probability=0,
        noise_probability=0,
        warp_probability=0,
    )
    logmel = torch.rand(4, 50, 128)
    rng = np.random.default_rng(0)
    torch.testing.assert_close(
        conditions.vary_conditions(logmel, off, rng), logmel, atol=1e-4, rtol=0
    )
    louder = conditions.vary_conditions(logmel, replace(off, gain_low=10, gain_high=10), rng)
    # 10 dB are ln(10) of the power's logarithm, which the front end divides by 5.
    torch.testing.assert_close(louder, logmel + np.log(10) / 5, atol=1e-3, rtol=0)
    loud = torch.ones(200, 2, 128)
    levels = conditions.vary_conditions(loud, replace(off, gain_low=-10, gain_high=8), rng)
    decibels = (levels - loud).mean(dim=(1, 2)) * 5 * 10 / np.log(10)
    assert -10.01 < decibels.min() < -9.5
    assert 7.5 < decibels.max() < 8.01
    dull = conditions.vary_conditions(
        logmel, replace(off, lowpass_probability=1, lowpass_high_hz=4600), rng
    )
    assert (dull[..., -1] < -0.9).all()
    torch.testing.assert_close(dull[..., :60], logmel[..., :60], atol=1e-4, rtol=0)
    noisy = conditions.vary_conditions(
        torch.full_like(logmel, -1.4), replace(off, noise_probability=1), rng
    )
    assert noisy.min() > -1.4
    warped = conditions.vary_conditions(logmel, replace(off, warp_probability=1), rng)
    assert warped.shape == logmel.shape
    assert not torch.equal(warped, logmel)
    # Each at a tempo of its own, and none faster, for which there would be too few frames.
    slower = replace(off, warp_probability=1, warp_bands=0, warp_shift=0)
    rising = (torch.arange(50.0) / 50)[None, :, None].expand(200, 50, 128)
    tempos = 50 * conditions.vary_conditions(rising, slower, rng).diff(dim=1)[:, 25, 0]
    assert 0.899 < tempos.min() < 0.91
    assert 0.99 < tempos.max() < 1.001
    every = conditions.vary_conditions(logmel, ConditionSettings(), np.random.default_rng(1))
    same = conditions.vary_conditions(logmel, ConditionSettings(), np.random.default_rng(1))
    torch.testing.assert_close(every, same)
    assert torch.isfinite(every).all()


def test_mixing_adds_powers_and_masking_hides_bands() -> None:
    logmel = torch.rand(2, 20, 128)
    partner = torch.tensor([1, 0])
    torch.testing.assert_close(conditions.mix(logmel, 1.0, partner), logmel, atol=1e-4, rtol=0)
    own = to_power(logmel, STUDENT_FRONT_END)
    power = to_power(conditions.mix(logmel, 0.7, partner), STUDENT_FRONT_END)
    expected = 0.7 * own + 0.3 * own[[1, 0]]
    torch.testing.assert_close(power, expected, rtol=1e-3, atol=1e-6)
    for seed in range(20):
        masked = conditions.mask_bands(logmel, 4, 16, np.random.default_rng(seed))
        hidden = (masked != logmel).any(dim=1).all(dim=0)
        assert 4 <= int(hidden.sum()) < 16


# --- optimisation


class Dropping(nn.Module):
    """A line with dropout: what is drawn inside a network must come back after a break, too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.line = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.line(x)
        return y


def descend(folder: Path, stop_at: int | None = None) -> Dropping:
    network = Dropping()
    steps = 7

    def losses(step: int) -> Mapping[str, Tensor]:
        if step == stop_at:
            raise KeyboardInterrupt
        x = torch.from_numpy(np.random.default_rng(step).normal(size=(4, 8)).astype(np.float32))
        return {"square": network(x).square().mean(), "size": network(x).abs().mean()}

    groups = [(list(network.parameters()), 0.1)]
    optimisation = Optimisation(
        network, groups, steps, DistillOptimiserSettings(warmup_steps=2), seed=5
    )
    return optimisation.run(
        losses, checkpoint=folder / "last.pt", history=folder / "history.csv", every=2
    )


@pytest.mark.parametrize(("clip_norm", "norm"), [(0.5, 0.5), (0.0, 2e6)])
def test_steep_gradients_are_shortened(tmp_path: Path, clip_norm: float, norm: float) -> None:
    network = nn.Linear(4, 1, bias=False)
    settings = DistillOptimiserSettings(clip_norm=clip_norm)
    optimisation = Optimisation(network, [(list(network.parameters()), 0.1)], 1, settings, seed=0)
    optimisation.run(
        lambda _: {"steep": 1e6 * network(torch.ones(1, 4)).sum()},
        checkpoint=tmp_path / "last.pt",
        history=tmp_path / "history.csv",
        every=1,
    )
    assert network.weight.grad is not None
    assert float(network.weight.grad.norm()) == pytest.approx(norm)


def test_an_optimisation_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    unbroken = descend(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        descend(tmp_path / "broken", stop_at=5)
    resumed = descend(tmp_path / "broken")
    for one, other in zip(unbroken.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    tables = []
    for name in ("whole", "broken"):
        with (tmp_path / name / "history.csv").open() as file:
            rows = list(csv.DictReader(file))
        tables.append([{k: v for k, v in row.items() if k != "seconds"} for row in rows])
    assert tables[0] == tables[1]
    assert [row["step"] for row in tables[0]] == ["2", "4", "6", "7"]
    assert not unbroken.training


def test_the_table_of_an_optimisation_has_means_over_the_steps_that_had_the_term(
    tmp_path: Path,
) -> None:
    network = Dropping()

    def losses(step: int) -> Mapping[str, Tensor]:
        loss = network(torch.ones(2, 8)).square().mean()
        return {"always": loss} | ({"sometimes": loss * 0 + 2.0} if step % 2 else {})

    groups = [(list(network.parameters()), 0.1)]
    Optimisation(network, groups, 4, DistillOptimiserSettings(), seed=0).run(
        losses, checkpoint=tmp_path / "last.pt", history=tmp_path / "history.csv", every=4
    )
    with (tmp_path / "history.csv").open() as file:
        assert [row["sometimes"] for row in csv.DictReader(file)] == ["2"]


def test_the_average_follows_a_short_optimisation(tmp_path: Path) -> None:
    network = Dropping()
    start = network.line[1].bias.detach().clone()
    settings = DistillOptimiserSettings(average=0.9999, warmup_steps=0, lowest=1.0)
    averaged = Optimisation(network, [(list(network.parameters()), 0.1)], 10, settings, seed=0).run(
        lambda step: {"loss": network(torch.ones(2, 8)).mean()},
        checkpoint=tmp_path / "last.pt",
        history=tmp_path / "history.csv",
        every=10,
        validate=lambda validated: {"bias": validated.line[1].bias.item()},
    )
    with (tmp_path / "history.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["bias"]) == pytest.approx(averaged.line[1].bias.item(), rel=1e-4)
    covered = (averaged.line[1].bias - start) / (network.line[1].bias - start)
    assert 0.5 < covered.item() < 1  # a decay of 0.9999 from the start would leave it at 0.0006


def test_steps_grow_in_the_warm_up_and_then_shrink_to_the_lowest(tmp_path: Path) -> None:
    network = nn.Linear(1, 1)
    places: list[float] = []

    def losses(step: int) -> Mapping[str, Tensor]:
        places.append(network.bias.item())
        return {"height": network.bias.sum()}

    settings = DistillOptimiserSettings(warmup_steps=4, lowest=0.2, weight_decay=0.0, clip_norm=0.0)
    Optimisation(network, [([network.bias], 0.1)], 10, settings, seed=0).run(
        losses, checkpoint=tmp_path / "last.pt", history=tmp_path / "history.csv", every=10
    )
    # On an even slope, a step of AdamW is as long as its rate.
    warm = np.minimum(1, np.arange(1, 11) / 4)
    cosine = 0.5 + 0.5 * np.cos(np.pi * np.arange(10) / 10)
    steps = -np.diff([*places, network.bias.item()])
    np.testing.assert_allclose(steps, 0.1 * (0.2 + 0.8 * warm * cosine), rtol=1e-3)


def test_a_weight_that_nothing_pulls_at_decays(tmp_path: Path) -> None:
    network = nn.Linear(1, 1)
    start = network.weight.item()
    settings = DistillOptimiserSettings(weight_decay=0.5, warmup_steps=0, lowest=1.0)
    Optimisation(network, [(list(network.parameters()), 0.1)], 3, settings, seed=0).run(
        lambda step: {"flat": (0 * network.weight).sum()},
        checkpoint=tmp_path / "last.pt",
        history=tmp_path / "history.csv",
        every=3,
    )
    assert network.weight.item() == pytest.approx(start * 0.95**3)


def test_no_norm_to_clip_to_leaves_gradients_as_they_are(tmp_path: Path) -> None:
    network = Dropping()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    groups = [(list(network.parameters()), 0.1)]
    settings = DistillOptimiserSettings(clip_norm=0.0, weight_decay=0.0)
    Optimisation(network, groups, 4, settings, seed=0).run(
        lambda step: {"loss": network(torch.ones(2, 8)).square().mean()},
        checkpoint=tmp_path / "last.pt",
        history=tmp_path / "history.csv",
        every=4,
    )
    for old, new in zip(before, network.parameters(), strict=True):
        assert not torch.equal(old, new)


def test_a_checkpoint_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "last.pt").touch()
    with pytest.raises(TonearmError, match=r"last\.pt: not a checkpoint to go on from"):
        descend(tmp_path)


# --- what is drawn


@pytest.mark.parametrize(("genres", "count"), [(16, 20), (16, 10), (30, 20), (10, 20), (3, 2)])
def test_every_genre_is_drawn_as_often(genres: int, count: int) -> None:
    places = [np.arange(2 * genre, 2 * genre + 2) for genre in range(genres)]
    examples = Examples([None] * (2 * genres + 5), [], np.zeros(0), places, 2 * genres)  # type: ignore[list-item]
    drawn = np.zeros(genres, dtype=int)
    for step in range(3 * genres):
        chosen = _draw(examples, count, 4, step, np.random.default_rng(step))
        assert (chosen[count:] >= 2 * genres).all()
        drawn += np.bincount(chosen[:count] // 2, minlength=genres)
    assert (drawn == 3 * count).all()


@pytest.mark.parametrize(
    ("left", "text", "reason"),
    [
        ("config.yaml", "services: {web: {}}", "holds config.yaml, but not that of a distillation"),
        ("config.yaml", "{", "config.yaml: not YAML.*; name another --run folder"),
        (
            "checkpoints/last.ckpt",
            "",
            "holds checkpoints, so no distillation.*0.1.0.*another",
        ),
    ],
)
def test_a_folder_of_something_else_is_not_overwritten(
    tmp_path: Path, music: Path, tracks: list[Track], left: str, text: str, reason: str
) -> None:
    file = tmp_path / "run" / left
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with pytest.raises(RunError, match=reason):
        distill(tiny(), tracks, LABELS, [music], tmp_path / "run", tmp_path / "cache")
    assert file.read_text() == text
    with pytest.raises(TonearmError, match="a file is where its folder should be"):
        distill(tiny(), tracks, LABELS, [music], file / "run", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_the_number_of_threads_is_of_one_distillation_even_if_it_fails(
    tmp_path: Path, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    during = []
    monkeypatch.setattr(
        "tonearm.training.distill.check_distillation_folder",
        lambda _: during.append(torch.get_num_threads()),
    )
    with pytest.raises(TonearmError, match="none of 0 tracks"):
        distill(tiny(threads=before + 1), [], LABELS, [], tmp_path / "run", tmp_path / "cache")
    assert during == [before + 1]
    assert torch.get_num_threads() == before


# --- the recipe


def test_a_recipe_is_its_yaml(tmp_path: Path) -> None:
    recipe = tiny(seed=4)
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml())
    assert parse_recipe(["--config", str(file)]) == recipe
    shipped = Path(__file__).parents[1] / "configs" / "gtzan" / "default.yaml"
    assert parse_recipe(["--config", str(shipped), "--tuning.steps", "5"]).tuning.steps == 5


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--tuning.steps", "0"], "tuning.steps must be above 0, got 0"),
        (["--student.hop_seconds", "0"], "student.hop_seconds must be from 0.1 to 3600, got 0"),
        (["--student.window_seconds", "0"], "window_seconds must be from 0.5 to 3600, got 0"),
        (["--tuning.crop_shares", "[1.0]"], "equally many lengths of at least 0.5 and shares"),
        (["--tuning.crop_seconds", "[0.01, 5.0, 10.0]"], "equally many lengths of at least 0.5"),
        (
            ["--tuning.crop_shares", "[0.0, 0.0, 0.0]"],
            "equally many lengths of at least 0.5 and shares",
        ),
        (["--tuning.mask_low", "16"], "mask_low must be above 0 and below mask_high, got 16 and"),
        (["--transfer.shortest_seconds", "8"], "shortest_seconds must be 2 more"),
        (["--imitation.held_out", "1"], "held_out must be 2 or more, got 1"),
        (["--refinement.share", "1.5"], "refinement.share must be from 0 to 1, got 1.5"),
        (["--denoising.dropout", "1.5"], "denoising.dropout must be from 0 to 1, got 1.5"),
        (["--denoising.noisy_copies", "-1"], "denoising.noisy_copies must be 0 or more, got -1"),
        (["--ensemble.full_band", "-1"], "ensemble.full_band must be from 0 to 1, got -1.0"),
        (["--ensemble.fcn_regularisation", "0"], "fcn_regularisation must be above 0, got 0.0"),
        (["--ensemble.fcn", "-1"], "ensemble.fcn must be 0 or more, got -1.0"),
        (
            ["--ensemble", '{"student": 0, "fcn": 0, "fcn_embedding": 0, "fcn_tags": 0}'],
            "the sum of the weights of ensemble must be above 0, got 0",
        ),
        (["--student.dropout", "-0.1"], "student.dropout must be from 0 to 1, got -0.1"),
        (["--tuning.unlabelled", "-3"], "tuning.unlabelled must be 0 or more, got -3"),
        (
            ["--conditions.gain_high", "-20"],
            r"conditions.gain_low must be gain_high \(-20.0\) or less, got -10.0",
        ),
        (["--data.split", "dice"], "dice"),
        (["--seed", "-1"], "seed must be from 0 to 4294967295, got -1"),
        (["--tuning.optimiser.lr", "-1"], "tuning.optimiser.lr must be above 0, got -1"),
        (
            ["--tuning.optimiser.average", "1.5"],
            "optimiser.average must be from 0 to below 1, got 1.5",
        ),
        (
            ["--imitation.optimiser.clip_norm", "-1"],
            "imitation.optimiser.clip_norm must be 0 or more",
        ),
        (
            ["--denoising.optimiser.lowest", "2"],
            "denoising.optimiser.lowest must be from 0 to 1, got",
        ),
        (["--tuning.stepz", "1"], "stepz"),
    ],
)
def test_a_wrong_recipe_is_refused(arguments: list[str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        parse_recipe(arguments)


def test_numbers_of_a_recipe_have_a_range() -> None:
    # The protocol knows which folds there are, and levels in decibels may be anything.
    levels = ["conditions.gain_low", "conditions.noise_low"]
    assert unbounded(Recipe()) == ["data.folds", *levels], "check them in training/recipe.py"


def test_what_is_kept_is_known_by_every_setting_that_decides_it() -> None:
    def names(recipe: Recipe) -> tuple[str, ...]:
        made = SimpleNamespace(name=imitate._name(recipe, []))
        tuned = tuning_name(recipe, cast(imitate.Imitation, made), [], [], LABELS)
        refined = refinement_name(recipe, [], [], LABELS)
        plan = EvenlySpaced(recipe.transfer)
        return repr(plan), tuned, refined, denoising_name(recipe, tuned, refined)

    of_export = {
        *("student.audioset_weight", "student.temperature", "ensemble.full_band"),
        *("ensemble.student", "ensemble.fcn", "ensemble.fcn_embedding", "ensemble.fcn_tags"),
    }
    unknown = set()
    for name, value in numbers(Recipe()).items():
        if isinstance(value, tuple):
            other: Any = tuple(0.9 * each for each in value)
        else:
            other = value + 1 if isinstance(value, int) else 0.9 * value or 0.1
        if names(with_setting(Recipe(), name, other)) == names(Recipe()):
            unknown.add(name)
    unknown -= {"threads", "checkpoint_steps", "data.folds"}
    assert unknown == of_export, "a changed one would go on from an earlier checkpoint"


@pytest.mark.parametrize("fold", [[], ["--fold", 0]])
def test_flaws_of_a_division_are_told_only_if_a_fold_is_held_out(
    fold: list[str | int],
    tmp_path: Path,
    program: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TONEARM_UNLABELLED", raising=False)
    for name in ("blues/a.wav", "blues/b.wav", "jazz/c.wav"):  # no artist, and jazz in one fold
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    _, _, errors = program("distill", "--data", tmp_path, "--data.folds", 2, *fold)
    assert "no unlabelled music to distil on" in errors
    assert ("warning" in errors) == bool(fold)


def test_recordings_to_evaluate_that_are_among_the_music_are_told(
    tmp_path: Path, program: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("genres/blues/a.wav", "genres/blues/b.wav", "genres/jazz/c.wav", "music/b.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.rpartition("/")[2].encode())
    monkeypatch.setenv("TONEARM_UNLABELLED", str(tmp_path / "music"))
    data = ("--data", tmp_path / "genres", "--data.folds", 2, "--fold", 0)  # which holds out b
    folders = ("--run", tmp_path / "run", "--cache", tmp_path / "cache")
    code, _, errors = program("distill", *data, *folders)
    assert code == 1
    assert "1 of the recordings to evaluate are among the unlabelled music: scores come" in errors


def test_missing_music_is_told(
    tmp_path: Path, music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TONEARM_UNLABELLED", raising=False)
    with pytest.raises(UsageError, match="no unlabelled music to distil on"):
        music_folders(Recipe())
    monkeypatch.setenv("TONEARM_UNLABELLED", str(music))
    assert music_folders(Recipe()) == [music]
    monkeypatch.setenv("TONEARM_UNLABELLED", str(tmp_path / "gone"))
    with pytest.raises(TonearmError, match=r"gone: no such file or folder"):
        music_folders(Recipe())


def test_genres_that_no_head_knows_are_told_before_anything_is_learned(tmp_path: Path) -> None:
    recipe = Recipe(ensemble=EnsembleSettings(fcn_embedding=0.0, full_band=0.0))
    with pytest.raises(UsageError, match="no head is left on recordings of full band"):
        distill(recipe, [], ("polka", "waltz"), [], tmp_path / "run", tmp_path / "cache")


# --- imitation


def test_of_two_that_imitate_the_same_the_second_waits_and_finds_it_made(
    tmp_path: Path, music: Path, asked: list[int]
) -> None:
    heard = TransferStore(tmp_path / "cache", progress=False).of_music(
        sorted(music.glob("*.wav")), SHORT
    )
    said_by: dict[str, list[str]] = {"first": [], "second": []}
    second: list[Future[imitate.Imitation]] = []
    waiting = Event()

    with ThreadPoolExecutor() as threads:

        def waits(line: str) -> None:
            said_by["second"].append(line)
            if "waiting" in line:
                waiting.set()

        def starts_the_second(line: str) -> None:
            said_by["first"].append(line)
            if not second:
                second.append(
                    threads.submit(imitate.imitate, tiny(), heard, tmp_path / "cache", waits)
                )
                assert waiting.wait(60)

        first = imitate.imitate(tiny(), heard, tmp_path / "cache", starts_the_second)
        other = second[0].result(60)

    assert any(": step" in line for line in said_by["first"])
    assert not any(": step" in line for line in said_by["second"])
    assert first.weights.keys() == other.weights.keys()
    assert all(torch.equal(first.weights[name], other.weights[name]) for name in first.weights)


def test_imitation_depends_on_no_seed_but_its_own(
    tmp_path: Path, music: Path, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained = "tonearm.models.mobilenet.load_pretrained"
    monkeypatch.setattr(untrained, lambda: AudioSetMobileNet().eval())
    store = TransferStore(tmp_path / "cache", progress=False)
    segments = store.of_music(sorted(music.glob("*.wav")), SHORT)
    one, other = (
        imitate.imitate(tiny(seed=seed), segments, tmp_path / str(seed), print).weights
        for seed in (1, 2)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def numbered_segment() -> TransferSegment:
    """The second thousand of three thousand frames, each of which is its number."""
    frames = cast(StoredArray, np.arange(3000)[:, None])
    outputs = random_outputs(np.random.default_rng(0))
    return TransferSegment("recording", frames, 1000, 1000, outputs)


def test_a_patch_is_heard_where_its_target_was() -> None:
    segment = numbered_segment()
    # A patch is 187 of musicnn's frames, and so 2.992 s.
    assert imitate._crop(segment, 2, 350)[[0, -1], 0].tolist() == [1598, 1896]
    assert imitate._crop(segment, None, 350)[[0, -1], 0].tolist() == [1000, 1349]
    # What is past its end is its beginning, not the next segment.
    assert segment.logmel(995, 7)[:, 0].tolist() == [1995, 1996, 1997, 1998, 1999, 1000, 1001]


@pytest.mark.parametrize(("probability", "audioset"), [(0.0, 1.0), (0.0, 0.0), (1.0, 1.0)])
def test_targets_count_as_the_recipe_says_and_on_patches_musicnns_alone(
    tmp_path: Path, music: Path, asked: list[int], probability: float, audioset: float
) -> None:
    settings = replace(
        tiny().imitation, patch_probability=probability, patch_weight=0.0, audioset=audioset
    )
    store = TransferStore(tmp_path / "cache", progress=False)
    segments = store.of_music(sorted(music.glob("*.wav")), SHORT)
    made = imitate.imitate(tiny(imitation=settings), segments, tmp_path / "cache", print)
    with made.history.open() as file:
        (row,) = csv.DictReader(file)
    counted = {
        name
        for name in ("musicnn", "musicnn_tags", "fcn", "fcn_tags", "audioset")
        if float(row[name]) > 0
    }
    whole = {"fcn", "fcn_tags"} | ({"audioset"} if audioset else set())
    assert counted == {"musicnn", "musicnn_tags"} | (set() if probability else whole)


def test_crops_are_cut_from_anywhere_in_a_segment() -> None:
    segment, rng = numbered_segment(), np.random.default_rng(0)
    starts = [stage._crop(segment, 100, rng)[0, 0] for _ in range(500)]
    assert 1000 <= min(starts) < 1020
    assert 1880 < max(starts) <= 1900


def test_examples_are_smoothed_varied_and_mixed_with_their_genres() -> None:
    outputs = [random_outputs(np.random.default_rng(number)) for number in range(4)]
    frames = cast(StoredArray, np.ones((200, 128), np.float16))
    segments = [TransferSegment(str(n), frames, 0, 200, outputs[n]) for n in range(4)]
    made = imitate.Imitation("made", Path(), {}, TargetSpace.fit(outputs, 2))
    smooth = tiny(tuning=replace(tiny().tuning, smoothing=0.2))
    truth = np.array([0, 1])
    labelled = stage._examples(smooth, made, segments[:2], truth, segments[2:], LABELS)
    np.testing.assert_allclose(labelled.genres[:2], [[0.9, 0.1], [0.1, 0.9]], rtol=1e-6)
    truth = np.array([1, 0, 1])
    three = stage._examples(smooth, made, segments[:3], truth, segments[3:], LABELS)
    assert [places.tolist() for places in three.clips_of_genre] == [[1], [0, 2]]

    # A clip of the first genre, and music that sounds of the second and does not count.
    examples = Examples(segments[:2], [], np.eye(2, dtype=np.float32), [np.array([0])], 1)
    torch.manual_seed(0)
    student = Student(2, embedding_size=16, width=0.1, pretrained=False)
    network = StudentWithTeacherHeads(student, made.space).eval()
    heard: list[float] = []
    student.features.register_forward_pre_hook(lambda _, x: heard.append(x[0].mean().item()))
    tuning = TuningSettings(
        labelled=2,  # of the longest crops, half as many
        unlabelled=2,
        crop_seconds=(1.0,),
        crop_shares=(1.0,),
        soft_weight=0.0,
        mixup_probability=1.0,
        mask_probability=0.0,
    )

    def losses(gain: float, steps: int) -> list[float]:
        louder = ConditionSettings(gain_low=gain, gain_high=gain)
        recipe = tiny(tuning=tuning, conditions=louder)
        return [
            stage._step_losses(recipe, network, examples, step)["genre"].item()
            for step in range(steps)
        ]

    with torch.inference_mode():
        losses(-10, 1)
        losses(8, 1)
        assert heard[1] - heard[0] > 0.5
        # Of one who is always sure of the first genre, mixing with the second costs at most half.
        student.classifier[1].weight.zero_()
        student.classifier[1].bias.copy_(torch.tensor([5.0, -5.0]))
        costs = losses(0, 20)
    assert min(costs) == pytest.approx(0, abs=1e-3)
    assert 0.1 < max(costs) < 2.5


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_soft_labels_count_as_the_recipe_says(
    tmp_path: Path, music: Path, tracks: list[Track], asked: list[int], weight: float
) -> None:
    settings = replace(
        tiny().tuning, steps=1, unlabelled=2, mixup_probability=0.0, soft_weight=weight
    )
    bundle = distill(
        tiny(tuning=settings),
        tracks,
        LABELS,
        [music],
        tmp_path / "run",
        tmp_path / "cache",
        log=print,
    )
    with (bundle.parent / "history.csv").open() as file:
        (row,) = csv.DictReader(file)
    # At first, both genres are equally likely.
    by_all = pytest.approx(np.log(2), abs=1e-5)
    assert float(row["genre"]) == by_all if weight else 0 < float(row["genre"]) < 0.7 * np.log(2)


# --- the whole


def test_distilling_gives_a_bundle_and_goes_on_where_it_was(
    tmp_path: Path, music: Path, tracks: list[Track], asked: list[int]
) -> None:
    lines: list[str] = []

    def run(labels: tuple[str, ...], members: list[Track], name: str) -> Path:
        return distill(
            tiny(), members, labels, [music], tmp_path / name, tmp_path / "cache", log=lines.append
        )

    bundle = run(LABELS, tracks, "run")
    assert len(asked) == 6 + 4
    assert any(line.startswith("imitation: step 1/1") for line in lines)
    about = Bundle.load(bundle).metadata
    assert about.labels == LABELS
    assert (about.training["tracks"], about.training["audioset_weight"]) == (4, 0.3)
    assert "MSD_musicnn" in about.attribution
    assert "EfficientAT" in about.attribution
    assert tracks[0].path is not None
    prediction = Classifier.load(bundle)(tracks[0].path)
    assert prediction.genre in LABELS

    folder = bundle.parent
    assert parse_recipe(["--config", str(folder / "config.yaml")]) == tiny()
    with (folder / "history.csv").open() as file:
        assert {"step", "genre", "musicnn", "audioset"} <= set(next(csv.reader(file)))
    assert "held_out_fcn" in (folder / "imitation.csv").read_text()
    assert json.loads((folder / "tracks.json").read_text())["train"]["blues.0"] == "blues"

    # Again: nothing is asked, no step is taken, and the graph is the same.
    lines.clear()
    before = Bundle.load(bundle).run([np.ones((1, 200, 128), np.float32)]).logits
    run(LABELS, tracks, "run")
    np.testing.assert_array_equal(
        Bundle.load(bundle).run([np.ones((1, 200, 128), np.float32)]).logits, before
    )
    assert len(asked) == 10
    assert not any(": step" in line for line in lines)

    # Another run that differs in what is exported alone trains nothing.
    cooler = replace(tiny(), student=replace(tiny().student, temperature=0.5))
    exported = distill(
        cooler, tracks, LABELS, [music], tmp_path / "cooler", tmp_path / "cache", log=lines.append
    )
    assert not any(": step" in line for line in lines)
    assert Bundle.load(exported).metadata.temperature == 0.5
    assert (exported.parent / "history.csv").read_text() == (folder / "history.csv").read_text()

    # Other labels, unknown to AudioSet, share all that does not depend on labels.
    renamed = [replace(track, label=f"{track.label}-like") for track in tracks]
    other = run(("blues-like", "jazz-like"), renamed, "other")
    assert len(asked) == 10
    assert not any(line.startswith("imitation: step") for line in lines)
    assert any(line.startswith("tuning: step") for line in lines)
    assert Bundle.load(other).metadata.training["audioset_weight"] == 0

    with pytest.raises(DatasetError, match="label 'jazz' is not among blues"):
        run(("blues",), tracks, "wrong")
    with pytest.raises(DatasetError, match="two genres are needed, and all tracks are blues"):
        run(LABELS, tracks[:1], "alone")

    if Path("/dev/full").exists():
        (folder / "imitation.csv").unlink()
        (folder / "imitation.csv").symlink_to("/dev/full")
        with pytest.raises(OSError, match="No space left") as caught:
            run(LABELS, tracks, "run")
        assert caught.value.filename == str(folder / "imitation.csv")

    (targets,) = (tmp_path / "cache").glob("imitation-*/targets.pt")
    targets.write_bytes(targets.read_bytes()[:100])
    with pytest.raises(TonearmError, match=r"targets\.pt: not a checkpoint to go on from"):
        run(LABELS, tracks, "run")


def test_what_another_distillation_left_does_not_stand_beside_these_tracks(
    tmp_path: Path,
    music: Path,
    tracks: list[Track],
    asked: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(members: list[Track]) -> Path:
        return distill(tiny(), members, LABELS, [music], tmp_path / "run", tmp_path / "cache")

    bundle = run(tracks)
    (bundle.parent / "metrics.json").touch()
    run(tracks)
    assert (bundle.parent / "metrics.json").exists()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tonearm.training.distill.imitate", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tracks)
    assert bundle.exists()
    with pytest.raises(KeyboardInterrupt):
        run(tracks[1:])
    assert {path.name for path in bundle.parent.iterdir()} == {"config.yaml", "tracks.json"}


def test_an_ensemble_is_refined_and_denoised_once(
    tmp_path: Path,
    music: Path,
    tracks: list[Track],
    asked: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    published = fcn.Fcn().eval()
    monkeypatch.setattr(fcn, "load_fcn", lambda: published)
    lines: list[str] = []

    def run(name: str, share: float, noisy_copies: int = 1) -> Path:
        refinement = RefinementSettings(
            share=share, segments=3, degraded_copies=2, steps=2, batch_size=2
        )
        denoising = DenoisingSettings(
            noisy_copies=noisy_copies,
            hidden=4,
            steps=2,
            batch_size=2,
            optimiser=DistillOptimiserSettings(lr=1.0, warmup_steps=0),
        )
        recipe = tiny(ensemble=EnsembleSettings(), refinement=refinement, denoising=denoising)
        return distill(
            recipe, tracks, LABELS, [music], tmp_path / name, tmp_path / "cache", log=lines.append
        )

    frames = np.random.default_rng(0).normal(-20, 10, (1, 100, 96)).astype(np.float32)

    def says(bundle: Path) -> np.ndarray:
        return Bundle.load(bundle).run([np.ones((1, 160, 128), np.float32), frames]).logits

    refined = run("refined", 1.0)
    assert any(line.startswith("refinement: step 2/2") for line in lines)
    assert Bundle.load(refined).metadata.training["refinement_share"] == 1.0
    with (refined.parent / "refinement.csv").open() as file:
        assert {"step", "on_embedding", "on_all"} <= set(next(csv.reader(file)))
    prediction = Classifier.load(refined)(str(tracks[0].path))
    assert prediction.genre in LABELS

    assert any(line.startswith("denoising: step 2/2") for line in lines)
    assert Bundle.load(refined).metadata.training["denoising_noisy_copies"] == 1
    with (refined.parent / "denoising.csv").open() as file:
        assert {"step", "error"} <= set(next(csv.reader(file)))
    lines.clear()
    noisy = run("noisy", 1.0, noisy_copies=0)
    assert not (noisy.parent / "denoising.csv").exists()
    assert not np.allclose(says(refined), says(noisy), atol=1e-4)

    # Another share of the same way is gone without a step, and without the stage none is.
    half, none = run("half", 0.5, noisy_copies=0), run("none", 0.0, noisy_copies=0)
    assert not any(": step" in line for line in lines)
    assert not (none.parent / "refinement.csv").exists()
    assert not np.allclose(says(refined), says(none), atol=1e-5)
    assert not np.allclose(says(half), says(none), atol=1e-5)


def test_a_benchmark_distils_a_student_for_its_fold(
    tmp_path: Path,
    music: Path,
    tracks: list[Track],
    asked: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TONEARM_UNLABELLED", str(music))
    config = tmp_path / "student.yaml"
    config.write_text(tiny().to_yaml())
    cache = FeatureCache(tmp_path / "cache")
    system = find_system("student", tmp_path, cache)
    assert isinstance(system, DistilledSystem)
    assert system.name == "student"
    before = system.fingerprint
    shares = system.fit_predict(Round(tracks[:3], tracks[3:], LABELS, tmp_path / "run", seed=1))
    assert shares.shape == (1, 2)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert parse_recipe(["--config", str(tmp_path / "run" / "config.yaml")]) == tiny(seed=1)
    piece(music / "new.wav", 1.0)
    assert system.fingerprint != before
    monkeypatch.delenv("TONEARM_UNLABELLED")
    with pytest.raises(UsageError, match="TONEARM_UNLABELLED"):
        find_system("student", tmp_path, cache)


@pytest.mark.filterwarnings("ignore:the artist of")
def test_a_benchmark_tells_which_of_its_recordings_are_among_the_music(
    tmp_path: Path, music: Path, tracks: list[Track], monkeypatch: pytest.MonkeyPatch
) -> None:
    def uniform(_: DistilledSystem, given: Round) -> np.ndarray:
        return np.full((len(given.test), 2), 0.5)

    monkeypatch.setenv("TONEARM_UNLABELLED", str(music))
    monkeypatch.setattr(DistilledSystem, "fingerprint", "any")
    monkeypatch.setattr(DistilledSystem, "fit_predict", uniform)
    (tmp_path / "student.yaml").write_text(tiny().to_yaml())
    system = find_system("student", tmp_path, FeatureCache(tmp_path / "cache"))
    assert tracks[0].path is not None
    shutil.copy(tracks[0].path, music / "copy.wav")
    songs = Dataset("songs", tmp_path, tuple(tracks), LABELS)
    with pytest.warns(LeakWarning, match="^1 of the recordings to evaluate are among the unlab"):
        run_benchmark(songs, [system], tmp_path / "work", folds=2)


def test_the_command_judges_the_fold_it_holds_out(
    tmp_path: Path,
    music: Path,
    tracks: list[Track],
    asked: list[int],
    program: Callable[..., tuple[int, str, str]],
) -> None:
    data = tmp_path / "data"
    for track in tracks:
        assert track.path is not None
        place = data / str(track.label) / track.path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        track.path.rename(place)
    broken = data / "jazz" / "broken.wav"
    broken.write_text("no music")
    config = tmp_path / "student.yaml"
    config.write_text(tiny().to_yaml())
    arguments = f"--config {config} --data {data} --unlabelled {music} --run {tmp_path / 'run'}"
    arguments += f" --cache {tmp_path / 'cache'} --data.folds 2 --tuning.steps 2"
    code, output, errors = program("distill", *arguments.split(), "--fold", 1)
    assert (code, "over 1 tracks" in output) == (0, True)
    assert f"not classified: {broken}: is not a media file" in errors
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.yaml",
        "history.csv",
        "imitation.csv",
        "metrics.json",
        "model.onnx",
        "predictions.csv",
        "tracks.json",
    }
    kept = parse_recipe(["--config", str(tmp_path / "run" / "config.yaml")])
    assert (kept.data.fold, kept.data.unlabelled) == (1, [str(music)])
    assert Bundle.load(tmp_path / "run" / "model.onnx").metadata.metrics["tracks"] == 1

    # All learn now: what was said of the fold is not of this model.
    code, _, errors = program("distill", *arguments.split())
    assert (code, f"left out: {broken}: is not a media file" in errors) == (0, True)
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert not (tmp_path / "run" / "predictions.csv").exists()
