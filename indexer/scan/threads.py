"""Work shared out to threads. The kernels hold no interpreter lock, so plain threads use all cores."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from encoder.cores import worker_count

T = TypeVar("T")


def share(tasks: Iterator[int], threads: int, work: Callable[[Iterator[int]], T]) -> list[T]:
    """Call `work` in this thread and in `threads` - 1 others, each with the one iterator: whoever is free takes the next.

    Returns:
        What each call returned. A thread that started too late has found no task.
    """
    others = [_pool().submit(work, tasks) for _ in range(threads - 1)]
    return [work(tasks), *(other.result() for other in others)]


@cache
def _pool() -> ThreadPoolExecutor:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has the object, but not its threads
    return ThreadPoolExecutor(worker_count(), thread_name_prefix="scan")
