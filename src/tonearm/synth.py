"""A small synthesiser of music-like pieces, for demonstrations and tests without recordings.

The pieces are synthetic: loops of a few instruments in the manner of a style, composed by a seeded
random generator. They stand in for music where none is available, and do not measure how well a
model classifies real recordings. ``python -m tonearm.synth FOLDER`` writes one piece per style.
"""

from __future__ import annotations

import sys
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tonearm.errors import UsageError, with_file

Sound = NDArray[np.float32]


def render(style: str, seconds: float = 10.0, rate: int = 22050, seed: int = 0) -> Sound:
    """Render a piece; equal arguments give equal samples.

    Parameters
    ----------
    style : str
        One of `STYLES`.
    seconds : float
        Length; 10 s take about a tenth of a second to render.
    rate : int
        Samples per second.
    seed : int
        Determines key, harmony and melody.

    Returns
    -------
    float32[round(seconds * rate)]
        Mono, in [-0.8, 0.8].

    Raises
    ------
    UsageError
        If the style is unknown.
    """
    if style not in _COMPOSERS:
        raise UsageError(f"unknown style {style!r}: expected one of {', '.join(STYLES)}")
    rng = np.random.default_rng([seed, STYLES.index(style)])
    band = _Band(seconds, rate, rng)
    _COMPOSERS[style](band)
    return band.mix()


def write_wav(path: str | Path, samples: Sound, rate: int) -> None:
    """Write mono samples as a 16-bit WAV file, clipping them to [-1, 1]."""
    pcm = np.round(np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm.tobytes())


