"""Draw a labelled spectrogram."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from tonearm import audio
from tonearm.atomic import atomic_write
from tonearm.errors import TonearmError, UsageError, reason_of
from tonearm.extras import needs
from tonearm.features.mel import hz_to_mel
from tonearm.features.picture import RANGE_DB, Overview, overview, plot_config, relative
from tonearm.inputs import checked_samples
from tonearm.text import clock_text, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf", ".jpg", ".webp")
WIDTH, HEIGHT = 1200, 600  # pixels
N_MELS = 128

DPI = 100
_RATES = (8_000, 48_000)  # recordings outside are resampled: nothing audible is beyond
_SECONDS_PER_TICK = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800, 3600, 7200),
)
_TICKS_HZ = (0, 250, 500, 1000, 2000, 4000, 8000, 16000)

LIGHT = {"paper": "white", "ink": "#1f2933", "muted": "#52606d", "wave": "#7b3294"}
DARK = {"paper": "#14161a", "ink": "#e6e9ee", "muted": "#9aa5b1", "wave": "#f1a063"}


def save_plot(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    start: float = 0.0,
    duration: float | None = None,
    n_mels: int = N_MELS,
    width: int = WIDTH,
    height: int = HEIGHT,
    dark: bool = False,
) -> None:
    """Draw the spectrogram of a file, or of a window of it, in a bounded amount of memory.

    Parameters
    ----------
    path : str or path-like
        Any file `tonearm.audio` reads.
    output : str or path-like
        Picture to write; the suffix, one of `SUFFIXES`, determines its format.
    start, duration : float
        Window in seconds, as in `tonearm.audio.stream`.
    n_mels : int, default 128
        Number of mel bands.
    width, height : int
        Size in pixels.
    dark : bool, default False
        Light text on a dark background.

    Raises
    ------
    AudioError
        If the file cannot be read as audio.
    UsageError
        If a setting is out of range or the format is unknown.
    MissingExtraError
        If matplotlib is not installed.
    TonearmError
        If the picture cannot be written.
    """
    check_picture(output, width, height)
    _check_mels(n_mels)
    info = audio.probe(path)
    rate = _display_rate(info.sample_rate)
    expected = info.duration and max(0.0, info.duration - start)
    if duration is not None:
        expected = min(duration, expected or duration)
    config = plot_config(rate, expected, n_mels, columns=width)
    with audio.stream(path, rate, start, duration) as sound:
        summary = overview(sound, config, columns=width)
        codec = info.codec.partition("_")[0].upper()  # PCM, whatever its word length
        note = f"{_duration_text(summary.seconds)} · {codec} · {info.sample_rate / 1000:g} kHz"
        if sound.truncated:
            note += " · breaks off"
    name = printable(Path(path).name)
    save(draw(summary, name, note, start=start, width=width, height=height, dark=dark), output)


def plot(
    samples: ArrayLike,
    rate: int,
    title: str = "",
    *,
    n_mels: int = N_MELS,
    width: int = WIDTH,
    height: int = HEIGHT,
    dark: bool = False,
) -> Figure:
    """Draw the spectrogram of samples in memory.

    Parameters
    ----------
    samples : float[n]
        Mono in [-1, 1]; at least one.
    rate : int
        Samples per second.
    title : str
        Title above the plot.
    n_mels, width, height, dark
        As in `save_plot`.

    Returns
    -------
    matplotlib.figure.Figure
        To be saved (``figure.savefig``) or shown; it belongs to no window.

    Raises
    ------
    UsageError
        If there are no samples, they are not finite mono floats, or a setting is out of range.
    MissingExtraError
        If matplotlib is not installed.
    """
    signal, rate = checked_samples(samples, rate)
    if len(signal) == 0:
        raise UsageError("there are no samples to draw")
    _check_size(width, height)
    _check_mels(n_mels)
    display_rate = _display_rate(rate)
    config = plot_config(display_rate, len(signal) / rate, n_mels, columns=width)
    summary = overview(audio.resample(signal, rate, display_rate), config, columns=width)
    note = f"{_duration_text(summary.seconds)} · {rate / 1000:g} kHz"
    return draw(summary, title, note, width=width, height=height, dark=dark)


def draw(
    summary: Overview,
    title: str,
    note: str = "",
    *,
    start: float = 0.0,
    width: int = WIDTH,
    height: int = HEIGHT,
    dark: bool = False,
) -> Figure:
    """Draw an overview: the waveform, and below it the spectrogram with its axes and colour bar.

    Parameters
    ----------
    summary : Overview
        The overview to draw.
    title, note : str
        Texts above the plot, on the left and on the right.
    start : float
        Time of the first sample in seconds.
    width, height, dark
        As in `save_plot`.
    """
    colours = DARK if dark else LIGHT
    with new_figure(width, height, colours) as figure:
        grid = figure.add_gridspec(2, 2, height_ratios=[1, 5], width_ratios=[60, 1])
        spectrum = figure.add_subplot(grid[1, 0])
        wave = figure.add_subplot(grid[0, 0], sharex=spectrum)
        bar = figure.add_subplot(grid[1, 1])

        _draw_wave(wave, summary, start, colours)
        # The title's letters, about 9 pixels wide, get what margins, colour bar and note leave.
        room = (width - 230 - 7 * len(note)) // 9
        wave.set_title(shortened(title, max(room, 8)), loc="left")
        wave.set_title(note, loc="right", fontsize=9, fontweight="normal", color=colours["muted"])

        left = start - summary.column_seconds / 2
        image = spectrum.imshow(
            relative(summary.decibels).T,
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=-RANGE_DB,
            vmax=0.0,
            extent=(
                left,
                left + len(summary.decibels) * summary.column_seconds,
                0.0,
                summary.config.n_mels,
            ),
        )
        spectrum.set_xlim(start, start + summary.seconds)
        label_time(spectrum, start, summary.seconds, width)
        label_frequency(spectrum, summary, height)
        figure.colorbar(image, cax=bar, label="level (dB, loudest = 0)").outline.set_visible(False)
    return figure


@contextmanager
def new_figure(
    width: int, height: int, colours: dict[str, str], wspace: float = 0.0
) -> Iterator[Figure]:
    """Yield a figure of the given size in pixels, to be drawn within the block.

    Parameters
    ----------
    colours
        `LIGHT` or `DARK`.
    wspace
        Space between its columns, as a share of their width.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    require_matplotlib()
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with matplotlib.rc_context(style(colours)), missing_glyphs_ignored():
        layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08, hspace=0.0, wspace=wspace)
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, layout=layout)
        FigureCanvasAgg(figure)
        yield figure


