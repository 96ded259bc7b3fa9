"""Write a model's evaluation to a folder: metrics, predictions, and an HTML page for people."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tonearm import __version__
from tonearm.atomic import write_text
from tonearm.audio import AudioError
from tonearm.evaluation import plots
from tonearm.evaluation import predictions as files
from tonearm.evaluation.grouping import too_few
from tonearm.evaluation.metrics import Metrics
from tonearm.evaluation.predictions import Predictions
from tonearm.extras import needs

if TYPE_CHECKING:
    from tonearm.classifier import Classifier

# Checked on import rather than when rendering, which may come after an hour of predicting.
with needs("report"):
    import matplotlib  # noqa: F401
    from jinja2 import Environment, PackageLoader, StrictUndefined

PICTURE_SIZE = 1000, 560  # pixels
WORST_ERRORS = 20
CONFUSED_PAIRS = 8
TEMPLATE = "report.html.j2"

KEY_FIGURES = (
    ("accuracy", "Accuracy", "share of tracks whose most probable genre is the true one"),
    ("f1", "Macro F1", "mean of the genres' F1, each genre counting alike"),
    ("precision", "Macro precision", "how often an answer is right, mean over genres"),
    ("recall", "Macro recall", "how much of a genre is found, mean over genres"),
    ("top3", "Top 3", "the true genre is among the three most probable"),
    ("ece", "Calibration error", "mean gap between confidence and accuracy"),
)


@dataclass(frozen=True)
class Subject:
    """What was evaluated, on what data, and how to reproduce it.

    Attributes
    ----------
    model, data, protocol
        One line each.
    command
        The command line that reproduces this report.
    facts
        Further facts for the top of the page, by name.
    warning
        Why the metrics come out too high, or empty if they do not.
    left_out
        One line for each file that could not be evaluated.
    date
        The day of the evaluation.
    """

    model: str
    data: str
    protocol: str
    command: str
    facts: Mapping[str, str] = field(default_factory=dict)
    warning: str = ""
    left_out: tuple[str, ...] = ()
    date: datetime.date = field(default_factory=datetime.date.today)


@dataclass(frozen=True)
class ErrorPicture:
    """An explanation of a wrong prediction: a plot of the evidence for it, or why there is none.

    Attributes
    ----------
    track, truth, predicted
        The track's id, its true genre, and the predicted one.
    png
        The plot, as the contents of a PNG file.
    shown
        The genre predicted for what the plot shows by itself: of a long track, only the middle.
    reason
        Why there is no plot, such as a silent middle.
    """

    track: str
    truth: str
    predicted: str
    png: bytes = b""
    shown: str = ""
    reason: str = ""

    @property
    def data_url(self) -> str:
        """The picture as a data URL."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


def explain_errors(
    classifier: Classifier, predictions: Predictions, paths: Mapping[str, Path], count: int
) -> list[ErrorPicture]:
    """Plot the evidence for the most confident wrong predictions, most confident first.

    Parameters
    ----------
    classifier
        The classifier that made the predictions.
    paths
        The audio files by track id.
    count
        Number of errors to explain.
    """
    from tonearm.explanation import explain
    from tonearm.explanation_plot import plot

    width, height = PICTURE_SIZE
    pictures = []
    for error in worst_errors(predictions, count):
        track, truth, predicted = error["track"], error["truth"], error["predicted"]
        try:
            explanation = explain(classifier, paths[track], predicted)
        except AudioError as failed:
            pictures.append(ErrorPicture(track, truth, predicted, reason=failed.reason))
            continue
        png = plots.to_png(plot(explanation, width=width, height=height), dpi=100)
        shown = explanation.prediction.genre
        pictures.append(ErrorPicture(track, truth, predicted, png, shown))
    return pictures


def write_report(
    folder: str | PathLike[str],
    predictions: Predictions,
    metrics: Metrics,
    subject: Subject,
    explained: Sequence[ErrorPicture] = (),
) -> Path:
    """Write `metrics.json`, `predictions.csv` and `report.html`; return the path of the last.

    Parameters
    ----------
    folder
        Where to write them; made if missing.
    predictions
        The predictions.
    metrics
        Their metrics (`predictions.metrics()`).
    subject
        What is reported on, for the top of the page.
    explained
        Pictures of the evidence for wrong predictions, as `explain_errors` makes them.

    Raises
    ------
    TonearmError
        If a file cannot be written.
    """
    folder = Path(folder)
    files.write(folder / "predictions.csv", predictions)
    write_text(folder / "metrics.json", metrics.to_json())
    page = folder / "report.html"
    write_text(page, render(predictions, metrics, subject, explained))
    return page


def render(
    predictions: Predictions,
    metrics: Metrics,
    subject: Subject,
    explained: Sequence[ErrorPicture] = (),
) -> str:
    """Return the report as one self-contained HTML page."""
    environment = Environment(
        loader=PackageLoader("tonearm", "evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}"
    return environment.get_template(TEMPLATE).render(
        subject=subject,
        metrics=metrics,
        version=__version__,
        figures=[
            {
                "title": title,
                "meaning": meaning,
                "value": getattr(metrics, name),
                "interval": metrics.intervals.get(name),
                "by_chance": metrics.ece_by_chance if name == "ece" else None,
            }
            for name, title, meaning in KEY_FIGURES
        ],
        plots={
            "confusion": _embedded(plots.confusion_matrix(metrics)),
            "classes": _embedded(plots.class_bars(metrics)),
            "reliability": _embedded(plots.reliability(metrics)),
            "confidence": _embedded(plots.confidence_histogram(predictions)),
        },
        few=too_few(metrics.groups, predictions.unit) if metrics.bootstrap else None,
        confused=confused_pairs(metrics),
        errors=worst_errors(predictions),
        explained=explained,
        error_count=int((~predictions.correct).sum()),
        has_artists=predictions.artists is not None,
    )


def worst_errors(predictions: Predictions, count: int = WORST_ERRORS) -> list[dict[str, Any]]:
    """List the most confident wrong predictions, most confident first."""
    wrong = np.flatnonzero(~predictions.correct)
    predicted, true_columns = predictions.predicted, predictions.truth_index
    confidence = predictions.probabilities.max(axis=1)
    order = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    return [
        {
            "track": predictions.tracks[i],
            "artist": predictions.artists[i] if predictions.artists else "",
            "truth": predictions.truth[i],
            "predicted": predicted[i],
            "confidence": float(confidence[i]),
            "share_of_truth": float(predictions.probabilities[i, true_columns[i]]),
        }
        for i in order
    ]


def confused_pairs(metrics: Metrics) -> list[dict[str, Any]]:
    """List the most frequent confusions, with track counts and shares of the true genre."""
    pairs: list[dict[str, Any]] = [
        {
            "truth": metrics.labels[row],
            "predicted": metrics.labels[column],
            "tracks": tracks,
            "share": tracks / metrics.per_class[row].support,
        }
        for row, counts in enumerate(metrics.confusion)
        for column, tracks in enumerate(counts)
        if row != column and tracks
    ]
    return sorted(pairs, key=lambda pair: (-pair["tracks"], -pair["share"]))[:CONFUSED_PAIRS]


def _embedded(figure: Any) -> str:
    """Return a figure as a data URL, since the element ids of inline SVGs could clash."""
    encoded = base64.b64encode(plots.to_svg(figure).encode()).decode()
    return f"data:image/svg+xml;base64,{encoded}"
