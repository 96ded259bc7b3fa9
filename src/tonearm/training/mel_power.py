"""From log-mel frames to mel power and back, on tensors of any shape whose last axis is mels."""

from __future__ import annotations

import math

from torch import Tensor

from tonearm.features.logmel import LogMelConfig

# Natural logarithm of power per unit of each logarithm.
_PER_UNIT = {"ln": 1.0, "log10": math.log(10.0), "db": math.log(10.0) / 10.0}


def to_power(logmel: Tensor, front_end: LogMelConfig) -> Tensor:
    """Undo a front end's logarithm: return its mel power, 0 or more, of the shape of `logmel`."""
    log = (logmel * front_end.divisor - front_end.shift) * _PER_UNIT[front_end.log]
    # "db" is 10 * log10(max(power, offset)); the others add the offset to the power.
    power = log.exp()
    return power if front_end.log == "db" else (power - front_end.offset).clamp(min=0.0)


def from_power(power: Tensor, front_end: LogMelConfig) -> Tensor:
    """Apply a front end's logarithm to mel power; the inverse of `to_power`."""
    offset = front_end.offset
    held = power.clamp(min=offset) if front_end.log == "db" else power + offset
    return (held.log() / _PER_UNIT[front_end.log] + front_end.shift) / front_end.divisor
