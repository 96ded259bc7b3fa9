"""Build the network of an experiment, and try it out before any features are computed."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from tonearm.errors import TonearmError, UsageError
from tonearm.features.descriptors import descriptor_names
from tonearm.models import GenreNetwork, audioset, create_model
from tonearm.models.registry import setting_names
from tonearm.training.experiment import Experiment
from tonearm.windows import PADDED_SECONDS


def build_network(experiment: Experiment, labels: Sequence[str]) -> GenreNetwork:
    """Build an experiment's network, with the settings that follow from labels and front end.

    Parameters
    ----------
    labels
        The genres, in the order of the logits. The student receives their names for its AudioSet
        head, which it does not use if AudioSet does not know all of them.

    Raises
    ------
    UsageError
        If the network cannot be built with these settings, or fails on the shortest input that it
        will receive.
    """
    name = experiment.model.name
    derived: dict[str, Any] = {
        "n_mels": experiment.front_end_config.n_mels,
        "n_descriptors": len(descriptor_names()),
        "labels": tuple(labels),
    }
    known = setting_names(name)
    settings = experiment.model.settings | {s: v for s, v in derived.items() if s in known}
    if "audioset_weight" in known and not audioset.knows(labels):
        settings["audioset_weight"] = 0.0
    try:
        with warnings.catch_warnings():
            # A warning about layers without weights; `_try` finds out whether they work.
            warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
            network = create_model(name, num_classes=len(labels), **settings)
            _try(network, experiment)
    except TonearmError:
        raise
    except Exception as error:  # any of torch's, whose messages do not name the settings
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"model {name!r} does not work with model.settings {experiment.model.settings}: "
            f"{reason}"
        ) from error
    return network


def _try(network: GenreNetwork, experiment: Experiment) -> None:
    """Run a copy of the network on the shortest input that training and validation will have."""
    data, front_end = experiment.data, experiment.front_end_config
    seconds = min(data.crop_seconds, data.window_seconds, PADDED_SECONDS)
    logmel = torch.zeros(2, round(seconds * front_end.frames_per_second), front_end.n_mels)
    descriptors = torch.zeros(2, len(descriptor_names())) if network.uses_descriptors else None
    with torch.inference_mode():
        copy.deepcopy(network).eval()(logmel, descriptors)
