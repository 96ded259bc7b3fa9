from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from math import inf
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from tonearm import workers
from tonearm.errors import TonearmError, UsageError
from tonearm.threads import processors
from tonearm.workers import Crash, IsolatedWorker, StartError, as_finished, in_order


def start_isolated(
    prepare: Callable[[], Callable[[int], Any]],
) -> tuple[IsolatedWorker[int, Any], BaseProcess]:
    """Start an isolated function, and return its process too."""
    before = {child.pid for child in multiprocessing.active_children()}
    isolated = IsolatedWorker(prepare, time_limit=lambda _: 30.0)
    isolated.ready()
    (process,) = (child for child in multiprocessing.active_children() if child.pid not in before)
    return isolated, process


def _square_or_die() -> Callable[[int], int]:
    def work(number: int) -> int:
        if number == 3:
            os._exit(7)
        time.sleep(0.05 * (number % 2))  # the odd ones finish late
        return number**2

    return work


def test_results_come_in_order_and_a_crash_costs_one_item() -> None:
    results = list(in_order(_square_or_die, range(7), workers=2))
    assert results == [0, 1, 4, Crash(3, 7, inf), 16, 25, 36]


@pytest.mark.skipif(os.name != "posix", reason="elsewhere signals cannot be held back")
def test_a_process_that_is_starting_ignores_ctrl_c(tmp_path: Path) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    # In a program of its own: what multiprocessing starts beside the first process matters.
    program = tmp_path / "program.py"
    program.write_text(
        "import multiprocessing, signal\n"
        "from tonearm import workers\n"
        "def say():\n"
        "    print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []), flush=True)\n"
        "if __name__ == '__main__':\n"
        "    child = multiprocessing.get_context('spawn').Process(target=say)\n"
        "    with workers._signals_blocked():\n"
        "        child.start()\n"
        "    child.join()\n"
        "    say()\n"
    )
    assert subprocess.check_output([sys.executable, program], text=True) == "True\nFalse\n"
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    # And once it serves, it ignores what is the parent's to decide, and holds nothing back.
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for blocked, handler in in_order(_report_signals, signals, workers=2):
        assert (blocked, handler) == (False, signal.SIG_IGN)


def _report_signals() -> Callable[[int], tuple[bool, object]]:
    return lambda number: (
        number in signal.pthread_sigmask(signal.SIG_BLOCK, []),
        signal.getsignal(number),
    )


def _return_many_bytes() -> Callable[[int], bytes]:
    return bytes


@pytest.mark.skipif(os.name != "posix", reason="elsewhere processes cannot be stopped")
def test_a_process_killed_while_sending_its_result_costs_its_item() -> None:
    isolated, process = start_isolated(_return_many_bytes)
    receive = isolated._worker.pipe.recv

    def receive_late() -> bytes:
        assert isolated._worker.pipe.poll(30)  # it has begun to send, and its pipe is full
        process.kill()
        process.join()
        return receive()

    isolated._worker.pipe.recv = receive_late  # type: ignore[method-assign]
    assert isinstance(isolated(50_000_000), Crash)
    isolated.close()


def test_items_are_taken_only_as_they_are_needed() -> None:
    taken = []

    def endless() -> Iterator[int]:
        number = 10
        while True:
            taken.append(number)
            yield number
            number += 2

    results = in_order(_square_or_die, endless(), workers=1)
    assert [next(results), next(results)] == [100, 144]
    results.close()
    assert len(taken) <= 4


def test_nothing_to_do() -> None:
    assert list(in_order(_square_or_die, [], workers=1)) == []


def _sleep_or_hang() -> Callable[[float], float]:
    def work(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    return work


def _die() -> Callable[[int], int]:
    os._exit(3)


def test_results_may_come_as_they_are_finished_and_a_hang_costs_one_item() -> None:
    results = as_finished(
        _sleep_or_hang, [1000.0, 0.0, 0.1], workers=2, time_limit=lambda item: min(item, 1.0) + 1.0
    )
    assert list(results) == [0.0, 0.1, Crash(1000.0, None, 2.0)]


def _hang() -> Callable[[float], None]:
    def work(seconds: float) -> None:
        print(os.getpid(), flush=True)
        time.sleep(seconds)

    return work


@pytest.mark.skipif(os.name != "posix", reason="elsewhere workers do not inherit the output")
def test_a_worker_that_hangs_goes_with_its_parent() -> None:
    program = (
        "from tonearm.workers import as_finished; from test_workers import _hang;"
        "list(as_finished(_hang, [1000.0], workers=1))"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.kill()
    try:
        parent.communicate(timeout=30)  # until nobody is left who could write
    finally:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)


def test_behind_a_slow_item_few_others_are_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "LOOKAHEAD", 3)
    taken = []

    def items() -> Iterator[float]:
        for number in range(10):
            taken.append(number)
            yield 1.0 if number == 0 else 0.0

    results = in_order(_sleep_or_hang, items(), workers=2)
    assert next(results) == 1.0
    assert len(taken) <= 5  # the two behind it, and two that were begun when it was done
    assert list(results) == [0.0] * 9


