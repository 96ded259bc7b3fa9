"""What a user sees while a network is trained."""

from __future__ import annotations

import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tonearm.training.callbacks import EpochProgress, History

FIGURES = {"train_loss": 1.25}
JUDGED = {**FIGURES, "valid_loss": 1.5, "valid_accuracy": 0.5, "valid_f1": 0.4375}


def trainer(epoch: int, **changes: Any) -> Any:
    """What the callbacks are told by Lightning, in the middle of four epochs of two batches."""
    state = {"current_epoch": epoch, "max_epochs": 4, "num_training_batches": 2}
    return SimpleNamespace(**{**state, "is_global_zero": True, **changes})


def module(figures: dict[str, float]) -> Any:
    return SimpleNamespace(figures=figures, note_training_figures=lambda: None)


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    """The text on standard error, without the terminal's control sequences."""
    out, err = capsys.readouterr()
    assert out == ""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", err)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.usefixtures("terminal")
def test_a_terminal_shows_one_bar_that_goes_on_where_the_run_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = EpochProgress(module(JUDGED))
    progress.on_train_start(trainer(2), None)  # type: ignore[arg-type]
    for _ in range(2):
        progress.on_train_batch_end(trainer(2), None)  # type: ignore[arg-type]
    progress.on_train_epoch_end(trainer(2), None)  # type: ignore[arg-type]
    progress.on_train_end(trainer(4), None)  # type: ignore[arg-type]
    text = shown(capsys)
    *_, last = re.split("[\r\n]+", text.strip())
    assert "epoch 3 of 4" not in text
    assert re.fullmatch(
        r"training \S+ +3/4 +epochs, loss 1\.250, validation F1 0\.438 left .*", last
    )


@pytest.mark.usefixtures("terminal")
def test_a_failed_training_leaves_the_terminal_as_it_was(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = EpochProgress(module(FIGURES))
    progress.on_train_start(trainer(0), None)  # type: ignore[arg-type]
    assert "\x1b[?25l" in capsys.readouterr().err  # the cursor is hidden
    progress.on_exception(trainer(0), None, KeyboardInterrupt())  # type: ignore[arg-type]
    assert "\x1b[?25h" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("figures", "state", "lines"),
    [
        (JUDGED, {}, ["epoch 2 of 4: loss 1.250, validation F1 0.438"]),
        (FIGURES, {}, []),  # an epoch without validation
        (JUDGED, {"is_global_zero": False}, []),  # another device's process
    ],
)
def test_a_log_has_a_line_for_each_validation(
    capsys: pytest.CaptureFixture[str],
    figures: dict[str, float],
    state: dict[str, Any],
    lines: list[str],
) -> None:
    progress = EpochProgress(module(figures))
    progress.on_train_start(trainer(1), None)  # type: ignore[arg-type]
    progress.on_train_batch_end(trainer(1), None)  # type: ignore[arg-type]
    progress.on_train_epoch_end(trainer(1, **state), None)  # type: ignore[arg-type]
    progress.on_train_end(trainer(4), None)  # type: ignore[arg-type]
    # Older versions of Rich end a bar that is not shown with an empty line.
    assert [line for line in shown(capsys).splitlines() if line] == lines


def test_the_history_says_how_long_an_epoch_took(tmp_path: Path) -> None:
    history = History(tmp_path / "history.csv", module({"lr": 0.5, **FIGURES}))
    for epoch in range(2):
        history.on_train_epoch_start(trainer(epoch), None)  # type: ignore[arg-type]
        time.sleep(0.06)
        history.on_train_epoch_end(trainer(epoch), None)  # type: ignore[arg-type]
    header, *rows = (tmp_path / "history.csv").read_text().splitlines()
    assert header == "epoch,seconds,lr,train_loss,valid_loss,valid_accuracy,valid_f1"
    assert [row.split(",")[0] for row in rows] == ["0", "1"]
    assert all(0.1 <= float(row.split(",")[1]) < 30 for row in rows)
