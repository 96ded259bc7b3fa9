from __future__ import annotations

import csv
import errno
import importlib
import inspect
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import lightning
import numpy as np
import pytest
import torch
import yaml
from lightning.fabric.utilities.distributed import DistributedSamplerWrapper
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from setting_ranges import unbounded
from tonearm.bundle import Bundle
from tonearm.classifier import Classifier
from tonearm.datasets import DatasetError, Track, load, split
from tonearm.datasets.cache import FeatureCache
from tonearm.datasets.gtzan_facts import GENRES
from tonearm.errors import MissingExtraError, TonearmError, UsageError
from tonearm.evaluation import predictions
from tonearm.evaluation.metrics import Metrics
from tonearm.evaluation.training_overlap import training_text
from tonearm.extras import needs
from tonearm.features.descriptors import descriptor_names
from tonearm.features.logmel import FRONT_ENDS
from tonearm.models import create_model, registry
from tonearm.models.mobilenet import MobileNet
from tonearm.models.multimodal import Multimodal
from tonearm.synth import STYLES, render, write_wav
from tonearm.training import parse, train
from tonearm.training.augment import Batch
from tonearm.training.build import build_network
from tonearm.training.callbacks import History
from tonearm.training.datamodule import (
    Clip,
    ClipDataset,
    ClipDraws,
    Clips,
    CropDataset,
    GenreData,
    clip_windows,
    draw_shares,
)
from tonearm.training.experiment import DataSettings, Experiment, ModelSettings, data_path
from tonearm.training.module import (
    DivergedError,
    GenreTraining,
    clip_log_probabilities,
    selection_score,
)
from tonearm.training.optimisation import loaded_checkpoint, save_checkpoint
from tonearm.training.recipe import parse_recipe
from tonearm.training.run import fit
from tonearm.training.runfolder import RunError, open_folder
from tonearm.training.settings import ConfigError

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "gtzan"
LABELS = tuple(sorted(STYLES))[:3]
Program = Callable[..., tuple[int, str, str]]
TRAIN = (sys.executable, "-m", "tonearm", "train")

SMALL = """
name: small
model:
  name: hybrid
  settings: {cnn_widths: [4, 8], crnn_widths: [4, 8, 8], hidden: 8, embedding_size: 16}
data:
  split: stratified
  folds: 3
  crop_seconds: 1.0
  window_seconds: 1.0
  hop_seconds: 0.5
  examples_per_epoch: 16
  batch_size: 8
optimiser: {lr: 0.01, average: 0.9}
schedule: {epochs: 3, patience: 100, validate_every: 2, threads: 1, accelerator: cpu}
"""


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per style with a few synthetic pieces, some of them shorter than a crop."""
    root = tmp_path_factory.mktemp("music")
    for style in LABELS:
        (root / style).mkdir()
        for i in range(6):
            seconds = 0.8 if i == 0 else 2.5
            write_wav(root / style / f"{i}.wav", render(style, seconds, 16000, seed=i), 16000)
    return root


@pytest.fixture(scope="module")
def settings(music: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments of an experiment over the synthetic pieces that takes a second or two."""
    folder = tmp_path_factory.mktemp("settings")
    config = folder / "small.yaml"
    config.write_text(SMALL)
    cache = folder / "cache"
    return ["--config", str(config), "--data.path", str(music), "--data.cache", str(cache)]


def random_clips(frames: list[int], genres: list[int]) -> Clips:
    rng = np.random.default_rng(0)
    return Clips(
        tracks=tuple(Track(str(i), None, str(g)) for i, g in enumerate(genres)),
        logmels=tuple(rng.random((n, 96)).astype(np.float16) for n in frames),
        descriptors=None,
        targets=np.eye(max(genres) + 1, dtype=np.float32)[genres],
    )


