"""Where the time of a run goes: seconds by stage over all threads and, where a trace is wanted, each interval of work."""

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, TypeVar

from encoder.runtime.publish import write_bytes

Item = TypeVar("Item")


class Stage(StrEnum):
    """What a thread can be busy with; else it waits."""

    READ = "read"
    HASH = "hash"
    """In a thread of its own; where there is none, it is part of READ."""
    DECODE = "decode"
    NVJPEG = "nvJPEG"
    """On a GPU; DECODE is then what the worker threads do."""
    FORWARD = "forward"
    WRITE = "write"


class Interval(NamedTuple):
    """One piece of work, as the trace event format has it."""

    stage: Stage
    process: int
    thread: int
    start: float
    """Seconds of a clock that all processes share."""
    seconds: float


class Telemetry:
    """Seconds by stage; any number of threads may write to it.

    Args:
        trace: whether each interval of work is kept, about 100 bytes each.
    """

    def __init__(self, *, trace: bool = False) -> None:
        self.trace = trace
        self.seconds: Counter[Stage] = Counter()
        self.intervals: list[Interval] = []
        self._lock = threading.Lock()

    @contextmanager
    def span(self, stage: Stage) -> Iterator[None]:
        """Count the block's time for a stage."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._add(Interval(stage, os.getpid(), threading.get_native_id(), start, time.monotonic() - start))

    def each(self, stage: Stage, items: Iterable[Item]) -> Iterator[Item]:
        """Yield items and count the time that each takes to come for a stage."""
        iterator = iter(items)
        while True:
            with self.span(stage):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def merge(self, seconds: Counter[Stage], intervals: Iterable[Interval]) -> None:
        """Take in what another process counted."""
        with self._lock:
            self.seconds.update(seconds)
            self.intervals.extend(intervals)

    def take(self) -> tuple[Counter[Stage], list[Interval]]:
        """Return what was counted, for another process, and count anew."""
        with self._lock:
            taken = self.seconds, self.intervals
            self.seconds, self.intervals = Counter(), []
        return taken

    def save_trace(self, path: Path) -> None:
        """Write the intervals as JSON in the trace event format, which chrome://tracing and ui.perfetto.dev show.

        Source: Google, Trace Event Format, "complete events"; times are in microseconds.

        Raises:
            HashgrainError: `write-failed`.
        """
        first = min((each.start for each in self.intervals), default=0.0)
        events = [
            {
                "name": each.stage,
                "ph": "X",
                "pid": each.process,
                "tid": each.thread,
                "ts": round(1e6 * (each.start - first)),
                "dur": round(1e6 * each.seconds),
            }
            for each in self.intervals
        ]
        write_bytes(path, json.dumps({"traceEvents": events}).encode())

    def _add(self, stretch: Interval) -> None:
        with self._lock:
            self.seconds[stretch.stage] += stretch.seconds  # type: ignore[assignment]  # a Counter of floats
            if self.trace:
                self.intervals.append(stretch)
