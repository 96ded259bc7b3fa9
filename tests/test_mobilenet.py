from __future__ import annotations

import hashlib
import http.client
import importlib.util
import io
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from tonearm import audio
from tonearm.errors import UsageError
from tonearm.features.logmel import FRONT_ENDS, LogMel
from tonearm.models import create_model, mobilenet, pretrained
from tonearm.models.mobilenet import AudioSetMobileNet, load_pretrained
from tonearm.models.pretrained import PretrainedError


@pytest.fixture
def published(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the published weights, named by TONEARM_PRETRAINED."""
    folder = shared / "data" / "pretrained" / "efficientat_mn04"
    monkeypatch.setenv("TONEARM_PRETRAINED", str(folder))
    return folder


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and a release that cannot be reached."""
    monkeypatch.delenv("TONEARM_PRETRAINED", raising=False)
    monkeypatch.setenv("TONEARM_CACHE", str(tmp_path))
    monkeypatch.setattr(pretrained, "PRETRAINED_URL", (tmp_path / "absent.pt").as_uri())
    return tmp_path


def test_mn04_has_the_published_number_of_parameters() -> None:
    network = AudioSetMobileNet(width=0.4)

    assert sum(p.numel() for p in network.parameters()) == 983_599
    assert network.embedding_size == 384


def test_any_length_gives_all_the_tags() -> None:
    network = AudioSetMobileNet(width=0.2).eval()

    for frames in (50, 333):
        logits, embedding = network(torch.zeros(2, frames, 128))
        assert logits.shape == (2, 527)
        assert embedding.shape == (2, network.embedding_size)


@pytest.mark.shared
def test_tags_and_embedding_equal_the_reference_on_music(published: Path, shared: Path) -> None:
    reference = _reference(shared).load_mn04()
    network = load_pretrained()
    logmel = LogMel(FRONT_ENDS["efficientat"])
    recordings = [
        shared / "data/gtzan/audio/blues/blues.00000.ogg",
        shared / "data/gtzan/audio/metal/metal.00001.ogg",
        next((shared / "data/wild").glob("**/*.mp3")),
    ]

    for path in filter(Path.exists, recordings):
        samples = audio.read(path, 32_000, duration=8.0).samples
        with torch.inference_mode():
            logits, embedding = network(torch.from_numpy(logmel(samples))[None])
            expected = reference(torch.from_numpy(samples)[None])
        np.testing.assert_allclose(logits, expected[0], atol=1e-3)
        np.testing.assert_allclose(embedding, expected[1], atol=1e-3)


@pytest.mark.shared
def test_genre_network_starts_from_the_published_features(published: Path) -> None:
    network = create_model("mobilenet", num_classes=10, rnn=True).eval()
    plain = create_model("mobilenet", num_classes=10).eval()
    x = torch.randn(1, 200, 128)

    with torch.inference_mode():
        torch.testing.assert_close(plain.embed(x), load_pretrained()(x)[1])
        assert network(x).shape == (1, 10)
    assert len(list(network.pretrained_parameters())) == len(list(network.features.parameters()))
    assert "EfficientAT" in network.attribution


def test_pretrained_batch_normalisation_keeps_its_statistics_and_the_rest_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mobilenet, "load_pretrained", lambda: AudioSetMobileNet().eval())
    for network in (mobilenet.MobileNet(2), mobilenet.MobileNet(2, rnn=True).eval().train()):
        kept = [m for m in network.features.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert kept
        assert {m for m in network.modules() if not m.training} == set(kept)
    fresh = create_model("mobilenet", num_classes=2, pretrained=False)
    assert all(m.training for m in fresh.modules())


@pytest.mark.shared
def test_a_parent_of_the_folder_will_do(
    shared: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TONEARM_PRETRAINED", str(published.parent))

    assert pretrained.find_pretrained().parent == published


def test_no_published_weights_for_other_shapes() -> None:
    with pytest.raises(UsageError, match="pretrained: false"):
        create_model("mobilenet", num_classes=2, width=1.0)
    with pytest.raises(UsageError, match="128 mel bands only"):
        create_model("mobilenet", num_classes=2, n_mels=96)


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "mn04.pt"
    file.write_bytes(b"not the weights")

    with pytest.raises(PretrainedError, match=r"mn04\.pt: not the published .* sha256"):
        load_pretrained(file)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(PretrainedError, match=r"gone\.pt: No such file"):
        load_pretrained(tmp_path / "gone.pt")


def test_offline_the_error_says_what_to_do(nowhere: Path) -> None:
    with pytest.raises(PretrainedError, match="set TONEARM_PRETRAINED") as caught:
        load_pretrained()

    assert "\n" not in str(caught.value)
    assert not list(nowhere.rglob("*.p*t"))


def test_online_the_weights_are_fetched_once(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A release of our own: what counts is fetching, checking and keeping, not which weights.
    release = nowhere / "release.pt"
    torch.save(AudioSetMobileNet().state_dict(), release)
    monkeypatch.setattr(pretrained, "PRETRAINED_URL", release.as_uri())
    digest = hashlib.sha256(release.read_bytes()).hexdigest()
    monkeypatch.setattr(pretrained, "PRETRAINED_SHA256", digest)

    fetched = load_pretrained()
    release.unlink()
    kept = load_pretrained()

    assert torch.equal(fetched.classifier[2].weight, kept.classifier[2].weight)
    assert [p.name for p in (nowhere / "pretrained").iterdir()] == [pretrained.PRETRAINED_FILE]

    own = nowhere / "own" / pretrained.PRETRAINED_FILE
    monkeypatch.setenv("TONEARM_PRETRAINED", str(own.parent))
    assert pretrained.find_pretrained().parent == nowhere / "pretrained"
    own.parent.mkdir()
    own.touch()
    assert pretrained.find_pretrained() == own


def test_a_download_that_is_not_the_weights_is_not_kept(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = nowhere / "login.html"
    page.write_text("<html>please sign in</html>")
    monkeypatch.setattr(pretrained, "PRETRAINED_URL", page.as_uri())

    with pytest.raises(PretrainedError, match="not the published"):
        load_pretrained()

    assert not (nowhere / "pretrained").exists()


def test_a_download_that_is_cut_off_or_cannot_be_kept_is_told(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(url: str, timeout: float) -> io.BytesIO:
        raise http.client.IncompleteRead(b"half", 10)

    with monkeypatch.context() as patched:
        patched.setattr("urllib.request.urlopen", cut_off)
        with pytest.raises(PretrainedError, match="cannot be fetched"):
            load_pretrained()

    release = nowhere / "release.pt"
    release.write_bytes(b"weights")
    monkeypatch.setattr(pretrained, "PRETRAINED_URL", release.as_uri())
    digest = hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setattr(pretrained, "PRETRAINED_SHA256", digest)
    (nowhere / "pretrained").write_text("a file where the folder should be")
    with pytest.raises(PretrainedError, match="where its folder should be"):
        load_pretrained()


def test_weights_of_another_network_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = AudioSetMobileNet().state_dict()
    del state["classifier.5.bias"]
    file = tmp_path / "partial.pt"
    torch.save(state, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(pretrained, "PRETRAINED_SHA256", digest)

    with pytest.raises(RuntimeError, match=r"classifier\.5\.bias"):
        load_pretrained(file)


def _reference(shared: Path) -> ModuleType:
    """Import the reader of published weights from the shared material."""
    spec = importlib.util.spec_from_file_location(
        "shared_frontends", shared / "reference" / "frontends.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