def history(run: Path) -> list[dict[str, str]]:
    """The rows of a run's history without the seconds they took."""
    with (run / "history.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


# --- settings -------------------------------------------------------------------------------


EXPERIMENTS = ("cnn", "crnn", "hybrid", "mobilenet", "mobilenet-multimodal", "multimodal")
RECIPES = ("default", "student")


def test_no_configuration_is_left_out() -> None:
    assert {path.stem for path in CONFIGS.iterdir()} == {*EXPERIMENTS, *RECIPES}


@pytest.mark.parametrize("name", RECIPES)
def test_every_configuration_of_a_distillation_reads(name: str) -> None:
    assert parse_recipe(["--config", str(CONFIGS / f"{name}.yaml")]).name == name


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_configuration_reads_and_makes_its_network(name: str) -> None:
    experiment = parse(["--config", str(CONFIGS / f"{name}.yaml")])
    assert experiment.name == name
    assert experiment.data.path == "../shared/data/gtzan"
    settings = experiment.model.settings
    if "pretrained" in settings:
        settings["pretrained"] = False
    build_network(experiment, GENRES)


def test_later_arguments_override_the_file(settings: list[str]) -> None:
    experiment = parse([*settings, "--optimiser.lr", "0.5", "--model.settings.hidden", "4"])

    assert experiment.optimiser.lr == 0.5
    assert experiment.model.settings["hidden"] == 4
    assert experiment.model.settings["embedding_size"] == 16


def test_an_experiment_survives_its_own_yaml(settings: list[str], tmp_path: Path) -> None:
    experiment = parse(settings)
    file = tmp_path / "config.yaml"
    file.write_text(experiment.to_yaml())

    assert parse(["--config", str(file)]) == experiment


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--optimiser.lrr", "1"], "optimiser.lrr"),
        (["--optimiser.lr", "fast"], "optimiser.lr.*fast"),
        (["--front_end", "ears"], "front_end 'ears' is unknown: expected one of efficientat"),
        (["--data.split", "magic"], "magic"),
        (["--schedule.epochs", "0"], "schedule.epochs must be above 0, got 0"),
        (["--data.batch_size", "1"], "data.batch_size must be at least 2, got 1"),
        (["--data.crop_seconds", "0.2"], "data.crop_seconds must be at least 0.5, got 0.2"),
        (["--data.window_seconds", "3601"], "data.window_seconds must be from 0.5 to 3600, got 36"),
        (["--data.hop_seconds", "0.005"], "data.hop_seconds must be from 0.1 to 3600, got 0.005"),
        (["--data.hop_seconds", "1e9"], "data.hop_seconds must be from 0.1 to 3600, got 1"),
        (["--schedule.patience", "-1"], "schedule.patience must be at least 0, got -1"),
        (["--augment.mixup", "-1"], "augment.mixup must be at least 0, got -1"),
        (["--data.loop_probability", "2"], "data.loop_probability must be from 0 to 1, got 2"),
        (["--optimiser.average", "1"], "optimiser.average must be from 0 to below 1, got 1"),
        (
            ["--model.settings", "{dropout: 5}"],
            "model.settings.dropout must be from 0 to below 1, got 5",
        ),
        (
            ["--model.settings", "{dropout: much}"],
            "model.settings.dropout must be from 0 to below 1, got much",
        ),
        (
            ["--model.settings", "{modality_dropout: 0.8}"],
            r"model.settings.modality_dropout must be from 0 to 0\.5, got 0\.8",
        ),
        (["--seed", "-1"], "seed must be from 0 to 4294967295, got -1"),
        (["--seed", "5000000000"], "seed must be from 0 to 4294967295, got 5000000000"),
        (["--schedule.devices", "0"], "schedule.devices must be above 0, or -1 for all, got 0"),
        (["--model.settings.num_classes", "3"], r"model\.settings\.num_classes follows from the d"),
        (["--model.settings.n_mels", "64"], r"model\.settings\.n_mels follows from the data"),
        (["--model.settings.n_descriptors", "3"], r"model\.settings\.n_descriptors follows from"),
        (
            ["--model.settings", "{labels: [a, b]}"],
            r"model\.settings\.labels follows from the data",
        ),
    ],
)
def test_wrong_settings_are_named_in_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse(arguments)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"embedding_size": -1},
        {"features": "abc"},
        {"widths": 5},
        {"widths": [4, 4, 4, 4, 4, 4, 4, 4]},
        {"widths": [4, 4, 4, 4, 4, 4]},  # enough for 3 s, but clips may be shorter
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_network_that_cannot_be_is_told_in_one_line(wrong: dict[str, Any]) -> None:
    model = ModelSettings("cnn", wrong)
    with pytest.raises(
        UsageError, match=rf"'cnn' does not work with .*{next(iter(wrong))}"
    ) as told:
        build_network(replace(Experiment(), model=model), LABELS)

    assert "\n" not in str(told.value)


def test_trying_a_network_leaves_it_as_it_was_made() -> None:
    torch.manual_seed(0)
    network = build_network(Experiment(), LABELS)
    following = torch.rand(3)

    torch.manual_seed(0)
    fresh = create_model("hybrid", num_classes=3, n_mels=96)

    assert torch.equal(following, torch.rand(3))
    pairs = zip(network.state_dict().values(), fresh.state_dict().values(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    assert network.training


def test_a_student_is_told_the_labels_and_asks_audioset_only_of_what_it_knows() -> None:
    settings = {"pretrained": False, "width": 0.1, "audioset_weight": 0.5, "embedding_size": 8}
    experiment = Experiment(front_end="efficientat", model=ModelSettings("student", settings))

    known, unknown = ("jazz", "blues"), ("jazz", "techno")

    assert build_network(experiment, known).genre_classes.tolist() == [[235, 230], [251, 251]]
    assert build_network(experiment, unknown).audioset_weight == 0.0


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for module in ("tonearm.training.experiment", "tonearm.training.recipe")
        for kind in vars(importlib.import_module(module)).values()
        if is_dataclass(kind) and kind.__module__ == module
    ],
)
def test_every_setting_is_described(kind: Any) -> None:
    described = re.findall(r"^(\w[\w, ]*)$", inspect.getdoc(kind) or "", re.MULTILINE)
    names = {name for line in described for name in line.split(", ")}
    missing = {field.name for field in fields(kind)} - names
    assert missing == set(), f"not among the Attributes of {kind.__name__}"


def test_numbers_of_an_experiment_have_a_range() -> None:
    # The protocol knows which folds there are.
    folds = ["data.folds", "data.fold"]
    assert unbounded(Experiment()) == folds, "check them in training/experiment.py"


