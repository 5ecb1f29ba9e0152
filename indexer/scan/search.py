"""Questions to answers over codes of one size: every code, or the codes of the nearest lists.

Answers are exactly the smallest (distance, row) among the rows asked for.
"""

from collections.abc import Sequence

import numpy as np

from encoder.bits import Codes
from indexer.found import Found
from indexer.scan.answers import ROW_MASK, nearest_keys
from indexer.scan.jobs import Jobs, list_jobs
from indexer.scan.kernels import Kept, Words, scan
from indexer.scan.running import among, batches, flat_pieces, found_by, run
from indexer.scan.stretches import Lists, Stretches
from indexer.terms import Terms


def search_flat(stretches: Stretches, queries: Codes, terms: Terms) -> list[Found]:
    """Compare uint8[nq, code_size] with every code and return one `Found` a query."""
    terms = among(stretches.rows, terms)
    return [
        found
        for batch in batches(queries, terms)
        for found in found_by(_scan_flat(stretches, _padded(batch), terms), terms)
    ]


def search_lists(lists: Lists, queries: Codes, nprobes: Sequence[int], terms: Terms) -> list[Found]:
    """Compare uint8[nq, code_size] with the codes of the nearest lists and return one `Found` a query.

    A list is read once for all queries of a batch that probe it. `nprobes` counts the lists of each segment; those with the
    smallest (distance, number) are probed.
    """
    terms, answers = among(lists.members.rows, terms), []
    for batch in batches(queries, terms):
        padded = _padded(batch)
        jobs = list_jobs(lists.members, _probed(lists, padded, nprobes, terms.threads))
        answers += found_by(_run(lists.members, jobs, padded, terms), terms)
    return answers


def _padded(queries: Codes) -> Words:
    """Return uint64[nq, words], padded with zeros to a power of two of words: few kernels serve all code sizes."""
    words = 1 << ((queries.shape[1] + 7) // 8 - 1).bit_length()
    padded = np.zeros((len(queries), words), dtype=np.uint64)
    padded.view(np.uint8)[:, : queries.shape[1]] = queries
    return padded


def _probed(lists: Lists, queries: Words, nprobes: Sequence[int], threads: int | None) -> Words:
    """Return uint64[nq, lists], the stretches of `lists.members` that each query probes."""
    numbers, before = [], 0
    for centroids, nprobe in zip(lists.centroids, nprobes, strict=True):
        of_segment = among(centroids.rows, Terms(nprobe, threads=threads))
        keys = nearest_keys(_scan_flat(centroids, queries, of_segment), of_segment.k or 1)
        numbers.append((keys & ROW_MASK) + np.uint64(before))
        before += centroids.rows
    return np.concatenate(numbers, axis=1)


def _scan_flat(stretches: Stretches, queries: Words, terms: Terms) -> list[Kept]:
    return _run(stretches, flat_pieces(stretches, len(queries), terms), queries, terms)


def _run(stretches: Stretches, jobs: Jobs, queries: Words, terms: Terms) -> list[Kept]:
    size, width = np.uint64(stretches.code_size), (0,) * queries.shape[1]
    return run(
        stretches, jobs, queries, terms, 8 * stretches.code_size, lambda work, kept: scan(work, kept, size, width)
    )
