"""Times that can be compared: systems take turns, so that what else the machine does meets them all alike.

A system is timed while it answers the second of two calls, after a pause in which the threads of the system before it come to rest
(those of OpenMP spin for a while). The first call, of a few queries, brings its own code and memory back into the caches.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from benchmarks.search.systems import Distances, System
from encoder.bits import Codes
from encoder.runtime.cores import worker_count
from indexer.engines.scan.threads import share

SINGLES, ROUNDS = 24, 15
"""Turns of single queries, and of a batch."""
RUN = 8
"""Single queries asked one after another in a turn, new ones each time: a system is called as often as it answers."""
REST = 0.03
"""Seconds of the pause. Source: libgomp's GOMP_SPINCOUNT, 300,000 turns of a loop if nothing is set, some 10 ms."""
WARM_UP = 64
"""Queries of the first call."""
LONG, FEWEST = 10.0, 3
"""Seconds after which a case ends early, and the turns it has at least."""


def milliseconds(
    systems: Mapping[System, int],
    queries: Codes,
    batch: int,
    k: int,
    more: Mapping[str, Callable[[Codes], object]] | None = None,
) -> dict[str, float]:
    """Return the median milliseconds per query takes each system at its effort, asked in batches.

    Args:
        systems: what is asked, and the effort.
        queries: uint8[at least `batch` or SINGLES * RUN, nbits / 8].
        batch: queries asked at once.
        k: answers wanted.
        more: what else takes its turns.
    """
    turns = np.split(queries[: SINGLES * RUN], SINGLES) if batch == 1 else [queries[:batch]] * ROUNDS
    calls = {
        system.name: lambda asked, system=system, effort=effort: system.search(asked, k, effort)
        for system, effort in systems.items()
    }

    def one_by_one(call: Callable[[Codes], object], asked: Codes) -> None:
        for start in range(0, len(asked), batch):
            call(asked[start : start + batch])

    every = {name: partial(one_by_one, call) for name, call in (calls | dict(more or {})).items()}
    return {name: taken / len(turns[0]) for name, taken in in_turn(every, turns).items()}


def in_turn(calls: Mapping[str, Callable[[Codes], object]], turns: Sequence[Codes]) -> dict[str, float]:
    """Return the median milliseconds of each call; every second turn goes the other way round."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    started = time.monotonic()
    for number, (before, asked) in enumerate(zip([turns[-1], *turns], turns, strict=False)):
        if number >= FEWEST and time.monotonic() - started > LONG:
            break
        for name in list(calls)[:: -1 if number % 2 else 1]:
            time.sleep(REST)
            calls[name](before[:WARM_UP])
            begun = time.perf_counter()
            calls[name](asked)
            times[name].append((time.perf_counter() - begun) * 1e3)
    return {name: statistics.median(taken) for name, taken in times.items()}


def recall(found: Distances, exact: Distances) -> float:
    """Return the share of the k answers that are no farther than the k-th exact one, which is fair to ties."""
    return float((found <= exact[:, -1:]).mean())


def read_all(codes: Codes) -> Callable[[Codes], object]:
    """Return a call that does nothing but read the codes, on all cores: the least that a search of all of them can take."""
    words = codes.reshape(-1)[: codes.size // 8 * 8].view(np.uint64)
    parts = np.array_split(words, worker_count())
    return lambda _: share(iter(range(len(parts))), len(parts), lambda tasks: [_folded(parts[task]) for task in tasks])


@numba.njit(nogil=True, cache=True)
def _folded(words: npt.NDArray[np.uint64]) -> Any:
    total = np.uint64(0)
    for word in words:
        total ^= word
    return total
