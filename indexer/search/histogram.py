"""How many rows lie at each distance from a code: what a radius would find, without finding it."""

from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from encoder.bits import Bits, Codes
from indexer.matches import Rows
from indexer.row_mask import RowSet, mask_of
from indexer.search.level_index import LevelIndex
from indexer.storage.segment import LevelPart

Counts = npt.NDArray[np.int64]
"""int64[nbits + 1]: how many at 0, 1, ... nbits bits."""

BLOCK: Final = 1 << 15
"""Codes that are compared at once, so that what is made of them stays in the cache."""


def histogram(level: LevelIndex, code: Codes, rows: RowSet | None) -> Counts:
    """Count the rows at each distance from a code, over all segments.

    Args:
        level: whose codes.
        code: uint8[nbits / 8].
        rows: those that count; None: all.
    """
    counts = np.zeros(level.nbits + 1, dtype=np.int64)
    for part, (start, stop) in zip(level.parts, pairwise(np.cumsum([0, *level.rows]).tolist()), strict=True):
        counts += _of_part(part, code, None if rows is None else mask_of(rows, start, stop))
    return counts


def _of_part(part: LevelPart, code: Codes, mask: Bits | None) -> Counts:
    codes, counts = part.flat.codes, np.zeros(part.record.nbits + 1, dtype=np.int64)
    sharing: Rows | None = None  # how many rows of each entry count
    if part.postings is not None and mask is None:
        starts = part.postings.starts.astype(np.int64)
        sharing = starts[1:] - starts[:-1]
    elif part.postings is not None:
        sharing = np.bincount(part.postings.entries[mask], minlength=len(codes))
    for start in range(0, len(codes), BLOCK):
        block = slice(start, start + BLOCK)
        of_block = distances(codes[block], code)
        if sharing is not None:  # float64 holds whole numbers up to 2^53
            of_rows = np.bincount(of_block, weights=sharing[block], minlength=len(counts)).astype(np.int64)
        else:
            of_rows = np.bincount(of_block if mask is None else of_block[mask[block]], minlength=len(counts))
        counts += of_rows
    return counts


def distances(codes: Codes, code: Codes) -> npt.NDArray[Any]:
    """Return uint8[n], or uint16[n] of more than 255 bits: the distance of each code from one, word by word."""
    size = codes.shape[1]
    word = np.dtype(f"u{next(width for width in (8, 4, 2, 1) if size % width == 0)}")
    found: npt.NDArray[Any] = np.zeros(len(codes), dtype=np.uint8 if size < 32 else np.uint16)
    words, wanted = np.ascontiguousarray(codes).view(word), np.ascontiguousarray(code).view(word)
    for column in range(len(wanted)):
        found += np.bitwise_count(words[:, column] ^ wanted[column])
    return found
