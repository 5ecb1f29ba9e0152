"""Work shared out to threads. The kernels hold no interpreter lock, so plain threads use all cores."""

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import TypeVar

from encoder.runtime.cores import worker_count

T = TypeVar("T")


class Helpers:
    """Threads that help whoever calls, kept off the core that the caller runs on.

    Some kernels wake a thread on the core of the one that wakes it, as if that one were about to wait. Ours is about to compute,
    and the two would share a core until the next balancing, longer than most searches take (docs/LOG.md).
    """

    def __init__(self) -> None:
        self._threads: list[int] = []
        self._placed: tuple[int, int] | None = None
        self._core = ctypes.CDLL(None).sched_getcpu if hasattr(os, "sched_setaffinity") else None

    def add(self, thread: int | None = None) -> None:
        """Add a thread by its native id; None: this one."""
        self._threads.append(threading.get_native_id() if thread is None else thread)

    def keep_off(self) -> None:
        """Let the helpers run on every core that this thread may use but the one it is on, if there is another."""
        if self._core is None:
            return
        core = self._core()
        if self._placed != (core, len(self._threads)) and (others := os.sched_getaffinity(0) - {core}):
            self._placed = core, len(self._threads)
            with suppress(OSError):  # a sandbox may forbid it: then threads run where the system puts them
                for thread in self._threads:
                    os.sched_setaffinity(thread, others)


def share(tasks: Iterator[int], threads: int, work: Callable[[Iterator[int]], T]) -> list[T]:
    """Call `work` in this thread and in `threads` - 1 others, each with the one iterator: whoever is free takes the next.

    Returns:
        What each call returned. A thread that started too late has found no task.
    """
    if threads == 1:
        return [work(tasks)]
    pool, helpers = _pool()
    helpers.keep_off()
    others = [pool.submit(work, tasks) for _ in range(threads - 1)]
    return [work(tasks), *(other.result() for other in others)]


@cache
def _pool() -> tuple[ThreadPoolExecutor, Helpers]:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has the object, but not its threads
    helpers = Helpers()
    return ThreadPoolExecutor(worker_count(), thread_name_prefix="scan", initializer=helpers.add), helpers
