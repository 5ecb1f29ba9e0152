import gc
import sys

import pytest

from encoder.runtime.interpreter import SWITCH_SECONDS, handed_on


def test_the_lock_is_handed_on_sooner_and_all_is_put_back():
    interval = sys.getswitchinterval()
    with handed_on():
        assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS)
        assert gc.get_freeze_count() > 1000
    assert sys.getswitchinterval() == interval
    assert gc.get_freeze_count() == 0


def test_what_somebody_else_has_frozen_stays_so():
    gc.freeze()
    try:
        with handed_on():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
