"""One level on a GPU: a copy of each segment's codes, questions that are worth one, and a hand-over where memory is short.

What is not answered here is the caller's to search elsewhere; answers are the same.
"""

from collections.abc import Callable, Sequence
from typing import Final

from encoder.bits import Codes
from encoder.runtime.locks import ForkLock
from indexer.engines.faiss_cpu import FlatIndex
from indexer.engines.faiss_gpu import MOST, GpuFlat, GpuMemoryShortError, check_gpu
from indexer.matches import Matches, merge

GPU_LEAST_QUERIES: Final = 8
"""Queries that are worth a GPU: FAISS's kernel gives a block of threads to 8, so that fewer leave all of the GPU but one
multiprocessor idle. Source: kWarps in faiss/gpu/impl/BinaryDistance.cu, release 1.15. Not measured on a GPU yet."""


class GpuLevel:
    """The segments of a level in the memory of the first GPU, copied there by the first search that needs them.

    Args:
        flats: the codes of each segment.
        first_entries: of each segment.
        notify: called with one line for a person when the GPU's memory is short; from then on nothing is answered here.
        earlier: the level in the generation before; what it has copied of the same codes is not copied again.

    Raises:
        HashgrainError: `bad-value` where there is no GPU.
    """

    def __init__(
        self,
        flats: Sequence[FlatIndex],
        first_entries: Sequence[int],
        notify: Callable[[str], None],
        earlier: "GpuLevel | None" = None,
    ) -> None:
        check_gpu()
        self._flats, self._first_entries, self._notify = flats, first_entries, notify
        self._copies: list[GpuFlat] = []
        self._there = {} if earlier is None else {copy.flat: copy for copy in earlier._copies if copy.flat in flats}
        self._short, self._lock = False, ForkLock()

    def search(self, queries: Codes, k: int) -> list[Matches | None]:
        """Return exactly the k smallest (distance, entry) for uint8[nq, nbits / 8]; None for each query left to the caller."""
        nothing: list[Matches | None] = [None] * len(queries)
        if self._short or len(queries) < GPU_LEAST_QUERIES or k >= MOST:  # one more than k tells where ties end
            return nothing
        try:
            of_parts = [
                [one and Matches(one.rows + first, one.distances) for one in gpu.search(queries, k)]
                for gpu, first in zip(self._on_gpu(), self._first_entries, strict=False)
            ]
        except GpuMemoryShortError as err:
            self._hand_over(err)
            return nothing
        answers = ([one for one in of_query if one is not None] for of_query in zip(*of_parts, strict=True))
        return [merge(parts, k) if len(parts) == len(of_parts) else None for parts in answers]

    def _on_gpu(self) -> list[GpuFlat]:
        with self._lock:
            if self._short:
                raise GpuMemoryShortError  # another thread has found so since
            if not self._copies:
                self._copies = [self._there.get(flat) or GpuFlat(flat) for flat in self._flats]
                self._there = {}
            return self._copies

    def _hand_over(self, err: GpuMemoryShortError) -> None:
        """Give the memory back, and say so once."""
        with self._lock:
            if self._short:
                return
            self._short, self._copies = True, []
        codes = sum(flat.ntotal for flat in self._flats)
        self._notify(
            f"GPU memory is short for {codes:,} codes of {self._flats[0].nbits} bits ({err}); the scan searches them"
        )
