from __future__ import annotations

import copy
import dataclasses
import io
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tonearm
from bundles import FRONT_END, noted_descriptors, tiny_metadata, tone, write_bundle
from host import NO_SUCH_FILE, NO_SUCH_PATH
from tonearm import Classifier, Failure, Prediction, audio, explain
from tonearm.bundle import Bundle, BundleError, Outputs
from tonearm.classifier import log_softmax
from tonearm.errors import UsageError
from tonearm.features.logmel import FRONT_ENDS
from tonearm.inputs import SilentAudio
from tonearm.loudness import Loudness
from tonearm.prediction import Thresholds
from tonearm.windows import windows
from tonearm.workers import StartError

RATE = FRONT_END.sample_rate


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return Classifier.load(tiny_bundle)


@pytest.fixture
def song(tmp_path: Path, write_audio: Callable[..., Path]) -> Path:
    """Three low seconds, then two high ones."""
    return write_audio(tmp_path / "song.flac", np.r_[tone(200, 3), tone(5000, 2)], RATE)


def test_a_file_gets_its_genre(classifier: Classifier, song: Path) -> None:
    prediction = classifier(song)
    assert prediction.path == song
    assert prediction.genre == "low"
    assert prediction.confidence == prediction.probabilities["low"] > 0.5
    assert list(prediction.probabilities) == ["low", "high"]
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
    assert prediction.duration == pytest.approx(5)
    assert not prediction.truncated
    assert prediction.embedding.shape == (FRONT_END.n_mels,)
    assert "embedding" not in repr(prediction)  # hundreds of numbers


def test_the_windows_in_time_are_the_timeline(classifier: Classifier, song: Path) -> None:
    segments = classifier(song).segments
    assert [segment.genre for segment in segments] == ["low", "low", "low", "high"]
    # Frames fall every 16 ms, so a second is not a whole number of them.
    starts, ends = zip(*((s.start, s.end) for s in segments), strict=True)
    assert starts == pytest.approx((0, 1, 2, 3), abs=0.05)
    assert ends == pytest.approx((2, 3, 4, 5), abs=0.05)
    assert ends[-1] <= 5


def test_a_model_without_a_music_output_predicts_no_probability_of_music(
    classifier: Classifier, song: Path
) -> None:
    prediction = classifier(song)
    assert prediction.music is None
    assert {segment.music for segment in prediction.segments} == {None}


def test_it_is_music_if_half_of_it_is(musical_bundle: Path) -> None:
    classifier = Classifier.load(musical_bundle)
    low, high = tone(200, 2), tone(5000, 2)  # the tiny model finds low sounds musical
    brief = classifier(np.r_[low, high, high], RATE)
    assert brief.music == pytest.approx(0.5, abs=0.01)  # of three windows, two are half
    spoken_intro = classifier(np.r_[high, high, low, low], RATE)
    windows = [segment.music for segment in spoken_intro.segments]
    assert [p > 0.5 for p in windows if p] == [False, False, True, True]
    printed = spoken_intro.to_dict(timeline=True)["segments"]
    assert [segment["music"] for segment in printed] == pytest.approx(windows, abs=1e-6)
    assert spoken_intro.music is not None
    assert spoken_intro.music > 0.5
    with_jingle = classifier(np.concatenate([high] * 9 + [low]), RATE)
    assert with_jingle.music is not None
    assert with_jingle.music < 0.5
    assert with_jingle.verdict == "not music"
    assert [segment.verdict for segment in with_jingle.segments] == ["not music"] * 9 + ["music"]


@pytest.mark.parametrize(
    ("music", "confidence", "verdict"),
    [
        (0.9, 0.5, "music"),
        (0.6, 0.3, "music"),
        (0.9, 0.29, "unsure"),
        (0.59, 0.9, "not music"),
        (0.0, 0.0, "not music"),
        (None, 0.9, "music"),
        (None, 0.1, "unsure"),
    ],
)
def test_a_verdict_needs_both_thresholds(
    music: float | None, confidence: float, verdict: str
) -> None:
    assert Thresholds(music=0.6, unsure=0.3).verdict(music, confidence) == verdict
    assert Thresholds(music=0, unsure=0).verdict(music, confidence) == "music"


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_is_a_probability(tiny_bundle: Path, threshold: float) -> None:
    with pytest.raises(UsageError, match="threshold music: expected from 0 to 1"):
        Classifier.load(tiny_bundle, music_threshold=threshold)


