"""The Lightning module: losses, optimiser, averaged weights and validation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from tonearm.errors import TonearmError
from tonearm.evaluation.calibration import probabilities_at
from tonearm.evaluation.metrics import Metrics, evaluate
from tonearm.models import GenreNetwork
from tonearm.training.augment import Batch, mixup, vary
from tonearm.training.datamodule import Clip
from tonearm.training.experiment import Experiment

# Chooses the best epoch and drives early stopping; see `selection_score`.
SELECTION = "valid_score"
# The most that the loss can subtract from it: less than any meaningful difference in macro F1.
_LOSS_SHARE = 1e-4

# Windows per validation batch: those of a long recording do not all fit into memory at once.
_WINDOWS = 64


class DivergedError(TonearmError):
    """Training has diverged: the loss or the network's output is no longer finite."""


class GenreTraining(lightning.LightningModule):
    """Train a network on crops, and validate the moving average of its weights on clips.

    Every random draw depends only on the seed, the epoch, the batch and the device's rank, so a run
    resumed at an epoch continues exactly as if it had never stopped.

    Parameters
    ----------
    network
        The network to train.
    experiment
        The settings.
    labels
        The genres, in the order of the logits.
    """

    def __init__(
        self, network: GenreNetwork, experiment: Experiment, labels: Sequence[str]
    ) -> None:
        super().__init__()
        self.network = network
        self.average = AveragedModel(
            network, multi_avg_fn=_moving_average(experiment.optimiser.average), use_buffers=True
        )
        self.average.requires_grad_(False)
        self.experiment = experiment
        self.labels = tuple(labels)
        self.figures: dict[str, float] = {}  # of the last epoch
        # Each validation clip's log-probabilities and target.
        self._validated: list[tuple[Tensor, Tensor]] = []

    @property
    def averaged_network(self) -> nn.Module:
        """The network with averaged weights, which is validated and exported."""
        network: nn.Module = self.average.module
        return network

    def on_train_epoch_start(self) -> None:
        """Clear the figures of the previous epoch."""
        self.figures = {}

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Vary and mix a batch, and return its loss."""
        rng = np.random.default_rng(
            (self.experiment.seed, self.current_epoch, batch_index, self.global_rank, 1)
        )
        torch.manual_seed(int(rng.integers(2**63)))  # for dropout
        # Of the last step in the end: afterwards, the schedule has moved on.
        self.figures["lr"] = float(self.trainer.optimizers[0].param_groups[-1]["lr"])
        settings = self.experiment.augment
        with torch.no_grad():
            logmel = vary(batch.logmel, self.experiment.front_end_config, settings, rng)
            batch = mixup(batch._replace(logmel=logmel), settings.mixup, rng)
        smoothing = self.experiment.optimiser.label_smoothing
        losses = [
            nn.functional.cross_entropy(logits, batch.target, label_smoothing=smoothing)
            for logits in self.network.branch_logits(batch.logmel, batch.descriptors)
        ]
        loss = torch.stack(losses).mean()
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch.target))
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_index: int) -> None:
        """Update the average with the new weights."""
        self.average.update_parameters(self.network)

    def note_training_figures(self) -> None:
        """Add the finished epoch's loss to its figures.

        Raises
        ------
        DivergedError
            If the loss is not finite.
        """
        self.figures["train_loss"] = float(self.trainer.callback_metrics["train_loss"])
        self._require_finite(self.figures["train_loss"])

    def validation_step(self, clip: Clip, clip_index: int) -> None:
        """Score a clip with the averaged weights."""
        scores = clip_log_probabilities(self.averaged_network, clip)
        self._validated.append((scores.cpu(), clip.target.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Evaluate all clips together, and log the score for early stopping."""
        metrics = self._evaluate()
        self._validated.clear()
        figures = {
            "valid_loss": metrics.nll,
            "valid_accuracy": metrics.accuracy,
            "valid_f1": metrics.f1,
        }
        self.figures |= figures
        score = selection_score(metrics.f1, metrics.nll)
        self.log_dict(figures | {SELECTION: score}, sync_dist=True)

    def _require_finite(self, figures: float | Tensor) -> None:
        if not torch.as_tensor(figures).isfinite().all():
            raise DivergedError(
                f"training diverged in epoch {self.current_epoch}: what it computes is NaN or "
                f"infinite; lower optimiser.lr ({self.experiment.optimiser.lr:g})"
            )

    def _evaluate(self) -> Metrics:
        scores = torch.stack([score for score, _ in self._validated])
        self._require_finite(scores)
        targets = torch.stack([target for _, target in self._validated])
        return evaluate(
            targets.argmax(dim=1).numpy(),
            probabilities_at(scores.numpy(), temperature=1.0),
            self.labels,
            bootstrap=0,
        )

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return AdamW and its learning rate schedule: a linear warm-up, then a cosine."""
        settings = self.experiment.optimiser
        optimiser = torch.optim.AdamW(self._parameter_groups(), lr=settings.lr)
        steps = int(self.trainer.estimated_stepping_batches)
        warmup = settings.warmup_epochs * steps / self.experiment.schedule.epochs

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, steps - warmup)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _parameter_groups(self) -> list[dict[str, Any]]:
        settings = self.experiment.optimiser
        pretrained = {id(p) for p in self.network.pretrained_parameters()}
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for parameter in self.network.parameters():
            # Biases and normalisations, which have one dimension, should not decay.
            key = (id(parameter) in pretrained, parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
        return [
            {
                "params": parameters,
                "lr": settings.lr * (settings.pretrained_lr_scale if is_pretrained else 1.0),
                "weight_decay": settings.weight_decay if decays else 0.0,
            }
            for (is_pretrained, decays), parameters in sorted(
                groups.items(), key=lambda item: item[0], reverse=True
            )
        ]


def selection_score(f1: float, loss: float) -> float:
    """Return a score that ranks epochs by macro F1, and those of equal F1 by lower loss.

    With few validation tracks, F1 can take only few values, so many epochs tie.
    """
    return f1 - _LOSS_SHARE * (1 - 1 / (1 + loss))


def clip_log_probabilities(network: nn.Module, clip: Clip) -> Tensor:
    """Return the mean log-probabilities over a clip's windows, float32[classes]."""
    descriptors = clip.descriptors
    scores: list[Tensor] = []
    for windows in torch.split(clip.windows, _WINDOWS):
        described = None if descriptors is None else descriptors.expand(len(windows), -1)
        logits: Tensor = network(windows, described)
        scores.append(logits.log_softmax(dim=1))
    return torch.cat(scores).mean(dim=0)


def _moving_average(decay: float) -> Any:
    """Return the update function of an exponential moving average that starts with less decay.

    Early on, the decay is (1 + n) / (10 + n) after n steps: otherwise the first weights would
    count for too long.
    """

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        n = float(count)
        weight = 1 - min(decay, (1 + n) / (10 + n))
        for mean, value in zip(averaged, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, weight)
            else:  # counters of batch normalisation
                mean.copy_(value)

    return update
