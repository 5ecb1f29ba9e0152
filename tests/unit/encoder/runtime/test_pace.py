import time

import pytest

from encoder.runtime.pace import Pace, Part


@pytest.fixture
def wait(monkeypatch):
    now = 50.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def call(seconds):
        nonlocal now
        now += seconds

    return call


def test_parts_weigh_what_they_take_not_how_many_units_they_have(wait):
    pace = Pace({"few": Part(10, 1, "same"), "many": Part(1000, 0.01), "later": Part(20, 2, "same")})
    assert pace.left is None
    wait(30)
    pace.reach("few", 5)
    assert pace.left == pytest.approx(
        5 * 6 + 1000 * 0.01 + 20 * 12
    )  # the later part is guessed from the first one's pace
    assert pace.share == pytest.approx(30 / (60 + 10 + 240))
    wait(30)
    pace.reach("few", 10)
    wait(1)
    pace.reach("many", 1)  # 100 times as slow as guessed
    assert pace.left == pytest.approx(999 + 240)


def test_the_share_never_falls_and_the_time_left_tells_the_truth(wait):
    pace = Pace({"first": Part(10, 1), "second": Part(10, 1)})
    wait(10)
    pace.reach("first", 10)
    assert pace.share == pytest.approx(0.5)
    wait(9)
    pace.reach("second", 1)
    assert pace.share == pytest.approx(0.5)
    assert pace.left == pytest.approx(81)


def test_what_an_earlier_run_has_done_counts_but_its_time_does_not(wait):
    pace = Pace({"first": Part(10, 1), "second": Part(10, 1)})
    wait(1000)
    pace.skip("first")
    pace.skip("second", 4)
    wait(2)
    pace.reach("second", 5)
    assert pace.left == pytest.approx(10)
    assert pace.share == pytest.approx(1 - 10 / 40)
    pace.skip("second")
    wait(1)
    pace.reach("first", 10)
    assert (pace.left, pace.share) == (0, 1)
