"""Training on a device beside the CPU: see `test_gpu`, which runs this file in its own process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor

from pretended_device import NAME, pretended_device
from teachers_stand_in import random_outputs
from tonearm.datasets import Track
from tonearm.datasets.cache import FeatureCache
from tonearm.datasets.storage import StoredArray
from tonearm.models.mobilenet import AudioSetMobileNet
from tonearm.synth import render, write_wav
from tonearm.training import augment, imitate, module, parse, run, tune
from tonearm.training.recipe import (
    ConditionSettings,
    ImitationSettings,
    Recipe,
    StudentSettings,
    TransferSettings,
    TuningSettings,
)
from tonearm.training.transfer_set import TransferSegment

LABELS = ("orchestral", "swing")


class _Accelerator(Accelerator):
    """The pretended device as Lightning knows a GPU."""

    def setup_device(self, device: torch.device) -> None: ...

    def teardown(self) -> None: ...

    def get_device_stats(self, device: Any) -> dict[str, Any]:
        return {}

    @staticmethod
    def parse_devices(devices: Any) -> Any:
        return devices

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        return [torch.device(NAME, 0)]

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return NAME


def test_what_is_here_does_not_mix_with_what_is_there() -> None:
    here = torch.arange(3.0)
    with pretended_device() as gpu:
        there = here.to(gpu)
        assert (there + there).device == there.new_zeros(2).device == gpu
        assert torch.equal((2 * there).cpu(), 2 * here)
        with pytest.raises(RuntimeError, match="on the CPU"):
            there + here


def test_a_network_learns_there_what_it_learns_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracks = []
    for number, label in enumerate(LABELS * 3):
        path = tmp_path / f"{number}.wav"
        write_wav(path, render(label, 1.5, 16_000, seed=number), 16_000)
        tracks.append(Track(str(number), path, label))
    places: list[str] = []

    def vary(logmel: Tensor, *settings: Any) -> Tensor:
        places.append(logmel.device.type)
        return augment.vary(logmel, *settings)

    monkeypatch.setattr(module, "vary", vary)
    exported: list[dict[str, Tensor]] = []
    # Tracing does not understand the device; a network is brought back before.
    monkeypatch.setattr(run, "export", lambda net, *_: exported.append(net.cpu().state_dict()))

    def learn(folder: Path) -> None:
        experiment = parse(
            [
                *("--model.name", "multimodal", "--model.settings.widths", "[4, 8, 16]"),
                *("--data.crop_seconds", "1", "--data.window_seconds", "1"),
                *("--data.examples_per_epoch", "8", "--data.batch_size", "4"),
                *("--schedule.epochs", "2", "--schedule.validate_every", "1"),
                *("--schedule.accelerator", "cpu"),
            ]
        )
        cache = FeatureCache(tmp_path / "cache")
        run.fit(experiment, tracks[:4], tracks[4:], LABELS, folder, cache)

    learn(tmp_path / "here")
    with pretended_device() as gpu:
        monkeypatch.setattr(
            run, "_hardware", lambda _: {"strategy": SingleDeviceStrategy(gpu, _Accelerator())}
        )
        learn(tmp_path / "there")

    assert places == 4 * ["cpu"] + 4 * [NAME]  # two epochs of two batches
    here, there = exported
    torch.testing.assert_close(there, here)


def test_a_student_learns_there_what_it_learns_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "stored.npy", rng.normal(size=(5 * 350, 128)).astype(np.float16))
    stored = StoredArray(tmp_path / "stored.npy", np.float16, (128,))
    segments = [
        TransferSegment(f"{number // 2}", stored, 350 * number, 350, random_outputs(rng, patches=1))
        for number in range(5)
    ]
    clips, music = segments[:2], segments[2:]
    recipe = Recipe(
        student=StudentSettings(embedding_size=16, audioset_weight=0.3),
        transfer=TransferSettings(segment_seconds=3.5),
        conditions=ConditionSettings(
            tilt_probability=1.0,
            equaliser_probability=1.0,
            lowpass_probability=1.0,
            noise_probability=1.0,
            warp_probability=1.0,
        ),
        imitation=ImitationSettings(
            epochs=4, batch_size=2, components=8, held_out=2, patch_probability=0.5
        ),
        tuning=TuningSettings(
            steps=4,
            labelled=2,
            unlabelled=1,
            crop_seconds=(1.0, 2.0),
            crop_shares=(0.5, 0.5),
            mixup_probability=0.5,
            mask_probability=1.0,
        ),
    )
    monkeypatch.setattr("tonearm.models.mobilenet.load_pretrained", AudioSetMobileNet)

    def learn(device: torch.device) -> dict[str, Tensor]:
        torch.manual_seed(0)
        for stage in (imitate, tune):
            monkeypatch.setattr(stage, "training_device", lambda: device)
        folder = tmp_path / device.type
        imitation = imitate.imitate(recipe, music, folder, print)
        truth = np.array([0, 1])
        student = tune.tune(
            recipe, imitation, clips, truth, music, LABELS, folder / "tuning", print
        )
        return {**imitation.weights, **student.state_dict()}

    here = learn(torch.device("cpu"))
    with pretended_device() as gpu:
        there = learn(gpu)

    torch.testing.assert_close(there, here)
