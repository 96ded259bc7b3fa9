"""Ctrl-C at inconvenient moments: it is neither lost nor turned into another error."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tonearm import audio
from tonearm.audio.source import LimitedFile
from tonearm.interrupts import interrupts_deferred, interrupts_noted


@pytest.fixture(autouse=True)
def default_handler(heeds_ctrl_c: None) -> Iterator[None]:
    """Ctrl-C does after a test what it did before."""
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_is_raised_at_the_end_of_the_block() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), interrupts_deferred():
        signal.raise_signal(signal.SIGINT)
        reached.append(1)
    assert reached


def test_an_interrupt_is_not_lost_if_the_block_ends_with_an_exception() -> None:
    with pytest.raises(KeyboardInterrupt), interrupts_deferred():
        signal.raise_signal(signal.SIGINT)
        next(iter(()))


def test_a_second_interrupt_is_raised_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), interrupts_deferred():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it went on")


def test_the_outermost_block_notes() -> None:
    with interrupts_noted() as noted:
        with interrupts_deferred():
            signal.raise_signal(signal.SIGINT)
        assert noted


def test_other_handlers_and_threads_are_left_alone() -> None:
    numbers: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: numbers.append(number))
    with interrupts_deferred():
        signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)
    assert numbers == [signal.SIGINT]

    def in_a_thread() -> None:
        with interrupts_deferred():
            numbers.append(0)

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert numbers[1:] == [0]


def test_a_second_interrupt_waits_for_the_end_of_a_block_within() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), interrupts_noted():
        signal.raise_signal(signal.SIGINT)
        with interrupts_deferred():
            signal.raise_signal(signal.SIGINT)
            reached.append(1)
        pytest.fail("it went on")
    assert reached


@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".flac", ".ogg"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_an_interrupt_while_a_file_is_read_is_not_lost(
    count: int,
    suffix: str,
    tmp_path: Path,
    write_audio: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(30 * 16000)
    path = write_audio(tmp_path / f"a{suffix}", noise.astype(np.float32), 16000)
    read = LimitedFile.read
    calls: list[int] = []

    def read_interrupted(file: LimitedFile, size: int = -1) -> bytes:
        calls.append(size)
        if len(calls) == count:
            signal.raise_signal(signal.SIGINT)
        return read(file, size)

    monkeypatch.setattr(LimitedFile, "read", read_interrupted)
    with pytest.raises(KeyboardInterrupt):
        audio.read(path, 16000)
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        audio.identify(path)


def test_an_interrupt_while_the_program_is_loaded_ends_it_quietly() -> None:
    code = """
import sys

class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "tonearm.cli.app":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupted())
from tonearm.__main__ import main
main()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (130, b"", b"")
