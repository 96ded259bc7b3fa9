"""Which genres need more examples, and why."""

from __future__ import annotations

from tonearm.library.forecast import Forecast, GenreForecast

FEW_FILES = 10
FEW_ARTISTS = 5  # with fewer, a model learns how these artists sound rather than the genre
LOW_RECALL = 0.7
CONFUSED_SHARE = 0.15  # share of a genre's tracks predicted as one other that is worth reporting


def advise(forecast: Forecast) -> dict[str, str]:
    """Return, for each genre that needs more examples, the reasons in one line.

    The genres that need them most come first.
    """
    grouped = forecast.unknown < sum(genre.files for genre in forecast.genres)
    return {
        genre.label: "; ".join(reasons)
        for genre in sorted(forecast.genres, key=lambda genre: (genre.recall, genre.files))
        if (reasons := _reasons(genre, grouped=grouped))
    }


def _reasons(genre: GenreForecast, *, grouped: bool) -> list[str]:
    reasons = []
    if genre.files < FEW_FILES:
        reasons.append(f"only {genre.files} files")
    if grouped and genre.groups < FEW_ARTISTS:
        single = genre.groups == 1
        reasons.append(
            f"all of one {genre.unit}" if single else f"only {genre.groups} {genre.unit}s"
        )
    if not genre.evaluated:
        return [*reasons, "could not be evaluated"]
    if genre.recall < LOW_RECALL:
        correct = round(genre.recall * genre.evaluated)
        reasons.append(f"{correct} of {genre.evaluated} recognised")
    if genre.confused_with:
        other, count = genre.confused_with[0]
        if count >= 2 and count / genre.evaluated >= CONFUSED_SHARE:
            reasons.append(f"{count} taken for {other}")
    return reasons
