"""A lock that a fork does not leave held."""

import os
import threading
from types import TracebackType
from typing import Final
from weakref import WeakSet


class ForkLock:
    """A lock that is free in a forked child, whichever thread held it in the parent: that thread is not there to let go."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _LOCKS.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Make it free."""
        self._lock = threading.Lock()


def _renew_all() -> None:
    for lock in _LOCKS:
        lock.renew()


_LOCKS: Final[WeakSet[ForkLock]] = WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
