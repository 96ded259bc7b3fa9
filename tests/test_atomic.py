"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from host import IS_A_FOLDER, deletes_files_in_use, needs_links
from tonearm import atomic
from tonearm.atomic import atomic_path, atomic_write, require_writable_folder, write_text
from tonearm.errors import TonearmError


def test_a_block_that_ends_badly_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write(b"half of it")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_what_a_killed_process_left_goes_with_a_later_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, stays in (tmp_path / "soon", True), (tmp_path / "later", False):
        folder.mkdir()
        leftover = folder / ".tonearm-0123456789abcdef.partial"
        leftover.touch()
        write_text(folder / "page.html", "new")
        assert leftover.exists() == stays
        monkeypatch.setattr(atomic, "LEFT_OVER_SECONDS", -1.0)


@needs_links
def test_a_draft_that_fails_its_check_leaves_what_was_there(tmp_path: Path) -> None:
    path, link = tmp_path / "mine.onnx", tmp_path / "link.onnx"
    path.write_text("old")
    path.chmod(0o600)
    link.symlink_to(path)
    with pytest.raises(RuntimeError), atomic_path(link) as draft:
        draft.write_text("wrong")
        assert not list(tmp_path.glob(".*.onnx"))
        raise RuntimeError
    assert path.read_text() == "old"
    with atomic_path(link) as draft:
        draft.write_text("new")
        assert path.read_text() == "old"
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link.onnx", "mine.onnx"]


def test_a_file_is_on_the_disk_in_full_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sync, synced = tmp_path / "mine.onnx", os.fsync, []

    def noting(handle: int) -> None:
        sync(handle)
        synced.append((os.fstat(handle).st_size, path.exists()))

    monkeypatch.setattr(os, "fsync", noting)
    with atomic_write(path) as file:
        file.write(b"whole")
    path.unlink()
    with atomic_path(path) as draft:
        draft.write_bytes(b"whole")
    assert synced == [(5, False)] * 2


@needs_links
def test_a_link_stays_one_and_the_new_file_is_as_private_as_the_old(tmp_path: Path) -> None:
    path, link = tmp_path / "page.html", tmp_path / "link.html"
    path.write_text("old")
    path.chmod(0o600)
    link.symlink_to(path)
    write_text(link, "new")
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(os.name != "posix", reason="elsewhere files are not given away")
def test_who_cannot_give_a_file_away_gives_it_to_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    path.chmod(0o640)
    original, real_stat, calls = path.stat(), Path.stat, []

    def chown(target: Path, user: int, group: int) -> None:
        calls.append((user, group, stat.S_IMODE(target.stat().st_mode) & 0o077))
        if user != -1:
            raise PermissionError(errno.EPERM, "Operation not permitted")

    def stat_of_another_owner(file: Path, **options: bool) -> os.stat_result:
        state = list(real_stat(file, **options))
        if file == path:
            state[stat.ST_UID], state[stat.ST_GID] = original.st_uid + 1, original.st_gid + 1
        return os.stat_result(state)

    umask = os.umask(0o077)
    try:
        monkeypatch.setattr(os, "chown", chown)
        monkeypatch.setattr(Path, "stat", stat_of_another_owner)
        with atomic_write(path) as file:
            file.write(b"new")
        with atomic_path(path) as draft:
            draft.touch()
    finally:
        os.umask(umask)
    # And before others may read it.
    user, group = original.st_uid + 1, original.st_gid + 1
    assert calls == [(user, group, 0), (-1, group, 0)] * 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.skipif(os.name != "posix", reason="no pipes with names of files here")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_text(pipe, "through it")
    reader.join(10)
    assert read == ["through it"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    (tmp_path / "link").symlink_to(pipe)
    refused = pytest.raises(OSError, match="not a file that can be replaced")
    with refused, atomic_path(tmp_path / "link") as draft:
        draft.write_bytes(b"a model")
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(os.name != "posix", reason="no pipes with names of files here")
def test_a_pipe_without_a_name_is_written_to() -> None:
    receiving, sending = os.pipe()
    write_text(f"/dev/fd/{sending}", "through it")  # as a shell names the pipe of >(gzip)
    os.close(sending)
    with open(receiving) as end:  # noqa: PTH123
        assert end.read() == "through it"


def test_what_cannot_be_written_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(TonearmError, match=f"folder: {IS_A_FOLDER}"):
        write_text(tmp_path / "folder", "text")
    (tmp_path / "file").touch()
    for deep in ("page", "album/page"):
        with pytest.raises(TonearmError, match="page: a file is where its folder should be"):
            write_text(tmp_path / "file" / deep, "text")


@pytest.mark.parametrize(
    "write", [pytest.param(atomic_write, marks=deletes_files_in_use), atomic_path]
)
def test_errors_name_the_file_and_not_its_draft(tmp_path: Path, write: Callable[..., Any]) -> None:
    path, absent = tmp_path / "mine.onnx", tmp_path / "absent"
    with pytest.raises(OSError, match="mine") as nameless, write(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as in writing to an open file
    with pytest.raises(FileNotFoundError) as of_draft, write(path):
        for draft in tmp_path.iterdir():
            draft.unlink()
    with pytest.raises(FileNotFoundError) as of_other, write(path):
        absent.read_text()
    assert (nameless.value.errno, nameless.value.filename) == (errno.ENOSPC, str(path))
    assert of_draft.value.filename == str(path)
    assert of_other.value.filename == str(absent)


@pytest.mark.parametrize("supports_links", [True, False])
def test_a_file_that_does_not_give_way_is_the_first_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, supports_links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not supports_links:
        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "plan.json"
    with atomic_write(path, replaces=False) as file:
        file.write(b"first")
    assert path.read_bytes() == b"first"
    if supports_links:
        with pytest.raises(FileExistsError), atomic_write(path, replaces=False) as file:
            file.write(b"second")
        assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_folders_are_made_and_what_cannot_be_made_is_reported_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_writable_folder(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
    with atomic_path(tmp_path / "a" / "b" / "mine.onnx") as draft:
        draft.write_text("new")
    assert (tmp_path / "a" / "b" / "mine.onnx").read_text() == "new"
    (tmp_path / "taken").touch()
    for folder in (tmp_path / "taken", tmp_path / "taken" / "c"):
        told = re.escape(f"{folder}: a file is where its folder should be")
        with pytest.raises(TonearmError, match=told):
            require_writable_folder(folder)
    for denied in (os.W_OK, os.X_OK):  # of which root has both
        monkeypatch.setattr(os, "access", lambda _, mode, denied=denied: not mode & denied)
        with pytest.raises(TonearmError, match="Permission denied"):
            require_writable_folder(tmp_path / "d")
    answers = iter([False] * 99)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", lambda _: next(answers))  # a drive that Windows does not know
        with pytest.raises(TonearmError, match="No such file"):
            require_writable_folder(tmp_path / "d")

    def refuse(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(TonearmError, match="d: Permission denied"):
        require_writable_folder(tmp_path / "d")


def test_a_new_draft_with_the_time_of_an_old_file_is_left_alone(tmp_path: Path) -> None:
    draft = tmp_path / ".tonearm-0123456789abcdef.flac"
    draft.touch()
    os.utime(draft, (0, 0))  # as a file has that is about to replace another
    atomic.remove_leftovers(tmp_path)
    assert draft.exists()
