"""A model bundle's description of itself, as one JSON object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from tonearm import __version__
from tonearm.errors import TonearmError
from tonearm.features.logmel import LogMelConfig
from tonearm.text import enumerated, is_line, listed

FORMAT_VERSION = 1
MUSIC_THRESHOLD = 0.3  # defaults for bundles that set none; docs/classify.md gives their cost
UNSURE_THRESHOLD = 0.4
MAX_WINDOW_SECONDS = 3_600.0  # seconds; a window is kept in memory
TEMPERATURES = 1e-3, 1e3  # outside this range, probabilities are 0 and 1, or all equal
DEEPEST = 20  # levels of nested objects and lists in the metadata


class MetadataError(TonearmError):
    """A bundle's metadata is incomplete, contradicts itself or has a newer format."""


@dataclass(frozen=True, kw_only=True)
class BundleMetadata:
    """A bundle's description of itself.

    Attributes
    ----------
    name
        Name of the model, for display.
    labels
        The genres, in the order of the logits' columns.
    front_end
        Settings of the log-mel frames the graph was trained on.
    second_front_end
        Settings of a second kind of frames of the same window, at the same sample rate; None if
        the graph takes only one.
    descriptors
        Names of the clip statistics the graph takes besides the frames, in order; empty if none.
    window_seconds, hop_seconds
        Length and hop of the windows that a clip is cut into.
    temperature
        Divides the clip's log-probabilities before the softmax (calibration).
    music_threshold, unsure_threshold
        The verdict is "not music" if the probability of music is below the first, and "unsure" if
        that of the best genre is below the second; 0 disables a threshold.
    training, metrics
        What the model was trained on and what it achieved, as plain JSON values.
    licence, attribution
        Licence of the weights, and whom to credit for them.
    tonearm_version
        The version of Tonearm that wrote the bundle.
    format_version
        Version of this structure; a reader refuses versions newer than its own.

    Raises
    ------
    MetadataError
        If a value is impossible (no labels, a repeated label, one that is not a line of text, a
        window of zero length).
    """

    name: str
    labels: tuple[str, ...]
    front_end: LogMelConfig
    window_seconds: float
    hop_seconds: float
    second_front_end: LogMelConfig | None = None
    descriptors: tuple[str, ...] = ()
    temperature: float = 1.0
    music_threshold: float = MUSIC_THRESHOLD
    unsure_threshold: float = UNSURE_THRESHOLD
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    attribution: str = ""
    tonearm_version: str = __version__
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if not self.labels:
            raise MetadataError("labels: expected at least one, got none")
        if len(set(self.labels)) != len(self.labels):
            raise MetadataError(f"labels: each must be there once, got {enumerated(self.labels)}")
        for label in self.labels:
            if not is_line(label):
                raise MetadataError(f"labels: expected a line of text each, got {label!a}")
        slowest = min(front_end.frames_per_second for front_end in self.front_ends)
        for setting in ("window_seconds", "hop_seconds"):
            value = getattr(self, setting)
            if not 0 < value <= MAX_WINDOW_SECONDS:
                raise MetadataError(
                    f"{setting}: expected more than 0 and at most {MAX_WINDOW_SECONDS:g}, "
                    f"got {_short(value)}"
                )
            if round(value * slowest) < 1:
                raise MetadataError(f"{setting}: expected a frame or more, got {value}")
        lowest, highest = TEMPERATURES
        if not lowest <= self.temperature <= highest:
            raise MetadataError(
                f"temperature: expected from {lowest:g} to {highest:g}, "
                f"got {_short(self.temperature)}"
            )
        for setting in ("music_threshold", "unsure_threshold"):
            value = getattr(self, setting)
            if not 0 <= value <= 1:
                raise MetadataError(
                    f"{setting}: expected a probability from 0 to 1, got {_short(value)}"
                )
        rates = {front_end.sample_rate for front_end in self.front_ends}
        if len(rates) > 1:
            raise MetadataError(
                "second_front_end: expected the first one's sample rate (a clip is decoded once), "
                f"got {' and '.join(map(str, sorted(rates)))} Hz"
            )

    @property
    def front_ends(self) -> tuple[LogMelConfig, ...]:
        """Both front ends, or the only one."""
        second = self.second_front_end
        return (self.front_end,) if second is None else (self.front_end, second)

    def to_json(self) -> str:
        """Return the JSON object that `from_json` reads back.

        Raises
        ------
        TypeError
            If `training` or `metrics` holds anything but plain JSON values.
        """
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["front_end"] = self.front_end.to_dict()
        if self.second_front_end is None:
            del values["second_front_end"]
        else:
            values["second_front_end"] = self.second_front_end.to_dict()
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> BundleMetadata:
        """Read metadata, refusing anything that this version of Tonearm does not understand.

        Raises
        ------
        MetadataError
            If the text is not a JSON object, its format is newer, or a setting is missing, unknown
            or of the wrong type.
        """
        values = _parse_object(text)
        _check_format_version(values)
        _check_keys(values)
        for key, expected in _JSON_TYPES.items():
            if key in values and not _is_a(values[key], expected):
                raise MetadataError(f"{key}: expected {expected}, got {_short(values[key])}")
        for key in ("front_end", "second_front_end"):
            if key in values:
                try:
                    values[key] = LogMelConfig.from_dict(values[key])
                except TonearmError as error:
                    raise MetadataError(f"unknown front end: {error}") from error
        values["labels"] = tuple(values["labels"])
        values["descriptors"] = tuple(values.get("descriptors", ()))
        return cls(**values)