def test_the_number_of_threads_is_of_one_run_even_if_it_fails(
    settings: list[str], music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    during = []

    def refuse(*_: object) -> None:
        during.append(torch.get_num_threads())
        raise UsageError("no network today")

    monkeypatch.setattr("tonearm.training.run.build_network", refuse)
    tracks = load(music).tracks
    for threads in (before + 1, 0):
        experiment = parse([*settings, f"--schedule.threads={threads}"])
        with pytest.raises(UsageError, match="no network today"):
            fit(experiment, tracks, (), LABELS, tmp_path / "run", FeatureCache(tmp_path / "cache"))
    assert during == [before + 1, before]
    assert torch.get_num_threads() == before


def test_a_network_of_any_name_is_told_what_it_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_networks", {})

    @registry.register("describing")
    class Describing(Multimodal):
        def __init__(self, num_classes: int, n_mels: int, n_descriptors: int) -> None:
            super().__init__(num_classes, n_mels, n_descriptors)

    network = build_network(Experiment(model=ModelSettings("describing")), LABELS)
    assert isinstance(network, Describing)
    assert len(network.numbers.mean) == len(descriptor_names())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"# nothing\n", "expected settings and their values, found nothing"),
        (b"- one\n", "expected settings and their values, found a list"),
        (b"seed: 1\nname: caf\xe9\n", r"not UTF-8 \(line 2\)"),
        (b"seed: [1\n", "not YAML"),
        (b"seed: 2020-13-45\n", "not YAML: month must be in 1..12"),
        (b"seed: " + b"[" * 900, "not YAML: maximum recursion depth"),
        (b"model: {settings: {dropout: &a [*a]}}\n", "maximum recursion depth"),
        (b"seeds: 1\n", "seeds"),
        (b"optimiser:\n  lr: 0\n", "optimiser.lr must be above 0"),
        (b"model:\n  settings:\n    # dropout: 0.2\n", "model.settings is blank: leave it out"),
        (b"name:\nseed: 1\n", "name is blank"),
        (b"seed: 1\naugment:\n", "augment is blank"),
    ],
)
def test_a_file_of_settings_that_is_at_fault_is_named(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    file = tmp_path / "mine.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"mine\.yaml: .*{reason}") as caught:
        parse(["--config", str(file)])
    assert "\n" not in str(caught.value)


def test_a_file_of_settings_is_not_blamed_for_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("optimiser:\n  lr: 0\n")
    assert parse(["--config", str(file), "--optimiser.lr", "0.1"]).optimiser.lr == 0.1
    file.write_text("seed: 1\n")
    with pytest.raises(UsageError, match=r"optimiser\.lr must be above 0"):
        parse(["--config", str(file), "--optimiser.lr", "0"])


def test_data_is_found_in_the_folder_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gtzan").mkdir()
    name = "../elsewhere/gtzan"

    with pytest.raises(TonearmError, match=re.escape(f"data.path {Path(name)}: no such")):
        data_path(name)
    monkeypatch.setenv("TONEARM_DATA", str(tmp_path))

    assert data_path(name) == tmp_path / "gtzan"

    here = tmp_path / "here" / "gtzan"
    here.mkdir(parents=True)
    monkeypatch.chdir(here.parent)
    assert data_path("gtzan") == tmp_path / "gtzan", "which comes before one that lies here"
    assert data_path(str(here)) == here


def test_data_must_be_given() -> None:
    with pytest.raises(UsageError, match="give --data FOLDER"):
        data_path("")


# --- examples -------------------------------------------------------------------------------


def test_every_genre_is_drawn_equally_whatever_the_lengths() -> None:
    genres = np.array([0] * 40 + [1] * 3 + [1] * 29 + [2] * 5)
    crops = np.array([10.0] * 40 + [10.0] * 3 + [0.8] * 29 + [1.0] * 5)

    shares = draw_shares(genres, crops, power=0.5)

    for genre in range(3):
        assert shares[genres == genre].sum() == pytest.approx(1 / 3)
    assert shares[40] / shares[43] == pytest.approx(10**0.5)


@pytest.mark.parametrize(("balanced", "thin"), [(True, 30), (False, 6)])
def test_a_thin_genre_is_drawn_as_often_as_others_unless_told_not_to(
    balanced: bool, thin: int
) -> None:
    clips = random_clips([188] * 30, [0] * 27 + [1] * 3)
    data = replace(DataSettings(), examples_per_epoch=60, balanced=balanced)
    draws = ClipDraws(clips, Experiment(data=data))
    assert sum(draw.clip >= 27 for draw in draws) == thin


def test_an_epoch_visits_every_clip_and_differs_from_the_next() -> None:
    clips = random_clips([188] * 30, [i % 3 for i in range(30)])
    experiment = Experiment(data=replace(DataSettings(), examples_per_epoch=60))
    draws = ClipDraws(clips, experiment)

    first = list(draws)
    again = list(ClipDraws(clips, experiment))
    draws.set_epoch(1)
    second = list(draws)
    seeded = list(ClipDraws(clips, replace(experiment, seed=1)))

    assert first == again
    assert {draw.clip for draw in first} == set(range(30))
    assert [draw.clip for draw in first] != [draw.clip for draw in second]
    assert [draw.clip for draw in first] != [draw.clip for draw in seeded]
    assert [draw.position for draw in first] == list(range(60))


def test_a_clip_of_four_crops_is_drawn_twice_as_often_as_one_shorter_than_a_crop() -> None:
    shares = ClipDraws(random_clips([94, 750], [0, 0]), Experiment()).shares

    np.testing.assert_allclose(shares, [1 / 3, 2 / 3], atol=1e-3)


def test_an_example_depends_on_its_draw_alone() -> None:
    clips = random_clips([500, 400], [0, 1])
    experiment = Experiment()
    dataset = CropDataset(clips, experiment)
    draws = list(ClipDraws(clips, experiment))

    forwards = [dataset[draw].logmel for draw in draws[:6]]
    backwards = [dataset[draw].logmel for draw in reversed(draws[:6])][::-1]

    assert all(torch.equal(a, b) for a, b in zip(forwards, backwards, strict=True))
    assert not torch.equal(forwards[0], dataset[draws[0]._replace(epoch=1)].logmel)


def test_batches_hold_frames_and_distributions() -> None:
    clips = random_clips([500, 40, 400], [0, 1, 1])
    data = GenreData(Experiment(), clips, clips)

    batch = next(iter(data.train_dataloader()))

    assert batch.logmel.shape == (16, 188, 96)
    assert batch.descriptors is None
    torch.testing.assert_close(batch.target.sum(dim=1), torch.ones(16))


@pytest.mark.parametrize(("examples", "sizes"), [(40, [16, 16]), (10, [10])])
def test_a_batch_that_is_not_full_is_left_out_unless_it_is_the_only_one(
    examples: int, sizes: list[int]
) -> None:
    clips = random_clips([500, 400], [0, 1])
    data = replace(DataSettings(), examples_per_epoch=examples)

    batches = GenreData(Experiment(data=data), clips, clips).train_dataloader()

    assert [len(batch.target) for batch in batches] == sizes


def test_the_draws_see_the_epoch_through_lightnings_sampler_of_several_devices() -> None:
    clips = random_clips([188] * 30, [i % 3 for i in range(30)])
    draws = ClipDraws(clips, Experiment())
    share = DistributedSamplerWrapper(draws, num_replicas=2, rank=1, shuffle=False)

    share.set_epoch(3)

    assert {draw.epoch for draw in share} == {3}


def test_windows_of_a_long_clip_are_heard_in_parts() -> None:
    torch.manual_seed(0)
    network = create_model("cnn", num_classes=3, widths=[4, 8]).eval()
    heard: list[int] = []
    network.register_forward_pre_hook(lambda _, inputs: heard.append(len(inputs[0])))
    windows = torch.randn(150, 62, 96)

    with torch.inference_mode():
        scores = clip_log_probabilities(network, Clip(windows, None, torch.zeros(3)))
        whole = network(windows).log_softmax(dim=1).mean(dim=0)

    assert heard[:-1] == [64, 64, 22]
    torch.testing.assert_close(scores, whole)


def test_of_epochs_of_equal_f1_the_one_of_less_loss_is_better() -> None:
    epochs = [(0.8, float("inf")), (0.8, 0.7), (0.8, 0.6), (0.801, 9.0)]
    scores = [selection_score(*epoch) for epoch in epochs]

    assert scores == sorted(set(scores))
    assert len({float(np.float32(score)) for score in scores}) == 4  # as Lightning keeps them


def test_pretrained_weights_take_smaller_steps_and_biases_do_not_decay() -> None:
    network = create_model("mobilenet", num_classes=3, n_mels=64, width=0.1, pretrained=False)
    assert isinstance(network, MobileNet)
    network.pretrained = True
    groups = GenreTraining(network, Experiment(), LABELS)._parameter_groups()

    settings = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }
    ours = [settings[id(parameter)] for parameter in network.classifier.parameters()]
    theirs = [settings[id(parameter)] for parameter in network.features[0].parameters()]
    assert ours == [(3e-3, 0.05), (3e-3, 0.0)]
    assert theirs == [pytest.approx((6e-4, decay)) for decay in (0.05, 0.0, 0.0)]
    assert len(settings) == len(list(network.parameters()))


