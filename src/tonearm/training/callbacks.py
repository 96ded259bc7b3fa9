"""What happens around every epoch: its row in history.csv, its progress, its validation."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning
from rich.console import Console

from tonearm.progress import bar
from tonearm.training.module import GenreTraining
from tonearm.training.optimisation import write_history

COLUMNS = ("epoch", "seconds", "lr", "train_loss", "valid_loss", "valid_accuracy", "valid_f1")


class History(lightning.Callback):
    """Write one row per epoch; validation cells of epochs without validation stay empty.

    The rows are saved in the checkpoint, so the file of a resumed run has each epoch once.

    Parameters
    ----------
    path
        The CSV file.
    module
        The module that is trained.
    """

    def __init__(self, path: Path, module: GenreTraining) -> None:
        self.path = path
        self.module = module
        self.rows: list[dict[str, float]] = []
        self._begin = 0.0

    def on_train_epoch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Start the clock."""
        self._begin = time.monotonic()

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Add the epoch's row and rewrite the file."""
        self.module.note_training_figures()
        seconds = round(time.monotonic() - self._begin, 1)
        self.rows.append(
            {"epoch": trainer.current_epoch, "seconds": seconds, **self.module.figures}
        )
        if trainer.is_global_zero:
            write_history(self.path, COLUMNS, self.rows)

    def state_dict(self) -> dict[str, Any]:
        """Return the rows for the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the rows from the checkpoint."""
        self.rows = list(state["rows"])


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
        """Stop the bar, and say so if that is before the last epoch."""
        self._progress.stop()
        epochs = trainer.max_epochs
        if epochs and trainer.current_epoch < epochs and trainer.is_global_zero:
            stopped = f"stopped after epoch {trainer.current_epoch} of {epochs}"
            reason = "validation no longer improved (schedule.patience)"
            self._console.print(f"{stopped}: {reason}", soft_wrap=True)

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """Stop the bar after an error, so that the terminal is left in a clean state."""
        self._progress.stop()


class ValidateLastEpoch(lightning.Callback):
    """Validate the last epoch even if it is not a multiple of `validate_every`.

    The learning rate reaches zero there, so the last epoch is often the best one.
    """

    def on_train_epoch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Make Lightning validate every epoch once the last one starts."""
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1
