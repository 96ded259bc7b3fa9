"""CPU time of the features of a 30 s clip, on one thread, against librosa for the same numbers.

    python benchmarks/frontend.py

The figures are the best of several alternating runs; a ratio below 1 means faster than librosa.
Filterbanks are counted as in normal use: Tonearm builds a front end once for many clips, librosa
builds its filterbank in every call.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import librosa
import numpy as np

from timing import in_turns
from tonearm.features.descriptors import DESCRIPTOR_RATE, describe
from tonearm.features.logmel import FRONT_ENDS, LogMel, LogMelConfig
from tonearm.synth import render

SECONDS = 30.0
RUNS = 9


def main() -> None:
    print(f"{'features of a 30 s clip':<26} {'tonearm':>9} {'librosa':>9} {'ratio':>6}")
    for name, config in FRONT_ENDS.items():
        samples = render("rock-band", SECONDS, config.sample_rate)
        compute = partial(LogMel(config), samples)
        report(f"log-mel, {name}", compute, partial(librosa_log_mel, samples, config))
    samples = render("rock-band", SECONDS, DESCRIPTOR_RATE)
    report("descriptors", partial(describe, samples), partial(librosa_descriptors, samples))


def report(name: str, compute: Callable[[], object], reference: Callable[[], object]) -> None:
    for warm_up in (compute, reference):  # so that loading and compiling are not timed
        warm_up()
    own, peer = in_turns([compute, reference], RUNS)
    print(f"{name:<26} {1000 * own:>6.1f} ms {1000 * peer:>6.1f} ms {own / peer:>6.2f}")


def librosa_log_mel(samples: np.ndarray, config: LogMelConfig) -> np.ndarray:
    """Compute the same log-mel frames with librosa, using HTK's scale as it lacks Kaldi's."""
    if config.preemphasis:
        samples = samples[1:] - config.preemphasis * samples[:-1]
    mel = librosa.feature.melspectrogram(
        y=samples,
        sr=config.sample_rate,
        n_fft=config.n_fft,
        win_length=config.win_length,
        hop_length=config.hop_length,
        n_mels=config.n_mels,
        fmin=config.f_min,
        fmax=config.f_max,
        htk=config.scale != "slaney",
        norm=config.norm,
        pad_mode="constant" if config.padding == "zeros" else "reflect",
    )
    if config.log == "db":
        return librosa.power_to_db(mel, top_db=None)
    log = np.log if config.log == "ln" else np.log10
    return (log(config.gain * mel + config.offset) + config.shift) / config.divisor


def librosa_descriptors(samples: np.ndarray) -> list[np.ndarray]:
    """Compute the frame descriptors of `describe` with librosa, sharing spectra computed once."""
    rate = DESCRIPTOR_RATE
    magnitude = np.abs(librosa.stft(samples))
    power = magnitude**2
    log_mel = librosa.power_to_db(librosa.feature.melspectrogram(S=power, sr=rate))
    onsets = librosa.onset.onset_strength(S=log_mel, sr=rate)
    return [
        librosa.feature.mfcc(S=log_mel, n_mfcc=20),
        librosa.feature.chroma_stft(S=power, sr=rate, tuning=0.0),
        librosa.feature.spectral_contrast(S=magnitude, sr=rate),
        librosa.feature.spectral_centroid(S=magnitude, sr=rate),
        librosa.feature.spectral_bandwidth(S=magnitude, sr=rate),
        librosa.feature.spectral_rolloff(S=magnitude, sr=rate),
        librosa.feature.zero_crossing_rate(samples),
        librosa.feature.rms(y=samples),
        librosa.feature.tempo(onset_envelope=onsets, sr=rate),
    ]


if __name__ == "__main__":
    main()
