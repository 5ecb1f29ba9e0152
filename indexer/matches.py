"""What a query wants of the codes it is compared with, and what it gets, whoever compares."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from indexer.row_mask import RowSet

Rows = npt.NDArray[np.int64]
Distances = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Terms:
    """k or a radius, or both."""

    k: int | None
    """Most rows; None: all within the radius."""
    radius: int | None = None
    """Largest distance in bits, inclusive; None: any."""
    rows: RowSet | None = None
    """The rows that count; None: all."""


@dataclass(frozen=True, slots=True)
class Found:
    """Rows found for one query, ordered by (distance, row)."""

    rows: Rows
    """int64[m]."""
    distances: Distances
    """int32[m], bits."""


def merged(parts: Sequence[Found], k: int | None) -> Found:
    """Return the k smallest (distance, row) of several; None: all."""
    rows = np.concatenate([np.empty(0, dtype=np.int64), *(part.rows for part in parts)])
    distances = np.concatenate([np.empty(0, dtype=np.int32), *(part.distances for part in parts)])
    order = np.lexsort((rows, distances))[:k]
    return Found(rows[order], distances[order])