def test_a_process_that_cannot_start_ends_the_work() -> None:
    with pytest.raises(StartError, match=r"died while starting \(exit code 3\)"):
        list(in_order(_die, [1, 2], workers=1))


def test_a_process_that_cannot_start_may_break_its_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(pipe: Connection, timeout: float) -> bool:
        wait([pipe], timeout)
        raise BrokenPipeError  # on Windows; elsewhere `recv` raises EOFError

    monkeypatch.setattr(Connection, "poll", ended)
    with pytest.raises(StartError, match=r"died while starting \(exit code 3\)"):
        list(in_order(_die, [1, 2], workers=1))


def test_an_interrupt_that_raises_nothing_costs_no_item(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupts = iter([InterruptedError])  # on Windows; elsewhere Python itself waits again

    def interrupted(pipes: list[Connection], timeout: float | None) -> list[Any]:
        for interrupt in interrupts:
            raise interrupt
        return wait(pipes, timeout)

    monkeypatch.setattr(workers, "wait", interrupted)
    assert list(in_order(_square_or_die, range(3), workers=1)) == [0, 1, 4]


def test_there_are_no_more_processes_than_windows_waits_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on Windows and macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    assert processors() == 60


def _no_model() -> Callable[[int], int]:
    raise TonearmError("model.onnx: no such file")


def test_a_process_reports_why_it_cannot_start(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StartError) as caught:
        list(in_order(_no_model, [1, 2], workers=2))
    assert str(caught.value) == "a worker process could not start: model.onnx: no such file"
    assert caught.value.reason == str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_only_a_process_that_ends_by_itself_may_lack_the_guard() -> None:
    assert "__main__" in str(StartError(1))
    assert "__main__" not in str(StartError(-9))
    unpickled = pickle.loads(pickle.dumps(StartError(None, "no such file")))
    assert (str(unpickled), unpickled.reason) == (
        str(StartError(None, "no such file")),
        unpickled.reason,
    )


def test_an_isolated_function_survives_its_crashes() -> None:
    square = IsolatedWorker(_square_or_die, time_limit=lambda number: 60.0)
    assert [square(number) for number in (2, 3, 4)] == [4, Crash(3, 7, 60.0), 16]
    square.close()
    wait = IsolatedWorker(_sleep_or_hang, time_limit=lambda seconds: 0.5)
    assert [wait(30.0), wait(0.0)] == [Crash(30.0, None, 0.5), 0.0]
    wait.close()


SCRIPT = """
import math
from functools import partial
from tonearm.errors import UsageError
from tonearm.workers import in_order

if __name__ == "__main__":
    try:
        list(in_order(partial(partial, math.sqrt), [4.0], 1))
    except UsageError as error:
        print(error)
"""


def test_a_script_on_standard_input_is_refused() -> None:
    ended = subprocess.run(
        [sys.executable], input=SCRIPT, capture_output=True, text=True, check=True
    )
    assert "save the script as a file" in ended.stdout
    assert not ended.stderr


def test_a_daemonic_process_may_not_start_others() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert "use one worker in each" in pool.apply(_start_workers)


def _start_workers() -> str:
    try:
        list(in_order(_square_or_die, [2], 1))
    except UsageError as error:
        return str(error)
    return "started"


@pytest.mark.skipif(os.name != "posix", reason="elsewhere processes cannot be stopped")
def test_a_process_that_was_stopped_is_ended_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_JOIN_SECONDS", 0.2)
    isolated, process = start_isolated(_square_or_die)
    assert process.pid
    os.kill(process.pid, signal.SIGSTOP)
    isolated.close()
    process.join(10)
    assert not process.is_alive()
    assert isolated(2) == 4  # called again, it starts anew
    isolated.close()


def test_a_process_that_cannot_begin_is_tried_again_at_the_next_call() -> None:
    isolated = IsolatedWorker(_die, time_limit=lambda _: 30.0)
    for start in (isolated.ready, partial(isolated, 1), partial(isolated, 1)):
        with pytest.raises(StartError, match="exit code 3"):
            start()
    isolated.close()


def test_a_process_that_never_begins_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {child.pid for child in multiprocessing.active_children()}
    monkeypatch.setattr("tonearm.workers.START_SECONDS", 0.5)
    message = r"did not start within 0\.5 s"
    with pytest.raises(StartError, match=message):
        list(as_finished(_sleep_at_start, [1], 1))
    isolated = IsolatedWorker(_sleep_at_start, time_limit=lambda item: 60.0)
    with pytest.raises(StartError, match=message):
        isolated.ready()
    with pytest.raises(StartError, match=message):
        isolated(1)
    isolated.close()
    assert {child.pid for child in multiprocessing.active_children()} <= before


def _sleep_at_start() -> Callable[[int], int]:
    time.sleep(60)
    raise AssertionError


@pytest.mark.skipif(os.name != "posix", reason="elsewhere it is ended in another way")
def test_a_process_that_died_idle_costs_no_item() -> None:
    isolated, process = start_isolated(_square_or_die)
    process.kill()
    process.join(10)
    assert isolated(2) == 4
    isolated.close()