def test_thresholds_are_the_models_unless_given(tmp_path: Path) -> None:
    metadata = tiny_metadata(music_threshold=0.2, unsure_threshold=0.1)
    path = write_bundle(tmp_path / "own.onnx", metadata)
    assert Classifier.load(path).thresholds == Thresholds(0.2, 0.1)
    assert Classifier.load(path, unsure_threshold=0).thresholds == Thresholds(0.2, 0)


def test_the_clip_is_the_mean_of_its_windows_in_the_log_domain(
    tmp_path: Path, tiny_bundle: Path, song: Path
) -> None:
    plain = Classifier.load(tiny_bundle)(song)
    logs = np.log([[s.probabilities[g] for g in ("low", "high")] for s in plain.segments])
    expected = np.exp(logs.mean(axis=0))
    expected /= expected.sum()
    assert [plain.probabilities[g] for g in ("low", "high")] == pytest.approx(expected)

    warm = Classifier.load(write_bundle(tmp_path / "warm.onnx", tiny_metadata(temperature=2.0)))
    tempered = np.sqrt(expected) / np.sqrt(expected).sum()
    assert [warm(song).probabilities[g] for g in ("low", "high")] == pytest.approx(tempered)


def test_samples_and_files_get_the_same_prediction(classifier: Classifier, song: Path) -> None:
    from_file = classifier(song)
    from_samples = classifier(audio.read(song, RATE).samples, RATE)
    assert from_samples == dataclasses.replace(from_file, path=None)
    assert from_samples.embedding == pytest.approx(from_file.embedding)


def test_samples_of_another_rate_are_resampled(classifier: Classifier) -> None:
    assert classifier(tone(5000, 2, 44_100), 44_100).genre == "high"
    assert classifier(tone(200, 2, 44_100).astype(np.float64), 44_100).genre == "low"


@pytest.mark.parametrize(
    ("samples", "rate", "complaint"),
    [
        (tone(200, 1), None, "rate"),
        (tone(200, 1), 0, "rate"),
        (np.zeros((2, RATE), np.float32), RATE, "mono"),
        (np.zeros(RATE, np.int16), RATE, "int16"),
        (np.full(RATE, np.nan, np.float32), RATE, "NaN"),
        (np.full(RATE, np.inf, np.float32), RATE, "infinity"),
        (np.full(RATE, 1e20, np.float32), RATE, r"in \[-1, 1\], got up to 1e\+20"),
        (np.full(RATE, -1e300), RATE, r"in \[-1, 1\], got up to 1e\+300"),
        (tone(200, 1), "16000", "whole number from 1000 to 1000000 Hz, not '16000'"),
        (tone(200, 1), 16000.5, "whole number"),
        (tone(200, 1), True, "whole number"),
        ("song.mp3", RATE, "rate is for samples"),
        ("", None, "a file's path, .* got an empty text"),
        (None, None, "a file's path, .* got NoneType"),
        ([0.0, 0.1], RATE, "a NumPy array .* got list"),
        (b"RIFF", None, "a file's path, .* got bytes"),
    ],
)
def test_what_is_no_recording_is_refused(
    classifier: Classifier, samples: Any, rate: Any, complaint: str
) -> None:
    for call in (classifier, lambda samples, rate: explain(classifier, samples, rate=rate)):
        with pytest.raises(UsageError, match=complaint):
            call(samples, rate)


