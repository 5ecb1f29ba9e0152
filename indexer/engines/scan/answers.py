"""The candidates that threads kept become answers."""

import numpy as np

from indexer.engines.scan.kernels import Candidates, Sizes, smallest, unpack_keys
from indexer.matches import Distances, Matches, Rows


def nearest(parts: list[Candidates], k: int) -> list[Matches]:
    """Return the k smallest (distance, row) of each query."""
    best = [smallest(part, np.uint64(k)) for part in parts]
    if len(best) > 1:  # contiguous, since kernels are compiled for such arrays alone
        best = [np.ascontiguousarray(np.sort(np.concatenate(best, axis=1), axis=1)[:, :k])]
    return answers(*unpack_keys(best[0]))


def all_of(parts: list[Candidates]) -> list[Matches]:
    """Return every candidate of each query."""
    return [
        matches
        for query in range(len(parts[0].sizes))
        for keys in [np.sort(np.concatenate([part.keys[query, : int(part.sizes[query])] for part in parts]))]
        for matches in answers(*unpack_keys(keys[None]))
    ]


def answers(rows: Rows, distances: Distances, sizes: Sizes) -> list[Matches]:
    """Return the first int64[nq] of int64[nq, k] rows and int32[nq, k] distances."""
    if all(size == rows.shape[1] for size in sizes.tolist()):
        return list(map(Matches, rows, distances))
    return [Matches(rows[query, :size], distances[query, :size]) for query, size in enumerate(sizes.tolist())]
