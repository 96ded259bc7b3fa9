"""How long `tonearm classify` takes: cold against importing its libraries alone, and per clip.

    python benchmarks/classify.py [FILE...] [--model default]

Without files it renders a 30 s piece and encodes it as a typical 44.1 kHz stereo MP3.

The cold figure is the best of several runs of the whole program on one file, divided by the best
of as many runs of ``python -c "import numpy, onnxruntime, av"`` in alternation, in wall time and in
CPU time (which a busy machine disturbs less). The figure per clip is the CPU time of one thread,
including decoding, once the model is loaded.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the program itself does

import numpy as np

from encoding import RATE, encode
from tonearm import Classifier, Prediction, synth

COLD_RUNS = 7
CLIP_SECONDS = 30.0
ALLOWED_RATIO = 3.0
ALLOWED_CPU_SECONDS = 0.15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--model", default="default")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = args.files or [rendered(Path(folder) / "piece.mp3")]
        report_cold(files[0], args.model)
        report_clips(files, args.model)


def report_cold(file: Path, model: str) -> None:
    imports = [sys.executable, "-c", "import numpy, onnxruntime, av"]
    program = [str(Path(sys.executable).with_name("tonearm"))]
    program += ["classify", "--json", "--model", model, str(file)]
    floors, colds = [], []
    for _ in range(COLD_RUNS):  # alternating, so that load on the machine affects both alike
        floors.append(seconds(imports))
        colds.append(seconds(program))
    for kind, floor, cold in zip(("wall", "CPU"), best(floors), best(colds), strict=True):
        print(f"imports alone, {kind:4}   {floor:.3f} s")
        print(f"tonearm, {kind:4}         {cold:.3f} s")
        print(f"ratio, {kind:4}           {cold / floor:.2f}   (at most {ALLOWED_RATIO})")


def report_clips(files: list[Path], model: str) -> None:
    classifier = Classifier.load(model)
    classifier(files[0])
    rounds = max(1, round(10 / len(files)))
    start = time.process_time()
    seconds_of_audio = 0.0
    for result in classifier.classify_files(files * rounds):
        if isinstance(result, Prediction):
            seconds_of_audio += result.duration
    per_clip = (time.process_time() - start) * CLIP_SECONDS / seconds_of_audio
    print(f"CPU per 30 s clip     {per_clip:.3f} s (at most {ALLOWED_CPU_SECONDS})")
    print(f"times real time       {CLIP_SECONDS / per_clip:.0f}")
    print(
        f"most memory           {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
    )


def seconds(command: list[str]) -> tuple[float, float]:
    """Return the wall and CPU time of a program from start to end."""
    before = os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    used = after.children_user + after.children_system
    return after.elapsed - before.elapsed, used - before.children_user - before.children_system


def best(runs: list[tuple[float, float]]) -> tuple[float, float]:
    return min(wall for wall, _ in runs), min(used for _, used in runs)


def rendered(path: Path) -> Path:
    mono = synth.render(synth.STYLES[0], CLIP_SECONDS, RATE)
    return encode(path, np.repeat(mono[np.newaxis], 2, axis=0), "libmp3lame", 128_000)


if __name__ == "__main__":
    main()
