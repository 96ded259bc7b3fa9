from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.fft
import torch
from torch import Tensor, nn

from tonearm.errors import UsageError
from tonearm.models import GenreNetwork, create_model, model_names, register, registry
from tonearm.models.layers import (
    BandNorm,
    CepstralStatistics,
    DescriptorNet,
    GatedFusion,
    StatisticsPool,
)

CLASSES = 4
DESCRIPTORS = 7

# Every network, and mobilenet in all its forms, small enough to train here.
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "cnn": ("cnn", {"n_mels": 32, "widths": (4, 8, 16)}),
    "crnn": ("crnn", {"n_mels": 32, "widths": (4, 8, 16), "hidden": 16}),
    "hybrid": (
        "hybrid",
        {"n_mels": 32, "cnn_widths": (4, 8, 16), "crnn_widths": (4, 8, 16), "hidden": 16},
    ),
    "hybrid-descriptors": (
        "hybrid",
        {
            "n_mels": 32,
            "cnn_widths": (4, 8, 16),
            "crnn_widths": (4, 8, 16),
            "hidden": 16,
            "descriptors": True,
            "n_descriptors": DESCRIPTORS,
        },
    ),
    "multimodal": (
        "multimodal",
        {"n_mels": 32, "widths": (4, 8, 16), "n_descriptors": DESCRIPTORS},
    ),
    "mobilenet": ("mobilenet", {"n_mels": 64, "width": 0.2, "pretrained": False}),
    "mobilenet-rnn": (
        "mobilenet",
        {"n_mels": 64, "width": 0.2, "pretrained": False, "rnn": True, "hidden": 16},
    ),
    "mobilenet-rnn-descriptors": (
        "mobilenet",
        {
            "n_mels": 64,
            "width": 0.2,
            "pretrained": False,
            "rnn": True,
            "hidden": 16,
            "descriptors": True,
            "n_descriptors": DESCRIPTORS,
        },
    ),
}

every_network = pytest.mark.parametrize("key", list(NETWORKS))
with_descriptors = pytest.mark.parametrize("key", ["multimodal", "mobilenet-rnn-descriptors"])


def make(key: str, **changes: Any) -> GenreNetwork:
    torch.manual_seed(0)
    name, settings = NETWORKS[key]
    return create_model(name, num_classes=CLASSES, **{**settings, **changes})


def inputs(network: GenreNetwork, batch: int = 3, frames: int = 60) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    n_mels = 64 if "MobileNet" in type(network).__name__ else 32
    logmel = torch.randn(batch, frames, n_mels, generator=generator)
    if not network.uses_descriptors:
        return logmel, None
    return logmel, torch.randn(batch, DESCRIPTORS, generator=generator)


@pytest.mark.parametrize("key", ["cnn", "crnn", "hybrid", "multimodal"])
def test_a_network_learns_alike_from_frames_of_any_scale(key: str) -> None:
    changes = {"modality_dropout": 0.0} if key == "multimodal" else {}
    network = make(key, dropout=0.0, **changes).train()
    logmel, _ = inputs(network)
    torch.testing.assert_close(network(40 * logmel - 60), network(logmel), rtol=1e-3, atol=1e-3)


def test_no_network_is_left_out() -> None:
    tried = {name for name, _ in NETWORKS.values()}
    assert set(model_names()) - tried == {"student"}, "not in NETWORKS"  # see test_student.py


@every_network
def test_logits_and_embedding_have_their_shapes(key: str) -> None:
    network = make(key).eval()
    logmel, descriptors = inputs(network)

    logits = network(logmel, descriptors)
    embedding = network.embed(logmel, descriptors)

    assert logits.shape == (3, CLASSES)
    assert embedding.shape == (3, network.embedding_size)
    outputs = network.outputs(logmel, descriptors)
    assert torch.equal(outputs.logits, logits)
    assert torch.equal(outputs.embedding, embedding)


@every_network
@pytest.mark.parametrize("frames", [31, 32, 50, 188, 501])
def test_any_length_from_half_a_second_is_taken(key: str, frames: int) -> None:
    network = make(key).eval()

    logits = network(*inputs(network, batch=1, frames=frames))

    assert logits.shape == (1, CLASSES)
    assert logits.isfinite().all()


@every_network
def test_an_example_does_not_depend_on_its_neighbours(key: str) -> None:
    network = make(key).eval()
    logmel, descriptors = inputs(network)

    together = network(logmel, descriptors)
    alone = network(logmel[1:2], None if descriptors is None else descriptors[1:2])

    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-5)


