"""Draw an explanation: the evidence over the spectrogram, with the prediction beside it."""

from __future__ import annotations

import os
import textwrap
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len

from tonearm.explanation import Explanation
from tonearm.features import plot as spectrogram
from tonearm.features.picture import RANGE_DB, Overview, overview, plot_config, relative
from tonearm.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 1200, 700  # pixels

# Okabe and Ito's palette (2008), which colour-blind readers can tell apart. Orange is the genre
# explained and evidence for it, blue is evidence against it, so no other genre has either colour.
FOR, NEITHER, AGAINST = "#e69f00", "#c4ccd4", "#2f8fd6"
OTHERS = ("#009e73", "#cc79a7", "#8a6d3b")
REST = "#9aa5b1"

_LISTED = 6  # genres beside the picture
_DARKEST = 0.16  # brightness of silence: the colour of the evidence stays visible there too
_SMALLEST_SCALE = 0.01  # nats: keeps negligible evidence from being drawn in full colour
_REFUSED = "not music"  # the verdict on a window that is silent, or whose genres mean nothing
_VEIL = 0.75  # opacity of what covers its genres


def save_plot(
    explanation: Explanation,
    output: str | os.PathLike[str],
    *,
    width: int = WIDTH,
    height: int = HEIGHT,
    dark: bool = False,
) -> None:
    """Draw an explanation to a file.

    Parameters
    ----------
    explanation
        The explanation.
    output, width, height, dark
        As in `tonearm.features.plot.save_plot`.

    Raises
    ------
    UsageError
        If the output's suffix names no format of pictures, or a size is out of range.
    TonearmError
        If the picture cannot be written.
    MissingExtraError
        If matplotlib is not installed.
    """
    spectrogram.check_picture(output, width, height)
    spectrogram.save(plot(explanation, width=width, height=height, dark=dark), output)


