"""Datasets as tables of tracks: `load` a folder, `split` it, cache its features."""

from tonearm.datasets.layouts import LAYOUTS, load
from tonearm.datasets.splits import (
    PROTOCOLS,
    Fold,
    GapWarning,
    LeakWarning,
    LeftOutWarning,
    OneGenreWarning,
    SplitWarning,
    leak_warning,
    split,
)
from tonearm.datasets.track import Dataset, DatasetError, Track

__all__ = [
    "LAYOUTS",
    "PROTOCOLS",
    "Dataset",
    "DatasetError",
    "Fold",
    "GapWarning",
    "LeakWarning",
    "LeftOutWarning",
    "OneGenreWarning",
    "SplitWarning",
    "Track",
    "leak_warning",
    "load",
    "split",
]
