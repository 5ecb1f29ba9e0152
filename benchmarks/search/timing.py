"""Times that can be compared: systems take turns, so that what else the machine does meets them all alike.

A system is timed while it answers the second of two calls. The first one, of a few queries, lets threads of the system before it come
to rest (those of OpenMP spin for a while) and brings its own code and memory back into the caches.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from benchmarks.search.systems import Distances, System
from encoder.bits import Codes
from encoder.cores import worker_count

SINGLES, ROUNDS = 24, 5
"""Turns of one query, a new one each time, and of a batch."""
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
    """Return the median milliseconds a query takes each system at its effort, asked in batches.

    Args:
        systems: what is asked, and the effort.
        queries: uint8[at least `batch` or SINGLES, nbits / 8].
        batch: queries asked at once.
        k: answers wanted.
        more: what else takes its turns.
    """
    turns = [queries[at : at + 1] for at in range(SINGLES)] if batch == 1 else [queries[:batch]] * ROUNDS
    calls = {
        system.name: lambda asked, system=system, effort=effort: system.search(asked, k, effort)
        for system, effort in systems.items()
    }
    return {name: taken / batch for name, taken in in_turn(calls | dict(more or {}), turns).items()}


def in_turn(calls: Mapping[str, Callable[[Codes], object]], turns: Sequence[Codes]) -> dict[str, float]:
    """Return the median milliseconds of each call; every second turn goes the other way round."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    started = time.monotonic()
    for number, (before, asked) in enumerate(zip([turns[-1], *turns], turns, strict=False)):
        if number >= FEWEST and time.monotonic() - started > LONG:
            break
        for name in list(calls)[:: -1 if number % 2 else 1]:
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
    pool = ThreadPoolExecutor(len(parts))
    return lambda _: list(pool.map(_folded, parts))


@numba.njit(nogil=True, cache=True)
def _folded(words: npt.NDArray[np.uint64]) -> Any:
    total = np.uint64(0)
    for word in words:
        total ^= word
    return total
