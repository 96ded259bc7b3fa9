"""What hearing costs beside bare decoding: CPU seconds per hour of music.

The floor is PyAV decoding all frames and discarding them. `tonearm.audio.blocks` also averages the
channels and resamples to the rates that the models use.

    python benchmarks/decode.py [FILE ...]

Without files it encodes ten minutes of stereo noise and tones as a 44.1 kHz MP3 (192 kbit/s).
"""

from __future__ import annotations

import argparse
import tempfile
from collections import deque
from functools import partial
from pathlib import Path

import av
import numpy as np

from timing import in_turns
from tonearm import audio

RATES = (16_000, 22_050, 32_000)  # Hz
SYNTHESISED_SECONDS = 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many is reported")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = options.files or [_synthesise(Path(folder) / "noise.mp3")]
        _report(files, options.repeats)


def _report(files: list[Path], repeats: int) -> None:
    hours = _decode_only(files) / 3600
    jobs = {"bare decode": partial(_decode_only, files)}
    for rate in RATES:
        jobs[f"blocks, {rate / 1000:g} kHz"] = partial(_blocks, files, rate)
    best = in_turns(list(jobs.values()), repeats)
    print(f"{len(files)} file(s), {60 * hours:.1f} min; best of {repeats}")
    print(f"{'':20}{'CPU s per hour':>16}{'of bare':>10}")
    for name, used in zip(jobs, best, strict=True):
        print(f"{name:20}{used / hours:16.2f}{used / best[0]:9.2f}x")


def _decode_only(files: list[Path]) -> float:
    """Decode and discard files; return how many seconds they last."""
    seconds = 0.0
    for path in files:
        with av.open(path, mode="r") as container:
            stream = container.streams.audio[0]
            stream.codec_context.thread_count = 1
            for frame in container.decode(stream):
                seconds += frame.samples / frame.sample_rate
    return seconds


def _blocks(files: list[Path], rate: int) -> None:
    for path in files:
        deque(audio.blocks(path, rate), maxlen=0)


def _synthesise(path: Path) -> Path:
    rate, random = 44_100, np.random.default_rng(0)
    with av.open(path, mode="w") as container:
        stream = container.add_stream("libmp3lame", rate=rate, layout="stereo")
        stream.bit_rate = 192_000
        for second in range(SYNTHESISED_SECONDS):
            moments = second + np.arange(rate) / rate
            tones = np.sin(2 * np.pi * np.outer((330, 440), moments))
            samples = 0.2 * tones + 0.1 * random.standard_normal((2, rate))
            frame = av.AudioFrame.from_ndarray(samples.astype("f4"), "fltp", "stereo")
            frame.sample_rate = rate
            frame.pts = second * rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


if __name__ == "__main__":
    main()
