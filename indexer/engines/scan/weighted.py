"""Exact search by a weighted sum of the distances at several levels, over all rows in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes
from indexer.engines.scan.driver import among, batches, flat_pieces, found_by, run, wanted_by
from indexer.engines.scan.extents import Stretches, flat_stretches, stretches
from indexer.engines.scan.kernels import STRETCH_FIELDS, Levels, Words, scan_sums
from indexer.matches import Found, Terms

LARGEST_SUM: Final = (1 << 16) - 1
"""What a candidate has room for beside its row, see `kernels.ROW_BITS`."""


@dataclass(frozen=True, slots=True)
class Summand:
    """A level of a sum."""

    codes: Sequence[Codes]
    """uint8[n, code_size] of each segment; nothing is copied."""
    entries: Sequence[npt.NDArray[np.uint32] | None]
    """uint32[rows] of each segment: which code is each row's; None: codes are in row order."""
    factor: int
    """What a bit that differs adds."""


def search_sums(
    summands: Sequence[Summand], rows: Sequence[int], queries: Sequence[Codes], terms: Terms
) -> list[Found]:
    """Return for each query the k smallest (sum, row) that count, exactly.

    Args:
        summands: the levels, at least one.
        rows: of each segment.
        queries: uint8[nq, code_size] for each level.
        terms: k, largest sum as `radius`, and the rows that count.

    Returns:
        One `Found` a query, sums in the place of distances.
    """
    sizes = [summand.codes[0].shape[1] for summand in summands]
    words = [(size + 7) // 8 for size in sizes]
    firsts = np.cumsum([0, *words])
    levels = Levels(
        codes=np.stack([flat_stretches(summand.codes, [0] * len(rows)).table for summand in summands]),
        entries=np.array([[_address(part) for part in summand.entries] for summand in summands], dtype=np.uint64),
        sizes=np.array(sizes, dtype=np.uint64),
        words=firsts[:-1].astype(np.uint64),
        factors=np.repeat(np.array([summand.factor for summand in summands], dtype=np.uint64), words),
    )
    every_row, terms = _rows(rows), among(sum(rows), terms)
    farthest = sum(8 * size * summand.factor for size, summand in zip(sizes, summands, strict=True))
    together = _side_by_side(queries, firsts)
    return [
        found
        for batch in batches(together, terms, farthest)
        for found in found_by(
            run(
                every_row,
                flat_pieces(every_row, len(batch)),
                wanted_by(batch.view(np.uint64), terms, farthest),
                lambda work, kept: scan_sums(work, kept, levels),
            ),
            terms,
        )
    ]


def _rows(rows: Sequence[int]) -> Stretches:
    """Return stretches of rows without codes."""
    table = np.zeros((len(rows), STRETCH_FIELDS), dtype=np.uint64)
    table[:] = [(0, 0, first, count) for first, count in zip(np.cumsum([0, *rows]).tolist(), rows, strict=False)]
    return stretches(table, 0, ())


def _side_by_side(queries: Sequence[Codes], firsts: Words) -> Codes:
    """Return uint8[nq, 8 * words], the codes of a query at all levels, each padded to whole words."""
    together = np.zeros((len(queries[0]), 8 * int(firsts[-1])), dtype=np.uint8)
    for codes, first in zip(queries, firsts.tolist(), strict=False):
        together[:, 8 * first : 8 * first + codes.shape[1]] = codes
    return together


def _address(entries: npt.NDArray[np.uint32] | None) -> int:
    return 0 if entries is None else entries.ctypes.data
