import asyncio
import threading
import time
from typing import Any

import pytest

from indexer.service.lanes import ClientGoneError, Lane, LaneBounds, OverloadedError


class Counts:
    def __init__(self):
        self.sizes, self.lost = [], []

    def took(self, lane, waited):
        self.sizes.append(len(waited))

    def dropped(self, lane, why):
        self.lost.append(why)


class Gate:
    """Work that waits until it is let go, so that a test says what waits behind it."""

    def __init__(self):
        self.open, self.begun, self.batches = threading.Event(), threading.Event(), []

    def run(self, works):
        self.begun.set()
        self.batches.append(list(works))
        assert self.open.wait(10)
        return [ValueError(work) if work == "bad" else work.upper() for work in works]


@pytest.fixture
def counts():
    return Counts()


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open.set()


async def _behind(lane, gate, works):
    """Submit one job, and others while it is under way."""
    first = asyncio.ensure_future(lane.submit("first", "first"))
    while not gate.begun.is_set():
        await asyncio.sleep(0.001)
    others = [asyncio.ensure_future(lane.submit(work, group)) for work, group in works]
    await asyncio.sleep(0.01)
    return first, others


def test_what_waits_and_fits_together_is_done_together_and_groups_take_turns(gate, counts):
    lane: Lane[Any, Any] = Lane("quick", gate.run, LaneBounds(100, most_together=2), counts)

    async def main():
        first, others = await _behind(lane, gate, [("a", 1), ("x", 2), ("b", 1), ("c", 1)])
        gate.open.set()
        return [(await each)[0] for each in (first, *others)]

    assert asyncio.run(main()) == ["FIRST", "A", "X", "B", "C"]
    assert gate.batches == [["first"], ["a", "b"], ["x"], ["c"]]
    assert counts.sizes == [1, 2, 1, 1]


def test_one_failure_is_that_of_one_job_alone(gate, counts):
    lane: Lane[Any, Any] = Lane("quick", gate.run, LaneBounds(100, most_together=8), counts)

    async def main():
        first, others = await _behind(lane, gate, [("a", 1), ("bad", 1), ("b", 1)])
        gate.open.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    first, a, bad, b = asyncio.run(main())
    assert (first[0], a[0], b[0]) == ("FIRST", "A", "B")
    assert isinstance(bad, ValueError)


def test_what_raises_fails_whoever_waits_and_the_thread_goes_on(counts):
    def run(works):
        if "boom" in works:
            raise KeyError("boom")
        return works

    lane: Lane[Any, Any] = Lane("quick", run, LaneBounds(10), counts)

    async def main():
        with pytest.raises(KeyError):
            await lane.submit("boom")
        return await lane.submit("fine")

    assert asyncio.run(main())[0] == "fine"


def test_a_full_lane_refuses_at_once(gate, counts):
    lane: Lane[Any, Any] = Lane("heavy", gate.run, LaneBounds(2), counts)

    async def main():
        first, others = await _behind(lane, gate, [("a", 1), ("b", 2)])
        began = time.perf_counter()
        with pytest.raises(OverloadedError) as refused:
            await lane.submit("c", 3)
        assert time.perf_counter() - began < 0.1
        assert refused.value.retry_after >= 1
        gate.open.set()
        await asyncio.gather(first, *others)
        return await lane.submit("d")

    assert asyncio.run(main())[0] == "D"
    assert counts.lost == ["overloaded"]


def test_a_job_that_waited_too_long_is_not_done(gate, counts):
    lane: Lane[Any, Any] = Lane("heavy", gate.run, LaneBounds(10, patience=0.05), counts)

    async def main():
        first, (late,) = await _behind(lane, gate, [("late", 1)])
        await asyncio.sleep(0.1)
        gate.open.set()
        await first
        with pytest.raises(OverloadedError):
            await late

    asyncio.run(main())
    assert counts.lost == ["overdue"]
    assert gate.batches == [["first"]]


def test_a_client_that_went_away_costs_nothing_more(gate, counts):
    lane: Lane[Any, Any] = Lane("heavy", gate.run, LaneBounds(10), counts)

    async def main():
        left = asyncio.Event()
        first, _ = await _behind(lane, gate, [])
        gone = asyncio.ensure_future(lane.submit("gone", 1, left.wait))
        await asyncio.sleep(0.1)
        left.set()
        with pytest.raises(ClientGoneError):
            await asyncio.wait_for(gone, 1)
        cancelled = asyncio.ensure_future(lane.submit("cancelled", 2))
        await asyncio.sleep(0.01)
        cancelled.cancel()
        await asyncio.sleep(0.01)
        gate.open.set()
        await first
        return await lane.submit("last", 3)

    assert asyncio.run(main())[0] == "LAST"
    assert gate.batches == [["first"], ["last"]]
    assert counts.lost == ["abandoned", "abandoned"]


def test_a_quick_job_is_not_watched(counts):
    lane: Lane[Any, Any] = Lane("quick", lambda works: works, LaneBounds(10), counts)

    async def main():
        async def watched():
            raise AssertionError

        assert (await lane.submit("quick", 1, watched))[0] == "quick"
        await asyncio.sleep(0.1)

    asyncio.run(main())


def test_draining_waits_for_what_is_under_way(gate, counts):
    lane: Lane[Any, Any] = Lane("heavy", gate.run, LaneBounds(10), counts)

    async def main():
        first, others = await _behind(lane, gate, [("a", 1)])
        assert not lane.drain(0.02)
        gate.open.set()
        assert await asyncio.to_thread(lane.drain, 5)
        return [(await each)[0] for each in (first, *others)]

    assert asyncio.run(main()) == ["FIRST", "A"]


def test_a_lane_lends_its_thread(counts):
    lane: Lane[Any, Any] = Lane("encode", lambda works: [threading.get_ident() for _ in works], LaneBounds(10), counts)
    named: list[int] = []

    def fail():
        raise ZeroDivisionError

    lane.within(lambda: named.append(threading.get_ident()))
    with pytest.raises(ZeroDivisionError):
        lane.within(fail)
    assert asyncio.run(lane.submit("x"))[0] == named[0]


def test_a_closed_lane_ends_its_threads(counts):
    lane: Lane[Any, Any] = Lane("quick", lambda works: works, LaneBounds(10, threads=2), counts)
    lane.close()
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("quick-") and thread in lane._threads for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
