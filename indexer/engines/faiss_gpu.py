"""FAISS's flat search on a GPU, exact to the last tie.

A GPU answers with the k nearest in an order of its own among equal distances, so a tie at the last place may be cut anywhere.
It is asked for one more, and for twice as many where that one is a tie, up to the most a GPU can return; queries whose tie is
longer still are left to the caller.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes
from encoder.errors import HashgrainError, Reason
from encoder.runtime.locks import ForkLock
from indexer.engines.faiss_cpu import FlatIndex
from indexer.engines.faiss_library import faiss
from indexer.matches import Matches, merge

MOST: Final = 2048
"""Answers a query that GpuIndexBinaryFlat can return. Source: faiss/gpu/GpuIndexBinaryFlat.cu, release 1.15."""

TEMPORARY_BYTES: Final = 1 << 28
"""Memory of the GPU that FAISS keeps for queries and answers in flight; on its own it takes 1.5 GiB."""
BYTES_PER_ANSWER: Final = 12
"""An int32 distance and an int64 row. Source: faiss/gpu/GpuIndexBinaryFlat.cu, release 1.15, `search`."""

Nearest = Callable[[Codes, int], tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]]
"""Queries and k to distances int32[nq, k], rising, and rows int64[nq, k]; equal distances in any order."""

_LOCK: Final = ForkLock()
"""All indexes share streams and temporary memory, which serve one caller at a time."""
_SHORT: Final = ("alloc fail", "cudaMalloc", "out of memory")
"""What FAISS says where memory is short. Source: faiss/gpu/StandardGpuResources.cpp, release 1.15, `allocMemory`."""


class GpuMemoryShortError(Exception):
    """The GPU has no room for a copy of the codes, or for a search in it; the codes can be searched elsewhere."""


def check_gpu() -> None:
    """Raise `bad-value` where there is no GPU."""
    if not getattr(faiss, "get_num_gpus", int)():
        raise HashgrainError(Reason.BAD_VALUE, "engine is gpu, but faiss finds no GPU; take engine scan")


class GpuFlat:
    """A copy of a flat index in the memory of the first GPU.

    Raises:
        GpuMemoryShortError: where it has too little.
        HashgrainError: `bad-value` where it takes no copy for another reason.
    """

    def __init__(self, flat: FlatIndex) -> None:
        self.flat = flat
        with _gpu():
            self._index: Any = faiss.GpuIndexBinaryFlat(_resources(), flat.nbits)
            self._index.add(np.ascontiguousarray(flat.codes))

    def search(self, queries: Codes, k: int) -> list[Matches | None]:
        """Return exactly the k smallest (distance, row) for uint8[nq, nbits / 8], None where ties are beyond what a GPU returns.

        Raises:
            GpuMemoryShortError: where the GPU has too little memory left.
            HashgrainError: `bad-value` where it does not search for another reason.
        """
        with _gpu():
            return exactly_nearest(
                self._nearest, np.ascontiguousarray(queries), min(k, self.flat.ntotal), self.flat.ntotal
            )

    def _nearest(self, queries: Codes, k: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Ask for no more at once than the temporary memory holds."""
        step = max(1, TEMPORARY_BYTES // (k * BYTES_PER_ANSWER + queries.shape[1]))
        starts = range(0, len(queries), step)
        distances, rows = zip(*[self._index.search(queries[at : at + step], k) for at in starts], strict=True)
        return np.concatenate(distances), np.concatenate(rows)


@cache
def _resources() -> Any:
    """Return the one set of streams and temporary memory of this process, whole: FAISS would go on with half of one."""
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(TEMPORARY_BYTES)
    resources.setPinnedMemory(0)  # 256 MiB, which a binary index does not use
    resources.getResources().initializeForDevice(0)
    return resources


@contextmanager
def _gpu() -> Iterator[None]:
    """Hold the GPU, and say in our words what FAISS raises."""
    try:
        with _LOCK:
            yield
    except RuntimeError as err:
        what = str(err).rpartition("failed: ")[2].strip()
        if any(word in what for word in _SHORT):
            raise GpuMemoryShortError(what) from err
        raise HashgrainError(Reason.BAD_VALUE, f"the GPU did not search ({what}); take engine scan") from err


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
