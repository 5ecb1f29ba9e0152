import asyncio
import threading

import pytest

from encoder.images.limits import Limits
from indexer.service.encoding import QueryEncoder
from indexer.service.lanes import OverloadedError
from indexer.service.metrics import Metrics
from indexer.service.settings import ServeSettings
from indexer.service.state import Lanes


def lanes_of(**settings):
    metrics = Metrics()
    return Lanes(ServeSettings(**settings), QueryEncoder(Limits(), metrics), metrics)


@pytest.fixture
def make():
    """Return lanes of settings; closed after the test."""
    made = []

    def make(**settings):
        made.append(lanes_of(**settings))
        return made[-1]

    yield make
    for lanes in made:
        for lane in lanes.all():
            lane.close()


def test_only_a_service_that_may_write_has_a_lane_for_changes(make, tmp_path):
    assert make().change is None
    writing = make(writable=tmp_path)
    assert writing.change is not None
    assert writing.change in writing.all()
    assert [lane.name for lane in writing.all()] == [
        "quick",
        "heavy",
        "encode",
        "batch",
        "pictures",
        "explain",
        "change",
    ]


def test_what_is_slow_in_one_lane_holds_up_no_other(make):
    lanes, go_on = make(), threading.Event()
    blocked = threading.Thread(target=lanes.heavy.within, args=(lambda: go_on.wait(10) and None,))
    blocked.start()
    done = list[str]()
    for lane in lanes.all():
        if lane is not lanes.heavy:
            lane.within(lambda name=lane.name: done.append(name))
    assert blocked.is_alive()
    go_on.set()
    blocked.join()
    assert len(done) == len(lanes.all()) - 1


def test_each_lane_refuses_what_its_own_bound_does_not_take(make):
    lanes = make(waiting_pictures=0)

    async def main():
        with pytest.raises(OverloadedError) as refused:
            await lanes.pictures.submit(lambda: 1)
        assert refused.value.lane == "pictures"
        assert (await lanes.explain.submit(lambda: 2))[0] == 2

    asyncio.run(main())


def test_one_picture_that_cannot_be_shown_fails_alone(make):
    def fail():
        raise ValueError("no picture")

    lanes = make()

    async def main():
        with pytest.raises(ValueError, match="no picture"):
            await lanes.pictures.submit(fail)
        assert (await lanes.pictures.submit(lambda: b"x"))[0] == b"x"

    asyncio.run(main())
