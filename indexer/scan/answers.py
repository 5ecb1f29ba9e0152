"""The candidates that threads kept become answers."""

from typing import Final

import numpy as np

from indexer.found import Found
from indexer.scan.kernels import ALL, ONE, ROW_BITS, Kept, Words, settled

ROW_MASK: Final = (ONE << ROW_BITS) - ONE


def nearest(parts: list[Kept], k: int) -> list[Found]:
    """Return the k smallest (distance, row) of each query."""
    best = [settled(part, np.uint64(k)) for part in parts]
    return answers(best[0] if len(best) == 1 else np.sort(np.concatenate(best, axis=1), axis=1)[:, :k])


def answers(keys: Words) -> list[Found]:
    """Return what uint64[nq, k] says: candidates of each query in order, ALL where there are fewer."""
    together, sizes = _decoded(keys), (keys != ALL).sum(axis=1).tolist()
    if all(size == keys.shape[1] for size in sizes):
        return list(map(Found, together.rows, together.distances))
    return [
        Found(rows[:size], distances[:size])
        for rows, distances, size in zip(together.rows, together.distances, sizes, strict=True)
    ]


def all_of(parts: list[Kept]) -> list[Found]:
    """Return every candidate of each query."""
    return [
        _decoded(np.sort(np.concatenate([part.keys[query, : int(part.sizes[query])] for part in parts])))
        for query in range(len(parts[0].sizes))
    ]


def _decoded(keys: Words) -> Found:
    return Found((keys & ROW_MASK).astype(np.int64), (keys >> ROW_BITS).astype(np.int32))
