from __future__ import annotations

import asyncio
import errno
import http.client
import json
import multiprocessing
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="FastAPI is not installed (extra: serve)")
import httpx
import uvicorn
from prometheus_client.parser import text_string_to_metric_families
from starlette.exceptions import HTTPException

from bundles import FRONT_END, tone
from pages import check_page, needs_node, run_script
from tonearm.classifier import Classifier
from tonearm.errors import UsageError
from tonearm.isolation import IsolatedClassifier
from tonearm.prediction import Failure, Prediction
from tonearm.serving import Limits, WorkerPool, create_app, disk
from tonearm.serving.limits import LimitedUploads
from tonearm.serving.pool import NoWorker
from tonearm.serving.schema import Answer, Description
from tonearm.serving.server import bind, run_server
from tonearm.serving.statistics import Statistics
from tonearm.workers import StartError, _Worker

RATE = FRONT_END.sample_rate
posix = pytest.mark.skipif(os.name != "posix", reason="elsewhere processes cannot be stopped")


BEGUN_UPLOAD = (
    b"POST /classify HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
)


class Server:
    """An application behind a real socket, in a thread of this process."""

    def __init__(self, url: str, uploads: Path, processes: list[int]) -> None:
        self.url = url
        self.uploads = uploads
        self.processes = processes
        self.client = httpx.Client(base_url=url, timeout=30)

    def post(self, path: Path, name: str | None = None, **query: Any) -> httpx.Response:
        with path.open("rb") as file:
            return self.client.post(
                "/classify", files={"file": (name or path.name, file)}, params=query
            )

    def connect(self) -> socket.socket:
        return connect(self.url.removeprefix("http://"))

    def count(self, name: str, **labels: str) -> float:
        """Read a number off /metrics; 0 where there is none yet."""
        for family in text_string_to_metric_families(self.client.get("/metrics").text):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return sample.value
        return 0.0


def connect(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=30)


@contextmanager
def served(model: Path, processes: int = 1, **limits: float) -> Iterator[Server]:
    """Serve a bundle, and see that nothing is left when it ends."""
    before = {child.pid for child in multiprocessing.active_children()}
    tempdir = tempfile.tempdir
    app = create_app(
        WorkerPool(Classifier.load(model), processes),
        Limits(**limits),  # type: ignore[arg-type]
    )
    server_socket = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, args=([server_socket],))
    thread.start()
    wait_for(lambda: server.started or not thread.is_alive())
    assert server.started
    children = {child.pid for child in multiprocessing.active_children()} - before
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        served = Server(
            f"http://127.0.0.1:{server_socket.getsockname()[1]}",
            Path(folder),
            [pid for pid in children if pid],
        )
        try:
            yield served
            wait_for(lambda: served.count("tonearm_uploads") == 0)
            assert list(served.uploads.iterdir()) == []
        finally:
            tempfile.tempdir = tempdir
            served.client.close()
            server.should_exit = True
            thread.join()
    assert {child.pid for child in multiprocessing.active_children()} <= before


@asynccontextmanager
async def one_worker(model: Path) -> AsyncIterator[tuple[WorkerPool, int]]:
    """Run a pool of a single process, and yield the process's id too."""
    pool = WorkerPool(Classifier.load(model))
    before = {child.pid for child in multiprocessing.active_children()}
    async with pool.running():
        (process,) = {child.pid for child in multiprocessing.active_children()} - before
        assert process
        yield pool, process