def test_the_average_follows_from_the_first_steps_on() -> None:
    network = create_model("cnn", num_classes=3, widths=[4, 8])
    module = GenreTraining(network, Experiment(), LABELS)  # whose decay is 0.99 in the end
    averaged = module.averaged_network
    for step in range(20):
        for values in (network.classifier[1].bias.data, network.norm.norm.running_mean):
            values.fill_(step)
        module.on_train_batch_end(None, Batch(torch.zeros(0), None, torch.zeros(0)), step)

    assert 15 < averaged.classifier[1].bias.mean() < 19
    assert 15 < averaged.norm.norm.running_mean.mean() < 19


def test_every_batch_is_varied_in_its_own_way() -> None:
    network = create_model("cnn", num_classes=3, widths=[4, 8])
    module = GenreTraining(network, Experiment(), LABELS)
    heard: list[torch.Tensor] = []
    network.norm.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    batch = Batch(torch.rand(4, 62, 96), None, torch.eye(3)[[0, 1, 2, 0]])
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )

    trainer.fit(module, DataLoader([batch, batch], batch_size=None))

    assert len(heard) == 4
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(heard, 2))


def test_several_devices_each_judge_all_clips() -> None:
    clips = random_clips([500, 40, 400], [0, 1, 1])

    sampler = GenreData(Experiment(), clips, clips).val_dataloader().sampler

    assert isinstance(sampler, DistributedSampler)  # one of these Lightning leaves as it is
    assert list(sampler) == [0, 1, 2]


@pytest.mark.parametrize(("frames", "shape"), [(500, (8, 62)), (62, (1, 62)), (40, (1, 62))])
def test_clips_are_cut_into_the_windows_of_the_classifier(
    frames: int, shape: tuple[int, int]
) -> None:
    data = replace(DataSettings(), window_seconds=1.0, hop_seconds=1.0)

    cut = clip_windows(np.ones((frames, 96), np.float16), FRONT_ENDS["mel16k"], data)

    assert cut.shape == (*shape, 96)
    assert (cut[0, frames:] == 0).all()  # silence, in this front end


def test_a_short_clip_is_padded_with_what_silence_is_in_the_front_end() -> None:
    data = replace(DataSettings(), window_seconds=1.0, hop_seconds=1.0)

    cut = clip_windows(np.ones((60, 128), np.float16), FRONT_ENDS["efficientat"], data)

    assert cut.shape == (1, 100, 128)
    silence = (np.log(1e-5) + 4.5) / 5
    np.testing.assert_allclose(cut[0, 60:], silence, rtol=1e-6)


def test_descriptors_of_a_clip_go_with_each_of_its_windows() -> None:
    clips = replace(random_clips([500], [0]), descriptors=np.ones((1, 5), np.float32))

    clip = ClipDataset(clips, Experiment())[0]

    assert clip.descriptors is not None
    assert clip.descriptors.shape == (1, 5)


# --- runs -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of eight epochs."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(parse([*settings, "--schedule.epochs", "8"]), folder)
    return folder


