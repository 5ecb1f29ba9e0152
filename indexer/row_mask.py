"""Sets of rows as bitmaps: those that live, those that pass a filter."""

import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from encoder.bits import Bits, pack, unpack

RowSet = npt.NDArray[np.uint64]
"""uint64[rows // 64 + 2]: bit r % 64 of word r // 64 is set if row r is eligible; a word to spare for reads across words.
Once made, it is not changed."""
_SIZES: dict[int, int] = {}
"""Of the sets that there are, by their identity."""


def row_set(mask: Bits) -> RowSet:
    """Pack bool[rows], True for the rows that are eligible."""
    words = np.zeros(len(mask) // 64 + 2, dtype="<u8")
    packed = pack(mask)
    words.view(np.uint8)[: len(packed)] = packed
    return words.astype(np.uint64, copy=False)


def mask_of(rows: RowSet, start: int, stop: int) -> Bits:
    """Unpack bool[stop - start]: which of the rows start:stop are eligible."""
    first = start // 64
    of_words = unpack(rows[first : stop // 64 + 1].astype("<u8", copy=False).view(np.uint8))
    return of_words[start - 64 * first : stop - 64 * first]


def in_set(rows: RowSet, some: npt.NDArray[np.int64]) -> Bits:
    """Return bool[len(some)]: which of some rows are eligible."""
    bits: npt.NDArray[Any] = rows[some >> 6] >> (some & 63).astype(np.uint64) & np.uint64(1)
    return bits.astype(np.bool_)


def size_of(rows: RowSet) -> int:
    """Return how many rows are eligible: counted once, since a set serves many queries, and counting takes longer than one."""
    known = id(rows)
    if (size := _SIZES.get(known)) is None:
        size = _SIZES[known] = int(np.bitwise_count(rows).sum())
        weakref.finalize(rows, _SIZES.pop, known, None)
    return size


def without_rows(rows: RowSet | None, there: int, some: npt.NDArray[np.int64]) -> RowSet:
    """Return a set of `there` rows without some of them; None is the set of all."""
    left = row_set(np.ones(there, dtype=np.bool_)) if rows is None else rows.copy()
    np.bitwise_and.at(left, some >> 6, ~(np.uint64(1) << (some & 63).astype(np.uint64)))
    return left


def set_of(there: int, some: npt.NDArray[np.int64]) -> RowSet:
    """Return the set of some of `there` rows."""
    mask = np.zeros(there, dtype=np.bool_)
    mask[some] = True
    return row_set(mask)