def plot(
    explanation: Explanation, *, width: int = WIDTH, height: int = HEIGHT, dark: bool = False
) -> Figure:
    """Draw an explanation.

    On the left is the spectrogram, with the level as brightness and the evidence as colour; below
    it the timeline, the prediction for each window; on the right, the prediction for the clip.

    Parameters
    ----------
    width, height : int
        Size in pixels.
    dark : bool, default False
        Light text on a dark background.

    Returns
    -------
    matplotlib.figure.Figure
        To be saved (``figure.savefig``) or shown; it belongs to no window.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    colours = spectrogram.DARK if dark else spectrogram.LIGHT
    prediction = explanation.prediction
    palette = _palette(explanation)
    with spectrogram.new_figure(width, height, colours, wspace=0.02) as figure:
        ranking_width = 12 * max(1.0, 1000 / width) ** 1.3  # room for genres at any size
        grid = figure.add_gridspec(2, 3, height_ratios=[4, 1], width_ratios=[44, 1, ranking_width])
        ranking_pixels = (width - 250) * ranking_width / (45 + ranking_width)
        spectrum = figure.add_subplot(grid[0, 0])
        bar = figure.add_subplot(grid[0, 1])
        ranking = figure.add_subplot(grid[0, 2])
        timeline = figure.add_subplot(grid[1, 0], sharex=spectrum)

        probability = prediction.probabilities[explanation.genre]
        share = _per_cent(probability).replace(" ", "\N{NO-BREAK SPACE}")
        headline = f"Evidence for {explanation.genre} ({share})"
        if prediction.verdict != "music":
            headline += f", and {prediction.verdict}"
        name = printable(prediction.path.name) if prediction.path else ""
        cells = cell_len(headline)  # letters, or half as many Chinese characters
        room = (width - 480 - 9 * cells) // 7  # letters beside the headline
        # In a narrow picture, a single line would run into the title of the ranking.
        line = (round(0.078 * width) - 10) * len(headline) // cells
        spectrum.set_title(textwrap.fill(headline, line), loc="left")
        spectrum.set_title(
            spectrogram.shortened(name, room) if room >= 12 else "",
            loc="right",
            fontsize=9,
            fontweight="normal",
            color=colours["muted"],
        )
        scale = max(float(np.abs(explanation.evidence).max()), _SMALLEST_SCALE)
        _draw_evidence(spectrum, explanation, scale, width, height)
        _draw_scale(figure, bar, scale, height)
        _draw_ranking(ranking, explanation, palette, colours, ranking_pixels)
        _draw_timeline(timeline, explanation, palette, width)
        spectrum.tick_params(labelbottom=False)
        spectrum.set_xlabel("")
    return figure


def _draw_evidence(
    axes: Axes, explanation: Explanation, scale: float, width: int, height: int
) -> None:
    """Draw the spectrogram, with the level as brightness and the evidence as colour."""
    summary = _overview(explanation, columns=width)
    times = explanation.start + summary.column_seconds * np.arange(len(summary.decibels))
    config = summary.config
    hertz = config.band_centres
    evidence = explanation.at(times, hertz) / scale
    level = np.clip(relative(summary.decibels) / RANGE_DB + 1.0, 0.0, 1.0)
    brightness = _DARKEST + (1.0 - _DARKEST) * level
    hues = _colour_map()((evidence.T + 1.0) / 2.0)[..., :3]
    left = explanation.start - summary.column_seconds / 2
    right = left + len(summary.decibels) * summary.column_seconds
    axes.imshow(
        hues * brightness.T[..., np.newaxis],
        origin="lower",
        aspect="auto",
        extent=(left, right, 0.0, config.n_mels),
    )
    axes.set_xlim(explanation.start, explanation.start + summary.seconds)
    spectrogram.label_frequency(axes, summary, round(0.7 * height))


def _draw_scale(figure: Figure, axes: Axes, scale: float, height: int) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    mappable = ScalarMappable(Normalize(-scale, scale), _colour_map())
    bar = figure.colorbar(mappable, cax=axes)
    # In a low picture, the whole label would not fit.
    bar.set_label("against  ←  evidence (nats)  →  for" if height >= 400 else "evidence (nats)")
    bar.outline.set_visible(False)


def _draw_ranking(
    axes: Axes,
    explanation: Explanation,
    palette: dict[str, str],
    colours: dict[str, str],
    width: float,
) -> None:
    """Draw bars for the most probable genres, always including the one explained.

    Names too long for the width, in pixels, are cut: they would squeeze everything else.
    """
    probabilities = explanation.prediction.probabilities
    genres = list(probabilities)[:_LISTED]
    if explanation.genre not in genres:
        genres[-1] = explanation.genre
    positions = np.arange(len(genres))[::-1]
    values = [probabilities[genre] for genre in genres]
    axes.barh(positions, values, 0.3, color=[palette.get(genre, REST) for genre in genres])
    for position, genre, probability in zip(positions, genres, values, strict=True):
        weight = "bold" if genre == explanation.genre else "normal"
        name = axes.text(0.0, position + 0.22, genre, va="bottom", fontweight=weight)
        share = axes.text(
            1.0,
            position + 0.22,
            _per_cent(probability),
            va="bottom",
            ha="right",
            color=colours["muted"],
        )
        room = width - share.get_window_extent().width - 4
        kept = genre
        while kept and name.get_window_extent().width > room:
            kept = kept[:-1]
            name.set_text(f"{kept.rstrip()}…")
    axes.set(xlim=(0.0, 1.0), ylim=(-0.6, _LISTED - 0.1))
    axes.set_title("Answer", loc="left")
    axes.axis("off")


def _draw_timeline(
    axes: Axes, explanation: Explanation, palette: dict[str, str], width: int
) -> None:
    """Draw each window's probabilities as stacked bars; windows split their overlap in half.

    Those of a window that is not music are pale.
    """
    segments = explanation.prediction.segments
    inner = [(one.end + two.start) / 2 for one, two in pairwise(segments)]
    edges = np.array([segments[0].start, *inner, segments[-1].end])
    bottom = np.zeros(len(segments))
    ranked = [genre for genre in explanation.prediction.probabilities if genre in palette]
    ranked.sort(key=lambda genre: genre != explanation.genre)
    seconds = float(edges[-1] - edges[0])

    def fits(name: str, length: float) -> bool:
        return length / seconds * 0.7 * width >= 8 * cell_len(name) + 8

    def write(name: str, time: float, height: float, colour: str | None = None) -> None:
        axes.text(time, height, name, ha="center", va="center", color=colour, fontsize=9)

    for genre in [*ranked, None]:
        if genre is None:
            heights, colour = 1.0 - bottom, REST
        else:
            heights = np.array([segment.probabilities[genre] for segment in segments])
            colour = palette[genre]
        axes.bar(
            edges[:-1],
            heights,
            np.diff(edges),
            bottom,
            align="edge",
            color=colour,
            edgecolor=axes.get_facecolor(),
            linewidth=1.2,
        )
        for segment, begin, end, low, high in zip(
            segments, edges, edges[1:], bottom, bottom + heights, strict=False
        ):
            name = genre or "others"
            if segment.verdict != _REFUSED and high - low >= 0.22 and fits(name, end - begin):
                write(name, (begin + end) / 2, (low + high) / 2, _readable_on(colour))
        bottom = bottom + heights
    for segment, begin, end in zip(segments, edges, edges[1:], strict=False):
        if segment.verdict == _REFUSED:
            axes.axvspan(begin, end, color=axes.get_facecolor(), alpha=_VEIL, linewidth=0)
            if fits(_REFUSED, end - begin):
                write(_REFUSED, (begin + end) / 2, 0.5)
    axes.set_ylim(0.0, 1.0)
    axes.set_yticks([0.0, 0.5, 1.0], ["0 %", "50 %", "100 %"])
    axes.set_ylabel("by window")
    spectrogram.label_time(axes, explanation.start, seconds, round(0.75 * width))


def _overview(explanation: Explanation, columns: int) -> Overview:
    recording = explanation.recording
    config = plot_config(recording.rate, recording.duration, columns=columns)
    return overview([recording.samples], config, columns)


def _palette(explanation: Explanation) -> dict[str, str]:
    """Return a colour for the genre explained and for each of the most probable others."""
    others = [genre for genre in explanation.prediction.probabilities if genre != explanation.genre]
    return {explanation.genre: FOR, **dict(zip(others, OTHERS, strict=False))}


def _colour_map() -> Colormap:
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    # Steeper around the middle than at the ends, so that weak evidence is visible too.
    neutral, against, for_it = (np.array(to_rgb(colour)) for colour in (NEITHER, AGAINST, FOR))
    stops = np.linspace(-1.0, 1.0, 17)
    strength = np.abs(stops)[:, np.newaxis] ** 0.6
    hues = np.where(stops[:, np.newaxis] < 0.0, against, for_it)
    colours = neutral + strength * (hues - neutral)
    return LinearSegmentedColormap.from_list("evidence", [*map(tuple, colours)])


def _readable_on(colour: str) -> str:
    """Return black or white, whichever stands out more."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"


def _per_cent(probability: float) -> str:
    return f"{100 * probability:.0f} %" if probability >= 0.005 else "< 1 %"
