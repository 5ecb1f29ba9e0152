"""The interpreter's lock, handed on quickly where a device would wait for the thread that wants it."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

SWITCH_SECONDS: Final = 0.0005
"""How long a thread may keep the lock from another; Python's own 5 ms are an eighth of a batch."""


@contextmanager
def handed_on() -> Iterator[None]:
    """Let no thread keep the lock for long while the block runs.

    What is there already is left out of garbage collection: looking through all that torch is made of takes tens of milliseconds.
    """
    interval, frozen = sys.getswitchinterval(), gc.get_freeze_count()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        if not frozen:  # else somebody has frozen it, too, and wants it so
            gc.unfreeze()
