"""Shows how far training is, how well it goes and when it will be done."""

from __future__ import annotations

from typing import Any

import lightning
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tonearm.training.module import GenreTraining


class EpochProgress(lightning.Callback):
    """One bar over all the epochs on standard error."""

    def __init__(self, module: GenreTraining) -> None:
        self.module = module
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs, {task.fields[figures]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Show the bar, from the epoch a resumed run stands at."""
        self._progress.start()
        self._task = self._progress.add_task(
            "", total=trainer.max_epochs, completed=trainer.current_epoch, figures=""
        )

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any, **__: Any
    ) -> None:
        """Advance by a part of an epoch."""
        self._progress.advance(self._task, 1 / int(trainer.num_training_batches))

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Tell the epoch's figures."""
        figures = self.module.figures
        told = [f"loss {figures['train_loss']:.3f}"]
        if "valid_f1" in figures:
            told.append(f"validation F1 {figures['valid_f1']:.3f}")
        self._progress.update(self._task, figures=", ".join(told))

    def on_train_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Take the bar down."""
        self._progress.stop()

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """Take the bar down after an error, so that the terminal is left in order."""
        self._progress.stop()