def _draw_wave(axes: Axes, summary: Overview, start: float, colours: dict[str, str]) -> None:
    times = start + summary.step_seconds * np.arange(len(summary.low) + 1)
    low, high = (np.append(edge, edge[-1:]) for edge in (summary.low, summary.high))
    axes.fill_between(times, low, high, step="post", color=colours["wave"], linewidth=0.4)
    peak = max(float(-summary.low.min()), float(summary.high.max()), 1e-3)
    axes.set_ylim(-1.05 * peak, 1.05 * peak)
    axes.axis("off")


def label_time(axes: Axes, start: float, seconds: float, width: int) -> None:
    """Label the time axis at round times, as many as fit; in minutes if there are any."""
    max_labels = max(2, width // 90)  # labels that fit side by side
    step = next((s for s in _SECONDS_PER_TICK if seconds / s <= max_labels), _SECONDS_PER_TICK[-1])
    ticks = np.arange(np.ceil(start / step), np.floor((start + seconds) / step) + 1) * step
    as_clock = start + seconds > 60
    if as_clock and step >= 1:
        labels = [clock_text(tick) for tick in ticks]
        axes.set_xlabel("time (h:mm:ss)" if start + seconds >= 3600 else "time (m:ss)")
    else:
        decimals = 0 if step >= 1 else 1 if step >= 0.1 else 2
        labels = [f"{tick:.{decimals}f}" for tick in ticks]
        axes.set_xlabel("time (s)")
    axes.set_xticks(ticks, labels)


def label_frequency(axes: Axes, summary: Overview, height: int) -> None:
    """Label the frequency axis, a mel scale, an octave apart where there is room."""
    config = summary.config
    lowest, highest = float(hz_to_mel(config.f_min)), float(hz_to_mel(config.f_max))
    ticks: dict[int, float] = {}
    above = np.inf
    for hz in sorted(_TICKS_HZ, reverse=True):
        # Band i is drawn from i to i + 1, and its triangle peaks at edge i + 1.
        share = (float(hz_to_mel(hz)) - lowest) / (highest - lowest)
        position = max(0.0, share * (config.n_mels + 1) - 0.5)
        if hz <= 0.95 * config.f_max and above - position >= 25 / height * config.n_mels:
            ticks[hz] = above = position
    labels = [f"{hz // 1000} kHz" if hz >= 1000 else f"{hz} Hz" for hz in ticks]
    axes.set_yticks(list(ticks.values()), labels)
    axes.set_ylim(0.0, config.n_mels)
    axes.set_ylabel("frequency (mel scale)")


def style(colours: dict[str, str]) -> dict[Any, Any]:
    """Return matplotlib's settings for a picture in `LIGHT` or `DARK` colours."""
    return {
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.titlesize": 12,
        "axes.titleweight": "bold",
        "axes.titlecolor": colours["ink"],
        "axes.labelcolor": colours["ink"],
        "axes.edgecolor": colours["muted"],
        "axes.facecolor": colours["paper"],
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.color": colours["ink"],
        "text.parse_math": False,  # "$" is part of a name
        "xtick.color": colours["muted"],
        "ytick.color": colours["muted"],
        "xtick.labelcolor": colours["ink"],
        "ytick.labelcolor": colours["ink"],
        "figure.facecolor": colours["paper"],
    }


def _display_rate(rate: int) -> int:
    return min(max(rate, _RATES[0]), _RATES[1])


def _duration_text(seconds: float) -> str:
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    return clock_text(seconds) if seconds >= 60 else f"{seconds:.1f} s"


def shortened(title: str, max_length: int) -> str:
    """Shorten a title to at most `max_length` characters, keeping its more informative end."""
    return title if len(title) <= max_length else "…" + title[len(title) - max_length + 1 :]


def check_picture(output: str | os.PathLike[str], width: int, height: int) -> None:
    """Check whatever can be checked about a picture before it is drawn.

    Raises
    ------
    UsageError
        If the size is out of range or the format is unknown.
    MissingExtraError
        If matplotlib is not installed.
    """
    if Path(output).suffix.lower() not in SUFFIXES:
        raise UsageError(f"{output}: a picture's name must end in one of {', '.join(SUFFIXES)}")
    _check_size(width, height)
    require_matplotlib()


def save(figure: Figure, output: str | os.PathLike[str]) -> None:
    """Write a figure to a file.

    Raises
    ------
    TonearmError
        If it cannot be written.
    """
    try:
        with missing_glyphs_ignored(), atomic_write(output) as file:
            kind = Path(output).suffix.lower().removeprefix(".")
            figure.savefig(file, format=kind, dpi=DPI)
    except OSError as error:
        raise TonearmError(f"{output}: {reason_of(error)}") from error


@contextmanager
def missing_glyphs_ignored() -> Iterator[None]:
    """Do not warn of a name in a script that the font lacks: it is shown as boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def require_matplotlib() -> None:
    """Raise `MissingExtraError` if matplotlib is not installed."""
    with needs("plot"):
        import matplotlib  # noqa: F401


def _check_size(width: int, height: int) -> None:
    _check_range("width", width, 500, 10_000)
    _check_range("height", height, 300, 10_000)


def _check_mels(n_mels: int) -> None:
    _check_range("mels", n_mels, 16, 512)


def _check_range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UsageError(f"{name} must be from {least} to {most}, got {value}")
