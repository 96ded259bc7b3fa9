"""A prediction as the flat record that programs exchange: one JSON object for each file."""

from __future__ import annotations

from itertools import islice
from typing import Any

from tonearm.classifier import Failure, Prediction


def to_record(
    path: str, result: Prediction | Failure, *, top: int | None = None, timeline: bool = False
) -> dict[str, Any]:
    """Return a result as plain JSON values.

    Parameters
    ----------
    path
        The file as the user named it.
    result
        What became of it.
    top
        How many genres to keep in the probabilities; None for all.
    timeline
        Whether to add the windows as "segments".

    Returns
    -------
    dict
        "path", "genre", "confidence", "probabilities", "duration" (seconds), "truncated" and
        "error". Of a prediction "error" is null; of a failure all but "path" and "error" is.
    """
    if isinstance(result, Failure):
        values = dict.fromkeys(("genre", "confidence", "probabilities", "duration", "truncated"))
        extra = {"segments": None} if timeline else {}
        return {"path": path, **values, "error": result.error, **extra}
    record = {
        "path": path,
        "genre": result.genre,
        "confidence": round(result.confidence, 6),
        "probabilities": _rounded(result.probabilities, top),
        "duration": round(result.duration, 3),
        "truncated": result.truncated,
        "error": None,
    }
    if timeline:
        record["segments"] = [
            {
                "start": round(segment.start, 3),
                "end": round(segment.end, 3),
                "probabilities": _rounded(segment.probabilities, top),
            }
            for segment in result.segments
        ]
    return record


def _rounded(probabilities: dict[str, float], top: int | None) -> dict[str, float]:
    return {genre: round(p, 6) for genre, p in islice(probabilities.items(), top)}
