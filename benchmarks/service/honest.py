"""A client that means well, in a process of its own: queries at a steady rate, whatever else the service has to bear."""

import multiprocessing
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event

import numpy as np

PATIENCE = 10.0
"""Seconds after which a query counts as not answered."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Queries of one kind."""

    path: str
    content_type: str
    bodies: Sequence[bytes]
    rate: float
    """Per second."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One query."""

    kind: str
    due: float
    """When it was to be sent, by the monotonic clock, which is the same for all processes."""
    took: float
    """Seconds from then to the end of its answer."""
    status: int
    """0: none came."""


class Asking:
    """What was asked so far; whole once the process has ended."""

    def __init__(self) -> None:
        self.asked = list[Asked]()

    def between(self, began: float, ended: float, *kinds: str) -> list[Asked]:
        """Return the queries of some kinds that were due within a time."""
        return [one for one in self.asked if one.kind in kinds and began <= one.due < ended]


@contextmanager
def asking(port: int, streams: Mapping[str, Stream]) -> Iterator[Asking]:
    """Ask while the block runs; every query takes a connection of its own, as one of somebody new does."""
    context = multiprocessing.get_context("spawn")
    stop, queue, result = context.Event(), context.SimpleQueue(), Asking()
    process = context.Process(target=_ask, args=(port, dict(streams), stop, queue))
    process.start()
    try:
        yield result
    finally:
        stop.set()
        result.asked = queue.get()
        process.join()


def p99(asked: Sequence[Asked]) -> float:
    """Return the time in ms within which 99 of 100 queries were answered; NaN: none was."""
    times = [1e3 * one.took for one in asked if one.status == 200]
    return float(np.percentile(times, 99)) if times else float("nan")


def share(asked: Sequence[Asked]) -> float:
    """Return the share of queries that were answered."""
    return sum(one.status == 200 for one in asked) / max(1, len(asked))


def _ask(port: int, streams: dict[str, Stream], stop: Event, queue: "SimpleQueue[list[Asked]]") -> None:
    asked = list[Asked]()
    threads = [
        threading.Thread(target=_pace, args=(port, kind, stream, stop, asked)) for kind, stream in streams.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.put(asked)


def _pace(port: int, kind: str, stream: Stream, stop: Event, asked: list[Asked]) -> None:
    started, number = time.monotonic(), 0
    while not stop.is_set():
        due = started + number / stream.rate
        time.sleep(max(0.0, due - time.monotonic()))
        body = stream.bodies[number % len(stream.bodies)]
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        status = 0
        try:
            connection.request("POST", stream.path, body, {"Content-Type": stream.content_type})
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, HTTPException):
            pass
        finally:
            connection.close()
        asked.append(Asked(kind, due, time.monotonic() - due, status))
        number += 1
