"""What Prometheus may ask. Names of labels and their values are closed sets: never a key."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
FRESH: Final = 0.5
"""Seconds for which a text is good enough: it takes milliseconds to make."""
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
Gauges: TypeAlias = Mapping[str, tuple[str, Callable[[], float]]]
"""Numbers that are asked for when somebody looks: what they are, and how to get them, by name."""
NO_GAUGES: Final[Gauges] = MappingProxyType({})


class Metrics:
    """Counters, gauges and histograms of one service, in a registry of their own. Safe from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._seconds = Histogram(
            "hashgrain_seconds", "Time by stage.", ("stage", "level"), buckets=SECONDS, registry=self.registry
        )
        self._latency = Histogram(
            "hashgrain_request_seconds", "Time of an answer.", ("endpoint",), buckets=SECONDS, registry=self.registry
        )
        self._batches = Histogram(
            "hashgrain_batch_size", "Jobs done together.", ("lane",), buckets=SIZES, registry=self.registry
        )
        self._requests = Counter("hashgrain_requests", "Answers.", ("endpoint", "status"), registry=self.registry)
        self._rejects = Counter("hashgrain_rejects", "Refused requests.", ("reason",), registry=self.registry)
        self._dropped = Counter("hashgrain_dropped", "Jobs not done.", ("lane", "why"), registry=self.registry)
        self._swaps = Counter("hashgrain_swaps", "Changes of generation.", ("outcome",), registry=self.registry)
        self._text, self._text_until = b"", 0.0
        self._times: dict[tuple[str, str], Histogram] = {}
        self._answers: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        """Looked up by name once: that takes longer than counting."""

    def took(self, lane: str, waited: Sequence[float]) -> None:
        """Count jobs that a lane took together."""
        self._batches.labels(lane).observe(len(waited))

    def dropped(self, lane: str, why: str) -> None:
        """Count a job that was not done."""
        self._dropped.labels(lane, why).inc()

    def stage(self, stage: str, level: str, *seconds: float) -> None:
        """Count the times of a stage: of a batch, or of each query that waited."""
        times = self._times.get((stage, level)) or self._times.setdefault(
            (stage, level), self._seconds.labels(stage, level)
        )
        for each in seconds:
            times.observe(each)

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """Count an answer."""
        known = self._answers.get((endpoint, status))
        if known is None:
            of = self._requests.labels(endpoint, str(status)), self._latency.labels(endpoint)
            known = self._answers.setdefault((endpoint, status), of)
        known[0].inc()
        known[1].observe(seconds)

    def rejected(self, reason: str) -> None:
        """Count a request that was refused."""
        self._rejects.labels(reason).inc()

    def swapped(self, outcome: str) -> None:
        """Count a change of generation, or one that was refused."""
        self._swaps.labels(outcome).inc()

    def watch(self, gauges: Gauges) -> None:
        """Add numbers."""
        for name, (what, read) in gauges.items():
            Gauge(name, what, registry=self.registry).set_function(read)

    def text(self) -> bytes:
        """Return everything as Prometheus reads it; for a moment the same, however often it is asked for."""
        if time.monotonic() > self._text_until:
            self._text = generate_latest(self.registry)
            self._text_until = time.monotonic() + FRESH
        return self._text


def resident_bytes() -> float:
    """Return the memory of this process; 0 where the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return 0.0
    return 4096.0 * int(pages)


def open_files() -> float:
    """Return how many handles this process has open; 0 where the system does not say."""
    try:
        return float(len(list(Path("/proc/self/fd").iterdir())))
    except OSError:
        return 0.0
