from __future__ import annotations

import pytest

from tonearm.text import clock_text, printable


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
        ("caf\udce9.mp3", "caf\\xe9.mp3"),  # not UTF-8
        ("\x1b[31mred", "\\x1b[31mred"),  # would colour the terminal
    ],
)
def test_names_fit_into_a_line(name: str, shown: str) -> None:
    assert printable(name) == shown
