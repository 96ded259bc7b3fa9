"""Run one audio classifier on some files in its own process: `python peer.py NAME FILE...`.

Each system processes the first 30 s of a file up to a prediction, as its users' programs do. The
prediction itself does not matter: classifiers are fitted to noise beforehand, because they take
just as long to predict. Exit code 3 means that a package is not installed; standard error names it.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

SECONDS = 30.0
NOT_INSTALLED = 3
CLIPS, GENRES = 1000, 10  # what tutorials train on: GTZAN
MFCCS = 20

Floats = NDArray[np.float32]
Analyse = Callable[[Path], object]


def main() -> None:
    name, *files = sys.argv[1:]
    try:
        analyse = PEERS[name]()
    except ImportError as error:
        print(f"{error.name} is not installed", file=sys.stderr)
        sys.exit(NOT_INSTALLED)
    for file in files:
        analyse(Path(file))


def pyav() -> Analyse:
    """Decode the whole file and discard it."""
    return lambda path: deque(_frames(path, inf), maxlen=0)


def pyav_start() -> Analyse:
    """Decode the same seconds as the other systems and discard them."""
    return lambda path: deque(_frames(path, SECONDS), maxlen=0)


def tutorial() -> Analyse:
    """Compute features with librosa and classify with scikit-learn, as GTZAN tutorials do."""
    import librosa

    def describe(path: Path) -> Floats:
        y, sr = _load(path, 22_050)
        harmonic, percussive = librosa.effects.hpss(y)
        tempo, _ = librosa.beat.beat_track(y=y, sr=sr)
        tracks = [
            librosa.feature.chroma_stft(y=y, sr=sr),
            librosa.feature.rms(y=y),
            librosa.feature.spectral_centroid(y=y, sr=sr),
            librosa.feature.spectral_bandwidth(y=y, sr=sr),
            librosa.feature.spectral_rolloff(y=y, sr=sr),
            librosa.feature.zero_crossing_rate(y),
            harmonic,
            percussive,
            *librosa.feature.mfcc(y=y, sr=sr, n_mfcc=MFCCS),
        ]
        moments = [moment for track in tracks for moment in (np.mean(track), np.var(track))]
        return np.hstack([*moments, tempo])

    return _with_classifier(describe, 2 * (8 + MFCCS) + 1)


def musicnn() -> Analyse:
    """Tag every 3 s patch with MSD_musicnn, loaded from its wheel and run in torch."""
    import librosa
    import torch

    from tonearm.training.musicnn import PATCH_FRAMES, MusicnnError, load_musicnn

    torch.set_num_threads(1)
    try:
        network = load_musicnn()
    except MusicnnError as error:
        raise ImportError(str(error), name="musicnn") from error

    def tag(path: Path) -> Floats:
        y, sr = _load(path, 16_000)
        # As in musicnn's own extractor.
        mel = librosa.feature.melspectrogram(y=y, sr=sr, n_fft=512, hop_length=256, n_mels=96)
        logmel = np.log10(10_000 * mel.T + 1).astype(np.float32)
        logmel = np.pad(logmel, ((0, max(0, PATCH_FRAMES - len(logmel))), (0, 0)))
        count = len(logmel) // PATCH_FRAMES
        patches = logmel[: count * PATCH_FRAMES].reshape(count, PATCH_FRAMES, -1)
        with torch.inference_mode():
            return network(torch.from_numpy(patches)).tags.sigmoid().mean(0).numpy()

    return tag


def pyaudioanalysis() -> Analyse:
    """Compute pyAudioAnalysis features in windows of 1 s and 50 ms, and classify their means."""
    from pyAudioAnalysis.MidTermFeatures import mid_feature_extraction

    def describe(path: Path) -> Floats:
        y, sr = _load(path, None)
        short, middle = round(0.05 * sr), sr
        features, _, _ = mid_feature_extraction(y, sr, middle, middle, short, short)
        return features.mean(axis=1)

    return _with_classifier(describe, 136)


PEERS: dict[str, Callable[[], Analyse]] = {
    "pyav": pyav,
    "pyav-start": pyav_start,
    "tutorial": tutorial,
    "musicnn": musicnn,
    "pyaudioanalysis": pyaudioanalysis,
}


def _load(path: Path, rate: int | None) -> tuple[Floats, int]:
    """Load mono samples with librosa.

    librosa reads AAC only through the program `ffmpeg`, which may be missing. So PyAV decodes AAC,
    and librosa mixes and resamples the samples as it would its own.
    """
    import librosa

    if path.suffix != ".m4a":
        samples, found = librosa.load(path, sr=rate, duration=SECONDS)
        return samples, int(found)
    decoded, found = _decode(path, SECONDS)
    mono = librosa.to_mono(decoded)
    if rate is None:
        return mono, found
    return librosa.resample(mono, orig_sr=found, target_sr=rate), rate


def _decode(path: Path, seconds: float) -> tuple[Floats, int]:
    """Decode the first seconds; return float32[channels, samples] and their sample rate."""
    frames = list(_frames(path, seconds))
    rate = frames[0].sample_rate
    samples = np.hstack([frame.to_ndarray() for frame in frames])
    return samples[:, : round(seconds * rate)], rate


def _frames(path: Path, seconds: float) -> Iterator[av.AudioFrame]:
    decoded = 0.0
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            yield frame
            decoded += frame.samples / frame.sample_rate
            if decoded >= seconds:
                return


def _with_classifier(describe: Callable[[Path], Floats], width: int) -> Analyse:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    rng = np.random.default_rng(0)
    classifier = make_pipeline(StandardScaler(), SVC())
    classifier.fit(rng.normal(size=(CLIPS, width)), np.arange(CLIPS) % GENRES)
    return lambda path: classifier.predict([describe(path)])


if __name__ == "__main__":
    main()
