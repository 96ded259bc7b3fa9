"""How well a model tells music from other sounds: AUROC and what is refused, for every kind.

    python benchmarks/music_score.py --music FOLDER... --other FOLDER... [--model default]

Every folder is a kind of its own: recordings of music, and of what is none (field recordings,
effects, voices). The rest is rendered: noise of three colours, near silence, tones, sweeps, clicks,
touch tones, and speech in six languages if espeak-ng is installed. Of a recording the first half
minute is heard.

Prints for each kind how many sounds there are, the AUROC of all music against them (of a folder of
music: of it against all that is none), and how many the model's threshold refuses as "not music".
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tonearm import Classifier, audio
from tonearm.errors import TonearmError
from tonearm.media import recordings

RATE = 32_000
HEARD_SECONDS = 30.0
LENGTHS = (3.0, 10.0, 20.0)  # seconds of what is rendered
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

Sound = NDArray[np.float32]
Render = Callable[[np.random.Generator, NDArray[np.float64]], NDArray[np.float64]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--music", nargs="+", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--other", nargs="*", type=Path, default=[], metavar="FOLDER")
    parser.add_argument("--model", default="default")
    parser.add_argument("--music-threshold", type=float, help="instead of the model's own")
    parser.add_argument("--most", type=int, default=100, help="recordings of a folder")
    chosen = parser.parse_args()
    classifier = Classifier.load(chosen.model, music_threshold=chosen.music_threshold)
    music = {folder.name: heard(classifier, folder, chosen.most) for folder in chosen.music}
    other = {folder.name: heard(classifier, folder, chosen.most) for folder in chosen.other}
    other["speech (espeak-ng)"] = [score(classifier, sound) for sound in speech()]
    for kind, render in KINDS.items():
        rng = np.random.default_rng(0)
        levels = QUIET if kind == "near silence" else LOUD
        sounds = (rendered(render, rng, levels) for _ in range(RENDERED))
        other[kind] = [score(classifier, sound) for sound in sounds]
    report(music, {kind: scores for kind, scores in other.items() if scores}, classifier)


def report(
    music: dict[str, list[float]], other: dict[str, list[float]], classifier: Classifier
) -> None:
    all_music, all_other = list(chain(*music.values())), list(chain(*other.values()))
    print("| sound | number | AUROC | called not music |\n|---|---:|---:|---:|")
    for kind, scores in music.items():
        print_row(f"music: {kind}", scores, auroc(scores, all_other), classifier)
    for kind, scores in other.items():
        print_row(kind, scores, auroc(all_music, scores), classifier)
    print_row("all that is none", all_other, auroc(all_music, all_other), classifier)
    print(f"\nthreshold {classifier.thresholds.music}, music kept at other thresholds:")
    for threshold in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
        kept, refused = np.mean(np.array(all_music) >= threshold), np.array(all_other) < threshold
        print(f"  {threshold}: {kept:.1%} of the music, refuses {refused.mean():.1%} of the rest")


def print_row(kind: str, scores: list[float], area: float, classifier: Classifier) -> None:
    refused = np.mean([score < classifier.thresholds.music for score in scores])
    print(f"| {kind} | {len(scores)} | {area:.3f} | {refused:.0%} |", flush=True)


def auroc(positive: list[float], negative: list[float]) -> float:
    """How often one that is music scores above one that is none; ties count half."""
    ranked = np.sort(negative)
    below = np.searchsorted(ranked, positive, "left") + np.searchsorted(ranked, positive, "right")
    return float(below.sum() / 2 / len(positive) / len(negative))


def heard(classifier: Classifier, folder: Path, most: int) -> list[float]:
    """Score recordings of a folder, evenly picked; those that cannot be classified are left out."""
    files = list(recordings([str(folder)]))
    picked = [files[i] for i in np.linspace(0, len(files) - 1, min(most, len(files))).astype(int)]
    scores = []
    for path in picked:
        try:
            sound = audio.read(path, RATE, 0.0, HEARD_SECONDS).samples
            scores.append(score(classifier, sound))
        except TonearmError as error:
            print(f"left out: {error}")
    return scores


def score(classifier: Classifier, sound: Sound) -> float:
    music = classifier(sound, RATE).music
    if music is None:
        raise SystemExit("this model does not say what is music")
    return music


def speech() -> Iterator[Sound]:
    """Let espeak-ng, if it is there, read aloud in several languages and voices."""
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
    """Render a sound of some length, its peak at some level in dB."""
    time = np.arange(round(rng.choice(LENGTHS) * RATE)) / RATE
    sound = render(rng, time)
    level = 10 ** (rng.uniform(*levels) / 20)
    return (level * sound / np.abs(sound).max()).astype(np.float32)


def noise(slope: float) -> Render:
    """Noise whose power falls by `slope` powers of the frequency; a third of it swells and ebbs."""

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
    """What is left of a recording where nothing plays: hiss and a hum of the mains."""
    mains = sum(np.sin(2 * np.pi * 50 * k * time) / k for k in (1, 2, 3))
    return rng.normal(size=len(time)) + rng.uniform(0, 3) * mains


def tone(rng: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sin(2 * np.pi * pitch(rng, 60, 8000) * time)


def square_or_sawtooth(rng: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    phase = pitch(rng, 60, 2000) * time % 1
    return np.where(phase < 0.5, 1.0, -1.0) if rng.random() < 0.5 else 2 * phase - 1


def sweep(rng: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """A logarithmic sine sweep between two random frequencies."""
    first, last = pitch(rng, 40, 12_000), pitch(rng, 40, 12_000)
    growth = np.log(last / first) / time[-1]
    return np.sin(2 * np.pi * first * np.expm1(growth * time) / growth)


def clicks(rng: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """An even beat of clicks, bare or each the same short burst of noise."""
    beat = np.zeros(len(time))
    beat[:: round(RATE / pitch(rng, 0.7, 12))] = 1.0
    if rng.random() < 0.5:
        burst = rng.normal(size=400) * np.exp(-np.arange(400) / 60)
        beat = np.convolve(beat, burst)[: len(time)]
    return beat


def touch_tones(rng: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """A telephone number, dialled again and again."""
    low, high = (697, 770, 852, 941), (1209, 1336, 1477)
    held, gap = rng.uniform(0.1, 0.3), 0.1
    digits = rng.integers(12, size=10)[(time / (held + gap)).astype(int) % 10]
    both = np.sin(2 * np.pi * np.take(low, digits // 3) * time)
    both += np.sin(2 * np.pi * np.take(high, digits % 3) * time)
    return both * (time % (held + gap) < held)


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
    "clicks": clicks,
    "touch tones": touch_tones,
}


if __name__ == "__main__":
    main()