@contextmanager
def command(model: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Serve a bundle by the command, and yield its process and its host and port."""
    arguments = ["serve", "--port=0", "--workers=1", f"--model={model}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tonearm", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        address = re.search(r"http://(127\.0\.0\.1:\d+)", line)
        assert address, line
        yield process, address[1]
    finally:
        process.kill()


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def server(musical_bundle: Path) -> Iterator[Server]:
    with served(musical_bundle, processes=2, megabytes=1) as server:
        yield server


@pytest.fixture
def low(tmp_path: Path, write_audio: Callable[..., Path]) -> Path:
    return write_audio(tmp_path / "low.flac", tone(200, 5), RATE)


def test_the_result_is_that_of_the_classifier(
    server: Server, musical_bundle: Path, low: Path
) -> None:
    response = server.post(low)
    expected = Classifier.load(musical_bundle)(low)
    assert response.status_code == 200
    assert response.json() == expected.to_dict() | {"path": "low.flac"}
    response = server.post(low, "a b/ü.flac", timeline=True, top=1)
    assert response.json() == expected.to_dict(timeline=True, top=1) | {"path": "a b/ü.flac"}
    assert len(response.json()["segments"]) > 1


def test_undecodable_files_get_a_reason_and_the_others_are_classified(
    server: Server, tmp_path: Path, low: Path, write_audio: Callable[..., Path]
) -> None:
    broken = tmp_path / "broken.mp3"
    broken.write_text("no music")
    silent = write_audio(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    before = server.count("tonearm_recordings_total", verdict="failed")
    for file, reason in ((broken, "not a media file"), (silent, "silent")):
        response = server.post(file)
        assert response.status_code == 422
        result = response.json()
        assert result["path"] == file.name
        assert result["genre"] is None
        assert reason in result["error"]
        assert "\n" not in result["error"]
    assert server.count("tonearm_recordings_total", verdict="failed") == before + 2
    assert server.post(low).json()["genre"] == "low"


def test_many_at_once_each_get_their_own_result(
    server: Server, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    pitches = {f"{hertz}.flac": hertz for hertz in (150, 200, 300, 4000, 5000, 6000)}
    files = [write_audio(tmp_path / name, tone(hertz, 3), RATE) for name, hertz in pitches.items()]
    with ThreadPoolExecutor(6) as threads:
        results = [response.json() for response in threads.map(server.post, files * 3)]
    assert [result["path"] for result in results] == [*pitches] * 3
    assert [result["genre"] for result in results] == ["low", "low", "low", *["high"] * 3] * 3


@pytest.mark.parametrize(
    ("call", "named"),
    [
        ({"data": {"other": "1"}}, "file"),
        ({"files": {"file": ("a.wav", b"")}, "params": {"top": 0}}, "top"),
        ({"json": {"file": "a.wav"}}, "file"),
        ({"data": {"file": "a.wav"}}, "file"),
        ({"files": [("file", ("a.wav", b"1")), ("file", ("b.wav", b"2"))]}, "files"),
    ],
)
def test_a_malformed_request_is_refused_with_the_reason(
    server: Server, call: dict[str, Any], named: str
) -> None:
    response = server.client.post("/classify", **call)
    assert response.status_code == 400
    assert list(response.json()) == ["error"]
    assert named in response.json()["error"]
    assert "\n" not in response.json()["error"]


def test_head_is_answered_as_get_is(server: Server) -> None:
    for page in ("/", "/health", "/model", "/metrics"):
        assert server.client.head(page).status_code == server.client.get(page).status_code == 200
    paths = server.client.get("/openapi.json").json()["paths"]
    assert all("head" not in methods for methods in paths.values())


def test_half_a_character_in_a_name_is_replaced(server: Server, low: Path) -> None:
    form = b"--x\r\nContent-Disposition: form-data; name=file; filename=+2AA-.flac\r\n\r\n"
    response = server.client.post(
        "/classify",
        content=form + low.read_bytes() + b"\r\n--x--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=x; charset=utf-7"},
    )
    assert (response.status_code, response.json()["path"]) == (200, "?.flac")
    response = server.client.post(
        "/classify",
        content=form + b"\r\n--x--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=x; charset=undefined"},
    )
    assert (response.status_code, response.json()["error"]) == (400, "the form cannot be read")


def test_other_ways_are_refused_in_the_same_form(server: Server) -> None:
    for response, status in (
        (server.client.post("/classify/"), 404),
        (server.client.get("/classify"), 405),
        (server.client.get("/nowhere"), 404),
        (server.client.get("/docs"), 404),
    ):
        assert (response.status_code, list(response.json())) == (status, ["error"])


@pytest.mark.parametrize("announced", [True, False])
def test_an_upload_that_is_too_large_is_refused(server: Server, announced: bool) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    before = server.count("tonearm_refusals_total", status="413", reason="request")
    body = form + bytes(1_000_001)
    response = server.client.post(
        "/classify",
        # Without its length, an upload comes in chunks, and may have no end.
        content=body if announced else iter([form, *[bytes(65_536)] * 20]),
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert response.status_code == 413
    assert response.json() == {"error": "larger than 1 MB"}
    assert server.count("tonearm_refusals_total", status="413", reason="request") == before + 1


@pytest.mark.parametrize(
    ("target", "status"),
    [("POST /classify", 400), ("POST /nowhere", 404), ("PUT /classify", 405)],
)
def test_after_an_early_response_the_upload_is_not_read_without_end(
    server: Server, monkeypatch: pytest.MonkeyPatch, target: str, status: int
) -> None:
    monkeypatch.setattr("tonearm.serving.limits.LINGER_SECONDS", 0.2)
    with server.connect() as client:
        client.sendall(
            f"{target} HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        response = b""
        with suppress(ConnectionError):  # on Linux it may come before the end
            for _ in range(1000):
                client.sendall(b"1000\r\n" + bytes(4096) + b"\r\n")
                if select.select([client], [], [], 0.01)[0]:
                    if not (part := client.recv(1000)):
                        break
                    response += part
            else:
                pytest.fail("it takes all in")
    assert response.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"connection: close" in response.lower()


def test_who_sends_all_before_reading_is_answered_too(server: Server) -> None:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Connection": "close"}
    connection.request("POST", "/classify", bytes(20_000_000), headers)
    assert connection.getresponse().status == 413
    connection.close()


def test_an_upload_that_dawdles_is_given_up(tiny_bundle: Path, low: Path) -> None:
    with served(tiny_bundle, idle_seconds=2) as server:
        with server.connect() as client:
            client.sendall(BEGUN_UPLOAD.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            response = client.makefile().read()
        assert response.startswith("HTTP/1.1 408")
        assert "the upload came too slowly" in response
        assert "connection: close" in response.lower()
        wait_for(lambda: server.count("tonearm_uploads") == 0)
        assert server.post(low).status_code == 200


def test_an_upload_that_never_ends_is_given_up(tiny_bundle: Path) -> None:
    with served(tiny_bundle, upload_seconds=0.5) as server:
        with server.connect() as client:
            client.sendall(
                b"POST /classify HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n"
                b"Content-Type: multipart/form-data; boundary=x\r\n\r\n5\r\n--x\r\n\r\n"
            )
            while not select.select([client], [], [], 0.05)[0]:
                client.sendall(b"1\r\n.\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 408")
        assert server.count("tonearm_refusals_total", status="408", reason="request") == 1


@posix
def test_uploads_beyond_the_queue_are_refused_as_busy(tiny_bundle: Path, low: Path) -> None:
    with served(tiny_bundle, waiting=1) as server, ThreadPoolExecutor(2) as threads:
        (process,) = server.processes
        os.kill(process, signal.SIGSTOP)
        first, second = threads.submit(server.post, low), threads.submit(server.post, low)
        wait_for(lambda: server.count("tonearm_uploads") == 2)
        refused = server.post(low)
        health = server.client.get("/health")
        os.kill(process, signal.SIGCONT)
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.json() == {"error": "busy with 2 recordings"}
        assert health.status_code == 200
        assert [first.result().status_code, second.result().status_code] == [200, 200]
        assert server.count("tonearm_refusals_total", status="503", reason="queue") == 1
        assert server.post(low).status_code == 200


@posix
def test_an_upload_of_a_disconnected_client_is_not_classified(tiny_bundle: Path, low: Path) -> None:
    with served(tiny_bundle) as server, ThreadPoolExecutor(2) as threads:
        (process,) = server.processes
        os.kill(process, signal.SIGSTOP)
        first = threads.submit(server.post, low)
        wait_for(lambda: server.count("tonearm_uploads") == 1)
        leaving = threading.Event()
        second = threads.submit(_post_and_leave, server, low, leaving)
        wait_for(lambda: server.count("tonearm_uploads") == 2)
        leaving.set()
        second.result()
        wait_for(lambda: server.count("tonearm_uploads") == 1)  # its place is free at once
        os.kill(process, signal.SIGCONT)
        assert first.result().status_code == 200
        wait_for(lambda: server.count("tonearm_uploads") == 0)
        assert server.count("tonearm_answer_seconds_count") == 1


def _post_and_leave(server: Server, path: Path, leaving: threading.Event) -> None:
    """Send a recording, and close the connection when it is time, without having read a byte."""
    request = httpx.Request("POST", f"{server.url}/classify", files={"file": path.read_bytes()})
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    with server.connect() as client:
        client.sendall(f"POST /classify HTTP/1.1\r\n{head}\r\n".encode() + request.read())
        assert leaving.wait(30)


@posix
def test_a_process_that_died_idle_costs_no_recording(tiny_bundle: Path, low: Path) -> None:
    with served(tiny_bundle) as server:
        (process,) = server.processes
        os.kill(process, signal.SIGKILL)
        time.sleep(0.1)
        assert server.post(low).json()["genre"] == "low"


@posix
def test_nobody_gets_the_result_of_another_request(
    tiny_bundle: Path, low: Path, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    high = write_audio(tmp_path / "high.flac", tone(5000, 2), RATE)

    async def attempt_twice() -> None:
        async with one_worker(tiny_bundle) as (pool, process):
            os.kill(process, signal.SIGSTOP)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pool.attempt(low), 0.1)
            os.kill(process, signal.SIGCONT)
            prediction = await pool.attempt(high)
            assert isinstance(prediction, Prediction)
            assert (prediction.path, prediction.genre) == (high, "high")

    asyncio.run(attempt_twice())


def test_who_came_first_is_served_first(tiny_bundle: Path, low: Path) -> None:
    order: list[int] = []

    async def attempt(pool: WorkerPool, number: int) -> None:
        await pool.attempt(low)
        order.append(number)

    async def attempts() -> None:
        async with one_worker(tiny_bundle) as (pool, _):
            await asyncio.gather(*(attempt(pool, number) for number in range(5)))

    asyncio.run(attempts())
    assert order == [0, 1, 2, 3, 4]


def test_who_leaves_just_when_their_turn_comes_gives_it_to_the_next(
    tiny_bundle: Path, low: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def attempts() -> Prediction | Failure:
        async with one_worker(tiny_bundle) as (pool, _):
            first = asyncio.ensure_future(pool.attempt(low))
            await asyncio.sleep(0)
            second = asyncio.ensure_future(pool.attempt(low))
            plain_release = pool._release

            def release_and_leave(worker: IsolatedClassifier) -> None:
                plain_release(worker)
                second.cancel()  # before it has noticed that the process is its own

            with monkeypatch.context() as patch:
                patch.setattr(pool, "_release", release_and_leave)
                await first
            with pytest.raises(asyncio.CancelledError):
                await second
            return await asyncio.wait_for(pool.attempt(low), 30)

    assert isinstance(asyncio.run(attempts()), Prediction)


def test_a_full_disk_is_reported_and_leaves_nothing(
    server: Server, low: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfileobj", full)
        response = server.post(low)
    assert (response.status_code, response.json()) == (503, {"error": "No space left on device"})
    assert server.post(low).status_code == 200


def test_a_disk_that_fills_up_while_a_form_comes_is_reported(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tiny_bundle, megabytes=10) as server:
        monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", full)
        response = server.client.post("/classify", files={"file": ("a.wav", bytes(3_000_000))})
        assert response.json() == {"error": "No space left on device"}
        assert (response.status_code, response.headers["Retry-After"]) == (503, "30")
        assert server.count("tonearm_refusals_total", status="503", reason="disk") == 1


def test_health_reports_a_full_disk_until_it_has_room_again(
    server: Server, low: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copyfileobj = shutil.copyfileobj

    def health() -> tuple[int, str]:
        response = server.client.get("/health")
        return response.status_code, response.json()["status"]

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfileobj", full)
        with monkeypatch.context() as small_files:
            small_files.setattr(disk, "TemporaryFile", full)
            assert server.post(low).status_code == 503
            assert health() == (503, "No space left on device")
        assert health() == (200, "ok")  # a small file can be written, and nobody need upload one
        with monkeypatch.context() as small_files:
            small_files.setattr(disk, "TemporaryFile", full)
            assert server.post(low).status_code == 503
            assert health()[0] == 503
            patched.setattr(shutil, "copyfileobj", copyfileobj)
            assert server.post(low).status_code == 200
            assert health() == (200, "ok")


def test_health_reports_that_no_process_can_start(
    tiny_bundle: Path, low: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with served(tiny_bundle) as server:
        with monkeypatch.context() as patched:
            patched.setattr(IsolatedClassifier, "attempt", exhausted)
            assert server.post(low).status_code == 503
            response = server.client.get("/health")
            assert response.status_code == 503
            assert "Too many open files" in response.json()["status"]
            assert server.count("tonearm_refusals_total", status="503", reason="process") == 1
        # By itself: clients that know of the error send no recording that would show it.
        wait_for(lambda: server.client.get("/health").json()["status"] == "ok")
        assert server.post(low).status_code == 200


def test_a_process_that_cannot_be_replaced_leaves_recordings_to_the_others(
    tiny_bundle: Path, low: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = IsolatedClassifier.attempt
    broken: list[IsolatedClassifier] = []

    def one_fails(worker: IsolatedClassifier, path: Path) -> Any:
        broken.append(worker)
        if worker is broken[0]:
            raise StartError(1)
        return attempt(worker, path)

    monkeypatch.setattr("tonearm.serving.pool.MIN_RETRY_SECONDS", 60.0)
    with served(tiny_bundle, processes=2) as server:
        with monkeypatch.context() as patched:
            patched.setattr(IsolatedClassifier, "attempt", one_fails)
            for _ in range(3):
                assert server.post(low).status_code == 200
        assert server.client.get("/health").status_code == 200
        assert broken.count(broken[0]) == 1


def test_all_waiting_callers_get_an_error_when_no_process_can_start(
    tiny_bundle: Path, low: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> None:
        time.sleep(0.2)
        raise OSError(errno.EMFILE, "Too many open files")

    async def attempt_all() -> list[BaseException | Any]:
        pool = WorkerPool(Classifier.load(tiny_bundle))
        async with pool.running():
            monkeypatch.setattr(IsolatedClassifier, "attempt", exhausted)
            attempts = (pool.attempt(low) for _ in range(3))
            return await asyncio.wait_for(asyncio.gather(*attempts, return_exceptions=True), 10)

    monkeypatch.setattr("tonearm.serving.pool.MIN_RETRY_SECONDS", 60.0)
    assert [type(error) for error in asyncio.run(attempt_all())] == [NoWorker] * 3


@posix
def test_at_the_end_waiting_callers_get_an_error(tiny_bundle: Path, low: Path) -> None:
    async def attempt_all() -> list[BaseException | Any]:
        async with one_worker(tiny_bundle) as (pool, process):
            os.kill(process, signal.SIGSTOP)
            attempts = [asyncio.ensure_future(pool.attempt(low)) for _ in range(3)]
            await asyncio.sleep(0.1)
            attempts[1].cancel()
        return await asyncio.wait_for(asyncio.gather(*attempts, return_exceptions=True), 30)

    running, cancelled, waiting = asyncio.run(attempt_all())
    assert isinstance(running, Failure)
    assert isinstance(cancelled, asyncio.CancelledError)
    assert isinstance(waiting, NoWorker)
    assert "the server is ending" in str(waiting)


def test_a_process_that_is_being_replaced_ends_with_the_others(
    tiny_bundle: Path, low: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {child.pid for child in multiprocessing.active_children()}

    restart_began, ended, ready = threading.Event(), threading.Event(), IsolatedClassifier.ready

    def ready_late(worker: IsolatedClassifier) -> None:
        restart_began.set()
        time.sleep(0.5)  # until all has been closed
        ready(worker)
        ended.set()

    def fail_to_start(*_: object) -> None:
        raise StartError(1)

    async def fail_and_close() -> None:
        pool = WorkerPool(Classifier.load(tiny_bundle))
        async with pool.running():
            with monkeypatch.context() as patched:
                patched.setattr(IsolatedClassifier, "attempt", fail_to_start)
                with pytest.raises(NoWorker):
                    await pool.attempt(low)
            monkeypatch.setattr(IsolatedClassifier, "ready", ready_late)
            while not restart_began.is_set():
                await asyncio.sleep(0.01)

    monkeypatch.setattr("tonearm.serving.pool.MIN_RETRY_SECONDS", 0.0)
    asyncio.run(fail_and_close())
    assert ended.wait(30)
    assert {child.pid for child in multiprocessing.active_children()} <= before


def test_who_leaves_in_the_middle_of_an_upload_is_no_error(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with server.connect() as client:
        client.sendall(BEGUN_UPLOAD)
        wait_for(lambda: server.count("tonearm_uploads") == 1)
    wait_for(lambda: server.count("tonearm_uploads") == 0)
    assert caplog.text == ""


def test_later_versions_of_http_are_limited_too() -> None:
    async def read_all(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass

    async def endless() -> dict[str, Any]:
        return {"type": "http.request", "body": bytes(1_000_000), "more_body": True}

    async def never_sent(message: Any) -> None:
        raise AssertionError(message)

    app = LimitedUploads(read_all, Limits(megabytes=5), 1, Statistics())
    scope = {"type": "http", "method": "POST", "http_version": "2", "headers": []}
    with pytest.raises(HTTPException, match="larger than 5 MB"):
        asyncio.run(app(scope, endless, never_sent))


def test_an_upload_that_still_comes_at_the_end_is_refused() -> None:
    async def waits(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    async def never(*_: Any) -> Any:
        await asyncio.sleep(60)

    async def cancel_upload() -> None:
        app = LimitedUploads(waits, Limits(), 1, Statistics())
        headers = [(b"content-length", b"10")]
        scope = {"type": "http", "method": "POST", "http_version": "1.1", "headers": headers}
        upload = asyncio.ensure_future(app(scope, never, never))
        await asyncio.sleep(0.05)
        upload.cancel()
        await upload

    with pytest.raises(HTTPException, match="the server is ending"):
        asyncio.run(cancel_upload())


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd.flac", "x" * 500, "宇多田ヒカル\u3000First Love.flac", "می\u200cخواهم.flac"],
)
def test_any_name_will_do_and_comes_back_as_it_was_sent(
    server: Server, low: Path, name: str
) -> None:
    response = server.post(low, name)
    assert response.status_code == 200
    assert response.json()["genre"] == "low"
    assert response.json()["path"] == name


def test_a_recording_sent_without_a_form_is_refused_with_what_is_expected(
    server: Server, low: Path
) -> None:
    for content in (low.read_bytes(), bytes(300_000)):
        response = server.client.post(
            "/classify",
            content=content,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert response.status_code == 400
        assert "expected one, in a form (multipart/form-data)" in response.json()["error"]


@posix
def test_a_recording_that_brings_its_process_down_fails_alone(
    tiny_bundle: Path, low: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tiny_bundle) as server, ThreadPoolExecutor(1) as threads:
        (process,) = server.processes
        os.kill(process, signal.SIGSTOP)
        assigned = threading.Event()
        start = _Worker.start

        def recording_start(worker: Any, *arguments: Any) -> None:
            start(worker, *arguments)
            assigned.set()

        monkeypatch.setattr(_Worker, "start", recording_start)
        response = threads.submit(server.post, low)
        assert assigned.wait(30)  # before that, the process would have died idle
        os.kill(process, signal.SIGKILL)
        assert response.result().status_code == 422
        assert response.result().json()["error"] == "the process died reading it (-9)"
        assert server.post(low).json()["genre"] == "low"


def test_it_reports_its_health_its_model_and_its_metrics(
    server: Server, low: Path, musical_bundle: Path
) -> None:
    metadata = Classifier.load(musical_bundle).bundle.metadata
    health = server.client.get("/health").json()
    assert (health["status"], health["model"]) == ("ok", metadata.name)
    assert server.client.get("/model").json() == json.loads(metadata.to_json())
    sound = server.count("tonearm_sound_seconds_total")
    music = server.count("tonearm_recordings_total", verdict="music")
    for outcome in ("not music", "unsure", "failed"):  # rates need a first value to start from
        assert f'verdict="{outcome}"' in server.client.get("/metrics").text
    server.post(low)
    assert server.count("tonearm_sound_seconds_total") == pytest.approx(sound + 5, abs=0.1)
    assert server.count("tonearm_recordings_total", verdict="music") == music + 1
    for path in ("/health", "/metrics"):
        assert server.client.get(path).headers["Cache-Control"] == "no-store"


def test_the_schema_describes_the_results(server: Server, low: Path, tmp_path: Path) -> None:
    schema = server.client.get("/openapi.json").json()
    operation = schema["paths"]["/classify"]["post"]
    assert {"200", "400", "413", "422", "500", "503"} <= operation["responses"].keys()
    (tmp_path / "broken").write_text("no music")
    for response in (server.post(low, timeline=True), server.post(tmp_path / "broken")):
        values = response.json()
        assert Answer.model_validate(values).model_dump(include=values.keys()) == values


def test_the_schema_names_what_clients_call_and_describes_the_model(server: Server) -> None:
    paths = server.client.get("/openapi.json").json()["paths"]
    named = {operation["operationId"] for path in paths.values() for operation in path.values()}
    assert named == {"classify", "health", "model", "metrics"}
    page = (Path(__file__).parents[1] / "docs" / "serve.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\S+ /\S*)`", page, re.MULTILINE)
    served = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert served - set(rows) == set(), "without a row in docs/serve.md"
    content = paths["/model"]["get"]["responses"]["200"]["content"]["application/json"]
    assert content["schema"] == {"$ref": "#/components/schemas/Description"}
    values = server.client.get("/model").json()
    assert Description.model_validate(values).model_dump() == values


PAGE_STAND_INS = """
globalThis.setTimeout = (resolve, milliseconds) => { pauses.push(milliseconds / 1000); resolve(); };
globalThis.fetch = async (address) => {
  if (address === "model") throw new Error("not asked here");
  tries += 1;
  return new Response(JSON.stringify(answer), { status, headers });
};
const told = [];
known.progress = { set textContent(text) { told.push(text); } };
const pauses = [];
let tries = 0;
let recording = Object.assign(new Blob(), { name: "song.mp3" });
"""
PAGE_TRIAL = """
add([recording]);
setImmediate(function look() {
  if (busy) return setImmediate(look);
  const [article] = known.results.children;
  console.log(JSON.stringify({ pauses, tries, told,
    error: descendants(article, "p").filter((text) => text.className === "error")
      .map((text) => text.textContent),
    cells: descendants(article, "div").filter((made) => made.className === "timeline")
      .flatMap((made) => made.children.map((cell) => [cell.textContent, cell.style.flexGrow])),
    words: descendants(article, "li").map((made) => made.textContent) }));
});
"""


def run_page(
    server: Server, folder: Path, status: int, answer: dict[str, Any], change: str = ""
) -> dict[str, Any]:
    """Give the page's script a recording, for which the server has an answer."""
    before = f"const status = {status}, answer = {json.dumps(answer)}, headers = {{}};"
    page = server.client.get("/").text
    result: dict[str, Any] = run_script(page, before + PAGE_STAND_INS + change, PAGE_TRIAL, folder)
    return result


@needs_node
@pytest.mark.parametrize(("retry_after", "pauses"), [("1", [1, 2, 4, 8, 16, 30]), ("30", [30, 30])])
def test_the_page_shows_what_it_waits_for_and_gives_up(
    server: Server, tmp_path: Path, retry_after: str, pauses: list[int]
) -> None:
    full = "No space left on device"
    wait = f'headers["Retry-After"] = "{retry_after}";'
    result = run_page(server, tmp_path, 503, {"error": full}, wait)
    assert (result["pauses"], result["tries"]) == (pauses, len(pauses) + 1)
    assert result["told"][:2] == [
        "0 of 1 done",
        f"0 of 1 done; song.mp3: {full}; next try in {pauses[0]} s",
    ]
    assert result["told"][-1] == f"1 of 1 done; song.mp3: {full}"
    assert result["error"] == [full]


@needs_node
def test_the_page_shows_the_status_of_a_proxy_that_refuses(server: Server, tmp_path: Path) -> None:
    proxy = 'globalThis.fetch = async () => new Response("<html>", { status: 413 });'
    result = run_page(server, tmp_path, 413, {}, proxy)
    assert result["error"] == ["refused with status 413, without a reason"]


@needs_node
def test_the_page_does_not_send_what_cannot_be_read(server: Server, tmp_path: Path) -> None:
    folder = "recording.slice = () => ({ arrayBuffer: () => Promise.reject(new Error()) });"
    result = run_page(server, tmp_path, 200, {}, folder)
    assert (result["error"], result["tries"]) == (["cannot be read, or is a folder"], 0)


@needs_node
def test_the_page_tells_a_timeline_in_words(server: Server, tmp_path: Path) -> None:
    windows = [("music", 0.6), ("music", 0.7), ("unsure", 0.4), ("not music", 0.4)]
    segments = [
        {
            "start": 10 * at,
            "end": 10 * at + 10,
            "verdict": verdict,
            "probabilities": {"pop": 0.2, "reggae": share},
        }
        for at, (verdict, share) in enumerate(windows)
    ]
    answer = segments[0] | {"duration": 40, "truncated": False, "segments": segments}
    result = run_page(server, tmp_path, 200, answer)
    # At the width of a phone there is room for no more than "? reggae".
    assert result["cells"] == [["reggae", 2], ["? reggae", 1], ["not music", 1]]
    assert result["words"] == [
        "0:00 – 0:20: reggae",
        "0:20 – 0:30: unsure, perhaps reggae",
        "0:30 – 0:40: not music",
    ]
    assert result["told"] == ["0 of 1 done", "1 of 1 done; song.mp3: reggae"]


def test_the_page_takes_nothing_from_elsewhere(server: Server) -> None:
    response = server.client.get("/")
    assert response.headers["Content-Type"].startswith("text/html")
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "base-uri 'none'; form-action 'none'" in policy  # which it does not stand for
    assert re.findall(r"(?:src|href)=|https?:|@import|url\(", response.text) == []
    check_page(response.text)
    assert re.search("<noscript>.*JavaScript.*</noscript>", response.text)
    assert '<p class="note" id="progress" role="status">' in response.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"megabytes": 0},
        {"megabytes": float("inf")},
        {"waiting": -1},
        {"idle_seconds": 0},
        {"upload_seconds": float("nan")},
    ],
)
def test_limits_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"limits: .* above 0, and waiting from 0, got"):
        Limits(**wrong)


