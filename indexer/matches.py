"""What a query wants of the codes it is compared with, and what it gets, whoever compares."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes
from indexer.row_mask import RowSet, in_set, size_of

Rows = npt.NDArray[np.int64]
Distances = npt.NDArray[np.int32]

AHEAD: Final = 16
"""Rows that are found beyond what is expected to do, since the rows that are not eligible may lie close together."""
MOST_AHEAD: Final = 4096
"""Rows that are found for a query at most before somebody else has to answer it."""


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


def eligible(matches: Matches, bounds: Bounds) -> Matches:
    """Return the first k of matches that are eligible."""
    if bounds.rows is None:
        return Matches(matches.rows[: bounds.k], matches.distances[: bounds.k])
    mask = in_set(bounds.rows, matches.rows)
    return Matches(matches.rows[mask][: bounds.k], matches.distances[mask][: bounds.k])


def out_of_range(rows: Rows, there: int) -> bool:
    """Return whether any row of a file that others made is not one of so many."""
    return bool((rows.view(np.uint64) >= there).any())


def mostly(rows: RowSet, there: int) -> bool:
    """Return whether most rows are eligible, as after removals, so that finding more than are wanted is worth it."""
    return 2 * size_of(rows) >= there


def nearest_eligible(
    search: Callable[[Codes, int], Sequence[Matches | None]], queries: Codes, k: int, rows: RowSet, there: int
) -> list[Matches | None]:
    """Return the k smallest (distance, row) among some rows, by a search that knows nothing of these: it is asked for more.

    The first k eligible ones of an exact prefix of all rows are the k smallest, if there are as many in it.

    Args:
        search: called with queries and a number of rows; returns exactly the smallest (distance, row) of what it looks at, fewer
            if that is all of it, and None for a query that it cannot answer.
        queries: uint8[nq, code_size].
        k: most rows.
        rows: those that are eligible.
        there: rows that a search could return.

    Returns:
        One `Matches` per query; None where `search` said so, or where over `MOST_AHEAD` rows would have to be found.
    """
    if not (eligible := size_of(rows)):
        return [Matches(np.empty(0, np.int64), np.empty(0, np.int32)) for _ in queries]
    wanted, ahead = min(k, eligible), k + -(-k * (there - eligible) // eligible) + AHEAD
    answers: list[Matches | None] = [None] * len(queries)
    left, most = list(range(len(queries))), max(MOST_AHEAD, ahead)
    while left and (ahead := min(ahead, there)) <= most:
        short = []
        for at, found in zip(left, search(queries[left], ahead), strict=True):
            if found is None:
                continue
            mask = in_set(rows, found.rows)
            if mask.sum() < wanted and len(found.rows) == ahead < there:
                short.append(at)
            else:
                answers[at] = Matches(found.rows[mask][:k], found.distances[mask][:k])
        left, ahead = short, 2 * ahead
    return answers


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
