from __future__ import annotations

import pytest

from host import names_are_bytes
from tonearm.text import clock_text, enumerated, is_path, not_utf8, printable


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (59.6, "1:00"), (599, "9:59"), (7323.2, "2:02:03")]
)
def test_times_roll_over(seconds: float, shown: str) -> None:
    assert clock_text(seconds) == shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Für Elise.mp3", "Für Elise.mp3"),
        ("two\nlines", "two\\nlines"),
        ("宇多田ヒカル\u3000First Love.mp3", "宇多田ヒカル\u3000First Love.mp3"),
        ("می\u200cخواهم.mp3", "می\u200cخواهم.mp3"),  # a joiner
        ("\u202e3pm.exe", "\\u202e3pm.exe"),  # would be shown backwards
        pytest.param("caf\udce9.mp3", "caf\\xe9.mp3", marks=names_are_bytes),  # not UTF-8
        ("\x1b[31mred", "\\x1b[31mred"),  # would colour the terminal
    ],
)
def test_names_fit_into_a_line(name: str, shown: str) -> None:
    assert printable(name) == shown


def test_of_many_names_a_message_has_the_first() -> None:
    names = [f"genre {number}" for number in range(1, 23)]
    assert enumerated(names[:20]).endswith(", genre 19, genre 20")
    assert enumerated(names).endswith(", genre 19, genre 20 and 2 more")


def test_the_line_that_is_not_utf8_is_named() -> None:
    with pytest.raises(UnicodeDecodeError) as caught:
        "für\nElise\n".encode("latin-1").decode()
    assert not_utf8(caught.value) == "not UTF-8 (line 1)"
    with pytest.raises(UnicodeDecodeError) as caught:
        b"one\r\ntwo\r\nthr\xe9e".decode()
    assert not_utf8(caught.value) == "not UTF-8 (line 3)"


def test_a_separator_or_a_suffix_makes_a_path() -> None:
    for name in ("./mine", "runs/mine", "mine.onnx"):
        assert is_path(name)
    for name in ("mine", "default", ".mine"):
        assert not is_path(name)
