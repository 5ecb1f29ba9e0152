"""Codes that several rows share, stored once: which entry holds a row's code, and which rows an entry stands for.

Learned codes collapse: thousands of images of a class have one code. A level may then keep each distinct code as one entry,
in the order of their first rows, and search entries. The k nearest entries by (distance, entry) hold the k nearest rows by
(distance, row): a row on any other entry is preceded by the first rows of those k.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from encoder.bits import Bits, Codes
from indexer.matches import Matches

Numbers = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Postings:
    """The rows of each entry."""

    entries: Numbers
    """uint32[rows], the entry that holds each row's code."""
    rows: Numbers
    """uint32[rows], the rows of entry 0, of entry 1, ..., ascending in each."""
    starts: npt.NDArray[np.uint64]
    """uint64[entries + 1], where each entry's rows begin in `rows`."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def firsts(self) -> Numbers:
        """Return uint32[entries], the first row of each entry."""
        return self.rows[self.starts[:-1].astype(np.int64)]

    def entries_of(self, mask: Bits) -> Bits:
        """Return bool[entries], those with an eligible row, of bool[rows]."""
        of_entries = np.zeros(len(self), dtype=np.bool_)
        of_entries[self.entries[mask]] = True
        return of_entries

    def expand(self, matches: Matches, most: int | None) -> Matches:
        """Return the rows of entries, each at the distance of its entry, in the order of the entries.

        Args:
            matches: entries.
            most: rows taken of an entry at most; None: all.
        """
        starts, stops = (self.starts[matches.rows + step].astype(np.int64) for step in (0, 1))
        sizes = stops - starts if most is None else np.minimum(stops - starts, most)
        before = np.cumsum(sizes) - sizes
        places = np.arange(sizes.sum()) + np.repeat(starts - before, sizes)
        return Matches(self.rows[places].astype(np.int64), np.repeat(matches.distances, sizes))

    def out_of_range(self) -> bool:
        """Return whether any number leads out of the arrays: cheap, asked before the numbers are followed."""
        return bool(
            self.starts[0]
            or self.starts[-1] != len(self.rows)
            or (self.starts[1:] <= self.starts[:-1]).any()
            or self.rows.max(initial=0) >= max(1, len(self.rows))
            or self.entries.max(initial=0) >= max(1, len(self))
        )

    def fault(self) -> str | None:
        """Say what is wrong with the arrays, or None: for readers of files that others made."""
        starts = self.starts.astype(np.int64)
        if starts[0] or starts[-1] != len(self.rows) or (np.diff(starts) < 1).any():
            return f"its entries do not share out {len(self.rows)} rows"
        if not np.array_equal(self.rows, np.argsort(self.entries, kind="stable")):
            return "its entries are not in the order of their rows"
        if not np.array_equal(np.bincount(self.entries, minlength=len(self)), np.diff(starts)):
            return "its rows are not those of its entries"
        return None


def share_codes(codes: Codes) -> Postings:
    """Find the rows that share a code.

    Args:
        codes: uint8[rows, code_size], rows < 2^32.
    """
    rows, size = codes.shape
    words = (size + 7) // 8
    if size != 8 * words:
        codes = np.pad(codes, ((0, 0), (0, 8 * words - size)))
    columns = np.ascontiguousarray(codes).view(np.uint64).reshape(rows, words).T
    order = np.lexsort(columns)  # stable: rows ascend among equal codes
    new = np.zeros(rows, dtype=np.bool_)
    new[:1] = True
    for column in columns:
        ordered = column[order]
        new[1:] |= ordered[1:] != ordered[:-1]
    firsts = order[new]
    entry_of_run = np.empty(len(firsts), dtype=np.uint32)
    entry_of_run[np.argsort(firsts)] = np.arange(len(firsts), dtype=np.uint32)
    entries = np.empty(rows, dtype=np.uint32)
    entries[order] = entry_of_run[np.cumsum(new) - 1]
    starts = np.zeros(len(firsts) + 1, dtype=np.uint64)
    np.cumsum(np.bincount(entries, minlength=len(firsts)), out=starts[1:])
    return Postings(entries, np.argsort(entries, kind="stable").astype(np.uint32), starts)
