"""FAISS's flat search on a GPU, exact to the last tie.

A GPU answers with the k nearest in an order of its own among equal distances, so a tie at the last place may be cut anywhere.
It is asked for one more, and for twice as many where that one is a tie, up to the most a GPU can return; queries whose tie is
longer still are left to the caller.
"""

import threading
from collections.abc import Callable
from typing import Any, Final

import faiss
import numpy as np
import numpy.typing as npt

from encoder.bits import Codes
from encoder.errors import HashgrainError, Reason
from indexer.engines.faiss_cpu import FlatIndex
from indexer.matches import Matches, merge

MOST: Final = 2048
"""Answers a query that GpuIndexBinaryFlat can return. Source: faiss/gpu/GpuIndexBinaryFlat.cu, release 1.15."""

Nearest = Callable[[Codes, int], tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]]
"""Queries and k to distances int32[nq, k], rising, and rows int64[nq, k]; equal distances in any order."""


class GpuFlat:
    """A copy of a flat index in the memory of the first GPU.

    Raises:
        HashgrainError: `bad-value` where there is no GPU, or too little of its memory.
    """

    def __init__(self, flat: FlatIndex) -> None:
        if not getattr(faiss, "get_num_gpus", int)():
            raise HashgrainError(Reason.BAD_VALUE, "engine is gpu, but faiss finds no GPU; take engine scan")
        self._flat = flat
        self._resources = faiss.StandardGpuResources()
        self._lock = threading.Lock()  # FAISS's GPU indexes serve one caller at a time
        try:
            self._index: Any = faiss.GpuIndexBinaryFlat(self._resources, flat.nbits)
            self._index.add(np.ascontiguousarray(flat.codes))
        except RuntimeError as err:
            raise HashgrainError(
                Reason.BAD_VALUE,
                f"{flat.ntotal:,} codes of {flat.nbits} bits do not fit the GPU ({err}); take engine scan",
            ) from err

    def search(self, queries: Codes, k: int) -> list[Matches | None]:
        """Return exactly the k smallest (distance, row) for uint8[nq, nbits / 8], None where ties are beyond what a GPU returns."""
        with self._lock:
            return exactly_nearest(
                self._index.search, np.ascontiguousarray(queries), min(k, self._flat.ntotal), self._flat.ntotal
            )


def exactly_nearest(nearest: Nearest, queries: Codes, k: int, ntotal: int, most: int = MOST) -> list[Matches | None]:
    """Return the k smallest (distance, row) by a search that breaks ties as it likes.

    Args:
        nearest: the search.
        queries: uint8[nq, code_size].
        k: at most ntotal.
        ntotal: number of codes.
        most: largest k that the search takes.

    Returns:
        One `Matches` a query; None where even `most` answers do not reach past the k-th distance.
    """
    answers: list[Matches | None] = [None if k else merge([], None)] * len(queries)
    unsettled, largest = np.arange(len(queries)), min(most, ntotal)
    wanted = min(k + 1, largest)
    while len(unsettled) and 0 < k <= wanted:
        distances, rows = nearest(queries[unsettled], wanted)
        past = (distances[:, -1] > distances[:, k - 1]) | (wanted == ntotal)
        for at in np.flatnonzero(past).tolist():
            answers[int(unsettled[at])] = merge([Matches(rows[at], distances[at])], k)
        unsettled = unsettled[~past]
        if wanted == largest:
            break
        wanted = min(2 * wanted, largest)
    return answers
