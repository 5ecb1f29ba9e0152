import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from indexer.changes.tiers import MOST_SEGMENTS, Step, due, tier_of, whole

BASE = 10_000_000
sizes = st.integers(0, 10**6)
segments = st.lists(st.tuples(sizes, st.floats(0, 1)), min_size=1, max_size=60).map(
    lambda drawn: ([rows for rows, _ in drawn], [int(rows * share) for rows, share in drawn])
)


class Sizes:
    """The sizes of segments alone, and how many rows were written anew."""

    def __init__(self, *rows):
        self.rows, self.removed, self.written, self.most = list(rows), [0] * len(rows), 0, 0

    def take(self, step):
        chosen = slice(*step)
        live = sum(self.rows[chosen]) - sum(self.removed[chosen])
        left = [live] if live or step == (0, len(self.rows)) else []
        self.rows[chosen], self.removed[chosen] = left, [0] * len(left)
        self.written += live

    def settle(self, steps=due, most=1 << 24):
        for _ in range(1000):
            if (step := next(steps(self.rows, self.removed, most), None)) is None:
                self.most = max(self.most, len(self.rows))
                return
            self.take(step)
        pytest.fail("it never ends")

    def add(self, rows):
        self.rows.append(rows)
        self.removed.append(0)
        self.settle()


@pytest.mark.parametrize("rows", [1, 7, 50, 1000, 65_536, 100_000])
def test_a_hundred_like_additions_are_written_little_more_than_twice_again(rows):
    index = Sizes(BASE)
    for number in range(1, 101):
        index.add(rows)
        if number == 20:
            assert index.rows == [BASE, 16 * rows, 4 * rows]
    assert index.written <= 2.2 * 100 * rows
    assert index.most <= 10


@given(st.integers(100, 60_000), st.integers(0, 2**32))
def test_additions_of_sizes_that_vary_are_written_less_than_three_times_again(usual, seed):
    added = np.random.default_rng(seed).integers(usual // 2, usual * 3 // 2, 100, endpoint=True).tolist()
    index = Sizes(BASE)
    for rows in added:
        index.add(rows)
    assert index.written <= 3 * sum(added)


@given(st.lists(st.integers(1, 300_000), max_size=100))
@example([1, 300_000] * 50)
@example([4**power for power in range(9, 0, -1) for _ in range(3)] * 3)
def test_however_large_additions_are_there_are_few_segments(added):
    index = Sizes(BASE)
    for rows in added:
        index.add(rows)
    assert index.most <= MOST_SEGMENTS
    assert sum(index.rows) == BASE + sum(added)


@given(segments, st.sampled_from([64, 5000, 1 << 24]))
def test_steps_are_of_segments_there_are_and_make_none_too_large(drawn, most):
    rows, removed = drawn
    for steps in (due, whole):
        for first, stop in steps(rows, removed, most):
            assert 0 <= first < stop <= len(rows)
            assert stop == first + 1 or sum(rows[first:stop]) - sum(removed[first:stop]) <= most


@given(segments, st.sampled_from([64, 5000, 1 << 24]))
def test_what_is_left_is_never_due_again(drawn, most):
    rows, removed = drawn
    for steps in (due, whole):
        index = Sizes(*rows)
        index.removed = list(removed)
        index.settle(steps, most)
        assert sum(index.rows) - sum(index.removed) == sum(rows) - sum(removed)
        few = len(index.rows) <= MOST_SEGMENTS
        assert few or all(a + b > most for a, b in zip(index.rows, index.rows[1:], strict=False))
    assert not any(index.removed)


@given(segments)
def test_joined_rows_rise_by_a_tier(drawn):
    rows, removed = drawn
    if len(rows) <= MOST_SEGMENTS:
        for first, stop in due(rows, removed):
            live = [rows[number] - removed[number] for number in range(first, stop)]
            assert stop == first + 1 or tier_of(sum(live)) > max(map(tier_of, live)) or not any(live)


def test_a_segment_with_a_quarter_of_its_rows_removed_is_due_alone():
    assert list(due([1000, 100, 10], [249, 25, 0])) == [Step(1, 2)]
    assert list(due([1000, 0], [0, 0])) == [Step(1, 2)]
    assert list(due([0], [0])) == []


def test_all_are_joined_as_far_as_one_may_reach():
    assert list(whole([30, 20, 10, 60, 1], [0, 0, 0, 0, 0], 60)) == [Step(0, 3)]
    assert list(whole([30, 20, 10, 60, 1], [0, 0, 0, 1, 0], 60)) == [Step(0, 3), Step(3, 5)]
    assert list(whole([100, 100], [0, 1], 60)) == [Step(1, 2)]