def test_a_server_needs_a_process(tiny_bundle: Path) -> None:
    with pytest.raises(UsageError, match="workers"):
        WorkerPool(Classifier.load(tiny_bundle), 0)


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal_ends_it(
    number: signal.Signals, tiny_bundle: Path, low: Path
) -> None:
    with command(tiny_bundle) as (process, address):
        with low.open("rb") as file:
            response = httpx.post(f"http://{address}/classify", files={"file": file}, timeout=30)
        assert response.json()["genre"] == "low"
        process.send_signal(number)
        output, errors = process.communicate(timeout=30)
    assert process.returncode == (0 if number == signal.SIGINT else -signal.SIGTERM)
    assert "POST /classify" in output
    assert errors == ""


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_second_signal_ends_it_at_once_and_leaves_nothing(
    name: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    number = getattr(signal, name)
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # `nohup make test` ignores it
    with (
        command(tiny_bundle, TMPDIR=str(uploads)) as (process, address),
        connect(address) as client,
    ):
        signal.signal(signal.SIGHUP, before)
        client.sendall(BEGUN_UPLOAD)
        wait_for(lambda: any(uploads.iterdir()))
        process.send_signal(number)
        time.sleep(0.5)
        assert process.poll() is None  # it gives what it has in hand some time
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert list(uploads.iterdir()) == []
    assert process.returncode == (0 if number == signal.SIGINT else -signal.SIGTERM)
    assert errors == ""


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with bind("127.0.0.1", 0) as server_socket:
        # By this asyncio knows TCP, and then sends what it has at once (TCP_NODELAY).
        assert server_socket.proto == socket.IPPROTO_TCP


def test_idle_connections_are_kept_longer_than_proxies_keep_them(
    monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path
) -> None:
    configs: list[uvicorn.Config] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, _: configs.append(self.config))
    app = create_app(WorkerPool(Classifier.load(tiny_bundle)))
    with bind("127.0.0.1", 0) as server_socket:
        run_server(app, server_socket, lambda: None)
    (config,) = configs
    assert config.timeout_keep_alive > 600  # Google's load balancer


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("partial(os._exit, 3)", "a worker process died while starting (exit code 3)"),
        ("1 / 0", "unexpected ZeroDivisionError: division by zero"),
    ],
)
def test_processes_that_cannot_start_are_reported_in_one_line(
    tmp_path: Path, factory: str, message: str
) -> None:
    script = tmp_path / "serve.py"
    script.write_text(
        "import os, sys\n"
        "from functools import partial\n"
        "from tonearm import isolation\n"
        "from tonearm.cli.app import main\n"
        "if __name__ == '__main__':\n"
        f"    isolation._worker_factory = lambda classifier: {factory}\n"
        "    sys.argv = ['tonearm', 'serve', '--port', '0', '--workers', '2']\n"
        "    main()\n"
    )
    completed = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (completed.returncode, completed.stdout, completed.stderr) == (
        1,
        "",
        f"tonearm: {message}\n",
    )


