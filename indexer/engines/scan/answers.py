"""The candidates that threads kept become answers."""

import numpy as np

from indexer.engines.scan.kernels import Kept, Sizes, decoded, settled
from indexer.matches import Distances, Found, Rows


def nearest(parts: list[Kept], k: int) -> list[Found]:
    """Return the k smallest (distance, row) of each query."""
    best = [settled(part, np.uint64(k)) for part in parts]
    return answers(*decoded(best[0] if len(best) == 1 else np.sort(np.concatenate(best, axis=1), axis=1)[:, :k]))


def all_of(parts: list[Kept]) -> list[Found]:
    """Return every candidate of each query."""
    return [
        found
        for query in range(len(parts[0].sizes))
        for keys in [np.sort(np.concatenate([part.keys[query, : int(part.sizes[query])] for part in parts]))]
        for found in answers(*decoded(keys[None]))
    ]


def answers(rows: Rows, distances: Distances, sizes: Sizes) -> list[Found]:
    """Return the first int64[nq] of int64[nq, k] rows and int32[nq, k] distances."""
    if all(size == rows.shape[1] for size in sizes.tolist()):
        return list(map(Found, rows, distances))
    return [Found(rows[query, :size], distances[query, :size]) for query, size in enumerate(sizes.tolist())]
