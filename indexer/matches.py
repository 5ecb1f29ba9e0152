"""What a query wants of the codes it is compared with, and what it gets, whoever compares."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from indexer.row_mask import RowSet

Rows = npt.NDArray[np.int64]
Distances = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Bounds:
    """k or a radius, or both."""

    k: int | None
    """Most rows; None: all within the radius."""
    radius: int | None = None
    """Largest distance in bits, inclusive; None: any."""
    rows: RowSet | None = None
    """The rows that are eligible; None: all."""


@dataclass(frozen=True, slots=True)
class Matches:
    """Rows found for one query, ordered by (distance, row)."""

    rows: Rows
    """int64[m]."""
    distances: Distances
    """int32[m], bits."""


def merge(parts: Sequence[Matches], k: int | None) -> Matches:
    """Return the k smallest (distance, row) of several; None: all."""
    rows = np.concatenate([np.empty(0, dtype=np.int64), *(part.rows for part in parts)])
    distances = np.concatenate([np.empty(0, dtype=np.int32), *(part.distances for part in parts)])
    order = np.lexsort((rows, distances))[:k]
    return Matches(rows[order], distances[order])


def without(matches: Matches, row: int, k: int | None) -> Matches:
    """Return the first k of matches without a row; None: all."""
    others = matches.rows != row
    return Matches(matches.rows[others][:k], matches.distances[others][:k])


def complete_ties(
    matches: list[Matches], cut: Iterable[int], search_within: Callable[[list[int], int], Sequence[Matches]]
) -> None:
    """Replace matches whose last place was given to one of several rows at that distance by all rows within it.

    Args:
        matches: of each query; changed.
        cut: numbers of the queries whose last place is a tie, or may be one.
        search_within: called with numbers of queries and a distance in bits, inclusive; returns their matches within it.
    """
    by_distance: defaultdict[int, list[int]] = defaultdict(list)
    for query in cut:
        by_distance[int(matches[query].distances[-1])].append(query)
    for distance, queries in by_distance.items():
        for query, whole in zip(queries, search_within(queries, distance), strict=True):
            matches[query] = whole
