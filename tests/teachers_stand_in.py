"""Puts a function in the place of the published networks, which are not at hand everywhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tonearm.training import teachers, transfer_set
from tonearm.training.teachers import TeacherOutputs


def replace_teachers(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[np.ndarray, np.ndarray], TeacherOutputs]
) -> None:
    """Let `answer(samples, logmel)` speak for all teachers."""
    monkeypatch.setattr(transfer_set, "load_teachers", lambda: answer)
    for module in (transfer_set, teachers):
        monkeypatch.setattr(module, "teachers_fingerprint", lambda: "stand-in")


def random_outputs(rng: np.random.Generator, patches: int = 2) -> TeacherOutputs:
    sizes = ((patches, 1506), (patches, 50), 64, 50, 384, 527)
    return TeacherOutputs(*(rng.normal(size=size).astype(np.float32) for size in sizes))
