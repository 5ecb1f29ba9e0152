"""Batches of queries, jobs and threads: what every scan shares.

Answers depend neither on the number of threads nor on which thread did what: a candidate is dropped only for k others that
precede it.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from encoder.bits import Codes
from encoder.runtime.cores import worker_count
from indexer.engines.scan.answers import all_of, nearest
from indexer.engines.scan.extents import Extents
from indexer.engines.scan.jobs import Jobs, flat_jobs
from indexer.engines.scan.kernels import BLOCK, Candidates, QueryBatch, ScanPlan, Words, no_candidates
from indexer.engines.scan.threads import share
from indexer.matches import Bounds, Matches

Kernel = Callable[[ScanPlan, Candidates], Candidates]
"""`kernels.scan` or one like it."""

TASKS_PER_THREAD: Final = 8
"""A core that is busy elsewhere costs the others an eighth of its share, and a call of the kernel is still long."""
WORDS_PER_THREAD: Final = 1 << 19
"""Words to compare that are worth a thread: 300 microseconds or more, of which waking it and its last word take 100 to 200."""
ALONE: Final = 2
"""A lone query has to have so many times as many: memory gives its words at a pace that a second thread does not double."""
WORDS_PER_TASK: Final = 1 << 18
"""Words to compare that are worth a call of the kernel, which takes 15 microseconds before and after."""
BATCH: Final = 1024
"""Most queries scanned together: with more, what is known of them would push the block out of the level-1 cache."""
UNBOUNDED_BATCH: Final = 64
"""The same where a query may have any number of answers, and the room of all grows with that of one."""
CANDIDATES: Final = 1 << 23
"""Most candidates and tallies that a thread makes room for at the start, 64 MB."""
ALL_ROWS: Final = np.empty(0, dtype=np.uint64)


def clamp_k(rows: int, bounds: Bounds) -> Bounds:
    """Return the bounds with a k that there are rows for."""
    return bounds if bounds.k is None or bounds.k <= rows else replace(bounds, k=max(1, rows))


def _capacity(bounds: Bounds) -> int:
    """Return how many candidates a query gets room for: k, three times as many before they are sorted out, and a block."""
    return 4 * (bounds.k or 0) + int(BLOCK)


def batches(queries: Codes, bounds: Bounds, farthest: int) -> list[Codes]:
    """Return the queries that are scanned together; `farthest` is the largest distance there can be."""
    most = BATCH if bounds.k is not None else UNBOUNDED_BATCH
    size = max(1, min(most, CANDIDATES // (_capacity(bounds) + farthest)))
    if len(queries) <= size:
        return [queries]
    return [queries[start : start + size] for start in range(0, len(queries), size)]


def flat_pieces(extents: Extents, queries: int) -> Jobs:
    """Let every query see every code, in pieces that keep all threads busy to the end."""
    return flat_jobs(extents, queries, extents.rows // (TASKS_PER_THREAD * worker_count()) + 1)


def matches_of(parts: list[Candidates], bounds: Bounds) -> list[Matches]:
    """Return one `Matches` a query of what threads kept."""
    return all_of(parts) if bounds.k is None else nearest(parts, bounds.k)


def threads_worth(words: float, queries: int) -> int:
    """Return how many threads it takes to compare so many words of 64 bits, those of all queries."""
    each = WORDS_PER_THREAD * (ALONE if queries == 1 else 1)
    return int(min(worker_count(), words // each)) if words >= 2 * each else 1


def as_query_batch(queries: Words, bounds: Bounds, farthest: int) -> QueryBatch:
    """Return what uint64[nq, words] want, as kernels have it; `farthest` is the largest distance there can be."""
    limit = (farthest if bounds.radius is None else min(bounds.radius, farthest)) + 1
    return QueryBatch(
        queries,
        ALL_ROWS if bounds.rows is None else bounds.rows,
        np.uint64(bounds.k or 0),
        np.uint64(limit),
        np.uint64(farthest),
        np.uint64(_capacity(bounds)),
    )


def run(
    extents: Extents, jobs: Jobs, batch: QueryBatch, kernel: Kernel, limits: Words | None = None
) -> list[Candidates]:
    """Run a kernel over jobs on as many threads as they are worth.

    Args:
        extents: what the jobs are pieces of.
        jobs: who is compared with what.
        batch: the queries and their bounds.
        kernel: what compares.
        limits: uint64[nq], only candidates nearer than this are kept; None: as `batch` says.

    Returns:
        What each thread kept.
    """
    words = jobs.pairs * batch.queries.shape[1]
    threads = threads_worth(words, len(batch.queries))
    tasks = min(TASKS_PER_THREAD * threads, max(threads, words // WORDS_PER_TASK)) if threads > 1 else 1
    step = max(1, -(-len(jobs.table) // tasks))

    def run_tasks(tasks: Iterator[int]) -> Candidates:
        candidates = no_candidates(batch, np.uint64(not extents.ordered))
        if limits is not None:
            candidates.limits[:] = limits
        for start in tasks:
            part = jobs.table[start : start + step]
            candidates = kernel(ScanPlan(extents.table, part, jobs.query_ids, batch.queries, batch.mask), candidates)
        return candidates

    return share(iter(range(0, len(jobs.table), step)), threads, run_tasks)
