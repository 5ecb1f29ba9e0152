"""Exact search by a weighted sum of the distances at several levels, over all rows in one pass."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes
from indexer.engines.scan.driver import as_query_batch, batches, clamp_k, flat_pieces, matches_of, run
from indexer.engines.scan.extents import Extents, extents, flat_extents
from indexer.engines.scan.kernels import EXTENT_FIELDS, LevelCodes, Words, scan_weighted
from indexer.engines.sums import WeightedLevel
from indexer.matches import Bounds, Matches


def search_weighted(
    levels: Sequence[WeightedLevel], rows: Sequence[int], queries: Sequence[Codes], bounds: Bounds
) -> list[Matches]:
    """Answer as `sums.search_sums` does."""
    sizes = [level.codes[0].shape[1] for level in levels]
    words = [(size + 7) // 8 for size in sizes]
    firsts = np.cumsum([0, *words])
    level_codes = LevelCodes(
        codes=np.stack([flat_extents(level.codes, [0] * len(rows)).table for level in levels]),
        entries=np.array([[_address(part) for part in level.entries] for level in levels], dtype=np.uint64),
        sizes=np.array(sizes, dtype=np.uint64),
        words=firsts[:-1].astype(np.uint64),
        factors=np.repeat(np.array([level.factor for level in levels], dtype=np.uint64), words),
    )
    every_row, bounds = _rows(rows), clamp_k(sum(rows), bounds)
    farthest = sum(8 * size * level.factor for size, level in zip(sizes, levels, strict=True))
    together = _side_by_side(queries, firsts)
    return [
        matches
        for batch in batches(together, bounds, farthest)
        for matches in matches_of(
            run(
                every_row,
                flat_pieces(every_row, len(batch)),
                as_query_batch(batch.view(np.uint64), bounds, farthest),
                lambda plan, candidates: scan_weighted(plan, candidates, level_codes),
            ),
            bounds,
        )
    ]


def _rows(rows: Sequence[int]) -> Extents:
    """Return extents of rows without codes."""
    table = np.zeros((len(rows), EXTENT_FIELDS), dtype=np.uint64)
    table[:] = [(0, 0, first, count) for first, count in zip(np.cumsum([0, *rows]).tolist(), rows, strict=False)]
    return extents(table, 0, ())


def _side_by_side(queries: Sequence[Codes], firsts: Words) -> Codes:
    """Return uint8[nq, 8 * words], the codes of a query at all levels, each padded to whole words."""
    together = np.zeros((len(queries[0]), 8 * int(firsts[-1])), dtype=np.uint8)
    for codes, first in zip(queries, firsts.tolist(), strict=False):
        together[:, 8 * first : 8 * first + codes.shape[1]] = codes
    return together


def _address(entries: npt.NDArray[np.uint32] | None) -> int:
    return 0 if entries is None else entries.ctypes.data
