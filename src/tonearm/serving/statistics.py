"""Statistics of what the server has done so far, for Prometheus."""

from __future__ import annotations

from typing import get_args

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from tonearm.prediction import Failure, Prediction, Verdict

FAILED = "failed"  # stands beside the verdicts

# From a half-minute clip on an idle processor to an hour of music queued behind others.
_LATENCY_BUCKETS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)


class Statistics:
    """Statistics of one application, kept apart from those of others in the same process."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._recordings = Counter(
            "tonearm_recordings",
            "Recordings by what came of them: music, not music, unsure, or failed.",
            ["verdict"],
            registry=self._registry,
        )
        for outcome in (*get_args(Verdict), FAILED):  # from 0, for rates from the first one on
            self._recordings.labels(outcome)
        self._audio_seconds = Counter(
            "tonearm_sound_seconds", "Length of the recordings classified.", registry=self._registry
        )
        self._latency = Histogram(
            "tonearm_answer_seconds",
            "From the end of an upload to its answer, waiting included.",
            buckets=_LATENCY_BUCKETS,
            registry=self._registry,
        )
        self._refusals = Counter(
            "tonearm_refusals",
            "Uploads refused, by status and by what was wrong or lacking: the request, room in the "
            "queue, a process, room on the disk, or time, as the server was ending.",
            ["status", "reason"],
            registry=self._registry,
        )
        self.uploads = Gauge(
            "tonearm_uploads",
            "Uploads being received, waiting or being classified.",
            registry=self._registry,
        )

    def record_result(self, result: Prediction | Failure, seconds: float) -> None:
        """Record a result, and how long it took."""
        self._latency.observe(seconds)
        if isinstance(result, Failure):
            self._recordings.labels(FAILED).inc()
        else:
            self._recordings.labels(result.verdict).inc()
            self._audio_seconds.inc(result.duration)

    def record_refusal(self, status: int, reason: str) -> None:
        """Record a refused upload; the reason is request, queue, process, disk or ending."""
        self._refusals.labels(str(status), reason).inc()

    def exposition(self) -> bytes:
        """Return all statistics in Prometheus' text format."""
        return generate_latest(self._registry)