@posix
def test_an_address_that_is_taken_is_reported_in_one_line(
    program: Callable[..., tuple[int, str, str]], tiny_bundle: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, output, errors = program("serve", "--port", port, "--model", tiny_bundle)
    assert (code, output) == (1, "")
    assert errors == f"tonearm: 127.0.0.1, port {port}: Address already in use\n"
    code, _, errors = program("serve", "--host", "a..b", "--model", tiny_bundle)
    assert code == 1
    assert errors.startswith("tonearm: a..b, port 8000: ")
    assert errors.count("\n") == 1
    _, _, errors = program("serve", "--host", "a\nb", "--model", tiny_bundle)
    assert errors.startswith("tonearm: a\\nb, port 8000: ")


def test_a_recording_that_cannot_be_decoded_is_no_refusal(server: Server, tmp_path: Path) -> None:
    (tmp_path / "broken.mp3").write_text("no music")
    assert server.post(tmp_path / "broken.mp3").status_code == 422
    assert server.count("tonearm_refusals_total", status="422", reason="request") == 0


def test_the_command_passes_its_limits_on(
    tiny_bundle: Path, program: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    def stopped(app: Any, *_: Any) -> bool:
        given.extend(app.user_middleware)
        return True

    pools: list[WorkerPool] = []
    made = WorkerPool.__init__
    monkeypatch.setattr(
        WorkerPool, "__init__", lambda self, *a: pools.append(self) or made(self, *a)
    )
    monkeypatch.setattr("tonearm.serving.server.run_server", stopped)
    options = ("--max-waiting", 3, "--max-megabytes", 7, "--time-limit", 9, "--port", 0)
    assert program("serve", "--model", tiny_bundle, *options)[0] == 0
    limits = given[0].kwargs["limits"]
    assert (limits.waiting, limits.megabytes) == (3, 7)
    assert pools[0].classifier.time_limit == 9
