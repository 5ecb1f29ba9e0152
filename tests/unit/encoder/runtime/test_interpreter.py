import gc
import sys

import pytest

from encoder.runtime.interpreter import SWITCH_SECONDS, handed_on


def test_the_lock_is_handed_on_sooner_and_all_is_put_back():
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    with handed_on():
        assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS)
        assert gc.get_freeze_count() > 1000
    assert sys.getswitchinterval() == interval
    assert gc.get_threshold() == thresholds
    assert gc.get_freeze_count() == 0


def test_only_young_objects_are_collected_meanwhile():
    generations = list[int]()

    def note(phase, info):
        if phase == "start":
            generations.append(info["generation"])

    gc.callbacks.append(note)
    try:
        with handed_on():
            kept: list[list[int]] = [[] for _ in range(100 * gc.get_threshold()[0])]
    finally:
        gc.callbacks.remove(note)
    assert kept
    assert len(generations) > 50
    assert set(generations) == {0}


def test_what_somebody_else_has_frozen_stays_so():
    gc.freeze()
    try:
        with handed_on():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
