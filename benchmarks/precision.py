"""What a bundle is worth in fewer bits: size, speed and accuracy as float32, float16 and int8.

    python benchmarks/precision.py --models 'seed{seed}/fold{fold}.onnx' --seeds 3 --data gtzan

Every clip is classified by the bundle of the artist-grouped fold that held it out, in four
editions:

- float32: the bundle as it is;
- float16: weights stored in half precision, arithmetic in float32;
- int8 dynamic: weights in int8, scales of activations found at run time;
- int8 static: weights and activations in int8, scales found on training clips of the fold.

Writes `precision.md`. The editions and their predictions are kept under --work, so that an
interrupted run can continue.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

import foldwise
import machine
from foldwise import Clip, Round
from timing import in_turns
from tonearm import audio
from tonearm.bundle import Bundle, write_metadata
from tonearm.evaluation.compare import compare, markdown_table
from tonearm.evaluation.predictions import Predictions
from tonearm.features.logmel import LogMel
from tonearm.half_precision import halve_file

Feed = dict[str, NDArray[np.float32]]

CALIBRATION_CLIPS = 20  # one window of each, all genres alike
RUNS, STARTS = 20, 5  # the best of each is reported


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    foldwise.add_arguments(parser, "runs/precision")
    args = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)  # the quantiser warns of every node it skips
    rounds = foldwise.rounds(args)
    predictions = {
        name: foldwise.over_seeds(rounds, partial(edition_predictions, name, args.data))
        for name in EDITIONS
    }
    first = [edition(name, args.data, rounds[0], 0) for name in EDITIONS]
    starts = in_turns([partial(Bundle.load, path) for path in first], STARTS)
    feed = next(windows(Bundle.load(first[0]), rounds[0].clips))
    window_times = in_turns(
        [partial(classify_window, Bundle.load(path), feed) for path in first], RUNS
    )
    editions = [
        Edition(name, path.stat().st_size / 1e6, start, window, predictions[name])
        for name, path, start, window in zip(EDITIONS, first, starts, window_times, strict=True)
    ]
    foldwise.write_page(args.out / "precision.md", rendered(editions, rounds))


@dataclass(frozen=True)
class Edition:
    """The size, speed and predictions of one edition; times are CPU seconds on one thread."""

    name: str
    megabytes: float
    start: float
    window: float
    predictions: Predictions


def edition_predictions(name: str, data: Path, round_: Round) -> Predictions:
    """Return the predictions of one edition of the bundles for the clips."""
    paths = [edition(name, data, round_, fold) for fold in range(len(round_.models))]
    return foldwise.fold_predictions(
        name, paths, round_.clips, round_.work / f"{paths[0].stem}.csv"
    )


def edition(name: str, data: Path, round_: Round, fold: int) -> Path:
    """Return an edition of a fold's bundle, made unless it exists."""
    path = round_.work / f"{name.replace(' ', '-')}-{fold}.onnx"
    if not path.exists():
        round_.work.mkdir(parents=True, exist_ok=True)
        calibration_clips = foldwise.clips(data, CALIBRATION_CLIPS, without=fold, seed=round_.seed)
        with TemporaryDirectory(dir=round_.work) as drafts:  # a killed run leaves no partial bundle
            draft = Path(drafts, path.name)
            EDITIONS[name](round_.models[fold], draft, calibration_clips)
            draft.replace(path)
    return path


def as_float32(model: Path, target: Path, calibration_clips: list[Clip]) -> None:
    target.write_bytes(model.read_bytes())


def as_float16(model: Path, target: Path, calibration_clips: list[Clip]) -> None:
    halve_file(model, target)


def as_dynamic_int8(model: Path, target: Path, calibration_clips: list[Clip]) -> None:
    plain = prepared(model, target)
    bare = target.with_suffix(".partial")
    quantize_dynamic(plain, bare, per_channel=True, weight_type=QuantType.QUInt8)
    write_metadata(bare, Bundle.load(model).metadata, target)


def as_static_int8(model: Path, target: Path, calibration_clips: list[Clip]) -> None:
    plain = prepared(model, target)
    bare = target.with_suffix(".partial")
    bundle = Bundle.load(model)
    quantize_static(
        plain,
        bare,
        Windows(windows(bundle, calibration_clips)),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        reduce_range=True,  # for processors without VNNI
        op_types_to_quantize=["Conv", "Gemm", "MatMul"],
    )
    write_metadata(bare, bundle.metadata, target)


