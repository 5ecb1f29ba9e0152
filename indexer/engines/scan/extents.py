"""Where codes lie: extents of memory that the kernels read in place."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from encoder.bits import Codes
from indexer.engines.scan.kernels import EXTENT_FIELDS, IDS, ROWS, Words


@dataclass(frozen=True, slots=True)
class Extents:
    """Codes of one size in any number of pieces of memory."""

    table: Words
    """uint64[s, EXTENT_FIELDS], see `kernels`."""
    code_size: int
    """Bytes of a code."""
    rows: int
    """Number of codes."""
    ordered: bool
    """Is every row larger than those before it?"""
    owners: tuple[object, ...]
    """Whatever has to live as long as the memory is read."""


@dataclass(frozen=True, slots=True)
class Lists:
    """Inverted lists of any number of segments."""

    centroids: Extents
    """One extent per segment; the row of a centroid is the number of its list in the segment."""
    members: Extents
    """One extent per list, segment after segment."""


def extents(table: Words, code_size: int, owners: tuple[object, ...]) -> Extents:
    """Return the extents of a table; without ids they stand in row order."""
    return Extents(table, code_size, int(table[:, ROWS].sum()), not table[:, IDS].any(), owners)


def flat_extents(segments: Sequence[Codes], first_rows: Sequence[int]) -> Extents:
    """Return where the codes of at least one segment lie.

    Args:
        segments: uint8[n, code_size] each, contiguous; nothing is copied.
        first_rows: the row of each one's first code, ascending.
    """
    table = np.zeros((len(segments), EXTENT_FIELDS), dtype=np.uint64)
    table[:] = [
        (codes.ctypes.data, 0, first_row, len(codes)) for codes, first_row in zip(segments, first_rows, strict=True)
    ]
    return extents(table, segments[0].shape[1], tuple(segments))


def joined(parts: Sequence[Lists]) -> Lists:
    """Return the lists of at least one part as one."""
    return Lists(_together([part.centroids for part in parts]), _together([part.members for part in parts]))


def _together(parts: Sequence[Extents]) -> Extents:
    table = np.concatenate([part.table for part in parts])
    return extents(table, parts[0].code_size, tuple(owner for part in parts for owner in part.owners))
