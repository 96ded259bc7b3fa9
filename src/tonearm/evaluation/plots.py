"""Plots for evaluations and comparisons, such as confusion matrices and reliability diagrams."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from tonearm.evaluation.compare import Comparison
from tonearm.evaluation.metrics import Metrics
from tonearm.evaluation.predictions import Predictions
from tonearm.extras import needs
from tonearm.features.plot import LIGHT, missing_glyphs_ignored, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette (2008), distinguishable by colour-blind readers and in greyscale.
BLUE, ORANGE, GREEN, VERMILION = "#0072b2", "#e69f00", "#009e73", "#d55e00"
INK, MUTED, GRID = LIGHT["ink"], LIGHT["muted"], "#d9e0e7"

_LONGEST_NAME = 24  # letters of a genre's name beside a plot

STYLE: dict[Any, Any] = {  # Any: matplotlib types keys as literals that vary by version
    **style(LIGHT),
    "font.size": 9.5,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "savefig.facecolor": "white",
    # Fixed, so that the same figure gives the same file without random ids.
    "svg.hashsalt": "tonearm",
}


def confusion_matrix(metrics: Metrics) -> Figure:
    """Draw the confusion matrix, shaded by share of the true class, with counts in the cells."""
    counts = np.array(metrics.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    classes = len(metrics.labels)
    side = max(4.2, 1.3 + 0.36 * classes)
    with _figure(side + 0.7, side) as (figure, axes):
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        size = 9.5 if classes <= 12 else max(4.5, 114 / classes)
        for row, column in zip(*np.nonzero(counts), strict=True):
            axes.text(
                column,
                row,
                f"{counts[row, column]}",
                ha="center",
                va="center",
                fontsize=size,
                fontweight="bold" if row == column else "normal",
                color="white" if shares[row, column] > 0.55 else INK,
            )
        names = list(map(_shortened, metrics.labels))
        axes.set_xticks(range(classes), names, rotation=45, ha="right", fontsize=size)
        axes.set_yticks(range(classes), names, fontsize=size)
        axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.5)
        axes.tick_params(which="both", length=0)
        axes.spines[:].set_visible(False)
        axes.set(title="Confusion matrix", xlabel="predicted genre", ylabel="true genre")
        bar = figure.colorbar(image, ax=axes, fraction=0.045, pad=0.03)
        bar.set_label("share of the true genre's tracks")
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0)
        bar.ax.yaxis.set_major_formatter(_per_cent())
    return figure


def class_bars(metrics: Metrics) -> Figure:
    """Draw precision, recall and F1 of each class that occurs in the truth, best F1 on top."""
    rows = sorted((row for row in metrics.per_class if row.support), key=lambda row: row.f1)
    positions = np.arange(len(rows))
    series = [
        ("precision", BLUE, [row.precision for row in rows]),
        ("recall", ORANGE, [row.recall for row in rows]),
        ("F1", GREEN, [row.f1 for row in rows]),
    ]
    with _figure(5.6, max(3, 1.0 + 0.39 * len(rows))) as (figure, axes):
        for i, (name, colour, values) in enumerate(series):
            axes.barh(positions + 0.26 * (1 - i), values, 0.24, color=colour, label=name)
        names = [f"{_shortened(row.label)}  ({row.support})" for row in rows]
        axes.set_yticks(positions, names)
        axes.tick_params(axis="y", length=0)
        axes.set(xlim=(0, 1), ylim=(-0.6, len(rows) - 0.4), title="Precision, recall and F1")
        axes.set_xlabel("share (number of tracks behind the genre's name)")
        axes.xaxis.set_major_formatter(_per_cent())
        axes.grid(axis="x")
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def reliability(metrics: Metrics) -> Figure:
    """Draw accuracy against confidence; a calibrated classifier lies on the diagonal."""
    bins = [b for b in metrics.calibration if b.count]
    with _figure(5.2, 4.6) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        for b in bins:
            axes.plot([b.confidence] * 2, [b.confidence, b.accuracy], color=VERMILION, lw=1.5)
        # Areas grow with counts, so that a bin of 3 tracks does not look like one of 90.
        largest = max(b.count for b in bins)
        axes.scatter(
            [b.confidence for b in bins],
            [b.accuracy for b in bins],
            s=[14 + 130 * b.count / largest for b in bins],
            color=BLUE,
            zorder=3,
            clip_on=False,
        )
        axes.text(0.04, 0.93, "too modest", color=MUTED, style="italic")
        axes.text(0.96, 0.05, "too sure", color=MUTED, style="italic", ha="right")
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set(
            title=f"Reliability (calibration error {100 * metrics.ece:.1f} %, "
            f"{100 * metrics.ece_by_chance:.1f} by chance)",
            xlabel="mean confidence in the bin",
            ylabel="accuracy in the bin",
        )
        axes.xaxis.set_major_formatter(_per_cent())
        axes.yaxis.set_major_formatter(_per_cent())
        axes.grid()
    return figure


def confidence_histogram(predictions: Predictions) -> Figure:
    """Draw a histogram of the confidence of right and wrong predictions."""
    confidence = predictions.probabilities.max(axis=1)
    right = predictions.correct
    with _figure(5.2, 4.6) as (figure, axes):
        from matplotlib.ticker import MaxNLocator

        axes.hist(
            [confidence[right], confidence[~right]],
            bins=np.linspace(0, 1, 21).tolist(),
            stacked=True,
            color=[BLUE, ORANGE],
            label=[f"right ({right.sum()})", f"wrong ({(~right).sum()})"],
            edgecolor="white",
            linewidth=0.8,
        )
        axes.set(xlim=(0, 1), title="Confidence", xlabel="confidence", ylabel="tracks")
        axes.xaxis.set_major_formatter(_per_cent())
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y")
        # Outside, as bars can be anywhere: those of a model that is seldom sure are on the left.
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def ladder(comparison: Comparison, title: str) -> Figure:
    """Draw accuracy and macro F1 of each run with their intervals, in the given order."""
    rows = comparison.rows
    positions = np.arange(len(rows))[::-1]
    series = [
        ("accuracy", "accuracy", BLUE, "o", 0.13),
        ("f1", "macro F1", ORANGE, "s", -0.13),
    ]
    with _figure(7.2, 1.5 + 0.42 * len(rows)) as (figure, axes):
        for measure, name, colour, marker, offset in series:
            values = np.array([getattr(row.metrics, measure) for row in rows])
            low, high = np.array(
                [row.metrics.intervals.get(measure, (np.nan, np.nan)) for row in rows]
            ).T
            # A percentile interval may exclude its estimate; whiskers cannot be negative.
            whiskers = [np.maximum(values - low, 0), np.maximum(high - values, 0)]
            axes.errorbar(
                values,
                positions + offset,
                xerr=whiskers,
                fmt=marker,
                color=colour,
                markersize=5,
                elinewidth=1.6,
                label=name,
            )
        axes.set_yticks(positions, [row.name for row in rows])
        axes.tick_params(axis="y", length=0)
        axes.set(ylim=(-0.6, len(rows) - 0.4), title=title, xlabel="share, with 95 % intervals")
        axes.xaxis.set_major_formatter(_per_cent())
        axes.grid(axis="x")
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def to_svg(figure: Figure) -> str:
    """Return the figure as the text of an SVG file."""
    text = io.StringIO()
    with _style():
        # Without the date, which would make every file different.
        figure.savefig(text, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return text.getvalue()


def to_png(figure: Figure, dpi: int = 160) -> bytes:
    """Return the figure as the bytes of a PNG file."""
    data = io.BytesIO()
    with _style():
        figure.savefig(data, format="png", dpi=dpi, bbox_inches="tight")
    return data.getvalue()


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """Yield a figure of the given size in inches, and its axes, in Tonearm's style."""
    with _style():
        from matplotlib.figure import Figure

        # Not through pyplot, which looks for a GUI backend and keeps a global list of figures.
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots()


@contextmanager
def _style() -> Iterator[None]:
    with needs("plot"):
        import matplotlib
    with matplotlib.rc_context(STYLE), missing_glyphs_ignored():
        yield


def _shortened(label: str) -> str:
    """Cut a genre's name that would leave little room for the plot; tables have it in full."""
    return label if len(label) <= _LONGEST_NAME else f"{label[: _LONGEST_NAME - 1].rstrip()}…"


def _per_cent() -> Any:
    from matplotlib.ticker import PercentFormatter

    return PercentFormatter(1, decimals=0)
