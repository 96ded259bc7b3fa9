"""Degrade clips: change pitch or tempo, add noise, or pass them through a codec.

Stages 3 and 4 of a distillation (`tonearm.training.refine` and `denoise`) train on clips
degraded this way, with random strengths (Mauch and Ewert 2013, "The Audio Degradation Toolbox");
`benchmarks/robustness.py` measures the effect of given strengths.
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
from tonearm.datasets.cache import CACHE_VERSION, Kind
from tonearm.features.logmel import LogMel, LogMelConfig

Samples = NDArray[np.float32]

OPUS_RATE = 48_000  # Hz, the only one at which Opus is decoded
SEMITONE = 2 ** (1 / 12)

# Increase it when a code change alters the numbers for the same audio and settings.
DEGRADATION_VERSION = 1
_ENCODED_SAMPLES = 65_536  # per frame, few enough for every encoder

# Ranges of the random strengths: ± semitones, ± share of the speed, decibels, bits per second.
_SEMITONES = 1.5
_SPEED = 0.1
_SNR_DB = (15.0, 30.0)
_OPUS_BITRATES = (24_000, 32_000, 48_000)


class Degradation(Kind):
    """The log-mel frames of a recording after a random degradation, as a feature for the cache.

    The randomness depends only on the recording and the number, so it is reproducible.

    Parameters
    ----------
    config
        Front end of the frames.
    number
        From 0; consecutive numbers cycle through the four kinds in `DEGRADATIONS`.
    seconds
        How much of the beginning of the recording is used.
    """

    name = "degraded"
    dtype = np.float16

    def __init__(self, config: LogMelConfig, number: int, seconds: float) -> None:
        self.config = config
        self.number = number
        self.seconds = seconds
        self.row_shape = (config.n_mels,)

    def settings(self) -> dict[str, Any]:
        """Return everything that the numbers depend on, except the audio."""
        own = {"version": DEGRADATION_VERSION, "number": self.number, "seconds": self.seconds}
        return {"kind": self.name, "features": CACHE_VERSION, **own, **self.config.to_dict()}

    def rows(self, path: Path) -> Iterator[NDArray[np.float32]]:
        """Degrade a file and yield its float32[frames, mels]; may raise `AudioError`."""
        recording = audio.read(path, audio.probe(path).sample_rate, 0.0, self.seconds)
        rng = np.random.default_rng((self.number, zlib.crc32(recording.samples.tobytes())))
        samples, rate = DEGRADATIONS[self.number % len(DEGRADATIONS)](
            recording.samples, recording.rate, rng
        )
        yield LogMel(self.config)(resampled(samples, rate, self.config.sample_rate))


def add_noise(samples: Samples, snr_db: float, rng: Generator) -> Samples:
    """Add white noise `snr_db` decibels below the clip's power, and clip the sum to ±1."""
    level = np.sqrt(np.mean(np.square(samples, dtype=np.float64))) * 10 ** (-snr_db / 20)
    noise = level * rng.standard_normal(len(samples))
    noisy: Samples = np.clip(samples + noise, -1.0, 1.0).astype(np.float32)
    return noisy


def pitch_shift(samples: Samples, rate: int, semitones: float) -> Samples:
    """Transpose mono samples by changing their speed and then restoring the tempo."""
    factor = SEMITONE**semitones
    chain = [
        ("asetrate", f"{round(rate * factor)}"),
        ("aresample", f"{rate}"),
        ("atempo", f"{1 / factor:.6f}"),
    ]
    return apply_filters(samples, rate, chain)


def time_stretch(samples: Samples, rate: int, factor: float) -> Samples:
    """Change the tempo of mono samples by a factor, at the same pitch."""
    return apply_filters(samples, rate, [("atempo", f"{factor:.6f}")])


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


def apply_filters(samples: Samples, rate: int, chain: list[tuple[str, str]]) -> Samples:
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
                output = nodes[-1].pull()
            except (av.BlockingIOError, av.EOFError):
                break
            assert isinstance(output, av.AudioFrame)
            pieces.append(output.to_ndarray()[0])
    return np.concatenate(pieces) if pieces else samples


def _frames(signal: Samples, rate: int, layout: str) -> Iterator[av.AudioFrame]:
    """Yield float32[channels, n] as audio frames."""
    for start in range(0, signal.shape[1], _ENCODED_SAMPLES):
        piece = np.ascontiguousarray(signal[:, start : start + _ENCODED_SAMPLES])
        frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=layout)
        frame.sample_rate = rate
        frame.pts = start
        yield frame


def _random_pitch(samples: Samples, rate: int, rng: Generator) -> tuple[Samples, int]:
    return pitch_shift(samples, rate, rng.uniform(-_SEMITONES, _SEMITONES)), rate


def _random_noise(samples: Samples, rate: int, rng: Generator) -> tuple[Samples, int]:
    return add_noise(samples, rng.uniform(*_SNR_DB), rng), rate


def _random_tempo(samples: Samples, rate: int, rng: Generator) -> tuple[Samples, int]:
    return time_stretch(samples, rate, 1 + rng.uniform(-_SPEED, _SPEED)), rate


def _random_opus(samples: Samples, rate: int, rng: Generator) -> tuple[Samples, int]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "degraded.opus"
        bitrate = int(rng.choice(_OPUS_BITRATES))
        encode(path, resampled(samples, rate, OPUS_RATE), OPUS_RATE, "libopus", bitrate)
        return audio.read(path, OPUS_RATE).samples, OPUS_RATE


DEGRADATIONS: tuple[Callable[[Samples, int, Generator], tuple[Samples, int]], ...] = (
    _random_pitch,
    _random_noise,
    _random_tempo,
    _random_opus,
)


def noise_numbers(times: int) -> list[int]:
    """Return the first `times` numbers that stand for added noise; see `Degradation`."""
    first = DEGRADATIONS.index(_random_noise)
    return [first + len(DEGRADATIONS) * each for each in range(times)]