EDITIONS: dict[str, Callable[[Path, Path, list[Clip]], None]] = {
    "float32": as_float32,
    "float16": as_float16,
    "int8 dynamic": as_dynamic_int8,
    "int8 static": as_static_int8,
}


class Windows(CalibrationDataReader):  # type: ignore[misc]
    """Windows of clips, one by one."""

    def __init__(self, feeds: Iterator[Feed]) -> None:
        self._feeds = feeds

    def get_next(self) -> Feed | None:
        """Return the next window, or None after the last."""
        return next(self._feeds, None)


def windows(bundle: Bundle, clips: list[Clip]) -> Iterator[Feed]:
    """Yield the first window of each clip as the graph's inputs, repeating short clips."""
    metadata = bundle.metadata
    rate = metadata.front_end.sample_rate
    length = round(metadata.window_seconds * rate)
    for clip in clips:
        samples = audio.read(clip.path, rate, 0.0, metadata.window_seconds).samples
        samples = np.resize(samples, length)
        names = ("logmel", "second_logmel")
        yield {
            name: LogMel(front_end)(samples)[np.newaxis, : round(length / front_end.hop_length)]
            for name, front_end in zip(names, metadata.front_ends, strict=False)
        }


def prepared(model: Path, target: Path) -> Path:
    """Write the graph as the quantiser requires it: shapes inferred, constants folded."""
    plain = target.with_suffix(".plain")
    quant_pre_process(model, plain, skip_symbolic_shape=True)
    return plain


def classify_window(bundle: Bundle, feed: Feed) -> None:
    bundle.run(list(feed.values()))


def rendered(editions: list[Edition], rounds: list[Round]) -> str:
    header = (
        *("edition", "MB", "load, ms", "window, ms", "accuracy", "macro F1"),
        *("accuracy, points", "95 % from", "to", "answers changed", "greatest change"),
    )
    reference = editions[0].predictions
    rows = []
    for edition in editions:
        run = edition.predictions
        metrics = run.metrics(bootstrap=0)
        row = (
            edition.name,
            f"{edition.megabytes:.2f}",
            f"{1000 * edition.start:.0f}",
            f"{1000 * edition.window:.1f}",
            f"{100 * metrics.accuracy:.1f}",
            f"{100 * metrics.f1:.1f}",
        )
        if run is reference:
            rows.append((*row, "", "", "", "", ""))
            continue
        difference = compare({"float32": reference, edition.name: run}).rows[1].difference
        assert difference is not None  # only the first run has none
        ends = difference.intervals.get("accuracy")  # None if no prediction has changed
        rows.append(
            (
                *row,
                f"{100 * difference.accuracy:+.1f}",
                *((f"{100 * end:+.1f}" for end in ends) if ends else ("", "")),
                f"{100 * foldwise.changed_share(run, reference):.1f}",
                f"{np.abs(run.probabilities - reference.probabilities).max():.4f}",
            )
        )
    return f"""# Precision

The same bundles with fewer bits per weight. Accuracy and macro F1 (per cent) are over
{len(rounds[0].clips)} clips, each classified by the bundle of the artist-grouped fold that held it
out ({foldwise.FOLDS} folds); seeds: {len(rounds)}, each with its own folds and bundles. Changes
are in points relative to float32, with 95 % intervals over artists; the greatest change is that of
any one genre's probability in any clip. Load and window times are CPU milliseconds on one thread,
the best of {STARTS} and of {RUNS}, on this machine: {machine.notes(("onnxruntime",))}.

{markdown_table(header, rows)}
- **float16**: weights stored in half precision behind a cast; the arithmetic stays in float32.
- **int8 dynamic**: weights in int8; the scales of activations are found at run time.
- **int8 static**: weights and activations in int8, with scales found on {CALIBRATION_CLIPS} of the
  fold's training clips. Weights use 7 of the 8 bits: processors without VNNI add pairs of products
  in 16 bits. With 8-bit weights the sums are cut off there, and more than half of the answers are
  wrong.

## Reproduce

```
python benchmarks/precision.py --models 'seed{{seed}}/fold{{fold}}.onnx' \\
    --seeds {len(rounds)} --data gtzan
```

The bundles are [the networks of the folds](../results-explained.md#the-networks-of-the-folds).
"""


if __name__ == "__main__":
    main()
