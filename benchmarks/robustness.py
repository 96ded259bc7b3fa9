"""What a model's accuracy loses when the same clips come worse, shorter or otherwise played.

    python benchmarks/robustness.py --models 'seed{seed}/fold{fold}.onnx' --seeds 3 --data gtzan

Every clip is altered, written to a file as a listener would have it, and that file is classified
exactly as by `tonearm classify`, by the bundle of the artist-grouped fold that held the clip out.
Writes `robustness.md` and `robustness.csv`. The predictions under each condition are kept under
--work, so that an interrupted run can continue and only what is missing is computed.
"""

from __future__ import annotations

import argparse
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from urllib.parse import quote

import numpy as np

import foldwise
from foldwise import Clip, Round
from tonearm import audio
from tonearm.atomic import write_csv
from tonearm.classifier import Classifier
from tonearm.evaluation import predictions as files
from tonearm.evaluation.compare import compare, markdown_table, p_text
from tonearm.evaluation.predictions import Predictions
from tonearm.prediction import Failure, Prediction
from tonearm.progress import with_progress
from tonearm.training.degradations import (
    OPUS_RATE,
    Samples,
    add_noise,
    encode,
    pitch_shift,
    resampled,
    time_stretch,
)
from tonearm.workers import Crash, in_order

Alteration = Callable[[Samples, int, str], tuple[Samples, int]]

# FFmpeg chooses the container by the suffix of a file's name. WAV takes AAC too, but clips of it
# come back short or not at all.
SUFFIXES = {"pcm_s16le": ".wav", "libmp3lame": ".mp3", "libopus": ".opus"}


@dataclass(frozen=True)
class Condition:
    """One way in which a clip may reach a listener.

    Attributes
    ----------
    name
        Name in the table.
    alter
        Maps samples float32[n], their rate and the track's id to samples float32[n] or
        float32[channels, n] and their rate.
    codec, bitrate
        FFmpeg's encoder for the file, one of `SUFFIXES`, and bits per second if it is lossy.
    seconds
        Length of the excerpt; clips no longer than that are left out. None for whole clips.
    allowed
        Points of accuracy that the condition may cost.
    """

    name: str
    alter: Alteration = lambda samples, rate, track: (samples, rate)
    codec: str = "pcm_s16le"
    bitrate: int | None = None
    seconds: float | None = None
    allowed: float = 2.0

    def __post_init__(self) -> None:
        if self.codec not in SUFFIXES:
            raise ValueError(f"codec {self.codec!r}: has no suffix in SUFFIXES")


def at_rate(samples: Samples, rate: int, track: str, new_rate: int) -> tuple[Samples, int]:
    return resampled(samples, rate, new_rate), new_rate


def low_passed(samples: Samples, rate: int, track: str) -> tuple[Samples, int]:
    return resampled(resampled(samples, rate, 16_000), 16_000, rate), rate


def in_stereo(samples: Samples, rate: int, track: str) -> tuple[Samples, int]:
    return np.tile(resampled(samples, rate, 44_100), (2, 1)), 44_100


def amplified(samples: Samples, rate: int, track: str, decibels: float) -> tuple[Samples, int]:
    gain = np.float32(10 ** (decibels / 20))
    return np.clip(gain * samples, -1.0, 1.0), rate


def hissing(samples: Samples, rate: int, track: str, decibels: float) -> tuple[Samples, int]:
    """Add noise as `noisy` does, but at 44.1 kHz, so that it reaches far above the clip's band."""
    return noisy(resampled(samples, rate, 44_100), 44_100, track, decibels)


def noisy(samples: Samples, rate: int, track: str, decibels: float) -> tuple[Samples, int]:
    """Add white noise `decibels` below the clip's own power; the same noise in every run."""
    rng = np.random.default_rng(zlib.crc32(track.encode()))
    return add_noise(samples, decibels, rng), rate


def shifted(samples: Samples, rate: int, track: str, semitones: float) -> tuple[Samples, int]:
    return pitch_shift(samples, rate, semitones), rate


