"""Results as the flat records that programs exchange: one JSON object for each file."""

from __future__ import annotations

from itertools import islice
from typing import Any

from tonearm.errors import UsageError
from tonearm.prediction import Failure, Prediction


def to_record(
    path: str | None,
    result: Prediction | Failure,
    *,
    top: int | None = None,
    timeline: bool = False,
) -> dict[str, Any]:
    """Return a result as plain JSON values.

    Parameters
    ----------
    path
        The file as the user named it; None for samples in memory.
    result
        The result for the file.
    top
        How many genres to keep in the probabilities; None for all.
    timeline
        Whether to add the windows as "segments".

    Returns
    -------
    dict
        "path", "genre", "confidence", "probabilities", "duration" (seconds), "truncated",
        "error", "music" and "verdict". For a prediction, "error" is null, and so is "music" if the
        model does not predict it; for a failure, all but "path" and "error" are. "genre" is the
        most probable one whatever the verdict.

    Raises
    ------
    UsageError
        If `top` is below 0.
    """
    if top is not None and top < 0:
        raise UsageError(f"top: expected 0 or more, got {top}")
    if isinstance(result, Failure):
        values = dict.fromkeys(("genre", "confidence", "probabilities", "duration", "truncated"))
        extra = dict.fromkeys(("music", "verdict", *(("segments",) if timeline else ())))
        return {"path": path, **values, "error": result.error, **extra}
    record: dict[str, Any] = {
        "path": path,
        "genre": result.genre,
        "confidence": _rounded(result.confidence),
        "probabilities": _shortened(result.probabilities, top),
        "duration": round(result.duration, 3),
        "truncated": result.truncated,
        "error": None,
        "music": _rounded(result.music),
        "verdict": result.verdict,
    }
    if timeline:
        record["segments"] = [
            {
                "start": round(segment.start, 3),
                "end": round(segment.end, 3),
                "probabilities": _shortened(segment.probabilities, top),
                "music": _rounded(segment.music),
                "verdict": segment.verdict,
            }
            for segment in result.segments
        ]
    return record


def _shortened(probabilities: dict[str, float], top: int | None) -> dict[str, float | None]:
    return {
        genre: _rounded(probability) for genre, probability in islice(probabilities.items(), top)
    }


def _rounded(probability: float | None) -> float | None:
    return None if probability is None else round(probability, 6)
