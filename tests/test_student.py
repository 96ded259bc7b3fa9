"""The student network: two outputs in one answer, kept statistics, the same numbers in ONNX."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tonearm.bundle import Bundle
from tonearm.errors import TonearmError, UsageError
from tonearm.features.logmel import FRONT_ENDS
from tonearm.metadata import BundleMetadata
from tonearm.models import audioset, create_model
from tonearm.models.mobilenet import load_pretrained
from tonearm.models.student import Student
from tonearm.training.export import export

LABELS = tuple(audioset.GENRES)


def small(audioset_weight: float = 0.3, labels: tuple[str, ...] = LABELS) -> Student:
    torch.manual_seed(0)
    student = create_model(
        "student",
        num_classes=len(labels),
        labels=labels,
        audioset_weight=audioset_weight,
        embedding_size=32,
        width=0.1,
        pretrained=False,
    )
    assert isinstance(student, Student)
    return student.eval()


def frames(batch: int, length: int) -> Tensor:
    return torch.randn(batch, length, 128, generator=torch.Generator().manual_seed(1))


def test_any_length_gives_logits_and_the_embedding() -> None:
    student = small()
    for batch, length in ((1, 60), (3, 300), (2, 1000)):
        logmel = frames(batch, length)
        logits, embedding, _ = student.outputs(logmel)
        assert logits.shape == (batch, 10)
        assert embedding.shape == (batch, student.embedding_size) == (batch, 32)
        torch.testing.assert_close(student.embed(logmel), embedding)
        torch.testing.assert_close(student(logmel), logits)


def test_the_embedding_reads_the_mean_and_the_strongest_moment() -> None:
    student = small()
    student.features = torch.nn.Identity()  # untrained ones hardly vary
    logmel = frames(2, 300)
    moments = logmel.mean(dim=2)
    expected = torch.stack([moments.mean(dim=1), moments.amax(dim=1)], dim=1)
    torch.testing.assert_close(student._pooled(logmel), expected)


def test_logits_are_both_heads_weighed() -> None:
    student = small(0.25)
    logmel = frames(2, 200)
    outputs = student.head_outputs(logmel)
    likely = torch.sigmoid(outputs.audioset).log()
    head = torch.stack(
        [likely[:, list(audioset.GENRES[label].values())].amax(1) for label in LABELS], dim=1
    )
    expected = outputs.genre.log_softmax(1) + 0.25 * head
    torch.testing.assert_close(student(logmel), expected)
    alone = small(0.0)
    torch.testing.assert_close(alone(logmel), alone.head_outputs(logmel).genre.log_softmax(1))


def test_improbable_classes_do_not_become_minus_infinity() -> None:
    student = small()
    with torch.no_grad():
        student.audioset[-1].bias.fill_(-300.0)
    assert torch.isfinite(student(frames(1, 100))).all()


def test_labels_that_audioset_does_not_know_are_refused_only_with_a_weight() -> None:
    with pytest.raises(TonearmError, match="not for techno"):
        small(0.3, ("jazz", "techno"))
    assert small(0.0, ("jazz", "techno"))(frames(1, 100)).shape == (1, 2)
    with pytest.raises(UsageError, match="names of its 3 labels, got 0"):
        Student(3, audioset_weight=0.1, pretrained=False)
    with pytest.raises(UsageError, match="set pretrained: false"):
        Student(3, width=1.0)
    assert audioset.knows(LABELS)
    assert not audioset.knows(("jazz", "techno"))


def test_pretrained_batch_normalisation_keeps_its_statistics_in_training() -> None:
    student = small()
    student.pretrained = True
    student.train()
    norms = [m for m in student.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)
    assert student.classifier.training
    before = [norm.running_mean.clone() for norm in norms if norm.running_mean is not None]
    student(frames(2, 100))
    after = [norm.running_mean for norm in norms]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True) if b is not None)


def test_batch_normalisation_without_pretrained_weights_is_trained() -> None:
    student = small().train()
    norms = [m for m in student.features.modules() if isinstance(m, torch.nn.BatchNorm2d)]

    student(frames(8, 100))

    # Without statistics of its own planes a network this deep loses its input on the way.
    assert all(norm.running_mean is not None and norm.running_mean.any() for norm in norms)


def test_gradients_reach_every_parameter() -> None:
    student = small().train()
    student(frames(4, 200)).square().sum().backward()
    silent = [n for n, p in student.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_onnx_gives_the_same_numbers(tmp_path: Path) -> None:
    student = small()
    student.says_music = True
    metadata = BundleMetadata(
        name="student",
        labels=LABELS,
        front_end=FRONT_ENDS["efficientat"],
        window_seconds=10.0,
        hop_seconds=10.0,
    )
    bundle = Bundle.load(export(student, metadata, tmp_path / "student.onnx"))
    logmel = frames(3, 140)
    got = bundle.run([logmel.numpy()])
    with torch.inference_mode():
        expected = student.outputs(logmel)
    np.testing.assert_allclose(got.logits, expected.logits.numpy(), atol=1e-4)
    np.testing.assert_allclose(got.embedding, expected.embedding.numpy(), atol=1e-4)
    assert expected.music is not None
    np.testing.assert_allclose(got.music, expected.music.numpy(), atol=1e-4)


def test_music_is_weighed_against_all_other_sounds() -> None:
    student = small()
    student.says_music = True
    logits = torch.full((4, audioset.CLASSES), -6.0)
    logits[0, audioset.MUSIC] = 2.0
    logits[1] = logits[0]
    logits[1, [0, 500]] = 1.0  # speech, silence
    logits[2] = logits[0]
    logits[2, list(audioset.MUSICAL)] = 2.0  # singing and instruments do not speak against music
    music, music_and_talk, song, other = student._music(logits)[:, 0]
    assert music > 0 > other
    assert music_and_talk < music
    assert song == music


def test_only_a_classifier_that_has_heard_other_sounds_says_what_is_music() -> None:
    assert small().outputs(frames(1, 100)).music is None


@pytest.mark.shared
def test_classes_have_the_published_numbers(shared: Path) -> None:
    table = shared / "data" / "pretrained" / "efficientat_mn04" / "class_labels_indices.csv"
    with table.open(newline="") as file:
        numbers = {row["display_name"]: int(row["index"]) for row in csv.DictReader(file)}
    for classes in ({"Music": audioset.MUSIC}, *audioset.GENRES.values()):
        assert classes == {name: numbers[name] for name in classes}
    assert len(numbers) == audioset.CLASSES
    ends = [(27, "Singing"), (37, "Humming"), (137, "Music"), (282, "Scary music")]
    assert all(numbers[name] == number for number, name in ends)
    assert set(audioset.MUSICAL) == {*range(27, 38), *range(137, 283)}


@pytest.mark.shared
def test_the_student_starts_with_what_the_published_tagger_knows(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TONEARM_PRETRAINED", str(shared / "data" / "pretrained"))
    student = Student(10, labels=LABELS, audioset_weight=0.3).eval()
    logmel = frames(1, 300)
    with torch.inference_mode():
        logits, _ = load_pretrained()(logmel)
        torch.testing.assert_close(student.head_outputs(logmel).audioset, logits)
    assert "EfficientAT" in student.attribution
    published = {id(p) for p in student.pretrained_parameters()}
    new = {n for n, p in student.named_parameters() if id(p) not in published}
    assert {name.split(".")[0] for name in new} == {"project", "classifier"}
