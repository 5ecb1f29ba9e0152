"""How many database items of each relevance grade stand at each distance from each query: what rankings are scored by.

Items at one distance are tied, and which of them a sort puts first says nothing about a code; so no order of items is kept.
Knows codes, vectors and columns of labels; not what is made of the counts.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes
from encoder.vectors import unit_rows

Integers: TypeAlias = npt.NDArray[np.int64]
Reals: TypeAlias = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Scores: TypeAlias = npt.NDArray[np.float64]
"""float64[nq]."""
Counts: TypeAlias = Integers
"""int64[ngrades, nq, nlevels], database items by relevance grade (0 is irrelevant), query and distance level. For codes
level d is the Hamming distance d; for real distances a level is one distinct distance, nearest first, then zeros."""

PAIRS = 2**22
"""Pairs of query and item in a block: 32 MB an array."""
CODE_PAIRS = 2**18
"""The same while codes are counted, which is quickest when the arrays stay in a core's cache."""


def blocks(nqueries: int, nitems: int, pairs: int = PAIRS) -> Iterator[slice]:
    """Cut queries into slices of at most `pairs` pairs of query and item, at least one query each."""
    step = max(1, pairs // max(1, nitems))
    return (slice(start, min(start + step, nqueries)) for start in range(0, max(1, nqueries), step))


def stream(count: Callable[[slice], Counts], score: Callable[[Counts], Scores], parts: Iterable[slice]) -> Scores:
    """Count and score one block of queries after the other, so that no more than one block's counts are held.

    Args:
        count: makes the counts of a slice of the queries.
        score: float64[..., nq] of counts; stack several scores to take them from one count.
        parts: slices that cover the queries in order, as `blocks` makes them.

    Returns:
        float64[..., nq] of all queries.
    """
    return np.concatenate([score(count(part)) for part in parts], axis=-1)


def grades(query_labels: Integers, database_labels: Integers) -> npt.NDArray[np.uint8]:
    """Grade every item for every query by the finest label they share.

    Args:
        query_labels: int64[nq, L], columns from the finest label to the coarsest.
        database_labels: int64[nb, L], the same columns.

    Returns:
        uint8[nq, nb]: L - (first column that agrees), 0 where none does. For (fine, coarse): 2, 1 or 0.
    """
    ncolumns = query_labels.shape[1]
    grade = np.zeros((len(query_labels), len(database_labels)), dtype=np.uint8)
    for column in range(ncolumns):
        agree = query_labels[:, column, None] == database_labels[:, column]
        np.maximum(grade, agree * np.uint8(ncolumns - column), out=grade)
    return grade


def count_codes(
    queries: Codes,
    database: Codes,
    query_labels: Integers,
    database_labels: Integers,
    own_rows: Integers | None = None,
) -> Counts:
    """Count database items by grade and Hamming distance, in blocks of `CODE_PAIRS`.

    Args:
        queries: uint8[nq, code_size].
        database: uint8[nb, code_size].
        query_labels: int64[nq, L], from the finest label to the coarsest.
        database_labels: int64[nb, L].
        own_rows: int64[nq], the database row that is the query itself and is left out; None if there is none.

    Returns:
        int64[L + 1, nq, 8 * code_size + 1].
    """
    ngrades, nlevels = query_labels.shape[1] + 1, 8 * queries.shape[1] + 1
    query_words, database_words = _words(queries), _words(database)

    def count(part: slice) -> Counts:
        grade = grades(query_labels[part], database_labels)
        if own_rows is not None:
            grade[np.arange(len(grade)), own_rows[part]] = ngrades  # a grade of its own, dropped below
        keys = grade * np.int64(nlevels)
        for one, other in zip(query_words[:, part], database_words, strict=True):
            keys += np.bitwise_count(one[:, None] ^ other)
        return _tally(keys, ngrades + 1, nlevels)[:ngrades]

    return np.concatenate([count(part) for part in blocks(len(queries), len(database), CODE_PAIRS)], axis=1)


def count_reals(
    queries: Reals,
    database: Reals,
    query_labels: Integers,
    database_labels: Integers,
    own_rows: Integers | None = None,
    *,
    decimals: int = 6,
) -> Counts:
    """Count database items by grade and cosine distance, 1 - <q, x> / (|q| |x|); a vector of zeros is at 1 from all.

    There are up to nb levels, so give it blocks of queries (`blocks`, `stream`). It computes in float64, else equal items
    would be tied or not by the order of a sum.

    Args:
        queries: float[nq, dim].
        database: float[nb, dim].
        query_labels: int64[nq, L], from the finest label to the coarsest.
        database_labels: int64[nb, L].
        own_rows: int64[nq], the database row that is the query itself and is left out; None if there is none.
        decimals: distances that agree when rounded to these are tied.

    Returns:
        int64[L + 1, nq, nlevels], with nlevels that of the query with most distinct distances.
    """
    units, others = (unit_rows(vectors.astype(np.float64, copy=False)) for vectors in (queries, database))
    distances = 1 - units @ others.T
    keys = np.rint(distances * 10**decimals).astype(np.int64) << 8 | grades(query_labels, database_labels)
    if own_rows is not None:
        keys[np.arange(len(keys)), own_rows] = np.iinfo(np.int64).max  # to the end, and off it
    keys.sort(axis=1)
    keys = keys if own_rows is None else keys[:, :-1]
    distance, grade = keys >> 8, keys & 0xFF
    levels = (np.diff(distance, axis=1, prepend=distance[:, :1]) != 0).cumsum(axis=1)
    nlevels = int(levels.max(initial=-1)) + 1
    return _tally(grade * nlevels + levels, query_labels.shape[1] + 1, nlevels)


def _words(codes: Codes) -> npt.NDArray[np.uint64]:
    """Return the codes as uint64[nwords, n], zeros filling the last word: one instruction then compares 64 bits."""
    padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % 8)))
    return np.ascontiguousarray(padded.view(np.uint64).T)


def _tally(keys: Integers, ngrades: int, nlevels: int) -> Counts:
    """Count keys = grade * nlevels + level, int64[nq, nb], which it overwrites."""
    nqueries, cells = len(keys), ngrades * nlevels
    keys += cells * np.arange(nqueries)[:, None]
    counts = np.bincount(keys.ravel(), minlength=nqueries * cells)
    return counts.reshape(nqueries, ngrades, nlevels).transpose(1, 0, 2)
