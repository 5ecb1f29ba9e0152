"""Questions to answers over codes of one size: every code, or the codes of the nearest lists.

Answers are exactly the smallest (distance, row) among the rows asked for.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from encoder.bits import Codes
from indexer.engines.scan.answers import answers
from indexer.engines.scan.driver import among, batches, flat_pieces, found_by, run, threads_worth, wanted_by
from indexer.engines.scan.extents import Lists, Stretches
from indexer.engines.scan.jobs import Jobs, list_jobs
from indexer.engines.scan.kernels import Decoded, Kept, Wanted, Words, ask, ask_nearest, nearest_lists, scan
from indexer.engines.scan.threads import share
from indexer.matches import Found, Terms


def search_flat(stretches: Stretches, queries: Codes, terms: Terms) -> list[Found]:
    """Compare uint8[nq, code_size] with every code and return one `Found` a query."""
    terms = among(stretches.rows, terms)
    return [
        found
        for batch in batches(queries, terms, 8 * queries.shape[1])
        for found in _flat(stretches, _padded(batch), terms)
    ]


def search_lists(lists: Lists, queries: Codes, nprobes: Sequence[int], terms: Terms) -> list[Found]:
    """Compare uint8[nq, code_size] with the codes of the nearest lists and return one `Found` a query.

    A thread reads a list once for all its queries of a batch that probe it. `nprobes` counts the lists of each segment; those
    with the smallest (distance, number) are probed.
    """
    terms = among(lists.members.rows, terms)
    return [
        found
        for batch in batches(queries, terms, 8 * queries.shape[1])
        for found in _of_lists(lists, _padded(batch), nprobes, terms)
    ]


def _padded(queries: Codes) -> Words:
    """Return uint64[nq, words], padded with zeros to a power of two of words: few kernels serve all code sizes."""
    words = 1 << ((queries.shape[1] + 7) // 8 - 1).bit_length()
    if queries.shape[1] == 8 * words:
        return queries.copy().view(np.uint64)
    padded = np.zeros((len(queries), words), dtype=np.uint64)
    padded.view(np.uint8)[:, : queries.shape[1]] = queries
    return padded


def _flat(stretches: Stretches, queries: Words, terms: Terms) -> list[Found]:
    wanted = wanted_by(queries, terms, 8 * stretches.code_size)
    if terms.k is not None and threads_worth(stretches.rows * queries.size, len(queries)) == 1:
        return answers(*ask(stretches.table, wanted, *_shape(stretches, queries)))
    return found_by(_run(stretches, flat_pieces(stretches, len(queries)), wanted), terms)


def _of_lists(lists: Lists, queries: Words, nprobes: Sequence[int], terms: Terms) -> list[Found]:
    centroids, members = lists.centroids, lists.members
    wanted, each = wanted_by(queries, terms, 8 * members.code_size), np.array(nprobes, dtype=np.uint64)
    words = queries.size * (centroids.rows + members.rows * sum(nprobes) / centroids.rows)
    threads = threads_worth(words, len(queries))
    shape = _shape(members, queries)
    if terms.k is not None and threads == 1:
        return answers(*ask_nearest(centroids.table, members.table, each, wanted, *shape))
    if terms.k is not None and len(queries) >= threads:
        return _sliced(lists, each, wanted, threads)
    probed = nearest_lists(centroids.table, each, queries, np.uint64(8 * centroids.code_size), *shape)
    parts = _run(members, list_jobs(members, probed, 0, 1), wanted)
    near = np.min([part.limits for part in parts], axis=0)
    parts += _run(members, list_jobs(members, probed, 1, probed.shape[1]), wanted, near)
    return found_by(parts, terms)


def _sliced(lists: Lists, nprobes: Words, wanted: Wanted, threads: int) -> list[Found]:
    """Let threads share the queries: none waits for another's."""
    queries, shape = wanted.queries, _shape(lists.members, wanted.queries)
    step = -(-len(queries) // threads)
    slices: dict[int, Decoded] = {}

    def ask_slices(starts: Iterator[int]) -> None:
        for start in starts:
            part = wanted._replace(queries=queries[start : start + step])
            slices[start] = ask_nearest(lists.centroids.table, lists.members.table, nprobes, part, *shape)

    share(iter(range(0, len(queries), step)), threads, ask_slices)
    return [found for start in sorted(slices) for found in answers(*slices[start])]


def _run(stretches: Stretches, jobs: Jobs, wanted: Wanted, limits: Words | None = None) -> list[Kept]:
    size, width = _shape(stretches, wanted.queries)
    return run(stretches, jobs, wanted, lambda work, kept: scan(work, kept, size, width), limits)


def _shape(stretches: Stretches, queries: Words) -> tuple[np.uint64, tuple[int, ...]]:
    """Return size and width, as kernels have them."""
    return np.uint64(stretches.code_size), (0,) * queries.shape[1]