def test_an_open_file_gets_the_prediction_of_its_path(
    classifier: Classifier, song: Path, tmp_path: Path
) -> None:
    expected = classifier(song)
    with song.open("rb") as file:
        assert classifier(file) == expected
        assert not file.closed
    uploaded = io.BytesIO(song.read_bytes())
    assert classifier(uploaded) == dataclasses.replace(expected, path=None)
    assert explain(classifier, uploaded).prediction.genre == "low"
    metadata = tiny_metadata(descriptors=("tempo",))  # which are computed in a pass of their own
    both = Classifier.load(write_bundle(tmp_path / "both.onnx", metadata))
    assert both(uploaded).probabilities["low"] > 0.999


def test_the_middle_is_read_within_the_limit_and_a_failure_to_is_told(
    song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_bundle(tmp_path / "both.onnx", tiny_metadata(descriptors=("tempo",)))
    both = Classifier.load(path, time_limit=70)
    limits = []
    read = audio.read

    def noted(*arguments: Any, **named: Any) -> object:
        limits.append(named["time_limit"])
        return read(*arguments, **named)

    def failing(*_: Any, **__: Any) -> object:
        raise audio.ReadFailed(str(song), "input/output error")

    monkeypatch.setattr(audio, "read", noted)
    both(song)
    assert limits == [70]
    monkeypatch.setattr(audio, "read", failing)
    with pytest.raises(audio.ReadFailed):  # rather than an answer without the descriptors
        both(song)


def test_samples_may_lie_in_memory_as_they_like(classifier: Classifier) -> None:
    stereo = np.stack([tone(5000, 2, 44_100), tone(200, 2, 44_100)], axis=1)
    assert classifier(stereo[:, 0], 44_100).genre == "high"
    assert classifier(stereo[::-1, 1], 44_100.0).genre == "low"
    assert classifier(tone(5000, 2).astype(">f4"), RATE).genre == "high"


def test_samples_in_half_precision_bring_no_warning(
    classifier: Classifier, recwarn: pytest.WarningsRecorder
) -> None:
    assert classifier(tone(200, 1).astype(np.float16), RATE).genre == "low"
    assert not list(recwarn)


def test_an_error_names_a_file_as_it_was_named(classifier: Classifier) -> None:
    address = "http://example.org/a.mp3"
    with pytest.raises(audio.NotAudio, match=f"^{re.escape(address)}: {NO_SUCH_PATH.lower()}"):
        classifier(address)


def test_a_prediction_can_be_compared_hashed_and_dumped(
    classifier: Classifier, song: Path, program: Callable[..., tuple[int, str, str]]
) -> None:
    prediction = classifier(song)
    assert prediction == classifier(song) != classifier(tone(200, 3), RATE)
    assert len({prediction, classifier(song), *prediction.segments}) == 5
    model = classifier.bundle.path
    _, printed, _ = program("classify", song, "--json", "--timeline", "--model", model)
    assert prediction.to_dict(timeline=True) == json.loads(printed)
    assert list(prediction.to_dict(top=1)["probabilities"]) == ["low"]
    assert prediction.to_dict().keys() == prediction.to_dict(timeline=True).keys() - {"segments"}
    assert classifier(tone(200, 3), RATE).to_dict()["path"] is None
    _, printed, _ = program("classify", "absent.mp3", song, "--json", "--model", model)
    (failure,) = classifier.classify_files(["absent.mp3"])
    assert failure.to_dict() == json.loads(printed.splitlines()[0])
    assert failure.to_dict(timeline=True).keys() == prediction.to_dict(timeline=True).keys()
    with pytest.raises(UsageError, match="top: expected 0 or more, got -1"):
        prediction.to_dict(top=-1)


def test_a_clip_shorter_than_a_window_is_one_window(classifier: Classifier) -> None:
    for seconds in (0.25, 0.5, 1.0, 1.9):
        prediction = classifier(tone(5000, seconds), RATE)
        assert prediction.genre == "high"
        assert prediction.duration == pytest.approx(seconds)
        (segment,) = prediction.segments
        assert (segment.start, segment.end) == (0, pytest.approx(seconds))


def test_too_short_or_silent_is_an_error(classifier: Classifier) -> None:
    with pytest.raises(audio.TooShort, match=r"0\.10 s"):
        classifier(tone(200, 0.1), RATE)
    with pytest.raises(audio.TooShort):
        classifier(np.zeros(0, np.float32), RATE)
    with pytest.raises(SilentAudio, match="silent"):
        classifier(np.zeros(3 * RATE, np.float32), RATE)
    assert classifier(1e-3 * tone(200, 3), RATE).duration == 3  # quiet is not silent


def test_a_file_that_breaks_off_is_classified_as_far_as_it_goes(
    classifier: Classifier, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    whole = write_audio(tmp_path / "whole.flac", tone(5000, 4), RATE)
    cut = tmp_path / "cut.flac"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    prediction = classifier(cut)
    assert prediction.truncated
    assert prediction.genre == "high"
    assert 1 < prediction.duration < 3


def test_a_long_file_needs_no_more_memory_than_a_song(
    classifier: Classifier, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    path = write_audio(tmp_path / "long.wav", np.tile(tone(200, 10), 60), RATE)
    tracemalloc.start()
    try:
        prediction = classifier(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert prediction.duration == pytest.approx(600)
    assert peak < 10e6  # the samples alone are 38 MB


@pytest.mark.parametrize("workers", [1, 2])
def test_results_of_many_files_come_in_order_and_none_costs_another(
    tiny_bundle: Path, song: Path, tmp_path: Path, workers: int
) -> None:
    broken, absent = tmp_path / "broken.mp3", tmp_path / "absent.mp3"
    broken.write_text("no music")
    names: list[Any] = [song, broken, absent, None, "", [song], song]
    strict = Classifier.load(tiny_bundle, unsure_threshold=1.0)
    first, *failures, last = strict.classify_files(names, workers=workers)
    for prediction in (first, last):
        assert isinstance(prediction, Prediction)
        assert (prediction.path, prediction.verdict) == (song, "unsure")
    assert [failure.path for failure in failures[:2]] == [broken, absent]
    endings = ["", "", "got NoneType", "got an empty text", "got list"]
    for failure, ending in zip(failures, endings, strict=True):
        assert isinstance(failure, Failure)
        assert failure.error.endswith(ending)
        assert "\n" not in failure.error
    assert failures[1].error == NO_SUCH_FILE.lower()


@pytest.mark.parametrize("single", ["song.mp3", Path("song.mp3"), b"song.mp3"])
def test_a_single_file_is_no_list(classifier: Classifier, single: Any) -> None:
    with pytest.raises(UsageError, match=r"paths: expected several, as a list, got .*song\.mp3"):
        classifier.classify_files(single)


def test_files_are_taken_one_by_one(classifier: Classifier, song: Path) -> None:
    def endless():
        while True:
            yield song

    before = set(multiprocessing.active_children())
    for workers, processes in ((1, 0), (2, 2)):
        results = classifier.classify_files(endless(), workers)
        assert next(results).genre == "low"
        assert len(set(multiprocessing.active_children()) - before) == processes
        del results


def test_an_unexpected_error_costs_one_file(
    classifier: Classifier, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio, "stream", lambda *_, **__: {}["gone"])
    (result,) = classifier.classify_files([song])
    assert result == Failure(song, "unexpected KeyError: 'gone'")


def test_the_time_limit_counts_what_the_network_takes_too(
    tiny_bundle: Path,
    tmp_path: Path,
    write_audio: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_audio(tmp_path / "minute.flac", np.zeros(60 * RATE), RATE)
    run = Bundle.run

    def slow(*arguments: object) -> Outputs:
        time.sleep(0.05)
        return run(*arguments)

    monkeypatch.setattr(Bundle, "run", slow)
    limited = Classifier.load(tiny_bundle, time_limit=0.3)
    for classify in (limited, lambda path: limited.classify_stretches(path, [(0, 20), (30, 20)])):
        with pytest.raises(audio.TimedOut, match=r"longer than the limit of 0\.3 s"):
            classify(path)


def _hang_on_absent(*_: object) -> Callable[[Path], object]:
    def attempt(path: Path) -> object:
        if not path.exists():
            time.sleep(1000)
        return Failure(path, "reached")

    return attempt


def test_a_process_that_hangs_costs_one_file(
    tiny_bundle: Path, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tonearm.isolation._prepare", _hang_on_absent)
    monkeypatch.setattr("tonearm.isolation.GRACE_SECONDS", 0.0)
    absent = tmp_path / "absent.mp3"
    results = Classifier.load(tiny_bundle, time_limit=1).classify_files([absent, song], workers=2)
    assert [(result.path, result.error) for result in results if isinstance(result, Failure)] == [
        (absent, "given up after 1 s"),
        (song, "reached"),
    ]


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_time_limit_is_above_nothing(tiny_bundle: Path, seconds: float) -> None:
    with pytest.raises(UsageError, match="time limit: expected seconds above 0"):
        Classifier.load(tiny_bundle, time_limit=seconds)


def test_processes_find_a_model_that_was_named_from_another_folder(
    tiny_bundle: Path, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_bundle.parent)
    classifier = Classifier.load(tiny_bundle.name)
    monkeypatch.chdir("/")
    expected = classifier(song)
    assert list(classifier.classify_files([song, song], workers=2)) == [expected] * 2
    assert copy.deepcopy(classifier)(song) == expected


def test_processes_report_what_is_wrong_with_a_model(
    tiny_bundle: Path, song: Path, tmp_path: Path
) -> None:
    model = tmp_path / "gone.onnx"
    model.write_bytes(tiny_bundle.read_bytes())
    classifier = Classifier.load(model)
    model.unlink()
    with pytest.raises(StartError, match=r"gone\.onnx: no such file$"):
        list(classifier.classify_files([song, song], workers=2))


def test_processes_do_not_take_another_model_for_the_one_that_was_loaded(
    tiny_bundle: Path, song: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copy(tiny_bundle, tmp_path / "mine.onnx"))
    classifier = Classifier.load(model)
    write_bundle(model, tiny_metadata(labels=("high", "low")))
    with pytest.raises(StartError, match="the model has changed since the start"):
        list(classifier.classify_files([song, song], workers=2))
    with classifier.isolated() as isolated, pytest.raises(StartError, match="has changed"):
        isolated.ready()
    assert classifier(song).genre == "low"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_an_isolated_classifier_works_on_both_sides_of_a_fork(
    tiny_bundle: Path, song: Path, tmp_path: Path
) -> None:
    script = tmp_path / "server.py"
    script.write_text(
        f"""
import os
from tonearm import Classifier

if __name__ == "__main__":
    isolated = Classifier.load({str(tiny_bundle)!r}).isolated()
    isolated.ready()
    child = os.fork()
    print(isolated.attempt({str(song)!r}).genre, flush=True)
    isolated.close()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
"""
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("low\nlow\n", "", 0)


def test_a_name_in_bytes_is_a_name(classifier: Classifier, song: Path) -> None:
    with os.scandir(os.fsencode(song.parent)) as entries:
        found = [entry for entry in entries if entry.name == os.fsencode(song.name)]
    assert classifier(found[0]).genre == "low"  # type: ignore[arg-type]
    assert [result.path for result in classifier.classify_files([*found, song])] == [song] * 2


def test_workers_must_be_some(classifier: Classifier) -> None:
    with pytest.raises(UsageError, match="workers"):
        classifier.classify_files([], workers=0)


def test_descriptors_reach_a_model_that_takes_them(tmp_path: Path, song: Path) -> None:
    metadata = tiny_metadata(descriptors=("tempo", "rms_mean"))
    classifier = Classifier.load(write_bundle(tmp_path / "both.onnx", metadata))
    high = tone(5000, 2)
    assert classifier(high, RATE).genre == "low"  # the model's bonus for a first descriptor
    assert classifier(song).probabilities["low"] > 0.999


def test_descriptors_are_of_the_middle_of_what_is_there(
    tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    path = write_bundle(tmp_path / "a.onnx", tiny_metadata(descriptors=("tempo",)))
    file = write_audio(tmp_path / "cut.flac", tone(5000, 90), RATE)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 4])
    # The tiny model predicts "low" for any descriptor that is there, and otherwise "high".
    assert Classifier.load(path)(file).genre == "low"


def test_unknown_descriptors_are_refused(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "odd.onnx", tiny_metadata(descriptors=("danceability",)))
    with pytest.raises(BundleError, match="unknown descriptors: danceability"):
        Classifier.load(path)


@settings(deadline=None)  # other work on the machine is no fault
@given(
    pieces=st.lists(st.integers(0, 40), max_size=12),
    length=st.integers(1, 20),
    hop=st.integers(1, 25),
    shortest_tail=st.integers(1, 10),
)
def test_windows_cover_any_stream(
    pieces: list[int], length: int, hop: int, shortest_tail: int
) -> None:
    total = sum(pieces)
    frames = np.arange(total, dtype=np.float32)[:, np.newaxis]
    stream = np.split(frames, np.cumsum(pieces)[:-1]) if pieces else []
    cut = list(windows(stream, length=length, hop=hop, shortest_tail=shortest_tail))
    for first, window in cut:
        np.testing.assert_array_equal(window, frames[first : first + len(window)])
    whole = list(range(0, total - length + 1, hop))
    assert [first for first, _ in cut[: len(whole)]] == whole
    rest = cut[len(whole) :]
    covered = whole[-1] + length if whole else 0
    if not whole:
        assert [(first, len(window)) for first, window in rest] == [(0, total)] * (total > 0)
    elif total - covered >= shortest_tail:
        assert [(first, len(window)) for first, window in rest] == [(total - length, length)]
    else:
        assert rest == []


def test_the_public_names_are_there_when_asked_for() -> None:
    for name in tonearm.__all__:
        assert getattr(tonearm, name) is not None
        assert name in dir(tonearm)
    with pytest.raises(AttributeError, match="no attribute 'Gramophone'"):
        tonearm.Gramophone  # noqa: B018


@pytest.mark.parametrize("seconds", [0.7, 2.0, 3.25, 7.1])
def test_a_second_front_end_gets_the_same_windows(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    # Twice as many frames a second, so that both kinds of windows end elsewhere.
    second = dataclasses.replace(FRONT_ENDS["htk16k"], hop_length=128)
    two = write_bundle(tmp_path / "two.onnx", tiny_metadata(second_front_end=second))
    classifier = Classifier.load(two)
    counts: list[tuple[int, int]] = []
    run = classifier.bundle.run

    def recording_run(frames: list[np.ndarray], descriptors: None) -> Outputs:
        counts.append((frames[0].shape[1], frames[1].shape[1]))
        return run(frames, descriptors)

    monkeypatch.setattr(classifier.bundle, "run", recording_run)
    sound = tone(200, seconds)
    prediction = classifier(sound, RATE)
    alone = Classifier.load(tiny_bundle)(sound, RATE)
    assert prediction.segments == alone.segments
    assert len(counts) == len(alone.segments)
    assert all(abs(2 * first - second) <= 2 for first, second in counts)


def test_an_attempt_returns_a_failure_also_for_what_is_no_path(tiny_bundle: Path) -> None:
    result = Classifier.load(tiny_bundle).attempt(None)  # type: ignore[arg-type]
    assert result == Failure(Path("None"), "expected a file's path, got NoneType")


def test_stretches_have_a_music_verdict(
    musical_bundle: Path, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    path = write_audio(tmp_path / "show.flac", np.r_[tone(200, 4), tone(5000, 4)], RATE)
    classifier = Classifier.load(musical_bundle)  # which finds low sounds musical
    song, talk = (
        classifier.classify_stretches(path, [(0, 2), (2, 2)]),
        classifier.classify_stretches(path, [(4, 2), (6, 2)]),
    )
    assert (song.verdict, talk.verdict) == ("music", "not music")
    assert [segment.start for segment in talk.segments] == pytest.approx([4, 6])
    numpys = classifier.classify_stretches(path, [(np.float32(4), np.float32(2))])
    assert '"start": 4.0' in json.dumps(numpys.to_dict(timeline=True))
    assert (song.duration, talk.duration) == (4, 4)
    beyond = classifier.classify_stretches(path, [(9, 2), (0, 2)])
    assert (beyond.duration, beyond.truncated, song.truncated) == (2, True, False)
    assert talk.embedding == pytest.approx(classifier(tone(5000, 4), RATE).embedding, abs=0.1)


def test_silence_within_a_recording_counts_for_nothing(
    musical_bundle: Path, tmp_path: Path
) -> None:
    classifier = Classifier.load(musical_bundle)
    dither = 3e-5 * np.random.default_rng(0).uniform(-1, 1, 40 * RATE).astype(np.float32)
    song = classifier(tone(200, 6), RATE)
    for silence in (np.zeros(40 * RATE, np.float32), dither):
        padded = classifier(np.r_[tone(200, 6), silence], RATE)
        assert padded.probabilities == pytest.approx(song.probabilities, abs=1e-6)
        assert padded.music == pytest.approx(song.music, abs=1e-6)
        assert padded.embedding == pytest.approx(song.embedding, abs=1e-5)
        assert padded.duration == pytest.approx(46)
        assert [segment.verdict for segment in padded.segments] == ["music"] * 3 + [
            "not music"
        ] * 20
    # What is soft throughout is heard, and so are notes with rests between them.
    for sound in (2.5e-4 * tone(200, 6), np.tile(np.r_[tone(200, 0.2), np.zeros(RATE)], 6)):
        prediction = classifier(sound.astype(np.float32), RATE)
        assert {segment.verdict for segment in prediction.segments} == {"music"}
        assert prediction.verdict == "music"
    # Where all windows are silent, all count: here a blip is too little of one.
    wide = tiny_metadata(window_seconds=4.0, hop_seconds=4.0)
    path = write_bundle(tmp_path / "wide.onnx", wide, outputs=("logits", "embedding", "music"))
    silence = np.zeros(8 * RATE, np.float32)
    blip = Classifier.load(path)(np.r_[tone(200, 0.05), silence], RATE)
    assert (blip.genre, blip.verdict) == ("low", "music")


@pytest.mark.parametrize(("every", "is_silent"), [(2, False), (3, True)])
def test_a_click_now_and_then_is_heard_whichever_way_it_points(every: int, is_silent: bool) -> None:
    clicks = np.zeros(10 * RATE, np.float32)
    clicks[:: every * RATE] = -0.5  # five or four of them, each in a tenth of a second of its own
    loudness = Loudness(RATE)
    assert sum(map(len, loudness.monitor(np.split(clicks, 50)))) == len(clicks)
    assert (loudness.is_silent(0, 10), loudness.peak, loudness.samples) == (is_silent, 0.5, 160_000)


def test_silence_is_that_of_the_time_asked_for() -> None:
    loudness = Loudness(RATE)
    silence = np.zeros(2 * RATE, np.float32)
    list(loudness.monitor([silence, tone(200, 2), silence]))
    times = [(0, 2), (2, 4), (4, 6), (0, 6), (4, 60)]
    assert [loudness.is_silent(*each) for each in times] == [True, False, True, False, True]


def test_what_sounds_only_in_the_last_moment_is_no_silence(classifier: Classifier) -> None:
    assert classifier(np.r_[np.zeros(RATE, np.float32), tone(5000, 0.05)], RATE).genre == "high"


def test_a_model_that_says_nothing_of_music_finds_none_in_silence(classifier: Classifier) -> None:
    prediction = classifier(np.r_[tone(200, 6), np.zeros(6 * RATE, np.float32)], RATE)
    assert prediction.segments[-1].verdict == "not music"
    assert prediction.segments[-1].music is None


def test_of_less_than_a_second_nothing_is_certain(classifier: Classifier) -> None:
    for seconds, verdict in ((0.3, "unsure"), (0.9, "unsure"), (1.1, "music")):
        prediction = classifier(tone(5000, seconds), RATE)
        assert prediction.verdict == prediction.segments[0].verdict == verdict
    trusting = Classifier(classifier.bundle, thresholds=Thresholds(music=0, unsure=0))
    assert trusting(tone(5000, 0.3), RATE).verdict == "music"


def test_a_stretch_of_silence_does_not_hide_the_others(
    classifier: Classifier, tmp_path: Path, write_audio: Callable[..., Path]
) -> None:
    path = write_audio(tmp_path / "fades.flac", np.r_[tone(200, 3), np.zeros(3 * RATE)], RATE)
    assert classifier.classify_stretches(path, [(0, 2), (4, 2)]).genre == "low"
    with pytest.raises(SilentAudio):
        classifier.classify_stretches(path, [(3.5, 1), (4.5, 1)])


def test_a_last_window_that_only_one_front_end_makes_is_left_out(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    second = dataclasses.replace(FRONT_ENDS["htk16k"], hop_length=128)
    two = write_bundle(tmp_path / "two.onnx", tiny_metadata(second_front_end=second))
    sound = tone(200, 3.235)  # whose rest is 16 of the one's frames, and 30 of the other's
    alone = Classifier.load(tiny_bundle)(sound, RATE)
    assert Classifier.load(two)(sound, RATE).segments == alone.segments[:2]
    assert len(alone.segments) == 3


def test_the_middle_of_a_recording_is_described(
    tmp_path: Path, write_audio: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = tiny_metadata(descriptors=("rms_mean",))
    classifier = Classifier.load(write_bundle(tmp_path / "both.onnx", metadata))
    described = noted_descriptors(classifier, monkeypatch)
    loud, soft = tone(200, 30), 0.01 * tone(200, 30)
    sound = np.r_[soft, loud, soft]
    classifier(write_audio(tmp_path / "song.flac", sound, RATE))
    classifier(sound, RATE)
    assert described == pytest.approx([0.5 / np.sqrt(2)] * 2 * 90, rel=0.05)


def test_there_are_no_more_processes_than_files(
    classifier: Classifier, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker_counts: list[int] = []

    def in_order(prepare: object, files: object, workers: int, **_: object) -> list[Failure]:
        worker_counts.append(workers)
        return []

    monkeypatch.setattr("tonearm.isolation.in_order", in_order)
    for files, workers in ((3, 2), (2, 3), (1000, 2)):
        list(classifier.classify_files([song] * files, workers=workers))
    assert worker_counts == [2, 2, 2]


def test_the_time_a_file_may_take_goes_by_its_size(
    classifier: Classifier, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def time_limit_for(size: int, limit: float | None) -> float:
        sizes.append(size)
        return 60.0

    monkeypatch.setattr("tonearm.classifier.time_limit_for", time_limit_for)
    classifier(song)
    classifier(io.BytesIO(song.read_bytes()))
    assert sizes == [song.stat().st_size] * 2


def test_an_isolated_classifier_ends_with_its_context(tiny_bundle: Path, song: Path) -> None:
    before = {child.pid for child in multiprocessing.active_children()}
    with Classifier.load(tiny_bundle).isolated() as isolated:
        result = isolated.attempt(song)
        assert isinstance(result, Prediction)
        assert result.genre == "low"
        assert not {child.pid for child in multiprocessing.active_children()} <= before
    assert {child.pid for child in multiprocessing.active_children()} <= before


def test_scores_of_any_size_have_a_softmax() -> None:
    assert log_softmax(np.array([[0.0, 2000.0]])).tolist() == [[-2000.0, 0.0]]


def test_a_tonearm_error_costs_one_file_and_keeps_its_message(
    classifier: Classifier, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BundleError(Path("m.onnx"), "cannot be run")

    monkeypatch.setattr(Bundle, "run", refuse)
    (result,) = classifier.classify_files([song])
    assert isinstance(result, Failure)
    assert result.path == song
    assert "cannot be run" in result.error
