"""The interpreter's lock, handed on quickly where a device would wait for the thread that wants it."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

SWITCH_SECONDS: Final = 0.0005
"""How long a thread may keep the lock from another; Python's own 5 ms are an eighth of a batch."""

NEVER: Final = 1 << 30
"""Young collections before an older generation is looked at."""


@contextmanager
def handed_on() -> Iterator[None]:
    """Let no thread keep the lock for long while the block runs.

    Garbage collection keeps it for as long as it looks at objects. What is there already is left out: all that torch is made of
    takes tens of milliseconds. Of what comes later only the young are looked at, a fraction of a millisecond; what outlives them
    stays until the block ends if it is part of a cycle, so work that goes on for days should make none.
    """
    interval, frozen, thresholds = sys.getswitchinterval(), gc.get_freeze_count(), gc.get_threshold()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()
    gc.set_threshold(thresholds[0], NEVER, NEVER)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*thresholds)
        if not frozen:  # else somebody has frozen it, too, and wants it so
            gc.unfreeze()
