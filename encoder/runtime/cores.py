"""How many processor cores there are for this process. Imports nothing."""

import os


def worker_count() -> int:
    """Return the number of processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