def _parse_object(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MetadataError(f"metadata is no JSON that can be read: {error}") from error
    if not isinstance(values, dict):
        raise MetadataError(f"metadata: expected a JSON object, got {type(values).__name__}")
    _check_depth(values)
    return values


def _check_depth(values: dict[str, Any]) -> None:
    """Refuse metadata nested so deeply that traversing it could overflow the stack."""
    level: list[Any] = [values]
    for _ in range(DEEPEST):
        inner = [item.values() if isinstance(item, dict) else item for item in level]
        level = [item for items in inner for item in items if isinstance(item, dict | list)]
    if level:
        raise MetadataError(f"metadata: expected at most {DEEPEST} levels of nesting, got more")


def _check_format_version(values: dict[str, Any]) -> None:
    version = values.get("format_version")
    if type(version) is not int or version < 1:
        raise MetadataError(
            f"format_version: expected a whole number from 1, got {_short(version)}"
        )
    if version > FORMAT_VERSION:
        raise MetadataError(
            f"bundle format {_short(version)} is newer than this Tonearm reads ({FORMAT_VERSION}): "
            "install a newer Tonearm"
        )


def _check_keys(values: dict[str, Any]) -> None:
    if missing := _REQUIRED - set(values):
        raise MetadataError(f"metadata lacks {listed(missing)}")
    if unknown := set(values) - set(_JSON_TYPES):
        raise MetadataError(f"metadata has unknown {listed(unknown)}")


_JSON_TYPES = {
    "format_version": "a whole number",
    "name": "text",
    "labels": "a list of texts",
    "front_end": "an object",
    "second_front_end": "an object",
    "window_seconds": "a number",
    "hop_seconds": "a number",
    "descriptors": "a list of texts",
    "temperature": "a number",
    "music_threshold": "a number",
    "unsure_threshold": "a number",
    "training": "an object",
    "metrics": "an object",
    "licence": "text",
    "attribution": "text",
    "tonearm_version": "text",
}


_REQUIRED = {"format_version", "name", "labels", "front_end", "window_seconds", "hop_seconds"}


def _is_a(value: object, expected: str) -> bool:
    if expected == "a number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if expected == "a whole number":
        return type(value) is int
    if expected == "an object":
        return isinstance(value, dict)
    if expected == "a list of texts":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, str)


def _short(value: object) -> str:
    """Return a value shortened for an error message: a number may have thousands of digits."""
    shown = ascii(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}..."