def write_pieces(folder: str | Path, seconds: float = 12.0, rate: int = 32000) -> list[Path]:
    """Write one piece in every style as ``synthetic-<style>.wav`` and return the paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"synthetic-{style}.wav" for style in STYLES]
    for style, path in zip(STYLES, paths, strict=True):
        write_wav(path, render(style, seconds, rate), rate)
    return paths


@dataclass(frozen=True)
class _Instrument:
    """A pitched sound: partials whose strength falls with their number, shaped by an envelope.

    Attributes
    ----------
    tilt : float
        Partial `k` has the amplitude ``k ** -tilt``: 1 is a sawtooth, 3 almost a flute.
    odd : bool
        Odd partials only, as in a clarinet or a square wave.
    attack, release : float
        Seconds from silence to full level and back.
    decay : float or None
        Seconds until a plucked or struck note has decayed to a third; None sustains the note.
    dulling : float or None
        Seconds in which the upper partials of a plucked note die away.
    detune : float
        Cents between the voices of an ensemble of three; 0 means a single voice.
    vibrato : float
        Depth in cents, at 5.5 Hz.
    drive : float
        Overdrive; 0 is clean.
    cutoff : float or None
        Hz above which the sound is damped, as by the loudspeaker of a guitar or a horn's bell.
    """

    tilt: float = 1.0
    odd: bool = False
    attack: float = 0.005
    release: float = 0.05
    decay: float | None = None
    dulling: float | None = None
    detune: float = 0.0
    vibrato: float = 0.0
    drive: float = 0.0
    cutoff: float | None = None

    def play(self, pitches: tuple[int, ...], seconds: float, rate: int) -> Sound:
        """Play MIDI pitches together for the given time plus the release."""
        n = max(1, round((seconds + self.release) * rate))
        t = np.arange(n) / rate
        cents = (-self.detune, 0.0, self.detune) if self.detune else (0.0,)
        sound = np.zeros(n, dtype=np.float32)
        for pitch in pitches:
            for voice, offset in enumerate(cents):
                hz = 440.0 * 2.0 ** ((pitch - 69 + offset / 100.0) / 12.0)
                # Voices differ in phase, so that an ensemble does not begin with a click.
                cycles = hz * t + 0.37 * voice
                if self.vibrato:
                    depth = hz * self.vibrato / 1200.0 * np.log(2.0) / (2.0 * np.pi * 5.5)
                    cycles += depth * np.sin(2.0 * np.pi * 5.5 * t + voice)
                sound += self._wave(hz, cycles, t, rate)
        sound /= len(cents)
        if self.drive:
            sound = np.tanh(self.drive * sound)
        if self.cutoff is not None:
            sound = _damp(sound, self.cutoff, rate)
        return sound * self._envelope(t, seconds)

    def _wave(
        self, hz: float, cycles: NDArray[np.float64], t: NDArray[np.float64], rate: int
    ) -> Sound:
        numbers = np.arange(1, max(2, min(48, int(0.45 * rate / hz) + 1)), 2 if self.odd else 1)
        strengths = numbers.astype(np.float64) ** -self.tilt
        bright = _read_wavetable(_wavetable(numbers, strengths), cycles)
        if self.dulling is None:
            return bright
        dull = _read_wavetable(_wavetable(numbers, strengths / numbers), cycles)
        fading = np.exp(-t / self.dulling).astype(np.float32)
        return dull + fading * (bright - dull)

    def _envelope(self, t: NDArray[np.float64], seconds: float) -> Sound:
        level = np.minimum(1.0, t / self.attack)
        if self.decay is not None:
            level *= np.exp(-t / self.decay)
        level *= np.clip((seconds + self.release - t) / self.release, 0.0, 1.0)
        return level.astype(np.float32)


class _Band:
    """Mixes the instruments of one piece."""

    def __init__(self, seconds: float, rate: int, rng: np.random.Generator) -> None:
        self.seconds = seconds
        self.rate = rate
        self.rng = rng
        self._samples = np.zeros(round(seconds * rate), dtype=np.float32)
        self.reverberation_seconds = 0.0  # of the room that the whole band plays in
        self._sounds: dict[object, Sound] = {}

    def bars(self, beat: float) -> list[float]:
        """Return the times at which bars of four beats (of `beat` seconds) begin."""
        return list(np.arange(0.0, self.seconds, 4 * beat))

    def note(
        self,
        instrument: _Instrument,
        at: float,
        pitches: int | tuple[int, ...],
        seconds: float,
        gain: float,
    ) -> None:
        """Play a note or a chord of MIDI pitches."""
        chord = (pitches,) if isinstance(pitches, int) else pitches
        key = (instrument, chord, round(seconds, 3))
        if key not in self._sounds:
            self._sounds[key] = instrument.play(chord, seconds, self.rate)
        self._add(self._sounds[key], at, gain)

    def hit(
        self, drum: Callable[[int, np.random.Generator], Sound], at: float, gain: float
    ) -> None:
        """Strike a drum, with slightly varying strength."""
        if drum not in self._sounds:
            self._sounds[drum] = drum(self.rate, self.rng)
        self._add(self._sounds[drum], at, gain * self.rng.uniform(0.85, 1.0))

    def add_background(self, sound: Sound) -> None:
        """Add a background as long as the piece."""
        self._samples += sound

    def mix(self) -> Sound:
        """Return the finished piece, levelled and faded out over its last 30 ms."""
        samples = self._samples
        if self.reverberation_seconds and len(samples):
            t = np.arange(round(self.reverberation_seconds * self.rate)) / self.rate
            impulse_response = self.rng.standard_normal(len(t)) * np.exp(
                -5.0 * t / self.reverberation_seconds
            )
            impulse_response /= np.sqrt(np.sum(impulse_response**2)) or 1.0
            samples = samples + 0.4 * _convolve(samples, impulse_response.astype(np.float32))
        fade = np.arange(len(samples), 0, -1, dtype=np.float32) / np.float32(0.03 * self.rate)
        samples = samples * np.minimum(fade, np.float32(1.0))
        peak = np.abs(samples).max(initial=0.0)
        normalised: Sound = samples * np.float32(0.8 / peak) if peak else samples
        return normalised

    def _add(self, sound: Sound, at: float, gain: float) -> None:
        start = round(at * self.rate)
        stop = min(start + len(sound), len(self._samples))
        if start < stop:
            self._samples[start:stop] += np.float32(gain) * sound[: stop - start]


# Instruments
_STRINGS = _Instrument(tilt=1.3, attack=0.25, release=0.4, detune=6.0, vibrato=12.0)
_FLUTE = _Instrument(tilt=2.6, attack=0.06, release=0.12, vibrato=18.0)
_HORN = _Instrument(tilt=1.5, attack=0.04, release=0.08, vibrato=10.0)
_SAXOPHONE = _Instrument(tilt=1.2, attack=0.03, release=0.06, vibrato=18.0, cutoff=2500.0)
_PIANO = _Instrument(tilt=1.8, release=0.15, decay=0.9, dulling=0.25, detune=2.0)
_ELECTRIC_PIANO = _Instrument(tilt=2.4, release=0.15, decay=0.9, dulling=0.15, vibrato=4.0)
_ORGAN = _Instrument(tilt=1.6, odd=True, attack=0.01, release=0.03)
_SAW = _Instrument(tilt=1.0, release=0.06, decay=0.25, dulling=0.08, detune=9.0)
_PAD = _Instrument(tilt=1.4, attack=0.3, release=0.4, detune=12.0)
_BASS = _Instrument(tilt=1.7, release=0.04, decay=0.5, dulling=0.12)
_DOUBLE_BASS = _Instrument(tilt=2.2, release=0.08, decay=0.45, dulling=0.1)
_SUB = _Instrument(tilt=3.0, release=0.08, decay=0.8)
_OVERDRIVEN = _Instrument(tilt=1.1, release=0.03, decay=1.2, drive=12.0, detune=7.0, cutoff=4000.0)
_LEAD_GUITAR = _Instrument(
    tilt=1.2, attack=0.01, release=0.1, vibrato=25.0, drive=3.0, cutoff=4000.0
)
_MUTED_GUITAR = _Instrument(tilt=1.0, release=0.02, decay=0.06, dulling=0.03)

# Scale degrees in semitones above the key
_MAJOR = (0, 2, 4, 5, 7, 9, 11)
_MINOR = (0, 2, 3, 5, 7, 8, 10)
_PENTATONIC = (0, 3, 5, 7, 10)


def _orchestral(band: _Band) -> None:
    beat = 60 / 72
    key = int(band.rng.integers(55, 62))
    degrees = band.rng.permutation([0, 3, 4, 5, 1])
    band.reverberation_seconds = 1.6
    walk = 7
    for i, bar in enumerate(band.bars(beat)):
        degree = int(degrees[i % len(degrees)]) if i else 0
        chord = _triad(key, _MAJOR, degree)
        band.note(_STRINGS, bar, chord, 4 * beat, 0.16)
        band.note(_STRINGS, bar, chord[0] - 12, 4 * beat, 0.3)
        if i % 2 == 0:
            band.hit(_timpani, bar, 0.5)
        for quaver in range(0, 8, 2 if i % 2 else 1):
            walk = int(np.clip(walk + band.rng.integers(-2, 3), 4, 13))
            pitch = key + 12 * (walk // 7) + _MAJOR[walk % 7]
            band.note(_FLUTE, bar + quaver * beat / 2, pitch + 12, beat * 0.45, 0.22)
        band.note(_HORN, bar + 2 * beat, chord[2], 1.8 * beat, 0.12)


def _electronic_dance(band: _Band) -> None:
    beat = 60 / 126
    key = int(band.rng.integers(45, 53))
    degrees = [0, 5, 2, 6]
    figure = band.rng.integers(0, 3, 16)
    for i, bar in enumerate(band.bars(beat)):
        chord = _triad(key, _MINOR, degrees[i % 4])
        band.note(_PAD, bar, chord, 4 * beat, 0.07)
        for step in range(16):
            at = bar + step * beat / 4
            if step % 4 == 0:
                band.hit(_kick, at, 0.9)
            else:  # the bass gives way to the kick
                band.note(_BASS, at, chord[0] - 12, beat / 5, 0.4)
            if step % 4 == 2:
                band.hit(_open_hat, at, 0.25)
            if step % 8 == 4:
                band.hit(_clap, at, 0.5)
            band.note(_SAW, at, chord[int(figure[step])] + 12, beat / 5, 0.16)


def _rock_band(band: _Band) -> None:
    beat = 60 / 138
    key = int(band.rng.integers(40, 46))
    roots = [key + step for step in band.rng.permutation([0, 3, 5, 7, 10])[:4]]
    band.reverberation_seconds = 0.5
    for i, bar in enumerate(band.bars(beat)):
        root = int(roots[i % 4])
        for quaver in range(8):
            at = bar + quaver * beat / 2
            band.note(_OVERDRIVEN, at, (root, root + 7, root + 12), beat * 0.42, 0.3)
            band.note(_BASS, at, root - 12 if root > 42 else root, beat * 0.4, 0.35)
            band.hit(_closed_hat, at, 0.2)
        for at in (0.0, 2.0, 2.5):
            band.hit(_kick, bar + at * beat, 0.8)
        for at in (1.0, 3.0):
            band.hit(_snare, bar + at * beat, 0.7)
        if i % 4 == 0:
            band.hit(_crash, bar, 0.35)
        if i % 2:
            for at in (0.0, 1.5, 3.0):
                pitch = key + 24 + int(band.rng.choice(_PENTATONIC))
                band.note(_LEAD_GUITAR, bar + at * beat, pitch, beat, 0.14)


def _swing(band: _Band) -> None:
    beat = 60 / 150
    key = int(band.rng.integers(48, 55))
    degrees = [1, 4, 0, 5]  # ii V I vi
    band.reverberation_seconds = 0.6
    third = beat / 3
    walk = 14
    for i, bar in enumerate(band.bars(beat)):
        degree = degrees[i % 4]
        chord = (*_triad(key, _MAJOR, degree), _degree(key, _MAJOR, degree + 6))
        approach = _degree(key, _MAJOR, degrees[(i + 1) % 4]) + int(band.rng.choice([-1, 1]))
        for step, pitch in enumerate((chord[0], chord[1], chord[2], approach)):
            band.note(_DOUBLE_BASS, bar + step * beat, pitch - 12, beat * 0.9, 0.6)
            band.hit(_ride, bar + step * beat, 0.2)
        for step in (1, 3):
            band.hit(_ride, bar + step * beat + 2 * third, 0.13)
            band.hit(_closed_hat, bar + step * beat, 0.12)
        for at in (2 * third, 2 * beat) if i % 2 else (0.0, beat + 2 * third):
            band.note(_PIANO, bar + at, chord[1:], beat * 0.5, 0.18)
        for step in range(4):
            for offset, length in ((0.0, 2 * third), (2 * third, third)):
                if band.rng.random() < 0.6:
                    walk = int(np.clip(walk + band.rng.integers(-2, 3), 9, 20))
                    pitch = _degree(key, _MAJOR, walk)
                    band.note(_SAXOPHONE, bar + step * beat + offset, pitch, length, 0.2)


def _offbeat(band: _Band) -> None:
    beat = 60 / 76
    key = int(band.rng.integers(50, 57))
    degrees = [0, 3, 0, 4]
    line = band.rng.permutation([0, 0, 2, 1])
    band.reverberation_seconds = 0.4
    for i, bar in enumerate(band.bars(beat)):
        chord = _triad(key, _MINOR if i % 8 > 3 else _MAJOR, degrees[i % 4])
        for step in range(4):
            band.note(
                _MUTED_GUITAR, bar + (step + 0.5) * beat, tuple(p + 12 for p in chord), 0.1, 0.3
            )
            band.note(_ORGAN, bar + (step + 0.5) * beat, chord, beat * 0.2, 0.1)
            band.note(_ORGAN, bar + (step + 0.75) * beat, chord, beat * 0.15, 0.07)
            for half in (0.0, 0.5):
                band.hit(_closed_hat, bar + (step + half) * beat, 0.15 + 0.15 * half)
        band.hit(_kick, bar + 2 * beat, 0.9)  # "one drop": nothing on the first beat
        band.hit(_rim, bar + 2 * beat, 0.5)
        for step, at in enumerate((0.0, 0.75, 1.5, 2.5)):
            band.note(_SUB, bar + at * beat, chord[int(line[step])] - 24, beat * 0.6, 0.7)


def _hip_hop_beat(band: _Band) -> None:
    beat = 60 / 90
    key = int(band.rng.integers(48, 55))
    degrees = [0, 3, 5, 4]
    kicks = (0.0, 1.75, 2.5) if band.rng.random() < 0.5 else (0.0, 0.75, 2.25)
    swing = 0.06 * beat
    crackle = band.rng.standard_normal(round(band.seconds * band.rate)).astype(np.float32)
    band.add_background(np.where(np.abs(crackle) > 3.6, 0.05 * crackle, 0.002 * crackle))
    for i, bar in enumerate(band.bars(beat)):
        degree = degrees[(i // 2) % 4]
        chord = (*_triad(key, _MINOR, degree), _degree(key, _MINOR, degree + 6))
        band.note(_ELECTRIC_PIANO, bar, chord, 1.6 * beat, 0.14)
        band.note(_ELECTRIC_PIANO, bar + 2.5 * beat, chord, beat, 0.1)
        for at in kicks:
            band.hit(_kick, bar + at * beat, 0.9)
            band.note(_SUB, bar + at * beat, chord[0] - 24, 0.6 * beat, 0.5)
        for at in (1.0, 3.0):
            band.hit(_snare, bar + at * beat, 0.8)
        for quaver in range(8):
            band.hit(_closed_hat, bar + quaver * beat / 2 + (quaver % 2) * swing, 0.25)


_COMPOSERS: dict[str, Callable[[_Band], None]] = {
    "orchestral": _orchestral,
    "electronic-dance": _electronic_dance,
    "rock-band": _rock_band,
    "swing": _swing,
    "offbeat": _offbeat,
    "hip-hop-beat": _hip_hop_beat,
}
STYLES: tuple[str, ...] = tuple(_COMPOSERS)


def _kick(rate: int, rng: np.random.Generator) -> Sound:
    return _drop(rate, 130.0, 46.0, 0.35) + 0.2 * _burst(rate, rng, 0.35, 0.002)


def _timpani(rate: int, rng: np.random.Generator) -> Sound:
    return _drop(rate, 84.0, 73.0, 1.2) + 0.1 * _burst(rate, rng, 1.2, 0.05)


def _snare(rate: int, rng: np.random.Generator) -> Sound:
    return 0.7 * _drop(rate, 230.0, 170.0, 0.2) + 0.5 * _burst(rate, rng, 0.2, 0.06)


def _rim(rate: int, rng: np.random.Generator) -> Sound:
    return _drop(rate, 480.0, 430.0, 0.05) + 0.3 * _burst(rate, rng, 0.05, 0.006)


def _clap(rate: int, rng: np.random.Generator) -> Sound:
    hands = _burst(rate, rng, 0.2, 0.05)
    for delay in (0.011, 0.023):
        start = round(delay * rate)
        hands[start:] += hands[: len(hands) - start]
    return 0.4 * hands


def _closed_hat(rate: int, rng: np.random.Generator) -> Sound:
    return _hiss(rate, rng, 0.08, 0.02)


def _open_hat(rate: int, rng: np.random.Generator) -> Sound:
    return _hiss(rate, rng, 0.25, 0.08)


def _crash(rate: int, rng: np.random.Generator) -> Sound:
    return _hiss(rate, rng, 1.6, 0.5)


def _ride(rate: int, rng: np.random.Generator) -> Sound:
    t = np.arange(round(0.5 * rate)) / rate
    bell = sum(np.sin(2.0 * np.pi * hz * t) for hz in (2137.0, 2963.0, 3347.0) if hz < rate / 2)
    return (0.15 * np.exp(-t / 0.15) * bell).astype(np.float32) + 0.6 * _hiss(rate, rng, 0.5, 0.12)


def _drop(rate: int, high: float, low: float, seconds: float) -> Sound:
    """Return a sine that falls quickly in pitch from `high` to `low` Hz: the skin of a drum."""
    t = np.arange(round(seconds * rate)) / rate
    cycles = low * t + (high - low) * 0.03 * (1.0 - np.exp(-t / 0.03))
    return (np.sin(2.0 * np.pi * cycles) * np.exp(-4.0 * t / seconds)).astype(np.float32)


def _burst(rate: int, rng: np.random.Generator, seconds: float, decay: float) -> Sound:
    """Return decaying white noise: wires, sticks and hands."""
    t = np.arange(round(seconds * rate)) / rate
    return (rng.standard_normal(len(t)) * np.exp(-t / decay)).astype(np.float32)


def _hiss(rate: int, rng: np.random.Generator, seconds: float, decay: float) -> Sound:
    """Return decaying noise without low frequencies (differenced twice): cymbals."""
    noise = _burst(rate, rng, seconds, decay)
    return np.float32(0.5) * np.diff(noise, n=2, prepend=noise[:2])


def _damp(sound: Sound, cutoff: float, rate: int) -> Sound:
    """Damp what is above `cutoff` Hz, by 24 dB an octave."""
    hz = np.fft.rfftfreq(len(sound), 1 / rate)
    spectrum = np.fft.rfft(sound) / (1.0 + (hz / cutoff) ** 4)
    return np.fft.irfft(spectrum, len(sound)).astype(np.float32)


def _degree(key: int, scale: tuple[int, ...], degree: int) -> int:
    octave, step = divmod(degree, len(scale))
    return key + 12 * octave + scale[step]


def _triad(key: int, scale: tuple[int, ...], degree: int) -> tuple[int, int, int]:
    return (
        _degree(key, scale, degree),
        _degree(key, scale, degree + 2),
        _degree(key, scale, degree + 4),
    )


_WAVETABLE_LENGTH = 2048  # samples in the table of one cycle


def _wavetable(numbers: NDArray[np.int64], amplitudes: NDArray[np.float64]) -> Sound:
    """Return one cycle of a sum of sine partials, with the first sample repeated at the end."""
    spectrum = np.zeros(_WAVETABLE_LENGTH // 2 + 1, dtype=np.complex128)
    spectrum[numbers] = -0.5j * _WAVETABLE_LENGTH * amplitudes / np.sqrt(np.sum(amplitudes**2))
    cycle = np.fft.irfft(spectrum)
    return np.append(cycle, cycle[0]).astype(np.float32)


def _read_wavetable(wavetable: Sound, cycles: NDArray[np.float64]) -> Sound:
    """Read the table at positions given in cycles, interpolating linearly."""
    position = (cycles % 1.0) * _WAVETABLE_LENGTH
    index = position.astype(np.int32)
    fraction = (position - index).astype(np.float32)
    sound: Sound = wavetable[index] + fraction * (wavetable[index + 1] - wavetable[index])
    return sound


def _convolve(signal: Sound, response: Sound) -> Sound:
    """Return the start of the convolution, as long as `signal`."""
    n = 1 << (len(signal) + len(response) - 2).bit_length()
    product = np.fft.rfft(signal, n) * np.fft.rfft(response, n)
    return np.fft.irfft(product, n)[: len(signal)].astype(np.float32)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m tonearm.synth FOLDER")
    try:
        for written in write_pieces(sys.argv[1]):
            print(written)
    except OSError as error:
        sys.exit(with_file(error))
