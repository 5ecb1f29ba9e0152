"""How many processor cores there are for this process: those it may run on, and no more than its containers are granted.

Source of the quotas: the kernel's cgroup-v2.rst (`cpu.max`) and sched-bwc.rst (`cpu.cfs_quota_us`, `cpu.cfs_period_us`).
"""

import math
import os
from functools import cache
from pathlib import Path, PurePosixPath

_MOUNTED = Path("/sys/fs/cgroup")


def worker_count() -> int:
    """Return the number of processor cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if (quota := _granted()) is None else max(1, min(cores, math.ceil(quota)))


@cache
def _granted() -> float | None:
    """Return the cores this process was granted when it first asked; None: any number."""
    return quota_of(_text(Path("/proc/self/cgroup")), _MOUNTED)


def quota_of(cgroups: str, mounted: Path) -> float | None:
    """Return the smallest quota of a process's control groups and of those above them, in cores; None: there is none.

    Args:
        cgroups: `/proc/PID/cgroup`.
        mounted: where control groups are mounted.
    """
    quotas = [
        quota
        for controllers, path in parse_cgroups(cgroups)
        for folder in (mounted / controllers / part for part in (path, *path.parents))
        for quota in (
            parse_cpu_max(_text(folder / "cpu.max")),
            parse_cfs(_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")),
        )
        if quota is not None
    ]
    return min(quotas, default=None)


def parse_cgroups(text: str) -> list[tuple[str, PurePosixPath]]:
    """Return the folder of the controllers, "" for version 2, and the path in it of each group that may limit processors.

    Args:
        text: `/proc/PID/cgroup`, a line `number:controllers:path` per hierarchy. Inside a container the path may be that of the
            host, which is not there: the groups above it are.
    """
    groups = []
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        parts = [part for part in path.split("/") if part not in {"", ".", ".."}]
        if colon and (not controllers or "cpu" in controllers.split(",")) and "/" not in controllers:
            groups.append((controllers, PurePosixPath(*parts)))
    return groups


def parse_cpu_max(text: str) -> float | None:
    """Return the quota of `cpu.max`, `QUOTA PERIOD` in microseconds, in cores; None for `max` and for what says nothing."""
    quota, _, period = text.strip().partition(" ")
    return parse_cfs(quota, period)


def parse_cfs(quota: str, period: str) -> float | None:
    """Return a quota in cores, of a time and the period it is granted per, both in microseconds; None for a quota of -1."""
    try:
        cores = int(quota) / int(period)
    except (ValueError, ArithmeticError):
        return None
    return cores if cores > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):  # ValueError: no text, or a path that is none
        return ""
