"""Minimise a loss by gradient descent, with averaged weights and resumable checkpoints."""

from __future__ import annotations

import copy
import io
import math
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from tonearm.atomic import atomic_write, write_csv
from tonearm.errors import TonearmError, reason_of
from tonearm.training.recipe import DistillOptimiserSettings

Network = TypeVar("Network", bound=nn.Module)

Log = Callable[[str], None]  # called with lines of progress

# Early on, the decay of the average is lower: n / (n + 20) after n steps.
_AVERAGE_DELAY = 20


class Optimisation(Generic[Network]):
    """AdamW over groups of weights, with a warm-up, a cosine and a moving average.

    AdamW is by Loshchilov and Hutter (2019, "Decoupled weight decay regularization"), and so is the
    cosine (2017, "SGDR"), here without restarts.

    The losses are computed from the number of the step. If they depend on nothing else (such as
    the state of a random generator), a resumed run is the same as an uninterrupted one.

    Parameters
    ----------
    network
        The network to train, in place, on the device where it is; see `training_device`.
    groups
        Groups of parameters, each with its peak learning rate.
    steps
        Number of steps.
    seed
        Seed of the randomness inside the network (dropout).
    """

    def __init__(
        self,
        network: Network,
        groups: Sequence[tuple[Sequence[nn.Parameter], float]],
        steps: int,
        settings: DistillOptimiserSettings,
        seed: int,
    ) -> None:
        # Saves a fifth of the time in the convolutions; other layers are not affected.
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(network).eval().requires_grad_(False)
        self.steps = steps
        self.done = 0
        self._settings = settings
        self._seed = seed
        self._rates = [rate for _, rate in groups]
        self._optimiser = torch.optim.AdamW(
            [{"params": list(parameters), "lr": rate} for parameters, rate in groups],
            weight_decay=settings.weight_decay,
        )
        self._rows: list[dict[str, float]] = []

    def run(
        self,
        losses: Callable[[int], Mapping[str, Tensor]],
        *,
        checkpoint: Path,
        history: Path,
        every: int,
        validate: Callable[[Network], Mapping[str, float]] | None = None,
        log: Log = lambda line: None,
    ) -> Network:
        """Take all remaining steps.

        Parameters
        ----------
        losses
            Returns the terms of a step's loss by name; their sum is minimised.
        checkpoint
            The checkpoint file; if it exists, training resumes from it.
        history
            A CSV file. Each row has the mean of every term since the previous row, over the steps
            that had the term.
        every
            Number of steps between rows, and between checkpoints.
        validate
            Returns further figures for a row, computed with the averaged network.
        log
            Called with a one-line summary of each row.

        Returns
        -------
        The network with averaged weights, on the CPU and in evaluation mode.

        Raises
        ------
        TonearmError
            If the checkpoint cannot be read, is damaged, or is of another network.
        OSError
            If a file cannot be written.
        """
        if checkpoint.exists():
            self._load(checkpoint)
        sums: dict[str, float] = {}
        counts: dict[str, int] = {}  # a step may lack some of the terms
        since, begin = self.done, time.monotonic()
        self.network.train()
        while self.done < self.steps:
            _seed_torch(self._seed, self.done)
            terms = losses(self.done)
            self._step(torch.stack(list(terms.values())).sum())
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + term.item()
                counts[name] = counts.get(name, 0) + 1
            if self.done % every and self.done != self.steps:
                continue
            seconds = time.monotonic() - begin
            count = self.done - since
            row = {"step": float(self.done), "seconds": seconds}
            row |= {name: value / counts[name] for name, value in sums.items()}
            row |= validate(self.average) if validate is not None else {}
            self._rows.append(row)
            self._write_history(history)
            self._save(checkpoint)
            log(self._line(row, seconds / count))
            sums, counts, since, begin = {}, {}, self.done, time.monotonic()
        self._write_history(history)
        return self.average.cpu()

    def _step(self, loss: Tensor) -> None:
        settings = self._settings
        warm = min(1.0, (self.done + 1) / max(1, settings.warmup_steps))
        cosine = 0.5 * (1 + math.cos(math.pi * self.done / self.steps))
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * (settings.lowest + (1 - settings.lowest) * warm * cosine)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if settings.clip_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip_norm)
        self._optimiser.step()
        self.done += 1
        decay = min(settings.average, self.done / (self.done + _AVERAGE_DELAY))
        with torch.no_grad():
            for mean, now in zip(
                self.average.state_dict().values(), self.network.state_dict().values(), strict=True
            ):
                if mean.is_floating_point():
                    mean.lerp_(now, 1 - decay)

    def _line(self, row: Mapping[str, float], pace: float) -> str:
        figures = " ".join(
            f"{name} {value:.3f}" for name, value in row.items() if name not in ("step", "seconds")
        )
        left = (self.steps - self.done) * pace / 60
        return f"step {self.done}/{self.steps}, {left:.0f} min left: {figures}"

    def _write_history(self, path: Path) -> None:
        columns = list(dict.fromkeys(name for row in self._rows for name in row))
        write_history(path, columns, self._rows)

    def _save(self, path: Path) -> None:
        state = {
            "done": self.done,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "rows": self._rows,
        }
        save_checkpoint(state, path)

    def _load(self, path: Path) -> None:
        with loaded_checkpoint(path) as state:
            self.done = state["done"]
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self._optimiser.load_state_dict(state["optimiser"])
            self._rows = state["rows"]


def training_device() -> torch.device:
    """Return a GPU if torch finds one, or the CPU.

    `CUDA_VISIBLE_DEVICES` says which one torch finds; none if it is empty.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def save_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """Store tensors and plain values; the file appears complete or not at all."""
    content = io.BytesIO()
    torch.save(dict(state), content)  # not to the file: torch hides why that cannot be written
    with atomic_write(path) as file:
        file.write(content.getbuffer())


@contextmanager
def loaded_checkpoint(path: Path) -> Iterator[dict[str, Any]]:
    """Load a checkpoint written by `save_checkpoint` or Lightning into main memory.

    The `with` block takes out of it what is needed: what fails there is the checkpoint's fault.

    Raises
    ------
    TonearmError
        If the file is missing, cannot be read, is damaged, or is a checkpoint of something else.
    """
    if not path.exists():
        raise TonearmError(f"{path}: missing; start over with --resume never")
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():  # torch does not check
                raise ValueError(f"{damaged} in it is damaged")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError(f"it holds a {type(state).__name__}")
        yield state
    except Exception as error:  # a damaged file fails in many ways
        lacks = isinstance(error, KeyError)
        reason = f"it lacks {error}" if lacks else reason_of(error).split(". ")[0]
        raise TonearmError(
            f"{path}: not a checkpoint to go on from ({reason}); remove it to start over"
        ) from error


def write_history(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, float]]) -> None:
    """Write a CSV table of training figures; cells of figures that a row lacks stay empty."""
    cells = ([f"{row[name]:.6g}" if name in row else "" for name in columns] for row in rows)
    write_csv(path, [columns, *cells])


def _seed_torch(seed: int, step: int) -> None:
    torch.manual_seed(int(np.random.SeedSequence((seed, step)).generate_state(1)[0]))


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use so many CPU threads within the block; 0 leaves the choice to torch."""
    if not count:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
