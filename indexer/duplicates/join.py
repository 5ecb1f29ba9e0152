"""Every two codes within a radius, as groups: an exact join of a collection with itself.

Two codes that differ in at most R bits are equal in at least one of R + 1 parts of their bits, since R bits cannot lie in all of
them. So codes are compared only with those that have the same bits in some part. Source: the pigeonhole principle, as multi-index
hashing has it (Norouzi, Punjani, Fleet, "Fast Search in Hamming Space with Multi-Index Hashing", 2012). Where the parts tell too
little apart, as at a large radius, every code is compared with every other, which is one run of all.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from encoder.bits import Codes
from encoder.runtime.cores import worker_count
from indexer.duplicates.kernels import join, settle, unite_all
from indexer.engines.scan.kernels import Word, Words
from indexer.engines.scan.threads import share
from indexer.matches import Rows

PART_COST: Final = 64
"""Pairs that could be compared in the time in which one code is sorted into the runs of a part (docs/BENCHMARKS.md)."""
TASK_ROWS: Final = 1024
"""Codes of a run that one task compares with those behind them: a run may be the whole collection."""
CHUNK_PAIRS: Final = 1 << 28
"""Pairs between two looks at the clock: some tenths of a second."""

Advance = Callable[[float], None]
"""Called with the share of pairs that have been compared, 0..1."""


@dataclass(frozen=True, slots=True)
class _Runs:
    """Codes that are equal in one part of their bits lie side by side."""

    order: npt.NDArray[np.int64]
    """int64[n], which code each is."""
    starts: npt.NDArray[np.int64]
    """int64[r], where the runs of two or more begin."""
    stops: npt.NDArray[np.int64]

    @property
    def pairs(self) -> int:
        lengths = self.stops - self.starts
        return int((lengths * (lengths - 1) // 2).sum())


def groups_of(codes: Codes, radius: int, advance: Advance = lambda _: None) -> Rows:
    """Return the group of each code: two codes within the radius are in one, and so are all that a chain of such pairs joins.

    Args:
        codes: uint8[n, nbits / 8].
        radius: in bits, inclusive.
        advance: called now and then.

    Returns:
        int64[n], the number of the first code of its group. Exact.
    """
    planes, owners = _distinct(codes)
    parents = _forest(planes, 8 * codes.shape[1], radius, advance)
    firsts = np.full(planes.shape[1], len(codes), np.int64)
    np.minimum.at(firsts, parents[owners].astype(np.int64), np.arange(len(codes)))
    advance(1.0)
    return firsts[parents[owners].astype(np.int64)]


def _distinct(codes: Codes) -> tuple[Words, npt.NDArray[np.int64]]:
    """Return the codes there are, uint64[words, m], word by word, and which of them each row has, int64[n]."""
    words = -(-codes.shape[1] // 8)
    padded = np.zeros((len(codes), 8 * words), np.uint8)
    padded[:, : codes.shape[1]] = codes
    planes = np.ascontiguousarray(padded.view("<u8").astype(np.uint64, copy=False).T)
    order = np.lexsort(planes)
    ordered = planes[:, order]
    new = np.ones(len(codes), np.bool_)
    new[1:] = (ordered[:, 1:] != ordered[:, :-1]).any(axis=0)
    owners = np.empty(len(codes), np.int64)
    owners[order] = np.cumsum(new) - 1
    return np.ascontiguousarray(ordered[:, new]), owners


def _forest(planes: Words, nbits: int, radius: int, advance: Advance) -> Words:
    """Return the smallest member of each code's group, uint64[m]."""
    count = planes.shape[1]
    threads = worker_count()
    forests = [np.arange(count, dtype=np.uint64) for _ in range(threads)]
    if radius:
        parts = list(_parts(planes, nbits, min(radius, nbits - 1)))
        every = _Runs(np.arange(count), np.zeros(1, np.int64), np.full(1, count))
        total = max(1, sum(runs.pairs for runs in parts))
        if total + PART_COST * count * len(parts) > every.pairs:
            parts, total = [every], max(1, every.pairs)
        done = 0
        for runs in parts:
            done = _join_runs(planes, runs, radius, forests, lambda pairs: advance(pairs / total), done)
    for forest in forests[1:]:
        unite_all(forests[0], forest)
    settle(forests[0])
    return forests[0]


def _parts(planes: Words, nbits: int, radius: int) -> Iterator[_Runs]:
    """Sort codes by each of radius + 1 parts of their bits; of a part of over 64 bits, the first 64 do."""
    bounds = np.linspace(0, nbits, radius + 2).astype(int).tolist()
    for start, stop in pairwise(bounds):
        keys = _bits(planes, start, min(stop, start + 64))
        order = np.argsort(keys)
        changes = np.flatnonzero(np.diff(keys[order])) + 1
        starts, stops = np.concatenate([[0], changes]), np.concatenate([changes, [len(keys)]])
        several = stops - starts > 1
        yield _Runs(order, starts[several], stops[several])


def _bits(planes: Words, start: int, stop: int) -> Words:
    """Return bits start:stop of each code, at most 64, as a number."""
    word, shift = divmod(start, 64)
    keys: Words = planes[word] >> np.uint64(shift)
    if stop > 64 * (word + 1):
        keys |= planes[word + 1] << np.uint64(64 - shift)
    return keys & np.uint64((1 << (stop - start)) - 1)


def _join_runs(
    planes: Words, runs: _Runs, radius: int, forests: list[Words], advance: Callable[[int], None], done: int
) -> int:
    """Compare the codes of each run, each thread into a forest of its own, and return the pairs that have been compared."""
    tasks, costs = _tasks(runs)
    ordered, order = np.ascontiguousarray(planes[:, runs.order]), runs.order.astype(np.uint64)
    bounds = np.searchsorted(np.cumsum(costs), np.arange(CHUNK_PAIRS, costs.sum() + CHUNK_PAIRS, CHUNK_PAIRS))
    chunks = np.unique(np.concatenate([[0], bounds + 1, [len(tasks)]]).clip(max=len(tasks))).tolist()
    free, lock = list(forests), threading.Lock()
    compared = done

    def work(numbers: Iterator[int]) -> None:
        nonlocal compared
        with lock:
            mine = free.pop()
        for number in numbers:
            first, last = chunks[number], chunks[number + 1]
            join(ordered, order, tasks[first:last], Word(radius), mine)
            with lock:
                compared += int(costs[first:last].sum())
                advance(compared)

    share(iter(range(len(chunks) - 1)), len(forests), work)
    return compared


def _tasks(runs: _Runs) -> tuple[Words, npt.NDArray[np.int64]]:
    """Return uint64[t, 3], what to compare, and int64[t], the pairs of each."""
    blocks = -(-(runs.stops - runs.starts) // TASK_ROWS)
    starts, stops = np.repeat(runs.starts, blocks), np.repeat(runs.stops, blocks)
    number = np.arange(len(starts)) - np.repeat(np.cumsum(blocks) - blocks, blocks)
    firsts = starts + TASK_ROWS * number
    lasts = np.minimum(firsts + TASK_ROWS, stops)
    costs = (2 * stops - firsts - lasts - 1) * (lasts - firsts) // 2
    return np.column_stack([firsts, lasts, stops]).astype(np.uint64), costs
