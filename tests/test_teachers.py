"""The teachers: their weight files, the reference's numbers, and clips of any length."""

from __future__ import annotations

import importlib.util
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from tonearm import audio
from tonearm.features.logmel import LogMel
from tonearm.models.mobilenet import AudioSetMobileNet
from tonearm.training import fcn, musicnn
from tonearm.training.teachers import (
    STUDENT_FRONT_END,
    TEACHER_RATE,
    Teachers,
    load_teachers,
    teachers_fingerprint,
)
from tonearm.training.tfcheckpoint import CheckpointError, read_checkpoint

MUSICNN_INSTALLED = importlib.util.find_spec("musicnn") is not None


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def block(entries: Mapping[bytes, bytes]) -> bytes:
    """A table block whose keys leave out what they share with the one before."""
    out, last = b"", b""
    for key, value in entries.items():
        shared = next((i for i, (a, b) in enumerate(zip(key, last, strict=False)) if a != b), 0)
        added = key[shared:]
        out += varint(shared) + varint(len(added)) + varint(len(value)) + added + value
        last = key
    return out + struct.pack("<II", 0, 1)


def write_checkpoint(prefix: Path, variables: Mapping[str, np.ndarray]) -> None:
    """Write what TensorFlow would: an index of sorted names, and their numbers one by one."""
    entries, data = {b"": field(1, 1)}, b""
    for name, array in sorted(variables.items()):
        shape = b"".join(field(2, field(1, size)) for size in array.shape)
        dtype = 1 if array.dtype == np.float32 else 9
        entry = field(1, dtype) + field(2, shape)
        entry += field(4, len(data)) if data else b""
        entry += field(5, array.nbytes) + varint(6 << 3 | 5) + b"\x01\x02\x03\x04"
        entries[name.encode()] = entry
        data += array.tobytes()
    body = block(entries)
    index = body + b"\x00crc."
    directory = block({b"~": varint(0) + varint(len(body))})
    place = len(index)
    index += directory + b"\x00crc."
    footer = varint(0) + varint(0) + varint(place) + varint(len(directory))
    index += footer.ljust(40, b"\x00") + struct.pack("<Q", 0xDB4775248B80FB57)
    base = f"{prefix}/" if prefix.is_dir() else str(prefix)
    Path(f"{base}.index").write_bytes(index)
    Path(f"{base}.data-00000-of-00001").write_bytes(data)


@pytest.fixture
def variables() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "dense/bias": rng.normal(size=3).astype(np.float32),
        "dense/kernel": rng.normal(size=(200, 3)).astype(np.float32),
        "dense_1/kernel": rng.normal(size=(2, 1, 3, 4)).astype(np.float32),
        "global_step": np.array(7, dtype=np.int64),
        "scale": np.array(0.5, dtype=np.float32),
    }


@pytest.mark.parametrize("hidden", [False, True])
def test_a_checkpoint_gives_its_float_variables(
    tmp_path: Path, variables: dict[str, np.ndarray], hidden: bool
) -> None:
    prefix = tmp_path if hidden else tmp_path / "model.ckpt"
    write_checkpoint(prefix, variables)
    read = read_checkpoint(prefix)
    assert read.keys() == variables.keys() - {"global_step"}
    for name, array in read.items():
        np.testing.assert_array_equal(array, variables[name])


def test_what_is_no_checkpoint_is_refused_in_one_line(
    tmp_path: Path, variables: dict[str, np.ndarray]
) -> None:
    prefix = tmp_path / "model.ckpt"
    with pytest.raises(CheckpointError, match=r"model\.ckpt\.index: No such file"):
        read_checkpoint(prefix)
    write_checkpoint(prefix, variables)
    index, data = (Path(f"{prefix}{suffix}") for suffix in (".index", ".data-00000-of-00001"))
    whole, numbers = index.read_bytes(), data.read_bytes()
    compressed = bytearray(whole)
    compressed[whole.index(b"crc.") - 1] = 1
    for broken in (b"", whole[:-3], b"x" * 100, bytes(compressed)):
        index.write_bytes(broken)
        with pytest.raises(CheckpointError, match=r"index: not a whole checkpoint index \("):
            read_checkpoint(prefix)
    index.write_bytes(whole)
    data.write_bytes(numbers[:-1])
    with pytest.raises(CheckpointError, match="outside the data file"):
        read_checkpoint(prefix)


