"""Questions to answers over codes of one size: every code, or the codes of the nearest lists.

Answers are exactly the smallest (distance, row) among the rows asked for.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from encoder.bits import Codes
from indexer.engines.kit import padded_words
from indexer.engines.scan.answers import answers
from indexer.engines.scan.driver import as_query_batch, batches, clamp_k, flat_pieces, matches_of, run, threads_worth
from indexer.engines.scan.extents import Extents, Lists
from indexer.engines.scan.jobs import Jobs, list_jobs
from indexer.engines.scan.kernels import (
    Candidates,
    QueryBatch,
    TopK,
    Words,
    nearest_lists,
    scan,
    top_k,
    top_k_of_nearest_lists,
)
from indexer.engines.scan.threads import share
from indexer.matches import Bounds, Matches


def search_flat(extents: Extents, queries: Codes, bounds: Bounds) -> list[Matches]:
    """Compare uint8[nq, code_size] with every code and return one `Matches` a query."""
    bounds = clamp_k(extents.rows, bounds)
    return [
        matches
        for batch in batches(queries, bounds, 8 * queries.shape[1])
        for matches in _flat(extents, _padded(batch), bounds)
    ]


def search_lists(lists: Lists, queries: Codes, nprobes: Sequence[int], bounds: Bounds) -> list[Matches]:
    """Compare uint8[nq, code_size] with the codes of the nearest lists and return one `Matches` a query.

    A thread reads a list once for all its queries of a batch that probe it. `nprobes` counts the lists of each segment; those
    with the smallest (distance, number) are probed.
    """
    bounds = clamp_k(lists.members.rows, bounds)
    return [
        matches
        for batch in batches(queries, bounds, 8 * queries.shape[1])
        for matches in _of_lists(lists, _padded(batch), nprobes, bounds)
    ]


def _padded(queries: Codes) -> Words:
    """Return uint64[nq, words], padded with zeros."""
    words = padded_words(queries.shape[1])
    if queries.shape[1] == 8 * words:
        return queries.copy().view(np.uint64)
    padded = np.zeros((len(queries), words), dtype=np.uint64)
    padded.view(np.uint8)[:, : queries.shape[1]] = queries
    return padded


def _flat(extents: Extents, queries: Words, bounds: Bounds) -> list[Matches]:
    batch = as_query_batch(queries, bounds, 8 * extents.code_size)
    if bounds.k is not None and threads_worth(extents.rows * queries.size, len(queries)) == 1:
        return answers(*top_k(extents.table, batch, *_shape(extents, queries)))
    return matches_of(_run(extents, flat_pieces(extents, len(queries)), batch), bounds)


def _of_lists(lists: Lists, queries: Words, nprobes: Sequence[int], bounds: Bounds) -> list[Matches]:
    centroids, members = lists.centroids, lists.members
    batch, each = as_query_batch(queries, bounds, 8 * members.code_size), np.array(nprobes, dtype=np.uint64)
    words = queries.size * (centroids.rows + members.rows * sum(nprobes) / centroids.rows)
    threads = threads_worth(words, len(queries))
    shape = _shape(members, queries)
    if bounds.k is not None and threads == 1:
        return answers(*top_k_of_nearest_lists(centroids.table, members.table, each, batch, *shape))
    if bounds.k is not None and len(queries) >= threads:
        return _sliced(lists, each, batch, threads)
    probed = nearest_lists(centroids.table, each, queries, np.uint64(8 * centroids.code_size), *shape)
    parts = _run(members, list_jobs(members, probed, 0, 1), batch)
    near = np.min([part.limits for part in parts], axis=0)
    parts += _run(members, list_jobs(members, probed, 1, probed.shape[1]), batch, near)
    return matches_of(parts, bounds)


def _sliced(lists: Lists, nprobes: Words, batch: QueryBatch, threads: int) -> list[Matches]:
    """Let threads share the queries: none waits for another's."""
    queries, shape = batch.queries, _shape(lists.members, batch.queries)
    step = -(-len(queries) // threads)
    slices: dict[int, TopK] = {}

    def ask_slices(starts: Iterator[int]) -> None:
        for start in starts:
            part = batch._replace(queries=queries[start : start + step])
            slices[start] = top_k_of_nearest_lists(lists.centroids.table, lists.members.table, nprobes, part, *shape)

    share(iter(range(0, len(queries), step)), threads, ask_slices)
    return [matches for start in sorted(slices) for matches in answers(*slices[start])]


def _run(extents: Extents, jobs: Jobs, batch: QueryBatch, limits: Words | None = None) -> list[Candidates]:
    size, width = _shape(extents, batch.queries)
    return run(extents, jobs, batch, lambda plan, candidates: scan(plan, candidates, size, width), limits)


def _shape(extents: Extents, queries: Words) -> tuple[np.uint64, tuple[int, ...]]:
    """Return size and width, as kernels have them."""
    return np.uint64(extents.code_size), (0,) * queries.shape[1]
