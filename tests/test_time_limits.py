"""How long a file may take: more, the larger it is."""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from tonearm.classifier import Classifier
from tonearm.errors import UsageError
from tonearm.isolation import _time_limit
from tonearm.time_limits import known_size, time_limit_for


@pytest.mark.parametrize(
    ("size", "given", "seconds"),
    [(0, None, 120), (1_500_000, None, 126), (250_000_000, None, 1120), (250_000_000, 5.0, 5)],
)
def test_a_large_file_may_take_longer_unless_a_limit_is_given(
    size: int, given: float | None, seconds: float
) -> None:
    assert time_limit_for(size, given) == seconds


def test_a_process_is_killed_later_than_it_should_have_stopped_by_itself(tmp_path: Path) -> None:
    file = tmp_path / "song.mp3"
    file.write_bytes(b"")
    os.truncate(file, 10_000_000)
    assert _time_limit(None, file) == 120 + 40 + 10
    assert _time_limit(3.0, file) == 13


def test_the_size_is_that_of_files_and_of_open_ones(tmp_path: Path) -> None:
    file = tmp_path / "song.mp3"
    file.write_bytes(b"12345")
    assert [known_size(source) for source in (file, str(file), io.BytesIO(b"123"))] == [5, 5, 3]
    assert known_size(tmp_path / "gone.mp3") == 0


def test_a_file_of_unknown_size_is_reported_by_what_reads_it(tiny_bundle: Path) -> None:
    """Such as a response of a web server, which cannot be sought in."""
    with pytest.raises(UsageError, match="expected a file that can be sought in"):
        Classifier.load(tiny_bundle)(SimpleNamespace(read=lambda _: b""))  # type: ignore[arg-type]
