"""The inner loops of the join, compiled by numba on first use and kept on disk, as those of the scan are."""

from typing import Final

import numpy as np

from indexer.engines.scan.kernels import Word, Words, compiled, count_ones, entry, up_to

ONE: Final = Word(1)
BLOCK: Final = Word(64)
"""Codes compared before anybody looks whether one of them is near: a loop without a branch is vectorised."""
FIRST, LAST, STOP = range(3)
"""Columns of a task: codes FIRST:LAST are compared with all behind them and before STOP, where their run ends."""


@compiled
def root(parents: Words, one: Word) -> Word:
    """Return the smallest member of a group, and shorten the way to it."""
    while parents[one] != one:
        parents[one] = parents[parents[one]]
        one = parents[one]
    return one


@compiled
def unite(parents: Words, one: Word, other: Word) -> None:
    """Make one group of two; the smallest member stands for all."""
    one, other = root(parents, one), root(parents, other)
    if one < other:
        parents[other] = one
    elif other < one:
        parents[one] = other


@entry
def join(planes: Words, order: Words, tasks: Words, radius: Word, parents: Words) -> None:
    """Unite all codes of a run that are within a radius.

    Args:
        planes: uint64[words, n], the codes in the order of their runs, word by word.
        order: uint64[n], which code each is.
        tasks: uint64[t, 3].
        radius: in bits, inclusive.
        parents: uint64[n], changed.
    """
    distances = np.empty(BLOCK, np.uint64)
    words = Word(planes.shape[0])
    for task in up_to(Word(len(tasks))):
        stop = tasks[task, STOP]
        for one in range(tasks[task, FIRST], tasks[task, LAST]):
            first = one + ONE
            while first < stop:
                there = min(BLOCK, stop - first)
                for at in up_to(there):
                    distances[at] = count_ones(planes[0, first + at] ^ planes[0, one])
                for word in range(ONE, words):
                    for at in up_to(there):
                        distances[at] += count_ones(planes[word, first + at] ^ planes[word, one])
                near = Word(0)
                for at in up_to(there):
                    near += Word(distances[at] <= radius)
                if near:
                    for at in up_to(there):
                        if distances[at] <= radius:
                            unite(parents, order[one], order[first + at])
                first += there


@entry
def unite_all(parents: Words, others: Words) -> None:
    """Unite whatever another forest over the same codes has united."""
    for one in up_to(Word(len(others))):
        unite(parents, one, others[one])


@entry
def settle(parents: Words) -> None:
    """Let each code name the smallest member of its group."""
    for one in up_to(Word(len(parents))):
        parents[one] = root(parents, one)
