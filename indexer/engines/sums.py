"""Weighted sums of the distances at several levels, by numpy: the answers of the scan, at once, and slowly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes, hamming
from indexer.matches import Bounds, Distances, Matches
from indexer.row_mask import mask_of

LARGEST_SUM: Final = (1 << 16) - 1
"""What a candidate of the scan has room for beside its row, see `kernels.ROW_BITS`."""
BLOCK: Final = 1 << 16
"""Rows that are compared at once, so that what is made of them stays in the cache."""


@dataclass(frozen=True, slots=True)
class WeightedLevel:
    """A level of a sum."""

    codes: Sequence[Codes]
    """uint8[n, code_size] of each segment; nothing is copied."""
    entries: Sequence[npt.NDArray[np.uint32] | None]
    """uint32[rows] of each segment: which code is each row's; None: codes are in row order."""
    factor: int
    """What a bit that differs adds."""


def search_sums(
    levels: Sequence[WeightedLevel], rows: Sequence[int], queries: Sequence[Codes], bounds: Bounds
) -> list[Matches]:
    """Return for each query the k smallest (sum, row) that count, exactly.

    Args:
        levels: at least one.
        rows: of each segment.
        queries: uint8[nq, code_size] for each level.
        bounds: k, and the rows that count.

    Returns:
        One `Matches` per query, sums in the place of distances.
    """
    eligible = np.arange(sum(rows)) if bounds.rows is None else np.flatnonzero(mask_of(bounds.rows, 0, sum(rows)))
    answers = []
    for at in range(len(queries[0])):
        sums = _sums(levels, rows, [of_level[at : at + 1] for of_level in queries])[eligible]
        near = np.arange(len(sums))
        if bounds.k is not None and bounds.k < len(sums):
            near = np.flatnonzero(sums <= np.partition(sums, bounds.k - 1)[bounds.k - 1])
        order = near[np.argsort(sums[near], kind="stable")[: bounds.k]]
        answers.append(Matches(eligible[order], sums[order]))
    return answers


def _sums(levels: Sequence[WeightedLevel], rows: Sequence[int], query: Sequence[Codes]) -> Distances:
    """Return int32[rows], the sum of each row of all segments."""
    sums, first = np.zeros(sum(rows), dtype=np.int32), 0
    for segment, count in enumerate(rows):
        for start in range(0, count, BLOCK):
            block = slice(start, min(start + BLOCK, count))
            for level, code in zip(levels, query, strict=True):
                codes, entries = level.codes[segment], level.entries[segment]
                of_block = codes[block] if entries is None else codes[entries[block]]
                sums[first + block.start : first + block.stop] += level.factor * hamming(code, of_block)[0]
        first += count
    return sums
