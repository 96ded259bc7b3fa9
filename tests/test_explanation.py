"""The evidence is where the decisive sound is, and a person can see it."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from bundles import FRONT_END, noted_descriptors, tiny_metadata, tone, write_bundle
from host import names_hold_anything
from tonearm import Classifier, Explanation, explain, synth
from tonearm.audio import AudioError, NotAudio, Recording, TimedOut, probe
from tonearm.errors import MissingExtraError, TonearmError, UsageError
from tonearm.explanation import Occlusion
from tonearm.features.logmel import FRONT_ENDS

RATE = FRONT_END.sample_rate
Program = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    """Predicts "low" or "high" by which half of the bands is louder."""
    return Classifier.load(tiny_bundle)


@pytest.fixture(scope="module")
def sequence() -> np.ndarray:
    """Two seconds of a low tone, then two of a high one."""
    return np.concatenate([tone(300, 2), tone(5000, 2)])


@pytest.fixture(scope="module")
def low(classifier: Classifier, sequence: np.ndarray) -> Explanation:
    return explain(classifier, sequence, "low", rate=RATE)


def test_the_evidence_is_where_the_sound_is(low: Explanation) -> None:
    first = low.times < 2
    supports = low.evidence.sum(axis=1)
    assert supports[first].min() > 0 > supports[~first].max()
    assert 100 < low.bands[low.evidence[first].sum(axis=0).argmax()] < 900
    high_bands = (low.bands > 3000) & (low.bands < 8000)
    assert low.evidence[~first][:, high_bands].sum() < 0  # what is there speaks for the other
    assert low.evidence[~first][:, low.bands < 900].sum() < 0  # and so does what is missing
    assert low.evidence.dtype == np.float32
    assert low.evidence.shape == (len(low.times), len(low.bands))


def test_what_speaks_for_one_of_two_genres_speaks_against_the_other(
    classifier: Classifier, sequence: np.ndarray, low: Explanation
) -> None:
    high = explain(classifier, sequence, "high", rate=RATE)
    assert (low.evidence * high.evidence < 1e-9).all()
    assert np.abs(high.evidence).max() > 0.1


def test_nothing_covered_gives_the_classifiers_prediction(
    classifier: Classifier, sequence: np.ndarray
) -> None:
    occlusion = Occlusion(classifier, Recording(sequence, RATE))
    probabilities = np.exp(
        occlusion.log_probabilities(np.zeros((len(occlusion.times), len(occlusion.bands))))
    )
    expected = classifier(sequence, RATE).probabilities
    assert dict(zip(classifier.labels, probabilities, strict=True)) == pytest.approx(expected)


def test_descriptors_are_those_of_the_classifier(
    tmp_path: Path, write_audio: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = tiny_metadata(descriptors=("rolloff_mean",))
    both = Classifier.load(write_bundle(tmp_path / "both.onnx", metadata))
    described = noted_descriptors(both, monkeypatch)
    noise = np.random.default_rng(0).normal(0, 0.1, 44100).astype(np.float32)
    song = write_audio(tmp_path / "song.wav", noise, 44100)
    both(song)
    assert described[0] > RATE / 2  # which the front end does not reach
    for source, rate in ((song, None), (noise, 44100)):
        assert explain(both, source, rate=rate).recording.rate == RATE
    assert described == pytest.approx([described[0]] * len(described), rel=1e-3)


def test_everything_covered_leaves_one_steady_sound(
    classifier: Classifier, sequence: np.ndarray
) -> None:
    occlusion = Occlusion(classifier, Recording(sequence, RATE))
    everything = np.ones((len(occlusion.times), len(occlusion.bands)))
    # The tiny network scores the mean frame, which is what each frame has become.
    probabilities = np.exp(occlusion.log_probabilities(everything))
    assert probabilities == pytest.approx(
        np.exp(occlusion.log_probabilities(0 * everything)), rel=0.2
    )


def test_both_front_ends_are_covered(tmp_path: Path, sequence: np.ndarray) -> None:
    second = dataclasses.replace(FRONT_ENDS["htk16k"], hop_length=128)
    path = write_bundle(tmp_path / "two.onnx", tiny_metadata(second_front_end=second))
    two = Classifier.load(path)
    inputs: list[np.ndarray] = []
    run = two.bundle.run

    def recording_run(frames: list[np.ndarray], descriptors: object) -> object:
        inputs.append(frames[1][0])
        return run(frames)

    occlusion = Occlusion(two, Recording(sequence, RATE))
    occlusion._bundle.run = recording_run  # type: ignore[method-assign, assignment]
    cover = np.zeros((len(occlusion.times), len(occlusion.bands)))
    cover[:2, :3] = 1.0  # the low tone and all that is around it
    occlusion.log_probabilities(cover)
    seconds = np.arange(len(inputs[0])) * 128 / RATE
    loud = inputs[0][:, :30].max(axis=1)
    assert loud[seconds < 1].max() < loud[(seconds > 1.6) & (seconds < 1.9)].min() - 3


def test_patches_reach_as_high_as_either_front_end(tmp_path: Path) -> None:
    metadata = tiny_metadata(
        front_end=dataclasses.replace(FRONT_END, f_max=2000.0),
        second_front_end=FRONT_ENDS["htk16k"],
    )
    two = Classifier.load(write_bundle(tmp_path / "two.onnx", metadata))
    assert 6000 < explain(two, tone(300, 1), rate=RATE).bands[-1] < 8000


def test_evidence_anywhere_passes_through_the_patches(low: Explanation) -> None:
    assert low.at(low.times, low.bands) == pytest.approx(low.evidence)
    between = low.at([(low.times[0] + low.times[1]) / 2], low.bands[:1])
    assert between[0, 0] == pytest.approx(low.evidence[:2, 0].mean(), rel=1e-4)


def test_a_stretch_of_a_file_has_times_of_the_whole_file(
    classifier: Classifier, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    file = write_audio(tmp_path / "a.flac", np.concatenate([tone(5000, 6), tone(300, 2)]), RATE)
    late = explain(classifier, file, start=np.float32(6))
    assert (late.genre, late.prediction.path, late.start) == ("low", file, 6.0)
    assert late.prediction.segments[0].start == 6.0
    json.dumps(late.prediction.to_dict(timeline=True))
    assert 6 < late.times[0] < late.times[-1] < 8
    middle = explain(classifier, str(file), duration=2.0)
    assert (middle.start, middle.genre) == (3.0, "high")


@pytest.mark.parametrize("seconds", [30.0016, 30.01, 30.9])
def test_a_clip_hardly_longer_is_explained_whole(
    classifier: Classifier,
    tmp_path: Path,
    write_audio: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
) -> None:
    monkeypatch.setattr(Occlusion, "evidence", lambda *_: np.zeros((1, 1), np.float32))  # no hurry
    sound = np.concatenate([tone(300, 14), tone(5000, seconds - 14)])
    file = write_audio(tmp_path / "clip.flac", sound, RATE)
    assert explain(classifier, file).prediction == classifier(file)
    assert explain(classifier, sound, rate=RATE).prediction == classifier(sound, RATE)


def test_the_middle_is_found_where_the_header_can_only_guess_the_length(
    classifier: Classifier, tmp_path: Path
) -> None:
    # Joined without a header, as from a radio stream: the first frames promise ten times as much.
    parts = []
    for bitrate, sound in ((32_000, tone(5000, 4)), (320_000, tone(300, 8))):
        path = tmp_path / f"{bitrate}.mp3"
        with av.open(str(path), "w", options={"write_xing": "0", "id3v2_version": "0"}) as output:
            stream = output.add_stream("libmp3lame", rate=RATE, layout="mono")
            stream.bit_rate = bitrate
            frame = av.AudioFrame.from_ndarray(sound[np.newaxis], "fltp", "mono")
            frame.sample_rate = RATE
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        parts.append(path.read_bytes())
    joined = tmp_path / "joined.mp3"
    joined.write_bytes(b"".join(parts))
    assert (probe(joined).duration or 0) > 30
    middle = explain(classifier, joined, duration=2.0)
    assert middle.start == pytest.approx(5, abs=0.3)
    assert middle.genre == "low"


def test_a_file_that_breaks_off_is_explained_where_there_is_something(
    classifier: Classifier, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    file = write_audio(tmp_path / "cut.flac", tone(300, 20), RATE)
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 5])
    explained = explain(classifier, file, duration=2.0)
    assert explained.start == pytest.approx(3.0, abs=0.5)  # 8 of 20 s are there
    assert explained.recording.duration == pytest.approx(2.0)


def test_it_uses_the_thresholds_and_the_time_limit_of_its_classifier(
    tiny_bundle: Path, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    file = write_audio(tmp_path / "a.flac", tone(300, 2) + tone(5000, 2), RATE)
    strict = Classifier.load(tiny_bundle, unsure_threshold=1.0)
    assert strict(file).verdict == explain(strict, file).prediction.verdict == "unsure"
    hurried = Classifier(strict.bundle, time_limit=1e-9)
    with pytest.raises(TimedOut):
        explain(hurried, file)
    with pytest.raises(UsageError, match="a file knows its own"):
        explain(strict, file, rate=RATE)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"rate": 0}, "rate must be"),
        ({"rate": RATE, "start": -1.0}, "start: expected seconds from 0"),
        ({"rate": RATE, "duration": float("nan")}, "duration: expected seconds above 0"),
    ],
)
def test_stretches_out_of_range_are_refused(
    classifier: Classifier, arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        explain(classifier, tone(300, 1), **arguments)


@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.2])
def test_short_recordings(classifier: Classifier, seconds: float) -> None:
    explanation = explain(classifier, tone(300, seconds), rate=RATE)
    assert len(explanation.times) == 4
    assert np.isfinite(explanation.evidence).all()


def test_errors_name_the_file_and_the_reason(
    classifier: Classifier, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    with pytest.raises(UsageError, match=r"genre 'polka' \(it knows low, high\)"):
        explain(classifier, tone(300, 1), "polka", rate=RATE)
    with pytest.raises(UsageError, match="rate"):
        explain(classifier, tone(300, 1))
    with pytest.raises(NotAudio, match=r"absent\.mp3"):
        explain(classifier, tmp_path / "absent.mp3")
    silent = write_audio(tmp_path / "silent.flac", np.zeros(2 * RATE), RATE)
    with pytest.raises(AudioError, match=r"silent\.flac: silent: 2\.0 s without sound$"):
        explain(classifier, silent)
    with pytest.raises(AudioError, match=r"1\.0 s without sound, from 1\.0 s on$"):
        explain(classifier, silent, start=1.0)


@pytest.fixture(scope="module")
def occlusion() -> Occlusion:
    """A synthetic piece in few patches, of each of which the shipped model is asked once."""
    shipped = Classifier.load()
    rate = shipped.bundle.metadata.front_end.sample_rate
    piece = synth.render(synth.STYLES[0], 5.0, rate)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tonearm.explanation.BANDS", 4)
        occlusion = Occlusion(shipped, Recording(piece, rate))
    answers: dict[bytes, np.ndarray] = {}
    log_probabilities = occlusion.log_probabilities

    def remembered(cover: np.ndarray) -> np.ndarray:
        if cover.tobytes() not in answers:
            answers[cover.tobytes()] = log_probabilities(cover)
        return answers[cover.tobytes()]

    occlusion.log_probabilities = remembered  # type: ignore[method-assign, assignment]
    return occlusion


@pytest.fixture(scope="module")
def evidence(occlusion: Occlusion) -> np.ndarray:
    return occlusion.evidence(occlusion.prediction.genre)


def test_covering_what_supports_costs_more_than_covering_anything(
    occlusion: Occlusion, evidence: np.ndarray
) -> None:
    """The deletion test of Petsiuk et al. 2018 on the shipped model."""
    column = Classifier.load().labels.index(occlusion.prediction.genre)
    order = np.argsort(-evidence, axis=None)
    rng = np.random.default_rng(0)

    def remaining(patches: np.ndarray) -> float:
        cover = np.zeros(evidence.size)
        cover[patches] = 1.0
        return float(occlusion.log_probabilities(cover.reshape(evidence.shape))[column])

    for count in (2, 6):
        random_patches = [
            remaining(rng.choice(evidence.size, count, replace=False)) for _ in range(3)
        ]
        assert remaining(order[:count]) < min(random_patches)


def test_other_genres_have_other_evidence(occlusion: Occlusion, evidence: np.ndarray) -> None:
    other = occlusion.evidence(list(occlusion.prediction.probabilities)[1])
    assert np.corrcoef(evidence.ravel(), other.ravel())[0, 1] < 0.5


class TestPlot:
    """The drawing itself; matplotlib is an optional dependency."""

    @pytest.fixture(autouse=True)
    def _matplotlib(self) -> None:
        pytest.importorskip("matplotlib")

    def test_it_shows_evidence_ranking_and_timeline(self, low: Explanation) -> None:
        from tonearm.explanation_plot import plot

        spectrum, _, ranking, timeline = plot(low).axes
        assert spectrum.get_title(loc="left").startswith("Evidence for low (")
        assert "kHz" in " ".join(label.get_text() for label in spectrum.get_yticklabels())
        assert {"low", "high"} <= {text.get_text() for text in ranking.texts}
        assert timeline.get_xlim() == pytest.approx((0.0, 4.0))
        # Three windows of two seconds, one a second, which split their overlaps.
        assert [bar.get_x() for bar in timeline.patches[:3]] == pytest.approx(
            [0.0, 1.5, 2.5], abs=0.05
        )
        assert timeline.get_xlabel() == "time (s)"
        heights = np.array([bar.get_height() for bar in timeline.patches]).reshape(-1, 3)
        assert heights.sum(axis=0) == pytest.approx(1)
        assert {text.get_color() for text in timeline.texts if text.get_text() == "low"} == {
            "black"
        }

    def test_evidence_for_is_orange_and_against_is_blue(self, low: Explanation) -> None:
        from tonearm.explanation_plot import plot

        for sign in (1, -1):
            explanation = dataclasses.replace(low, evidence=sign * np.ones_like(low.evidence))
            (image,) = plot(explanation).axes[0].images
            red, _, blue = np.moveaxis(np.asarray(image.get_array()), -1, 0)
            assert (sign * (red - blue) > 0).all()
            assert (red + blue).max() > 3 * (red + blue).min(), "the louder, the brighter"

    def test_an_excerpt_is_drawn_where_it_begins(self, low: Explanation) -> None:
        from tonearm.explanation_plot import plot

        spectrum = plot(dataclasses.replace(low, start=10.0)).axes[0]
        assert spectrum.get_xlim() == pytest.approx((10.0, 14.0))

    def test_an_unlikely_genre_is_listed_with_its_own_probability(self, low: Explanation) -> None:
        from tonearm.explanation_plot import plot

        shares = {"a": 0.3, "b": 0.2, "c": 0.18, "d": 0.12, "e": 0.1, "f": 0.07, "g": 0.03}
        segments = [dataclasses.replace(s, probabilities=shares) for s in low.prediction.segments]
        prediction = dataclasses.replace(
            low.prediction, probabilities=shares, segments=tuple(segments)
        )
        unlikely = dataclasses.replace(low, genre="g", prediction=prediction)
        ranking = plot(unlikely).axes[2]
        assert [bar.get_width() for bar in ranking.patches] == [0.3, 0.2, 0.18, 0.12, 0.1, 0.03]
        assert [text.get_text() for text in ranking.texts][-2:] == ["g", "3 %"]

    def test_a_window_that_is_not_music_has_no_genre(self, classifier: Classifier) -> None:
        from tonearm.explanation_plot import plot

        sound = np.concatenate([np.zeros(2 * RATE, np.float32), tone(300, 2)])
        timeline = plot(explain(classifier, sound, rate=RATE)).axes[-1]
        names = {text.get_text(): text.get_position()[0] for text in timeline.texts}
        assert names["not music"] < 2.0 < names["low"]

    @pytest.mark.parametrize(
        "labels",
        [("classical", "high"), ("Drum and bass and jungle",) * 2, ("爵士乐与即兴演奏的音乐",) * 2],
    )
    @pytest.mark.parametrize("width", [500, 700, 1200])
    def test_texts_do_not_overlap(
        self,
        labels: tuple[str, str],
        width: int,
        tmp_path: Path,
        recwarn: pytest.WarningsRecorder,
    ) -> None:
        from matplotlib.axes import Axes
        from matplotlib.text import Text

        from tonearm.explanation_plot import plot

        metadata = tiny_metadata(labels=(labels[0], f"{labels[1]} (old school)"))
        classifier = Classifier.load(write_bundle(tmp_path / "named.onnx", metadata))
        explained = explain(classifier, tone(300, 1), rate=RATE)
        refused = dataclasses.replace(explained.prediction, verdict="not music")
        figure = plot(dataclasses.replace(explained, prediction=refused), width=width)
        assert not [str(warning.message) for warning in recwarn]
        figure.draw_without_rendering()

        def extent(part: Axes | Text) -> tuple[float, float]:
            box = part.get_window_extent()
            return box.x0, box.x1

        headline = next(
            text for text in figure.findobj(Text) if text.get_text().startswith("Evidence")
        )
        spectrum, _, ranking, _ = figure.axes
        assert extent(headline)[1] < extent(ranking)[0]
        assert extent(spectrum)[1] - extent(spectrum)[0] > width / 4
        names, shares = ranking.texts[::2], ranking.texts[1::2]
        for name, share in zip(names, shares, strict=True):
            assert extent(name)[1] < extent(share)[0]
            assert extent(share)[1] < width

    @pytest.mark.parametrize("height", [300, 400])
    def test_the_label_of_the_scale_fits_into_a_low_picture(
        self, low: Explanation, height: int
    ) -> None:
        from tonearm.explanation_plot import plot

        figure = plot(low, width=500, height=height)
        figure.draw_without_rendering()
        label = figure.axes[1].yaxis.label.get_window_extent()
        headline = figure.axes[0]._left_title.get_window_extent()
        assert label.y1 < height
        assert not label.overlaps(headline)

    @pytest.mark.parametrize("seconds", [0.3, 12.0])
    def test_any_length_and_any_name(
        self, classifier: Classifier, seconds: float, tmp_path: Path
    ) -> None:
        from tonearm.explanation_plot import save_plot

        explained = explain(classifier, tone(300, seconds), rate=RATE, duration=seconds)
        path = Path("a $strange name$ " * 20 + "音.mp3")
        renamed = dataclasses.replace(
            explained, prediction=dataclasses.replace(explained.prediction, path=path)
        )
        save_plot(renamed, tmp_path / "out.png", dark=True)
        assert (tmp_path / "out.png").stat().st_size > 10_000

    def test_a_picture_that_cannot_be_finished_leaves_the_old_one(
        self, low: Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from matplotlib.figure import Figure

        from tonearm.explanation_plot import save_plot

        def fail_halfway(figure: Figure, file: Any, **settings: Any) -> None:
            file.write(b"half")
            raise OSError(28, "No space left on device")

        output = tmp_path / "out.png"
        output.write_bytes(b"the old one")
        monkeypatch.setattr(Figure, "savefig", fail_halfway)
        with pytest.raises(TonearmError, match=r"out\.png: No space left on device"):
            save_plot(low, output)
        assert output.read_bytes() == b"the old one"

    def test_program(
        self,
        tiny_bundle: Path,
        tmp_path: Path,
        write_audio: Callable[..., Path],
        program: Program,
    ) -> None:
        file = write_audio(tmp_path / "a.flac", tone(300, 2), RATE)
        options = ("--model", tiny_bundle, "--genre", "high", "-o", tmp_path / "a.png")
        assert program("explain", file, *options) == (0, f"{tmp_path / 'a.png'}\n", "")
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")

    @names_hold_anything
    def test_program_prints_an_odd_name_as_one_line(
        self,
        tiny_bundle: Path,
        tmp_path: Path,
        write_audio: Callable[..., Path],
        program: Program,
    ) -> None:
        file = write_audio(tmp_path / "a.flac", tone(300, 2), RATE)
        options = ("--model", tiny_bundle, "-o", tmp_path / "line\nbreak.png")
        assert program("explain", file, *options)[1] == f"{tmp_path}/line\\nbreak.png\n"

    def test_a_name_as_long_as_names_can_be_has_a_picture(
        self,
        tiny_bundle: Path,
        tmp_path: Path,
        write_audio: Callable[..., Path],
        monkeypatch: pytest.MonkeyPatch,
        program: Program,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        file = write_audio(tmp_path / f"{'ä' * 125}.flac", tone(300, 2), RATE)
        picture = f"{'ä' * 119}-explanation.png"
        assert program("explain", file, "--model", tiny_bundle) == (0, f"{picture}\n", "")
        assert Path(picture).is_file()


def test_the_report_shows_what_led_to_an_error(
    tiny_bundle: Path, tmp_path: Path, write_audio: Callable[..., Path], program: Program
) -> None:
    pytest.importorskip("jinja2")
    for label, name, hertz in (("low", "a", 300), ("low", "b", 5000), ("high", "c", 5000)):
        (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
        write_audio(tmp_path / "data" / label / f"{name}.flac", tone(hertz, 2), RATE)
    arguments = ("evaluate", tiny_bundle, tmp_path / "data", "--bootstrap", 0)
    for count, pictures in ((3, 1), (0, 0)):
        report = tmp_path / f"report-{count}"
        assert program(*arguments, "--report", report, "--explain", count)[0] == 0
        page = (report / "report.html").read_text(encoding="utf-8")
        assert page.count("data:image/png;base64,") == pictures
        assert ("Why the worst" in page) == bool(pictures)


def test_without_matplotlib(low: Explanation, monkeypatch: pytest.MonkeyPatch) -> None:
    from tonearm.explanation_plot import plot

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"tonearm\[plot\]"):
        plot(low)
