"""Simulate playback of clips: at another pitch or speed, with noise, or through a codec.

Stages 3 and 4 of a distillation (`tonearm.training.refine` and `denoise`) train on clips played
this way, with random strengths; `benchmarks/robustness.py` measures the effect of given strengths.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from tonearm import audio
from tonearm.datasets.cache import Kind
from tonearm.features.logmel import LogMel, LogMelConfig

Samples = NDArray[np.float32]

OPUS_RATE = 48_000  # Hz, the only one at which Opus is decoded
SEMITONE = 2 ** (1 / 12)

# Increase it when a code change alters the numbers for the same audio and settings.
_VERSION = 1
_ENCODED_SAMPLES = 65_536  # per frame, few enough for every encoder

# Ranges of the random strengths: ± semitones, ± share of the speed, decibels, bits per second.
_SEMITONES = 1.5
_SPEED = 0.1
_SNR_DB = (15.0, 30.0)
_OPUS_BITRATES = (24_000, 32_000, 48_000)


class Playback(Kind):
    """The log-mel frames of a recording after a random playback, as a feature for the cache.

    The randomness depends only on the recording and the number, so it is reproducible.

    Parameters
    ----------
    config
        Front end of the frames.
    number
        From 0; consecutive numbers cycle through the four kinds of playback in `WAYS`.
    seconds
        How much of the beginning of the recording is played.
    """

    name = "playback"
    dtype = np.float16

    def __init__(self, config: LogMelConfig, number: int, seconds: float) -> None:
        self.config = config
        self.number = number
        self.seconds = seconds
        self.row_shape = (config.n_mels,)

    def settings(self) -> dict[str, Any]:
        """Return everything that the numbers depend on, except the audio."""
        own = {"version": _VERSION, "number": self.number, "seconds": self.seconds}
        return {"kind": self.name, **own, **self.config.to_dict()}

    def rows(self, path: Path) -> Iterator[NDArray[np.float32]]:
        """Play a file and yield its float32[frames, mels]; may raise `AudioError`."""
        recording = audio.read(path, audio.probe(path).sample_rate, 0.0, self.seconds)
        rng = np.random.default_rng((self.number, zlib.crc32(recording.samples.tobytes())))
        samples, rate = WAYS[self.number % len(WAYS)](recording.samples, recording.rate, rng)
        yield LogMel(self.config)(resampled(samples, rate, self.config.sample_rate))


def with_noise(samples: Samples, snr_db: float, rng: Generator) -> Samples:
    """Add white noise `snr_db` decibels below the clip's power, and clip the sum to ±1."""
    level = np.sqrt(np.mean(np.square(samples, dtype=np.float64))) * 10 ** (-snr_db / 20)
    noise = level * rng.standard_normal(len(samples))
    noisy: Samples = np.clip(samples + noise, -1.0, 1.0).astype(np.float32)
    return noisy


def transposed(samples: Samples, rate: int, semitones: float) -> Samples:
    """Transpose mono samples by changing their speed and then restoring the tempo."""
    factor = SEMITONE**semitones
    chain = [
        ("asetrate", f"{round(rate * factor)}"),
        ("aresample", f"{rate}"),
        ("atempo", f"{1 / factor:.6f}"),
    ]
    return filtered(samples, rate, chain)


def at_tempo(samples: Samples, rate: int, factor: float) -> Samples:
    """Change the tempo of mono samples by a factor, at the same pitch."""
    return filtered(samples, rate, [("atempo", f"{factor:.6f}")])


def resampled(samples: Samples, rate: int, new_rate: int) -> Samples:
    """Return samples at another sample rate."""
    return np.concatenate(list(audio.resample(samples, rate, new_rate)))


def encode(path: Path, samples: Samples, rate: int, codec: str, bitrate: int | None) -> None:
    """Encode samples float32[n] or float32[channels, n] to a file with an FFmpeg encoder."""
    signal = np.atleast_2d(samples)
    layout = "mono" if len(signal) == 1 else "stereo"
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(stream, av.AudioStream)
        if bitrate is not None:
            stream.bit_rate = bitrate
        for frame in _frames(signal, rate, layout):
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def filtered(samples: Samples, rate: int, chain: list[tuple[str, str]]) -> Samples:
    """Apply FFmpeg filters, each a name and its arguments, to mono samples.

    Samples too short for the filters to output anything (some hundredths of a second) are returned
    unchanged.
    """
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=rate, format="fltp", layout="mono")
    nodes = [source, *(graph.add(name, arguments) for name, arguments in chain)]
    nodes += [
        graph.add("aformat", f"sample_fmts=fltp:sample_rates={rate}"),
        graph.add("abuffersink"),
    ]
    graph.link_nodes(*nodes).configure()
    pieces = []
    for frame in (*_frames(samples[np.newaxis], rate, "mono"), None):
        source.push(frame)
        while True:
            try:
                heard = nodes[-1].pull()
            except (av.BlockingIOError, av.EOFError):
                break
            assert isinstance(heard, av.AudioFrame)
            pieces.append(heard.to_ndarray()[0])
    return np.concatenate(pieces) if pieces else samples


def _frames(signal: Samples, rate: int, layout: str) -> Iterator[av.AudioFrame]:
    """Yield float32[channels, n] as audio frames."""
    for start in range(0, signal.shape[1], _ENCODED_SAMPLES):
        piece = np.ascontiguousarray(signal[:, start : start + _ENCODED_SAMPLES])
        frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=layout)
        frame.sample_rate = rate
        frame.pts = start
        yield frame


def _at_another_pitch(samples: Samples, rate: int, rng: Generator) -> tuple[Samples, int]:
    return transposed(samples, rate, rng.uniform(-_SEMITONES, _SEMITONES)), rate


def _amid_noise(samples: Samples, rate: int, rng: Generator) -> tuple[Samples, int]:
    return with_noise(samples, rng.uniform(*_SNR_DB), rng), rate


def _at_another_tempo(samples: Samples, rate: int, rng: Generator) -> tuple[Samples, int]:
    return at_tempo(samples, rate, 1 + rng.uniform(-_SPEED, _SPEED)), rate


def _through_opus(samples: Samples, rate: int, rng: Generator) -> tuple[Samples, int]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "played.opus"
        bitrate = int(rng.choice(_OPUS_BITRATES))
        encode(path, resampled(samples, rate, OPUS_RATE), OPUS_RATE, "libopus", bitrate)
        return audio.read(path, OPUS_RATE).samples, OPUS_RATE


WAYS: tuple[Callable[[Samples, int, Generator], tuple[Samples, int]], ...] = (
    _at_another_pitch,
    _amid_noise,
    _at_another_tempo,
    _through_opus,
)


def numbers_amid_noise(times: int) -> list[int]:
    """Return the first `times` numbers that stand for playback with noise; see `Playback`."""
    first = WAYS.index(_amid_noise)
    return [first + len(WAYS) * each for each in range(times)]
