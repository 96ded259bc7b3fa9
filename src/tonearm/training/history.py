"""Record the figures of every epoch in the run's history.csv."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning

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
            self._write()

    def state_dict(self) -> dict[str, Any]:
        """Return the rows for the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the rows from the checkpoint."""
        self.rows = list(state["rows"])

    def _write(self) -> None:
        write_history(self.path, COLUMNS, self.rows)
