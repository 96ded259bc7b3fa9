"""Show the progress of training, its figures and the time left."""

from __future__ import annotations

from typing import Any

import lightning
from rich.console import Console

from tonearm.progress import bar
from tonearm.training.module import GenreTraining


class EpochProgress(lightning.Callback):
    """One progress bar over all epochs, on standard error; a line each where that is no terminal.

    An epoch without validation has no line.
    """

    def __init__(self, module: GenreTraining) -> None:
        self.module = module
        after = ["epochs, {task.fields[figures]}", "left"]
        self._console = Console(stderr=True)
        self._progress = bar(self._console, ["training"], after)
        self._progress.disable = not self._console.is_terminal

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Show the bar, starting at the epoch from which a run is resumed."""
        self._progress.start()
        self._task = self._progress.add_task(
            "", total=trainer.max_epochs, completed=trainer.current_epoch, figures=""
        )

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any, **__: Any
    ) -> None:
        """Advance the bar by a batch's share of an epoch."""
        self._progress.advance(self._task, 1 / int(trainer.num_training_batches))

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Show the epoch's figures."""
        figures = self.module.figures
        figures_text = [f"loss {figures['train_loss']:.3f}"]
        if "valid_f1" in figures:
            figures_text.append(f"validation F1 {figures['valid_f1']:.3f}")
        self._progress.update(self._task, figures=", ".join(figures_text))
        is_read = not self._console.is_terminal and trainer.is_global_zero
        if is_read and "valid_f1" in figures:
            epoch = f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
            self._console.print(f"{epoch}: {', '.join(figures_text)}", soft_wrap=True)

    def on_train_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Stop the bar."""
        self._progress.stop()

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """Stop the bar after an error, so that the terminal is left in a clean state."""
        self._progress.stop()