def hurried(samples: Samples, rate: int, track: str, factor: float) -> tuple[Samples, int]:
    return time_stretch(samples, rate, factor), rate


def excerpt(samples: Samples, rate: int, track: str, seconds: float) -> tuple[Samples, int]:
    length = round(seconds * rate)
    first = (len(samples) - length) // 2
    return samples[first : first + length], rate


CONDITIONS = (
    Condition("MP3, 64 kbit/s", codec="libmp3lame", bitrate=64_000),
    Condition(
        "Opus, 32 kbit/s", partial(at_rate, new_rate=OPUS_RATE), codec="libopus", bitrate=32_000
    ),
    Condition("low-pass at 8 kHz", low_passed),
    Condition("upsampled to 44.1 kHz stereo", in_stereo),
    Condition("gain -12 dB", partial(amplified, decibels=-12)),
    Condition("gain +6 dB, clipped", partial(amplified, decibels=6)),
    Condition("white noise, SNR 20 dB", partial(noisy, decibels=20)),
    Condition("white noise at 44.1 kHz, 20 dB", partial(hissing, decibels=20)),
    Condition("white noise at 44.1 kHz, 30 dB", partial(hissing, decibels=30)),
    Condition("pitch +1 semitone", partial(shifted, semitones=1)),
    Condition("pitch -1 semitone", partial(shifted, semitones=-1)),
    Condition("tempo +8 %", partial(hurried, factor=1.08)),
    Condition("tempo -8 %", partial(hurried, factor=0.92)),
    Condition("10 s excerpt", partial(excerpt, seconds=10.0), seconds=10.0),
    Condition("3 s excerpt", partial(excerpt, seconds=3.0), seconds=3.0, allowed=5.0),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    foldwise.add_arguments(parser, "runs/robustness")
    parser.add_argument("--workers", type=int, default=1, help="processes that share the clips")
    args = parser.parse_args()
    rounds = foldwise.rounds(args)
    clean = foldwise.over_seeds(rounds, partial(predict_under, None, args.workers))
    runs = {
        condition: foldwise.over_seeds(rounds, partial(predict_under, condition, args.workers))
        for condition in CONDITIONS
    }
    header, rows = table(clean, runs)
    write_csv(args.out / "robustness.csv", [header, *rows])
    runs_by_name = {"as they are": clean} | {condition.name: run for condition, run in runs.items()}
    foldwise.write_predicted_genres(args.out / "predictions" / "robustness.csv", runs_by_name)
    foldwise.write_page(args.out / "robustness.md", rendered(header, rows, args.seeds))


def predict_under(condition: Condition | None, workers: int, round_: Round) -> Predictions:
    """Return the predictions under a condition (None: unaltered clips), computed unless stored."""
    name = condition.name if condition else "clean"
    shortest = (condition and condition.seconds) or 0.0
    clips = [clip for clip in round_.clips if seconds(clip.path) > shortest]
    path = round_.work / f"{quote(name, safe=' ')}.csv"  # quoted so that +1 and -1 semitone differ
    if not path.exists():
        results = list(
            with_progress(
                _classify_clips(condition, clips, round_.models, workers), len(clips), name
            )
        )
        foldwise.save_predictions(
            path, name, clips, results, Classifier.load(round_.models[0]).labels
        )
    return files.read(path)


def table(
    clean: Predictions, runs: dict[Condition, Predictions]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Compare every condition with the same clips unaltered, in per cent and points."""
    header = (
        *("condition", "clips", "accuracy", "macro F1", "accuracy, points"),
        *("allowed", "95 % from", "to", "macro F1, points", "answers changed"),
        *("p by artist", "McNemar p"),
    )
    first = clean.metrics(bootstrap=0)
    rows = [("as they are", _clips(clean), _percent(first.accuracy), _percent(first.f1), *[""] * 8)]
    for condition, run in runs.items():
        row = compare({"clean": clean, condition.name: run}).rows[1]
        difference = row.difference
        assert difference is not None  # only the first run has none
        ends = difference.intervals.get("accuracy")  # None if no prediction has changed
        rows.append(
            (
                condition.name,
                _clips(run),
                _percent(row.metrics.accuracy),
                _percent(row.metrics.f1),
                _points(difference.accuracy),
                f"{-condition.allowed:.1f}",
                *(map(_points, ends) if ends else ("", "")),
                _points(difference.f1),
                _percent(foldwise.changed_share(run, clean)),
                p_text(difference.group_p_value),
                p_text(difference.p_value),
            )
        )
    return header, rows


def rendered(header: tuple[str, ...], rows: list[tuple[str, ...]], seeds: int) -> str:
    beyond = [
        f"{name} ({points}, allowed {allowed})"
        for name, _, _, _, points, allowed, *_ in rows[1:]
        if float(points) < float(allowed)
    ]
    return f"""# Robustness

{rows[0][1]} clips, altered as music often is before it reaches a listener. Each is written to a
file and classified by the bundle of the artist-grouped fold that held it out ({foldwise.FOLDS}
folds); seeds: {seeds}, each with its own folds and bundles. Figures are per cent. Changes are
relative to the unaltered clips, with 95 % intervals over artists. An excerpt is the middle of a
clip; clips no longer than the excerpt are left out of its row. "Allowed" is the target for the
change itself, not for the end of its interval. Missed: {", ".join(beyond) or "none"}.

{markdown_table(header, rows)}
Noise is added at 20 or 30 dB below each clip's own power, in the clip's own band or up to 22 kHz;
clipping is at full scale; pitch and tempo are changed by FFmpeg's `asetrate` and `atempo`; the
low-pass is a resampling to 16 kHz and back. Peaks between samples clip when a clip is upsampled.
The clips are mono, at 22 kHz or less, where 64 kbit/s is a mild condition: it is a harder one for
44.1 kHz in stereo ([model card](../model-card.md#how-good-it-is)), and no clip is full-band.
Pitch, tempo, noise and Opus are also varied in training, on the training clips and at random
strengths (`tonearm/training/degradations.py`), and the denoising stage was designed with the noisy
rows in view. All answers under each condition: `predictions/robustness.csv`. What excerpts cost
the published networks: [excerpts](excerpts.md).

## Reproduce

```
python benchmarks/robustness.py --models 'seed{{seed}}/fold{{fold}}.onnx' \\
    --seeds {seeds} --data gtzan
```

The bundles are [the networks of the folds](../results-explained.md#the-networks-of-the-folds).
"""


def _classify_clips(
    condition: Condition | None, clips: list[Clip], models: list[Path], workers: int
) -> Iterator[Prediction | Failure | Crash[Clip]]:
    position = CONDITIONS.index(condition) if condition else None
    prepare = partial(_clip_classifier, position, models)
    if workers == 1:
        return map(prepare(), clips)
    return in_order(prepare, clips, workers)


def _clip_classifier(
    position: int | None, models: list[Path]
) -> Callable[[Clip], Prediction | Failure]:
    """Return a classifier of altered clips; a spawned process looks up the condition by index."""

    @cache
    def classifier(fold: int) -> Classifier:
        return Classifier.load(models[fold])

    def classify(clip: Clip) -> Prediction | Failure:
        if position is None:
            return classifier(clip.fold).attempt(clip.path)
        condition = CONDITIONS[position]
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / f"clip{SUFFIXES[condition.codec]}"
            try:
                write_altered(condition, clip.path, clip.track.id, target)
            except Exception as error:  # a worker must not raise; the clip is named and left out
                return Failure(clip.path, f"{type(error).__name__}: {error}")
            return classifier(clip.fold).attempt(target)

    return classify


def write_altered(condition: Condition, path: Path, track: str, target: Path) -> None:
    """Write a clip to a file, altered by a condition."""
    recording = audio.read(path, audio.probe(path).sample_rate)
    altered, rate = condition.alter(recording.samples, recording.rate, track)
    encode(target, altered, rate, condition.codec, condition.bitrate)


@cache
def seconds(path: Path) -> float:
    return audio.probe(path).duration or 0.0


def _clips(run: Predictions) -> str:
    return f"{len(set(run.tracks))}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}"


if __name__ == "__main__":
    main()
