"""How well a model tells music from other sounds: AUROC and what is refused, for every kind.

    python benchmarks/music_score.py --games FOLDER [--music FOLDER...] [--other FOLDER...]
        [--model default]

The games are packages fetched by `fetch_unlabelled.sh`; `game_sounds.py` sorts their recordings
into music, field recordings, voices and effects. Every folder given with --music or --other is a
kind of its own. The rest is rendered: noise of three colours, near silence, tones, sweeps, clicks,
telephone keys, and speech in six languages if espeak-ng is installed. Only the first half minute of
a recording is classified.

Prints for each kind how many sounds there are, the AUROC of all music against them (for a kind of
music: of that kind against all non-music), and how many the model's threshold refuses as "not
music"; then what other thresholds would do, and which sounds the model's own gets wrong.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

import game_sounds
from tonearm import Classifier, audio
from tonearm.errors import TonearmError
from tonearm.media import recordings

RATE = 32_000
EXCERPT_SECONDS = 30.0
LENGTHS = (3.0, 10.0, 20.0)  # seconds of a rendered sound
RENDERED = 15  # sounds of each rendered kind
LOUD, QUIET = (-30.0, -3.0), (-70.0, -55.0)  # peaks in dB of full scale
SPEECH = {
    "en-gb": "Good evening. Heavy rain has closed three roads on the coast since Monday, and the "
    "council meets on Thursday to decide about the bridge. Our guest tonight keeps bees.",
    "de": "Guten Abend. Starker Regen hat seit Montag drei Straßen an der Küste gesperrt, und am "
    "Donnerstag entscheidet der Rat über die Brücke. Unser Gast heute Abend hält Bienen.",
    "fr": "Bonsoir. De fortes pluies ont fermé trois routes de la côte depuis lundi, et le conseil "
    "se réunit jeudi pour décider du pont. Notre invité de ce soir élève des abeilles.",
    "es": "Buenas noches. La lluvia ha cerrado tres caminos de la costa desde el lunes, y el "
    "consejo decide el jueves sobre el puente. Nuestro invitado de hoy cría abejas.",
    "it": "Buona sera. Da lunedì la pioggia ha chiuso tre strade della costa, e giovedì il "
    "consiglio decide del ponte. Il nostro ospite di stasera alleva api.",
    "ru": "Добрый вечер. С понедельника дождь закрыл три дороги на побережье, а в четверг совет "
    "решит, что делать с мостом. Наш гость сегодня держит пчёл.",
}
VOICES = ("", "+m3", "+m7", "+f2", "+f4")
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)

Sound = NDArray[np.float32]
Scores = dict[str, float]  # the probability that each sound of a kind is music, by name
Render = Callable[[np.random.Generator, NDArray[np.float64]], NDArray[np.float64]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--games", type=Path, metavar="FOLDER", help="of fetch_unlabelled.sh")
    parser.add_argument("--music", nargs="*", type=Path, default=[], metavar="FOLDER")
    parser.add_argument("--other", nargs="*", type=Path, default=[], metavar="FOLDER")
    parser.add_argument("--model", default="default")
    parser.add_argument("--music-threshold", type=float, help="instead of the model's own")
    parser.add_argument("--most", type=int, default=100, help="recordings of a folder")
    args = parser.parse_args()
    if not (args.games or args.music):
        parser.error("expected --games or --music: without music there is nothing to tell")
    classifier = Classifier.load(args.model, music_threshold=args.music_threshold)
    music = {folder.name: sample_files(folder, args.most) for folder in args.music}
    other = {folder.name: sample_files(folder, args.most) for folder in args.other}
    if args.games:
        of_games = game_sounds.gather(args.games)
        music["of games"] = of_games.pop("music")
        other = of_games | other
    report(
        {kind: score_files(classifier, files) for kind, files in music.items()},
        {kind: score_files(classifier, files) for kind, files in other.items()}
        | score_rendered(classifier),
        classifier,
    )


def score_rendered(classifier: Classifier) -> dict[str, Scores]:
    """Score the rendered sounds and the speech of espeak-ng."""
    kinds = {"speech of espeak-ng, six languages": score_sounds(classifier, speech())}
    for kind, render in KINDS.items():
        rng = np.random.default_rng(0)
        levels = QUIET if kind == "near silence" else LOUD
        sounds = (rendered(render, rng, levels) for _ in range(RENDERED))
        kinds[kind] = score_sounds(classifier, sounds)
    return kinds


def report(music: dict[str, Scores], other: dict[str, Scores], classifier: Classifier) -> None:
    music = {kind: scores for kind, scores in music.items() if scores}
    other = {kind: scores for kind, scores in other.items() if scores}
    if not music:
        raise SystemExit("expected recordings of music, found none")
    threshold = classifier.thresholds.music
    all_music, all_other = all_scores(music), all_scores(other)
    print("| sound | number | AUROC | called not music |\n|---|---:|---:|---:|")
    for kind, scores in music.items():
        sounds = list(scores.values())
        print_row(f"music: {kind}", sounds, auroc(sounds, all_other), threshold)
    for kind, scores in other.items():
        sounds = list(scores.values())
        print_row(kind, sounds, auroc(all_music, sounds), threshold)
    print_row("all music", all_music, auroc(all_music, all_other), threshold)
    print_row("all non-music", all_other, auroc(all_music, all_other), threshold)
    print("\n| threshold | music accepted | other sounds rejected |\n|---:|---:|---:|")
    for candidate in THRESHOLDS:
        kept = 100 - refused(all_music, candidate)
        print(f"| {candidate} | {kept:.1f} % | {refused(all_other, candidate):.1f} % |")
    print(f"\nErrors at {threshold}:")
    for kind, scores in music.items():
        errors = {name: score for name, score in scores.items() if score < threshold}
        print_errors(f"music: {kind}", errors)
    for kind, scores in other.items():
        errors = {name: score for name, score in scores.items() if score >= threshold}
        print_errors(kind, errors)


def all_scores(kinds: dict[str, Scores]) -> list[float]:
    return list(chain.from_iterable(scores.values() for scores in kinds.values()))


def print_row(kind: str, scores: list[float], area: float, threshold: float) -> None:
    print(f"| {kind} | {len(scores)} | {area:.3f} | {refused(scores, threshold):.0f} % |")


def print_errors(kind: str, errors: Scores) -> None:
    for name, music in sorted(errors.items(), key=lambda error: error[1]):
        print(f"  {music:.2f}  {kind}: {name}")


def refused(scores: list[float], threshold: float) -> float:
    """Return the percentage of the scores that lie below a threshold."""
    return 100 * float(np.mean(np.array(scores) < threshold))


def auroc(positive: list[float], negative: list[float]) -> float:
    """Return how often music scores above non-music; ties count half."""
    is_music = [True] * len(positive) + [False] * len(negative)
    return float(roc_auc_score(is_music, positive + negative))


def sample_files(folder: Path, most: int) -> list[Path]:
    """Pick up to `most` recordings of a folder, evenly spaced."""
    files = [Path(file) for file in recordings([str(folder)])]
    return [files[i] for i in np.linspace(0, len(files) - 1, min(most, len(files))).astype(int)]


def score_files(classifier: Classifier, files: Iterable[Path]) -> Scores:
    """Score recordings; those that cannot be classified are left out."""
    scores = {}
    for path in files:
        try:
            sound = audio.read(path, RATE, 0.0, EXCERPT_SECONDS).samples
            scores[str(path)] = score(classifier, sound)
        except TonearmError as error:
            print(f"left out: {error}")
    return scores


def score_sounds(classifier: Classifier, sounds: Iterable[Sound]) -> Scores:
    """Score sounds, named by their number."""
    return {str(number): score(classifier, sound) for number, sound in enumerate(sounds, 1)}


def score(classifier: Classifier, sound: Sound) -> float:
    music = classifier(sound, RATE).music
    if music is None:
        raise SystemExit("this model does not say what is music")
    return music


def speech() -> Iterator[Sound]:
    """Yield speech by espeak-ng, if installed, in several languages and voices."""
    program = shutil.which("espeak-ng")
    if program is None:
        return
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        spoken = Path(folder) / "spoken.wav"
        for language, text in SPEECH.items():
            for voice in VOICES:
                manner = ["-s", str(rng.integers(120, 200)), "-p", str(rng.integers(20, 80))]
                command = [program, "-v", language + voice, *manner, "-w", str(spoken), text]
                subprocess.run(command, check=True)
                yield audio.read(spoken, RATE, 0.0, float(rng.choice(LENGTHS))).samples


def rendered(render: Render, rng: np.random.Generator, levels: tuple[float, float]) -> Sound:
    """Render a sound of random length, with its peak at a random level in dB."""
    time = np.arange(round(rng.choice(LENGTHS) * RATE)) / RATE
    sound = render(rng, time)
    level = 10 ** (rng.uniform(*levels) / 20)
    return (level * sound / np.abs(sound).max()).astype(np.float32)


def noise(slope: float) -> Render:
    """Return a renderer of noise with power 1 / frequency ** slope; one in three pulsates."""

    def render(rng: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
        spectrum = np.fft.rfft(rng.normal(size=len(time)))
        spectrum[1:] *= np.arange(1, len(spectrum)) ** (-slope / 2)
        spectrum[0] = 0
        sound = np.fft.irfft(spectrum, len(time))
        if rng.random() < 1 / 3:
            sound *= 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.1, 4) * time)
        return sound

    return render


def hum(rng: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """Render what remains of a recording when nothing plays: hiss and mains hum."""
    mains = sum(np.sin(2 * np.pi * 50 * k * time) / k for k in (1, 2, 3))
    return rng.normal(size=len(time)) + rng.uniform(0, 3) * mains


def tone(rng: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sin(2 * np.pi * pitch(rng, 60, 8000) * time)


def square_or_sawtooth(rng: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    phase = pitch(rng, 60, 2000) * time % 1
    return np.where(phase < 0.5, 1.0, -1.0) if rng.random() < 0.5 else 2 * phase - 1


def sweep(rng: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """Render a logarithmic sine sweep between two random frequencies."""
    first, last = pitch(rng, 40, 12_000), pitch(rng, 40, 12_000)
    growth = np.log(last / first) / time[-1]
    return np.sin(2 * np.pi * first * np.expm1(growth * time) / growth)


def clicks(rng: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """Render evenly spaced clicks, each a single pulse or the same short burst of noise."""
    beat = np.zeros(len(time))
    beat[:: round(RATE / pitch(rng, 0.7, 12))] = 1.0
    if rng.random() < 0.5:
        burst = rng.normal(size=400) * np.exp(-np.arange(400) / 60)
        beat = np.convolve(beat, burst)[: len(time)]
    return beat


def telephone_keys(rng: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """Render a telephone number, dialled again and again."""
    low, high = (697, 770, 852, 941), (1209, 1336, 1477)
    key_seconds, gap = rng.uniform(0.1, 0.3), 0.1
    digits = rng.integers(12, size=10)[(time / (key_seconds + gap)).astype(int) % 10]
    sound = np.sin(2 * np.pi * np.take(low, digits // 3) * time)
    sound += np.sin(2 * np.pi * np.take(high, digits % 3) * time)
    return sound * (time % (key_seconds + gap) < key_seconds)


def pitch(rng: np.random.Generator, lowest: float, highest: float) -> float:
    return float(np.exp(rng.uniform(np.log(lowest), np.log(highest))))


KINDS: dict[str, Render] = {
    "white noise": noise(0.0),
    "pink noise": noise(1.0),
    "brown noise": noise(2.0),
    "near silence": hum,
    "tones": tone,
    "square and sawtooth waves": square_or_sawtooth,
    "sweeps": sweep,
    "clicks in an even beat": clicks,
    "telephone keys": telephone_keys,
}


if __name__ == "__main__":
    main()