@pytest.fixture(scope="module")
def short(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of two epochs."""
    folder = tmp_path_factory.mktemp("short") / "run"
    train(parse([*settings, "--schedule.epochs", "2"]), folder)
    return folder


def test_a_run_leaves_a_model_its_metrics_and_its_history(finished: Path, music: Path) -> None:
    metrics = Metrics.from_json((finished / "metrics.json").read_text())
    table = predictions.read(finished)
    bundle = Bundle.load(finished / "model.onnx")

    assert metrics.labels == bundle.metadata.labels == LABELS
    assert metrics.count == len(table) == 6
    assert [row["epoch"] for row in history(finished)] == [str(i) for i in range(8)]
    assert [bool(row["valid_f1"]) for row in history(finished)] == [False, True] * 4
    rates = [float(row["lr"]) for row in history(finished)]
    assert rates[-1] > 0  # with which the epoch's last step was taken, not of the one to come
    assert bundle.metadata.metrics["macro_f1"] == round(metrics.f1, 4)
    assert bundle.metadata.training["split"] == "stratified-1of3"
    assert yaml.safe_load((finished / "config.yaml").read_text())["name"] == "small"
    assert list((finished / "logs").glob("events.*"))


def test_the_model_predicts_as_validation_did(finished: Path, music: Path) -> None:
    table = predictions.read(finished)
    classifier = Classifier.load(finished)
    paths = {track.id: track.path for track in load(music)}

    for i, track in enumerate(table.tracks):
        path = paths[track]
        assert path is not None
        got = classifier(path)
        # The classifier appends silence to samples and validation to frames, so that clips of
        # less than a second differ in the frames at the seam, and only they.
        np.testing.assert_allclose(
            [got.probabilities[label] for label in table.labels],
            table.probabilities[i],
            atol=1e-4 if got.duration >= 1.0 else 0.1,
        )


def test_the_best_epoch_is_the_one_exported(finished: Path) -> None:
    metrics = Metrics.from_json((finished / "metrics.json").read_text())

    best = max(float(row["valid_f1"] or 0) for row in history(finished))

    assert metrics.f1 == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("optimiser.label_smoothing", 0.3),
        ("optimiser.clip_norm", 0.01),
        ("optimiser.average", 0.1),
        ("optimiser.weight_decay", 5),
        ("optimiser.warmup_epochs", 2),
        ("augment.mixup", 0),
    ],
)
def test_training_heeds_its_settings(
    settings: list[str], short: Path, tmp_path: Path, setting: str, value: float
) -> None:
    changed = [*settings, "--schedule.epochs", "2", f"--{setting}", str(value)]
    train(parse(changed), tmp_path)

    assert history(tmp_path) != history(short)


def test_the_rate_rises_for_an_epoch_and_then_follows_a_cosine(short: Path) -> None:
    rates = [float(row["lr"]) for row in history(short)]  # in the last of the epoch's two steps

    assert rates == pytest.approx([0.01 * 2 / 3, 0.01 * 0.5], rel=1e-4)


def test_of_equally_good_epochs_the_one_of_least_loss_is_kept(
    settings: list[str], tmp_path: Path
) -> None:
    arguments = ["--schedule.epochs", "4", "--schedule.validate_every", "1"]
    train(parse([*settings, *arguments, "--optimiser.lr", "1e-7"]), tmp_path)
    rows = history(tmp_path)

    kept = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)["epoch"]

    first = max(range(4), key=lambda epoch: float(rows[epoch]["valid_f1"]))
    best = max(rows, key=lambda row: (float(row["valid_f1"]), -float(row["valid_loss"])))
    assert first != int(best["epoch"])  # or there would be nothing to see
    assert kept == int(best["epoch"])


def test_equal_seeds_train_equally_even_if_one_run_is_killed_and_goes_on(
    settings: list[str], finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    arguments = [*settings, "--schedule.epochs", "8", "--run", str(folder)]
    command = [*TRAIN, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 120
    while not _has_epochs(folder, 3):
        assert process.poll() is None, process.communicate()[0].decode()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert not (folder / "model.onnx").exists()
    epochs_before = len(history(folder))

    train(parse([*settings, "--schedule.epochs", "8"]), folder)

    assert epochs_before < 8
    assert history(folder) == history(finished)
    assert (folder / "metrics.json").read_text() == (finished / "metrics.json").read_text()
    assert (folder / "predictions.csv").read_text() == (finished / "predictions.csv").read_text()


@pytest.mark.slow
def test_two_devices_train_one_model(settings: list[str], tmp_path: Path) -> None:
    """The second one has a process of its own, which starts the same command."""
    command = [*TRAIN, *settings, "--run", str(tmp_path), "--schedule.devices", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("validation: accuracy") == 1
    assert done.stdout.count("model: ") == 1
    assert done.stderr.count("epoch 3 of 3") == 1
    assert len(history(tmp_path)) == 3
    count = json.loads((tmp_path / "metrics.json").read_text())["count"]
    assert count == 6  # each of the clips to validate on, once
    assert Bundle.load(tmp_path / "model.onnx").metadata.labels == LABELS


def test_a_finished_run_is_not_trained_again(settings: list[str], finished: Path) -> None:
    before = history(finished)
    modified = (finished / "checkpoints" / "last.ckpt").stat().st_mtime_ns

    train(parse([*settings, "--schedule.epochs", "8"]), finished)

    assert history(finished) == before
    assert (finished / "checkpoints" / "last.ckpt").stat().st_mtime_ns == modified


@pytest.mark.parametrize("patience", ["3", "4"])  # between validations, the next one decides
def test_training_stops_early_and_stays_stopped(
    settings: list[str], tmp_path: Path, patience: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ["--schedule.epochs", "60", "--schedule.patience", patience]
    experiment = parse([*settings, *changes, "--optimiser.lr", "1e-9"])

    train(experiment, tmp_path)
    rows = history(tmp_path)
    train(experiment, tmp_path)

    losses = [float(row["valid_loss"]) for row in rows if row["valid_loss"]]
    best = 2 * (1 + losses.index(min(losses)))  # validated every second epoch
    assert len(rows) >= best + int(patience)
    assert len(rows) < 60
    judged = [row for row in rows if row["valid_loss"]]
    scores = [selection_score(float(row["valid_f1"]), float(row["valid_loss"])) for row in judged]
    assert len(judged) == scores.index(max(scores)) + 3  # two validations without a better one
    assert history(tmp_path) == rows
    assert capsys.readouterr().err.count(f"stopped after epoch {len(rows)} of 60: ") == 1


def test_a_folder_of_another_experiment_is_not_gone_on_with(
    settings: list[str], finished: Path
) -> None:
    with pytest.raises(
        RunError, match=r"differ in optimiser\.lr, schedule\.epochs.*--resume never"
    ):
        train(parse([*settings, "--optimiser.lr", "0.02"]), finished)


def test_a_run_from_before_a_setting_goes_on_with_its_default(
    settings: list[str], finished: Path, tmp_path: Path
) -> None:
    same = [*settings, "--schedule.epochs", "8"]
    run = shutil.copytree(finished, tmp_path / "run")
    config = (run / "config.yaml").read_text()
    assert "  balanced: true\n" in config
    (run / "config.yaml").write_text(config.replace("  balanced: true\n", ""))
    with pytest.raises(RunError, match=r"differ in data\.balanced"):
        train(parse([*same, "--data.balanced", "false"]), run)
    train(parse(same), run)
    assert (run / "config.yaml").read_text() == config


def test_a_folder_of_other_tracks_is_not_gone_on_with(
    settings: list[str], music: Path, tmp_path: Path
) -> None:
    dataset = load(music)
    cache = FeatureCache(Path(settings[-1]))
    fold = split(dataset, "stratified")[0]
    fit(parse(settings), fold.train, fold.valid, dataset.labels, tmp_path, cache)
    # A track more, and it is no more the old network's to be judged on these.
    with pytest.raises(RunError, match=r"on other tracks or labels.*--resume never"):
        fit(parse(settings), fold.train[1:], fold.valid, dataset.labels, tmp_path, cache)
    with pytest.raises(RunError, match=r"on other tracks or labels"):
        fit(parse(settings), fold.train, fold.valid, dataset.labels[::-1], tmp_path, cache)
    shutil.rmtree(tmp_path / "checkpoints")  # the model is still there, and is of the old tracks
    with pytest.raises(RunError, match=r"on other tracks or labels"):
        fit(parse(settings), fold.train[1:], fold.valid, dataset.labels, tmp_path, cache)
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(RunError, match=r"not both config\.yaml and tracks\.json"):
        fit(parse(settings), fold.train, fold.valid, dataset.labels, tmp_path, cache)


def test_a_folder_that_is_not_a_run_is_left_alone(settings: list[str], tmp_path: Path) -> None:
    for name in ("checkpoints", "logs", "config.yaml"):
        folder = tmp_path / name.removesuffix(".yaml")
        own = folder / name if name == "config.yaml" else folder / name / "own.txt"
        own.parent.mkdir(parents=True)
        own.write_text("name: mine\n")
        for resume in ("auto", "never"):
            with pytest.raises(
                RunError, match=rf"holds {name}, but not both config.*0\.1\.0.* another"
            ) as e:
                train(parse(settings), folder, resume)
            assert "\n" not in str(e.value)
        assert [path for path in folder.rglob("*") if path.is_file()] == [own]
        assert own.read_text() == "name: mine\n"


def test_other_audio_under_the_same_names_is_not_gone_on_with(
    settings: list[str], music: Path, finished: Path, tmp_path: Path
) -> None:
    here, copied = tmp_path / "here", tmp_path / "copied"
    shutil.copytree(music, copied)
    shutil.copytree(finished, here)
    arguments = [*settings, "--schedule.epochs", "8", "--data.path", str(copied)]
    tracks = json.loads((here / "tracks.json").read_text())
    assert sorted(tracks["contents"]) == sorted(track.id for track in load(music))

    train(parse(arguments), here)  # a dataset may move
    write_wav(copied / LABELS[0] / "3.wav", render(LABELS[0], 2.5, 16000, seed=77), 16000)
    with pytest.raises(
        RunError, match=rf"other audio .*1 of 18 tracks, the first is {LABELS[0]}/3"
    ):
        train(parse(arguments), here)


@pytest.mark.parametrize(
    ("name", "state", "reason"),
    [
        ("last", None, "File is not a zip file"),
        ("last", [1], "it holds a list"),
        ("last", {"weights": 1}, "it lacks 'state_dict'"),
        ("best", {"state_dict": {}}, "loading state_dict"),
    ],
)
def test_a_checkpoint_that_is_broken_or_of_something_else_is_named_with_the_remedy(
    settings: list[str], finished: Path, tmp_path: Path, name: str, state: object, reason: str
) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    checkpoint = tmp_path / "checkpoints" / f"{name}.ckpt"
    if state is None:
        os.truncate(checkpoint, checkpoint.stat().st_size // 2)
    else:
        torch.save(state, checkpoint)

    told = rf"{name}\.ckpt: not a checkpoint .*\(.*{reason}.*remove it to start over"
    with pytest.raises(TonearmError, match=told):
        train(parse([*settings, "--schedule.epochs", "8"]), tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_checkpoint_that_does_not_fit_on_the_disk_is_named() -> None:
    with pytest.raises(OSError, match="'/dev/full'") as caught:
        save_checkpoint({"weights": torch.zeros(50_000)}, Path("/dev/full"))
    assert caught.value.errno == errno.ENOSPC


def test_logs_that_do_not_fit_on_the_disk_end_a_training_in_one_line(
    settings: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", fail)
    before = threading.excepthook
    with pytest.raises(OSError, match=re.escape(repr(str(tmp_path)))):
        train(parse(settings), tmp_path)
    assert threading.excepthook is before
    assert "Traceback" not in capfd.readouterr().err


def test_a_flipped_bit_in_the_weights_of_a_checkpoint_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    save_checkpoint({"weights": torch.zeros(5000)}, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    with (
        pytest.raises(TonearmError, match=r"best\.ckpt: .*archive/data/0 in it is damaged"),
        loaded_checkpoint(path),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.yaml", b"1: 2\n", "another experiment (they differ in 1, augment"),
        ("config.yaml", b"seed: 2020-13-45\n", "config.yaml: not YAML: month"),
        ("config.yaml", b"name: caf\xe9\n", "config.yaml: not UTF-8 (line 1); name another"),
        ("tracks.json", b"[" * 100_000, "not both config.yaml and tracks.json of a run"),
        (
            "tracks.json",
            b'{"labels": [], "train": {}, "contents": []}',
            "not both config.yaml and tracks.json of a run",
        ),
    ],
)
def test_a_run_with_a_damaged_file_is_not_gone_on_with(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    open_folder(tmp_path, Experiment(), training_text([], [], []), "auto")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / name).write_bytes(content)

    with pytest.raises(RunError, match=re.escape(reason)):
        open_folder(tmp_path, Experiment(), training_text([], [], []), "auto")


def test_a_kill_while_saving_leaves_the_checkpoint_before(
    settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = torch.save

    def killed_after_an_epoch(state: dict[str, Any], file: BinaryIO) -> None:
        if state["epoch"] == 0:
            return save(state, file)
        file.write(b"half of it")
        raise RuntimeError("killed")

    monkeypatch.setattr(torch, "save", killed_after_an_epoch)
    with pytest.raises(RuntimeError, match="killed"):
        train(parse(settings), tmp_path)
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["epoch"] == 0
    monkeypatch.undo()
    train(parse(settings), tmp_path)


def test_the_last_epoch_is_judged_whatever_the_step(finished: Path, settings: list[str]) -> None:
    folder = finished.parent / "odd"
    train(parse([*settings, "--schedule.epochs", "3"]), folder)
    train(parse([*settings, "--schedule.epochs", "1"]), folder / "one")

    assert [bool(row["valid_f1"]) for row in history(folder)] == [False, True, True]
    assert [bool(row["valid_f1"]) for row in history(folder / "one")] == [True]


def test_training_that_diverges_says_so(settings: list[str], music: Path, tmp_path: Path) -> None:
    for rate in ("1e6", "1e30"):
        with pytest.raises(DivergedError, match=r"training diverged.*lower optimiser\.lr"):
            train(parse([*settings, "--optimiser.lr", rate]), tmp_path / rate)
    dataset = load(music)
    experiment, cache = (
        parse([*settings, "--optimiser.lr", "1e30"]),
        FeatureCache(Path(settings[-1])),
    )
    with pytest.raises(DivergedError, match=r"training diverged"):
        fit(experiment, dataset.tracks, (), dataset.labels, tmp_path / "all", cache)


def test_one_genre_alone_is_not_trained_on(
    settings: list[str], music: Path, tmp_path: Path
) -> None:
    dataset, cache = load(music), FeatureCache(Path(settings[-1]))
    tracks = [track for track in dataset if track.label == LABELS[0]]
    with pytest.raises(
        DatasetError, match=f"two genres are needed, and all tracks are {LABELS[0]}"
    ):
        fit(parse(settings), tracks, tracks, LABELS, tmp_path / "run", cache)
    assert not (tmp_path / "run").exists()


def test_devices_that_are_not_there_are_refused_before_anything_is_made(
    settings: list[str], tmp_path: Path
) -> None:
    with pytest.raises(
        UsageError, match=r"schedule\.accelerator 'foo' with 1 devices.*foo"
    ) as told:
        train(parse([*settings, "--schedule.accelerator", "foo"]), tmp_path / "run")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "run").exists()


def test_a_folder_per_genre_is_told_which_splits_fit(settings: list[str], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"artist-kfold or stratified \(`train --split`"):
        train(parse([*settings, "--data.split", "builtin"]), tmp_path)


def test_a_run_that_moved_remembers_its_best_epoch(settings: list[str], tmp_path: Path) -> None:
    train(parse(settings), tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    checkpoints = tmp_path / "there" / "checkpoints"
    state = torch.load(checkpoints / "last.ckpt", weights_only=True)
    (best,) = (
        callback
        for name, callback in state["callbacks"].items()
        if name.startswith("ModelCheckpoint") and callback["monitor"]
    )
    # As good as can be: whatever the next epoch brings, it is not better.
    perfect = torch.tensor(1.0)
    best.update(best_model_score=perfect, kth_value=perfect)
    best["best_k_models"] = {best["best_model_path"]: perfect}
    torch.save(state, checkpoints / "last.ckpt")
    remembered = (checkpoints / "best.ckpt").read_bytes()
    moved = tmp_path / "there" / "config.yaml"
    moved.write_text(moved.read_text().replace("epochs: 3", "epochs: 4"))

    train(parse([*settings, "--schedule.epochs", "4"]), tmp_path / "there")

    assert len(history(tmp_path / "there")) == 4
    assert (checkpoints / "best.ckpt").read_bytes() == remembered


@pytest.mark.usefixtures("heeds_ctrl_c")
@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt()),
        (SIGTERMException(), SystemExit(128 + signal.SIGTERM)),
    ],
)
def test_a_training_that_is_stopped_does_not_end_as_if_it_were_finished(
    settings: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    raised: BaseException,
    told: BaseException,
) -> None:
    def stop(*_: object) -> None:
        raise raised

    monkeypatch.setattr(History, "on_train_epoch_start", stop)
    with pytest.raises((KeyboardInterrupt, SystemExit)) as caught:
        train(parse(settings), tmp_path)
    assert repr(caught.value) == repr(told)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not (tmp_path / "model.onnx").exists()


def test_starting_over_forgets_the_former_run(
    settings: list[str], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    (tmp_path / "logs" / "own.txt").write_text("mine")
    made = ("model.onnx", "metrics.json", "predictions.csv", "history.csv", "checkpoints/best.ckpt")
    assert all((tmp_path / name).exists() for name in made)

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("tonearm.training.run.load_clips", interrupt)
        train(parse(settings), tmp_path, resume="never")

    assert not any((tmp_path / name).exists() for name in made)
    assert (tmp_path / "logs" / "own.txt").exists()
    train(parse(settings), tmp_path)
    assert len(history(tmp_path)) == 3


@pytest.mark.parametrize("model", ["cnn", "multimodal"])
def test_tracks_that_cannot_be_decoded_are_left_out_and_listed(
    settings: list[str], music: Path, tmp_path: Path, model: str
) -> None:
    broken, click = tmp_path / "broken.wav", tmp_path / "click.wav"
    broken.write_bytes(b"RIFF")
    write_wav(click, np.full(100, 0.5, np.float32), 16000)  # too short
    dataset = load(music)
    fold = split(dataset, "stratified")[0]
    tracks, held_out = (dataset.tracks, ()) if model == "cnn" else (fold.train, fold.valid)
    experiment = parse([*settings, "--model.name", model])
    experiment = replace(experiment, model=replace(experiment.model, settings={"widths": [4, 8]}))

    run = fit(
        experiment,
        [*tracks, Track("broken", broken, LABELS[0]), Track("click", click, LABELS[0])],
        held_out,
        dataset.labels,
        tmp_path / "run",
        FeatureCache(tmp_path),
    )

    assert [failure.track.id for failure in run.failures] == ["broken", "click"]
    assert len(history(tmp_path / "run")) == 3
    metadata = Bundle.load(run.bundle).metadata
    assert metadata.training["tracks"] == len(tracks)
    assert bool(metadata.descriptors) == (model == "multimodal")
    assert "split" not in metadata.training  # it was not the experiment's that chose these tracks
    # Without validation, all epochs are run, and the last is exported as it is.
    assert (run.metrics is None) == (model == "cnn")
    assert (tmp_path / "run" / "metrics.json").exists() == (model == "multimodal")
    assert metadata.temperature == 1.0 or model == "multimodal"


@pytest.mark.filterwarnings("ignore::tonearm.datasets.LeakWarning")
def test_the_command_trains_and_says_where_the_model_is(
    settings: list[str],
    music: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: Program,
) -> None:
    computing: list[int] = []
    logmels = FeatureCache.logmels

    def watched(*arguments: Any, workers: int, **others: Any) -> Any:
        computing.append(workers)
        return logmels(*arguments, workers=workers, **others)

    monkeypatch.setattr(FeatureCache, "logmels", watched)
    config, cache = settings[1], settings[-1]
    arguments = ("train", "--config", config, "--data", music, "--data.cache", cache)
    arguments += ("--split", "random-kfold", "--fold", 1)
    monkeypatch.chdir(tmp_path)
    folder = Path("runs") / "small-fold1"

    code, output, errors = program(*arguments, "--workers", 2, "--schedule.epochs", 1)

    assert code == 0
    assert computing == [2, 2]
    assert "validation: accuracy" in output
    assert "tonearm: warning: random k-fold" in errors
    assert "epoch 1 of 1: loss" in errors  # a line each where there is no terminal
    assert f"model: {folder / 'model.onnx'}" in output
    kept = parse(["--config", str(folder / "config.yaml")])
    assert (kept.data.split, kept.data.fold) == ("random-kfold", 1)


def test_training_without_validation_is_told(
    settings: list[str], music: Path, tmp_path: Path, program: Program
) -> None:
    table = tmp_path / "table.csv"
    rows = [
        f"{path},{path.parent.name},{'test' if path.stem == '1' else 'train'}"
        for path in sorted(music.rglob("*.wav"))
    ]
    table.write_text("\n".join(["path,label,split", *rows]))
    run = tmp_path / "run"
    arguments = ("train", "--config", settings[1], "--data", table, "--run", run)
    arguments += ("--split", "builtin", "--data.cache", settings[-1], "--schedule.epochs", 1)

    code, _, errors = program(*arguments)

    assert (code, "tonearm: warning: no tracks to validate on" in errors) == (0, True)
    assert not (run / "metrics.json").exists()
    # Also apart from its run, the model knows what it learned from.
    training = Bundle.load(run / "model.onnx").metadata.training
    assert (training["split"], training["data"]) == ("builtin", "table")
    assert training["data_parts"] == ["train"]


def test_the_command_prints_all_settings(settings: list[str], program: Program) -> None:
    code, output, _ = program("train", *settings[:2], "--print_config")

    assert (code, yaml.safe_load(output)["optimiser"]["lr"]) == (0, 0.01)


@pytest.mark.parametrize("command", ["train", "distill"])
def test_only_what_an_extra_brings_is_told_to_be_installed(
    command: str, monkeypatch: pytest.MonkeyPatch, program: Program
) -> None:
    missing = "tonearm.training" if command == "train" else "tonearm.training.distill"
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModuleNotFoundError, match=missing):
        program(command)

    told = pytest.raises(MissingExtraError, match=r"needs no_such_package.*tonearm\[train\]")
    with told, needs("train"):
        importlib.import_module("no_such_package.part")


def test_a_fold_that_is_not_there_is_refused(settings: list[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"data\.fold must be from 0 to 2, got 3"):
        train(parse([*settings, "--data.fold", "3"]), tmp_path)


def _has_epochs(run: Path, count: int) -> bool:
    return (run / "history.csv").exists() and len(history(run)) >= count
