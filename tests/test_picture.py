"""Spectrogram pictures: upright, in range, bounded in size, and a plot a person can read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from host import names_are_bytes
from tonearm.errors import MissingExtraError, TonearmError, UsageError
from tonearm.features.logmel import FRONT_ENDS, LogMel
from tonearm.features.mel import mel_filterbank
from tonearm.features.picture import Overview, overview, plot_config, render
from tonearm.synth import render as synthesise
from tonearm.synth import write_wav

RATE = 22050
Program = Callable[..., tuple[int, str, str]]


def tone(hz: float, seconds: float = 2.0, rate: int = RATE) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def test_picture_is_upright_and_in_range() -> None:
    low_then_high = np.concatenate([tone(200), tone(6000)])
    picture = render(LogMel(FRONT_ENDS["librosa"])(low_then_high))
    assert picture.dtype == np.uint8
    assert picture.shape == (128, 1 + 4 * RATE // 512)
    assert (picture.min(), picture.max()) == (0, 255)
    brightest = picture.argmax(axis=0)
    assert brightest[40] > 100, "a low tone is at the bottom"
    assert brightest[-40] < 40, "a high tone is at the top"


def test_brightness_is_the_level_below_the_loudest() -> None:
    levels = np.array([[-13.0, -33.0, -53.0, -93.0, -113.0]], np.float32)
    assert render(levels)[::-1, 0].tolist() == [255, 191, 128, 0, 0]


def test_picture_does_not_depend_on_loudness() -> None:
    piece = synthesise("swing", seconds=2.0)
    log_mel = LogMel(FRONT_ENDS["librosa"])
    loud, soft = render(log_mel(piece)), render(log_mel(0.1 * piece))
    assert np.abs(loud.astype(int) - soft.astype(int)).max() <= 1


def test_silence_is_dark() -> None:
    assert not render(LogMel(FRONT_ENDS["librosa"])(np.zeros(RATE))).any()


def summarise(samples: np.ndarray, columns: int, block: int = 5000) -> Overview:
    blocks = [samples[i : i + block] for i in range(0, len(samples), block)]
    return overview(blocks, plot_config(RATE, len(samples) / RATE, columns=columns), columns)


def test_overview_has_bounded_columns() -> None:
    for seconds in (0.5, 79 * 512 / RATE, 3.0, 20.0):  # the second has 80 frames of 79 hops
        summary = summarise(tone(440, seconds), columns=20)
        assert len(summary.decibels) <= 81
        assert len(summary.low) == len(summary.high) <= 81
        assert summary.seconds == pytest.approx(seconds)
        assert summary.column_seconds * len(summary.decibels) == pytest.approx(seconds, rel=0.1)
        assert summary.step_seconds * len(summary.low) == pytest.approx(seconds, rel=0.1)


def test_overview_averages_power() -> None:
    samples = synthesise("rock-band", seconds=6.0)
    fine, coarse = summarise(samples, columns=400), summarise(samples, columns=20)
    assert fine.config.n_mels == coarse.config.n_mels
    mean = [np.mean(10 ** (summary.decibels / 10), axis=0) for summary in (fine, coarse)]
    np.testing.assert_allclose(*mean, rtol=0.1)
    np.testing.assert_allclose(fine.decibels, LogMel(fine.config)(samples), atol=0.01)


def test_overview_keeps_the_peaks() -> None:
    samples = np.zeros(30 * RATE, dtype=np.float32)
    samples[10 * RATE], samples[20 * RATE] = 0.9, -0.7
    summary = summarise(samples, columns=30)
    assert summary.high.argmax() * summary.step_seconds == pytest.approx(
        10, abs=summary.step_seconds
    )
    assert summary.low.argmin() * summary.step_seconds == pytest.approx(
        20, abs=summary.step_seconds
    )
    assert (summary.high.max(), summary.low.min()) == pytest.approx((0.9, -0.7))
    samples[-1] = 0.5
    assert summarise(samples, columns=30).high[-1] == pytest.approx(0.5), "nor is the end cut off"


@pytest.mark.parametrize("n_mels", [16, 128, 256, 512])
@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_no_band_of_a_plot_is_empty(n_mels: int, rate: int) -> None:
    config = plot_config(rate, 1.0, n_mels)
    bank = mel_filterbank(rate, config.n_fft, n_mels, 0.0, rate / 2, norm=None)
    assert (bank.max(axis=1) > 0).all()


class TestPlot:
    """The drawing itself; matplotlib is an optional dependency."""

    @pytest.fixture(autouse=True)
    def _matplotlib(self) -> None:
        pytest.importorskip("matplotlib")

    @pytest.fixture
    def piece(self, tmp_path: Path) -> Path:
        path = tmp_path / "synthetic $swing$.wav"
        write_wav(path, synthesise("swing", seconds=3.0, rate=16000), 16000)
        return path

    def test_labels(self) -> None:
        from tonearm.features.plot import plot

        figure = plot(tone(440), RATE, "a tone")
        spectrum, wave, bar = figure.axes
        assert spectrum.get_xlabel() == "time (s)"
        assert spectrum.get_ylabel() == "frequency (mel scale)"
        assert "dB" in bar.get_ylabel()
        assert wave.get_title(loc="left") == "a tone"
        assert wave.get_title(loc="right") == "2.0 s · 22.05 kHz"
        assert "1 kHz" in [label.get_text() for label in spectrum.get_yticklabels()]

    @pytest.mark.parametrize("rate", [np.int64(RATE), float(RATE)])
    def test_any_whole_rate(self, rate: float) -> None:
        from tonearm.features.plot import plot

        wave = plot(tone(440), rate).axes[1]  # type: ignore[arg-type]
        assert wave.get_title(loc="right") == "2.0 s · 22.05 kHz"

    def test_above_the_audible_nothing_is_drawn(self) -> None:
        from tonearm.features.plot import plot

        figure = plot(tone(440, rate=192_000), 192_000)
        assert figure.axes[1].get_title(loc="right") == "2.0 s · 192 kHz"
        assert max(figure.axes[0].get_yticks()) > 0.8 * 128  # 16 kHz, near the top
        plot(tone(440, rate=2_000), 2_000)

    @pytest.mark.parametrize(
        ("samples", "rate", "complaint"),
        [
            (np.full(RATE, np.nan), RATE, "NaN"),
            (np.zeros(RATE, np.int16), RATE, "int16"),
            (np.zeros(RATE), 22_050.5, "whole number"),
            (np.zeros(RATE), 500, "whole number from 1000"),
        ],
    )
    def test_what_is_no_sound_is_not_drawn(
        self, samples: np.ndarray, rate: int, complaint: str
    ) -> None:
        from tonearm.features.plot import plot

        with pytest.raises(UsageError, match=complaint):
            plot(samples, rate)

    def test_frequencies_stand_where_they_sound(self) -> None:
        from tonearm.features.plot import plot

        for hz, label in ((500, "500 Hz"), (1000, "1 kHz"), (4000, "4 kHz")):
            spectrum = plot(tone(hz), RATE).axes[0]
            (image,) = spectrum.images
            band = np.asarray(image.get_array())[:, 30].argmax() + 0.5
            ticks = [text.get_text() for text in spectrum.get_yticklabels()]
            assert spectrum.get_yticks()[ticks.index(label)] == pytest.approx(band, abs=1.0)

    @pytest.mark.parametrize(
        ("seconds", "start", "labels", "unit"),
        [
            (2.0, 0.0, ["0.0", "0.2"], "time (s)"),
            (30.0, 0.0, ["0", "5"], "time (s)"),
            (200.0, 0.0, ["0:00", "0:30"], "time (m:ss)"),
            (200.0, 90.0, ["1:30", "2:00"], "time (m:ss)"),
            (9000.0, 0.0, ["0:00", "15:00"], "time (h:mm:ss)"),
        ],
    )
    def test_time_axis(self, seconds: float, start: float, labels: list[str], unit: str) -> None:
        from tonearm.features.plot import draw

        summary = Overview(
            decibels=np.zeros((10, 16), np.float32),
            column_seconds=seconds / 10,
            low=-np.ones(10, np.float32),
            high=np.ones(10, np.float32),
            step_seconds=seconds / 10,
            seconds=seconds,
            config=plot_config(16000, n_mels=16),
        )
        spectrum = draw(summary, "", start=start).axes[0]
        assert [text.get_text() for text in spectrum.get_xticklabels()][:2] == labels
        assert spectrum.get_xlabel() == unit

    @pytest.mark.parametrize("samples", [1, 100, 3000])
    def test_short_and_silent_clips(self, samples: int, tmp_path: Path) -> None:
        from tonearm.features.plot import plot

        plot(np.zeros(samples), 8000).savefig(tmp_path / "a.png")

    def test_what_is_left_of_a_file_is_drawn_as_finely_as_the_same_stretch_named(
        self, tmp_path: Path
    ) -> None:
        from tonearm.features.plot import save_plot

        path = tmp_path / "long.wav"
        write_wav(path, tone(440, 20.0), RATE)
        save_plot(path, tmp_path / "rest.png", start=19.0)
        save_plot(path, tmp_path / "named.png", start=19.0, duration=1.0)
        assert (tmp_path / "rest.png").read_bytes() == (tmp_path / "named.png").read_bytes()

    def test_command_writes_the_picture(
        self, piece: Path, tmp_path: Path, program: Program
    ) -> None:
        output = tmp_path / "out.png"
        options = ("--width", 800, "--duration", 1.5, "--dark")
        assert program("spectrogram", piece, "-o", output, *options) == (0, f"{output}\n", "")
        from matplotlib.image import imread

        assert imread(output).shape == (600, 800, 4)

    def test_command_names_the_picture_itself(
        self, piece: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Program
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert program("spectrogram", piece.name)[0] == 0
        assert (tmp_path / "synthetic $swing$-spectrogram.png").exists()

    @names_are_bytes
    def test_command_prints_an_odd_name_as_one_line(
        self, piece: Path, tmp_path: Path, program: Program
    ) -> None:
        output = os.fsdecode(os.fsencode(tmp_path) + b"/line\nbreak \xff.png")
        _, printed, _ = program("spectrogram", piece, "-o", output)
        assert printed == f"{tmp_path}/line\\nbreak \\xff.png\n"
        assert Path(output).is_file()

    def test_command_is_quiet_about_matplotlibs_cache(self, piece: Path, tmp_path: Path) -> None:
        (tmp_path / "home").write_text("no folder, so that nothing can be written below it")
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("XDG", "MPL"))
        }
        done = subprocess.run(
            [sys.executable, "-m", "tonearm", "spectrogram", piece, "-o", tmp_path / "out.png"],
            env=environment | {"HOME": str(tmp_path / "home"), "USERPROFILE": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""

    def test_names_in_any_script_are_quiet(
        self, tmp_path: Path, recwarn: pytest.WarningsRecorder
    ) -> None:
        from tonearm.features.plot import save_plot

        path = tmp_path / "音楽 $x_1.wav"
        write_wav(path, synthesise("offbeat", seconds=0.5, rate=8000), 8000)
        save_plot(path, tmp_path / "out.png")
        assert not [str(warning.message) for warning in recwarn]

    def test_broken_file_says_so(
        self, tmp_path: Path, write_audio: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from tonearm.features import plot

        notes = []
        draw = plot.draw

        def recording_draw(summary: Overview, title: str, note: str, **settings: object) -> object:
            notes.append(note)
            return draw(summary, title, note, **settings)

        monkeypatch.setattr(plot, "draw", recording_draw)
        path = write_audio(tmp_path / "a.flac", tone(440, 20.0), RATE)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        plot.save_plot(path, tmp_path / "out.png")
        assert notes[0].endswith("FLAC · 22.05 kHz · breaks off")

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"width": 20}, "width must be from 500 to 10000, got 20"),
            ({"n_mels": 1000}, "mels must be from 16 to 512, got 1000"),
            ({"start": -1.0}, "start"),
            ({"duration": 0.0}, "duration"),
        ],
    )
    def test_wrong_settings(
        self, settings: dict[str, float], message: str, piece: Path, tmp_path: Path
    ) -> None:
        from tonearm.features.plot import save_plot

        with pytest.raises(UsageError, match=message):
            save_plot(piece, tmp_path / "a.png", **settings)

    def test_unknown_format(self, piece: Path, tmp_path: Path) -> None:
        from tonearm.features.plot import save_plot

        with pytest.raises(UsageError, match=r"a\.xyz: a picture's name must end in one of \.png"):
            save_plot(piece, tmp_path / "a.xyz")

    def test_unwritable(self, piece: Path, tmp_path: Path) -> None:
        from tonearm.features.plot import save_plot

        (tmp_path / "file").touch()
        with pytest.raises(TonearmError, match="a file is where its folder should be"):
            save_plot(piece, tmp_path / "file" / "a.png")


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tonearm.features.plot import save_plot

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"tonearm\[plot\]"):
        save_plot(tmp_path / "a.wav", tmp_path / "a.png")