def test_no_cut_of_an_index_hangs_or_escapes(
    tmp_path: Path, variables: dict[str, np.ndarray]
) -> None:
    prefix = tmp_path / "model.ckpt"
    write_checkpoint(prefix, variables)
    index = Path(f"{prefix}.index")
    whole = index.read_bytes()
    rng = np.random.default_rng(1)
    for place in rng.integers(0, len(whole), 60):
        damaged = bytearray(whole)
        damaged[place] ^= int(rng.integers(1, 256))
        index.write_bytes(bytes(damaged))
        try:
            read_checkpoint(prefix)
        except CheckpointError as error:
            assert "\n" not in str(error)


def test_musicnn_that_is_missing_or_another_network_is_told(
    tmp_path: Path, variables: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    for others in (variables, {"conv2d/kernel": np.zeros((2, 3), np.float32)}):
        write_checkpoint(tmp_path, others)
        with pytest.raises(musicnn.MusicnnError, match="not the checkpoint of MSD_musicnn"):
            musicnn.load_musicnn(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(musicnn.MusicnnError, match=r"pip install --no-deps musicnn==0\.1\.0"):
        musicnn.load_musicnn()


def test_musicnn_takes_over_tensorflow_variables(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = musicnn.Musicnn().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    write_checkpoint(tmp_path, as_tensorflow(network))
    patch = torch.randn(1, 40, 96)
    with torch.inference_mode():
        for ours, theirs in zip(network(patch), musicnn.load_musicnn(tmp_path)(patch), strict=True):
            torch.testing.assert_close(ours, theirs)
        means, maxima = network(patch).pooled.chunk(2, dim=1)
    assert (means <= maxima + 1e-5).all()


def test_an_even_kernel_looks_further_ahead_than_back_as_in_tensorflow() -> None:
    branch = musicnn.MusicallyShapedBranch(1, (4, 1)).eval()
    kernel = torch.tensor([0.0, 1.0, 0.0, 0.0]).reshape(1, 1, 4, 1)  # the frame itself
    branch.load_state_dict(
        {"convolution.weight": kernel, "convolution.bias": torch.zeros(1)}, strict=False
    )
    frames = torch.arange(6.0).reshape(1, 1, 6, 1)
    with torch.inference_mode():
        torch.testing.assert_close(branch(frames)[0, 0], frames.flatten(), rtol=1e-3, atol=0)


def as_tensorflow(network: musicnn.Musicnn) -> dict[str, np.ndarray]:
    """Lay out a network's weights as TensorFlow does."""
    out: dict[str, np.ndarray] = {}

    def put(name: str, tensor: Any) -> None:
        out[name] = np.ascontiguousarray(tensor.detach().numpy())

    def scope(name: str, number: int) -> str:
        return f"{name}_{number}" if number else name

    branches = [*network.front, *network.middle]
    for number, branch in enumerate(branches):
        weight = branch.convolution.weight
        if weight.ndim == 3:  # over a plane of frames and channels, one channel deep
            weight = weight.transpose(1, 2)[:, None]
        put(f"{scope('conv2d', number)}/kernel", weight.permute(2, 3, 1, 0))
        put(f"{scope('conv2d', number)}/bias", branch.convolution.bias)
    norms = [network.input_norm, *(b.norm for b in branches)]
    for number, norm in enumerate([*norms, network.pooled_norm, network.dense_norm]):
        name = scope("batch_normalization", number)
        put(f"{name}/gamma", norm.weight)
        put(f"{name}/beta", norm.bias)
        put(f"{name}/moving_mean", norm.running_mean)
        put(f"{name}/moving_variance", norm.running_var)
    for number, dense in enumerate((network.dense, network.tags)):
        put(f"{scope('dense', number)}/kernel", dense.weight.T)
        put(f"{scope('dense', number)}/bias", dense.bias)
    return out


def test_the_fcn_loads_strictly_and_leaves_the_stored_front_end(tmp_path: Path) -> None:
    network = fcn.Fcn().eval()
    torch.nn.init.constant_(network.layer1.conv.weight[0], 1e-30)  # as weight decay leaves them
    file = tmp_path / "won_msd" / "fcn.pth"
    file.parent.mkdir()
    torch.save(network.state_dict() | {"spec.mel_scale.fb": torch.zeros(257, 96)}, file)
    frames = torch.randn(1, fcn.SHORTEST_FRAMES, 96)
    with torch.inference_mode():
        torch.testing.assert_close(fcn.load_fcn(file)(frames).tags, network(frames).tags)
    assert not fcn.load_fcn(file).layer1.conv.weight[0].any()
    torch.save({"weight": torch.zeros(1)}, file)
    with pytest.raises(fcn.FcnError, match=r"fcn\.pth: not the weights of the FCN"):
        fcn.load_fcn(file)
    for damaged in (b"no weights", b""):
        file.write_bytes(damaged)
        with pytest.raises(fcn.FcnError, match=r"fcn\.pth: not the weights of the FCN \([^.]+\)$"):
            fcn.load_fcn(file)


def test_a_missing_fcn_says_where_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TONEARM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TONEARM_PRETRAINED", str(tmp_path / "weights"))
    with pytest.raises(fcn.FcnError, match=r"PRETRAINED .*cache.*sota-music-tagging.* won_msd/fcn"):
        fcn.load_fcn()


def test_the_fcn_may_lie_anywhere_below_the_folder_of_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights" / "others" / "won_msd" / "fcn.pth"
    file.parent.mkdir(parents=True)
    file.touch()
    monkeypatch.setenv("TONEARM_PRETRAINED", str(tmp_path / "weights"))
    assert fcn.find_fcn() == file
    nearer = tmp_path / "weights" / "won_msd" / "fcn.pth"
    nearer.parent.mkdir()
    nearer.touch()
    assert fcn.find_fcn() == nearer


@pytest.fixture(scope="module")
def untrained() -> Teachers:
    torch.manual_seed(0)
    return Teachers(musicnn.Musicnn().eval(), fcn.Fcn().eval(), AudioSetMobileNet().eval())


@pytest.mark.parametrize(("seconds", "patches"), [(0.5, 1), (3.5, 1), (6.2, 2)])
def test_teachers_hear_clips_of_any_length(
    untrained: Teachers, seconds: float, patches: int
) -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 0.1, round(seconds * TEACHER_RATE)).astype(np.float32)
    frames = rng.normal(size=(round(seconds * 100), 128)).astype(np.float16)
    said = untrained(samples, frames)
    assert said.musicnn.shape == (patches, musicnn.POOLED)
    assert said.musicnn_tags.shape == (patches, 50)
    assert (said.fcn.shape, said.fcn_tags.shape) == ((64,), (50,))
    assert (said.mn04.shape, said.audioset.shape) == ((384,), (527,))
    assert all(np.isfinite(array).all() for array in said)


@pytest.mark.shared
@pytest.mark.skipif(not MUSICNN_INSTALLED, reason="musicnn is not installed (--no-deps)")
def test_teachers_say_what_the_reference_says(
    shared: Path, reference: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TONEARM_PRETRAINED", str(shared / "data" / "pretrained"))
    clip = min((shared / "data" / "gtzan" / "audio").glob("*/*.ogg"))
    samples = audio.read(clip, TEACHER_RATE, 0, 6.5).samples
    ours = audio.read(clip, STUDENT_FRONT_END.sample_rate, 0, 6.5).samples
    teachers = load_teachers()
    said = teachers(samples, LogMel(STUDENT_FRONT_END)(ours))

    wave = torch.from_numpy(samples)[None]
    root = str(musicnn.find_musicnn().parent)
    with torch.inference_mode():
        tagger = reference.load_musicnn("MSD_musicnn", root)
        heard = tagger(tagger.patches(wave))
        net = reference.load_won("fcn", "msd")
        # 6.5 s, heard again and again until it is the 29 s that the network expects.
        frames = net._mel(wave)
        frames = frames[..., np.arange(fcn.SHORTEST_FRAMES) % frames.shape[-1]]
        plane = net.layer4(net.layer3(net.layer2(net.layer1(frames))))
        last = net.layer5
        embedding = torch.relu(last.bn(last.conv(plane))).amax((2, 3))
        audioset, features = reference.load_mn04()(torch.from_numpy(ours)[None])
        expected = {
            "musicnn": torch.cat([heard["mean_pool"], heard["max_pool"]], dim=1),
            "musicnn_tags": heard["logits"],
            "fcn": embedding[0],
            "fcn_tags": net.dense(embedding)[0],
            "mn04": features[0],
            "audioset": audioset[0],
        }
    for name, array in said._asdict().items():
        np.testing.assert_allclose(array, expected[name].numpy(), atol=1e-3, err_msg=name)
    assert len(teachers_fingerprint()) == 64
    assert "musicnn" not in sys.modules  # it would import TensorFlow
