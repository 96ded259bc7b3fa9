"""Makes the network of an experiment, and tries it before anything is computed for it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence

import torch

from tonearm.errors import TonearmError, UsageError
from tonearm.features.descriptors import descriptor_names
from tonearm.models import GenreNetwork, audioset, create_model
from tonearm.training.experiment import Experiment
from tonearm.windows import PADDED_SECONDS


def make_network(experiment: Experiment, labels: Sequence[str]) -> GenreNetwork:
    """Make the network that an experiment names, with what follows from labels and front end.

    Parameters
    ----------
    labels
        The genres, in the order of the logits. A network that asks AudioSet's classes about them
        is told their names; where AudioSet does not know all of them, it does not ask.

    Raises
    ------
    UsageError
        If the network cannot be made with these settings, or has no answer to the shortest input
        that it will be given.
    """
    name, settings = experiment.model.name, dict(experiment.model.settings)
    settings["n_mels"] = experiment.front_end_config.n_mels
    if name == "multimodal" or settings.get("descriptors"):
        settings["n_descriptors"] = len(descriptor_names())
    if name == "student":
        settings["labels"] = tuple(labels)
        if not audioset.knows(labels):
            settings["audioset_weight"] = 0.0
    try:
        with warnings.catch_warnings():
            # Of layers without weights, to which the trial has an answer of its own.
            warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
            network = create_model(name, num_classes=len(labels), **settings)
            _try(network, experiment)
    except TonearmError:
        raise
    except Exception as error:  # any of torch's, which knows nothing of settings
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"model {name!r} does not work with model.settings {experiment.model.settings}: "
            f"{reason}"
        ) from error
    return network


def _try(network: GenreNetwork, experiment: Experiment) -> None:
    """Let a copy hear the shortest input of training and validation; the network stays as it is."""
    data, front_end = experiment.data, experiment.front_end_config
    seconds = min(data.crop_seconds, data.window_seconds, PADDED_SECONDS)
    logmel = torch.zeros(2, round(seconds * front_end.frames_per_second), front_end.n_mels)
    descriptors = torch.zeros(2, len(descriptor_names())) if network.uses_descriptors else None
    with torch.inference_mode():
        copy.deepcopy(network).eval()(logmel, descriptors)
