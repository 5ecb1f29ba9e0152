"""Which segments of an index are to be written anew as one: sizes in, decisions out, nothing else.

A segment is of tier floor(log4 of its rows). Four of a tier that stand side by side become one of the next, so that a row that is
added is written again once per tier that its index grows through: at most log4 of the additions. A segment that would be joined
again at once is not written first. What is joined is adjacent, since the order of segments is that of their rows.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from indexer.settings import SEGMENT_ROWS

TIER = 4
"""Segments of a tier that are joined."""
MOST_SEGMENTS = 32
"""Segments of an index at most, as far as they may be joined at all: a search asks each of them."""
REMOVED = 0.25
"""Share of a segment's rows that are removed when it is written anew alone: three rows are written per row removed at most."""


class Step(NamedTuple):
    """Adjacent segments to write anew as one: from `first` on, and before `stop`."""

    first: int
    stop: int


def due(rows: Sequence[int], removed: Sequence[int], most: int = SEGMENT_ROWS) -> Iterator[Step]:
    """Yield what is due, and then what may be done in place of it where there is no room for so much; after a step, ask again.

    Args:
        rows: of each segment, those removed included.
        removed: rows of each that are removed.
        most: rows of a segment at most.
    """
    for step in _due(rows, removed, most):
        yield from reversed(_widened(step, rows, removed, most))


def whole(rows: Sequence[int], removed: Sequence[int], most: int = SEGMENT_ROWS) -> Iterator[Step]:
    """Yield what is left to do until no two adjacent segments may be joined and no row is removed; as `due`."""
    start = 0
    while start < len(rows):
        sums = list(accumulate(there - gone for there, gone in zip(rows[start:], removed[start:], strict=True)))
        count = max(1, sum(total <= most for total in sums))
        if count > 1 or removed[start]:
            yield Step(start, start + count)
        start += count


def tier_of(live: int) -> int:
    """Return floor(log4 of a segment's rows); -1 where it has none."""
    return (live.bit_length() - 1) // 2


def _due(rows: Sequence[int], removed: Sequence[int], most: int) -> Iterator[Step]:
    """Yield what each rule wants of the segments as they are, lower tiers first."""
    live = [there - gone for there, gone in zip(rows, removed, strict=True)]
    tiers = [tier_of(count) for count in live]
    for tier in sorted(set(tiers)):
        for first, stop in _runs(tiers, tier):
            yield from _full(tiers, live, first, stop, most)
    for number, (there, gone) in enumerate(zip(rows, removed, strict=True)):
        if (gone and gone >= REMOVED * there) or (not there and len(rows) > 1):
            yield Step(number, number + 1)
    if len(live) > MOST_SEGMENTS:
        costs = [(first + second, number) for number, (first, second) in enumerate(pairwise(live))]
        yield from (Step(number, number + 2) for cost, number in sorted(costs) if cost <= most)


def _widened(step: Step, rows: Sequence[int], removed: Sequence[int], most: int) -> list[Step]:
    """Return a step, and each that would be due of what it leaves and takes its place."""
    steps = [step]
    while live := sum(rows[slice(*steps[-1])]) - sum(removed[slice(*steps[-1])]):
        first, stop = steps[-1]
        after = [*rows[:first], live, *rows[stop:]], [*removed[:first], 0, *removed[stop:]]
        wider = next((each for each in _due(*after, most) if each.first <= first < each.stop), None)
        if wider is None:
            break
        steps.append(Step(wider.first, wider.stop + stop - first - 1))
    return steps


def _runs(tiers: Sequence[int], tier: int) -> Iterator[tuple[int, int]]:
    """Yield start and stop of each run of adjacent segments of at most a tier."""
    start: int | None = None
    for number, of_segment in enumerate([*tiers, tier + 1]):
        if of_segment <= tier and start is None:
            start = number
        elif of_segment > tier and start is not None:
            yield start, number
            start = None


def _full(tiers: Sequence[int], live: Sequence[int], first: int, stop: int, most: int) -> Iterator[Step]:
    """Yield the parts of a run that hold four or more segments of its tier and fit into one segment, from the first to the last."""
    tier = max(tiers[first:stop])
    of_tier = [number for number in range(first, stop) if tiers[number] == tier]
    while len(of_tier) >= TIER:
        fitting = [number for number in of_tier if sum(live[of_tier[0] : number + 1]) <= most]
        if len(fitting) < TIER:
            of_tier = of_tier[1:]
            continue
        yield Step(fitting[0], fitting[-1] + 1)
        of_tier = of_tier[len(fitting) :]