@every_network
def test_gradients_reach_every_parameter(key: str) -> None:
    network = make(key).train()
    logmel, descriptors = inputs(network, batch=16)

    # Several batches: dropout and dead ReLUs may hide a parameter from one of them.
    for _ in range(3):
        loss = nn.functional.cross_entropy(network(logmel, descriptors), torch.arange(16) % CLASSES)
        loss.backward()

    silent = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    assert silent == []


def test_missing_descriptors_teach_nothing() -> None:
    network = make("hybrid-descriptors").train()
    logmel, descriptors = inputs(network, batch=8)
    assert descriptors is not None
    first, second = network.branch_logits(logmel, torch.full_like(descriptors, torch.nan))
    assert torch.equal(first, second)
    nn.functional.cross_entropy(second, torch.arange(8) % CLASSES).backward()
    numbers = [p for n, p in network.named_parameters() if n.startswith(("numbers.", "second."))]
    assert all(p.grad is None or not p.grad.any() for p in numbers)


@every_network
def test_twenty_clips_are_learned_by_heart(key: str) -> None:
    network = make(key, dropout=0.0).train()
    logmel, descriptors = inputs(network, batch=20, frames=48)
    if descriptors is not None:
        network.standardise_descriptors(descriptors)
    truth = torch.arange(20) % CLASSES
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)

    for _ in range(80):
        loss = nn.functional.cross_entropy(network(logmel, descriptors), truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if loss < 0.1:
            break
    # Let batch normalisation's averages catch up with the weights they are used with.
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.momentum = 0.5
    with torch.no_grad():
        for _ in range(10):
            network(logmel, descriptors)

    predicted = network.eval()(logmel, descriptors).argmax(dim=1)
    assert (predicted == truth).float().mean() >= 0.95


@every_network
def test_equal_seeds_make_equal_networks(key: str) -> None:
    one, other = make(key), make(key)

    assert all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


@with_descriptors
def test_a_missing_input_leaves_the_other_to_judge(key: str) -> None:
    network = make(key).eval()
    logmel, descriptors = inputs(network)
    assert descriptors is not None
    complete = network(logmel, descriptors)
    unheard = torch.full_like(logmel, torch.nan)
    undescribed = torch.full_like(descriptors, torch.nan)

    by_frames = network(logmel, undescribed)
    by_descriptors = network(unheard, descriptors)

    for logits in (by_frames, by_descriptors, network(unheard, undescribed)):
        assert logits.isfinite().all()
    assert not torch.allclose(by_frames, complete, atol=1e-4)
    assert not torch.allclose(by_descriptors, complete, atol=1e-4)
    torch.testing.assert_close(network(logmel, None), by_frames)
    torch.testing.assert_close(network(None, descriptors), by_descriptors)


@with_descriptors
def test_only_the_example_that_misses_something_is_touched(key: str) -> None:
    network = make(key).eval()
    logmel, descriptors = inputs(network)
    assert descriptors is not None
    holed = descriptors.clone()
    holed[1, 2] = torch.nan

    complete, partly = network(logmel, descriptors), network(logmel, holed)

    torch.testing.assert_close(partly[[0, 2]], complete[[0, 2]])
    torch.testing.assert_close(partly[1:2], network(logmel[1:2], None), atol=1e-5, rtol=1e-5)


@with_descriptors
def test_with_nothing_at_all_there_is_nothing_to_say(key: str) -> None:
    with pytest.raises(UsageError, match="got neither"):
        make(key)(None, None)


@pytest.mark.parametrize("key", ["cnn", "crnn", "hybrid", "mobilenet"])
def test_networks_of_frames_alone_say_so(key: str) -> None:
    with pytest.raises(UsageError, match="needs log-mel frames"):
        make(key)(None)


def test_a_hybrid_averages_what_frames_and_descriptors_say() -> None:
    network = make("hybrid-descriptors").eval()
    logmel, descriptors = inputs(network)
    assert descriptors is not None

    frames, numbers = (x.log_softmax(dim=1) for x in network.branch_logits(logmel, descriptors))
    torch.testing.assert_close(network(logmel, descriptors), (frames + numbers) / 2)
    torch.testing.assert_close(network(logmel, None), frames)
    descriptors[1] = torch.nan
    torch.testing.assert_close(network(logmel, descriptors)[1], frames[1])


@pytest.mark.parametrize("key", ["multimodal", "hybrid-descriptors", "mobilenet-rnn-descriptors"])
def test_descriptors_may_be_of_any_size(key: str) -> None:
    network = make(key).eval()
    logmel, descriptors = inputs(network)
    assert descriptors is not None
    rows = torch.randn(20, DESCRIPTORS, generator=torch.Generator().manual_seed(2))
    answers = []
    for scale in (1, 1000):
        network.standardise_descriptors(scale * rows)
        answers.append(network(logmel, scale * descriptors))
    torch.testing.assert_close(*answers, rtol=1e-3, atol=1e-3)


def test_descriptors_are_standardised_by_the_rows_that_are_whole() -> None:
    network = DescriptorNet(3, size=8, dropout=0.0)
    rows = torch.tensor([[1.0, 10.0, 5.0], [3.0, 30.0, 5.0], [torch.nan, 0.0, 0.0]])

    network.standardise(rows)

    assert network.mean.tolist() == [2.0, 20.0, 5.0]
    assert network.spread.tolist() == [1.0, 10.0, 1.0]  # what never varies is only centred

    far, farther = torch.tensor([[6.0, 20.0, 1.0]]), torch.tensor([[600.0, 20.0, -1e6]])
    network.eval()
    torch.testing.assert_close(network(farther), network(far))


def test_what_does_not_change_in_time_has_a_gradient() -> None:
    x = torch.ones(2, 5, 3, requires_grad=True)

    StatisticsPool()(x).sum().backward()

    torch.testing.assert_close(x.grad, torch.full((2, 5, 3), 0.2))


def test_modality_dropout_never_takes_the_only_input() -> None:
    torch.manual_seed(0)
    fusion = GatedFusion(4, 4, 8, drop=0.5).train()
    a, b = torch.randn(200, 4), torch.randn(200, 4)
    present, missing = torch.ones(200, 1), torch.zeros(200, 1)

    torch.testing.assert_close(fusion(a, b, present, missing), torch.tanh(fusion.a(a)))
    torch.testing.assert_close(fusion(a, b, missing, present), torch.tanh(fusion.b(b)))
    joined = fusion(a, b, present, present)
    by_a = torch.isclose(joined, torch.tanh(fusion.a(a))).all(dim=1)
    by_b = torch.isclose(joined, torch.tanh(fusion.b(b))).all(dim=1)
    assert by_a.sum() > 60
    assert by_b.sum() > 60


def test_modality_dropout_cannot_take_both_inputs() -> None:
    with pytest.raises(UsageError, match=r"modality_dropout must be from 0 to 0\.5, got 0\.8"):
        make("multimodal", modality_dropout=0.8)


def test_bands_silent_in_training_do_not_amplify_what_sounds_there_later() -> None:
    torch.manual_seed(0)
    norm = BandNorm(4).train()
    for _ in range(500):
        logmel = torch.randn(8, 20, 4)
        logmel[:, :, 2:] = 0.25
        norm(logmel)
    norm.eval()

    heard = norm(torch.randn(8, 20, 4))

    assert heard.abs().max() < 60  # some hundreds without a floor for the variance
    # Bands that sounded are what plain batch normalisation makes of them, to the bit.
    logmel = torch.randn(8, 20, 4)
    plain = norm.norm(logmel.transpose(1, 2)).transpose(1, 2)
    assert torch.equal(norm(logmel)[:, :, :2], plain[:, :, :2])


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("resnet", {}, "model 'resnet' is unknown: expected one of cnn, crnn"),
        ("cnn", {"hidden": 3}, "'cnn' has no setting 'hidden': .* dropout"),
        ("multimodal", {}, "n_descriptors"),
    ],
)
def test_what_no_network_can_be_made_of_is_named(
    name: str, settings: dict[str, int], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        create_model(name, num_classes=2, **settings)


def test_a_name_is_given_to_one_class_however_often_it_is_defined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "_networks", dict(registry._networks))
    with pytest.raises(ValueError, match="'cnn' is taken by CNN"):
        register("cnn")(GenreNetwork)
    newer = type("CNN", (GenreNetwork,), {})
    assert register("cnn")(newer) is registry._networks["cnn"] is newer


def test_the_cepstrum_is_scipys_cosine_transform() -> None:
    expected = scipy.fft.dct(np.eye(96), type=2, norm="ortho")[:, :40]
    expected[:, 0] *= 2**0.5  # the orthonormal transform shrinks its first coefficient

    transform = CepstralStatistics(96).transform

    np.testing.assert_allclose(transform, expected, rtol=0, atol=1e-7)
