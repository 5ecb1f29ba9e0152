"""Work that several forked processes share, and forks that cost little."""

import ctypes
import gc
import re
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from tests.faults.steps import Ending, Fault

HUGE: Final = 2 << 20
"""Bytes of a huge page."""
COLLAPSE: Final = 25
"""`MADV_COLLAPSE` of Linux 6.1; where it is not known, nothing happens."""


@dataclass(slots=True)
class Tally:
    """What was counted, and what went wrong."""

    counts: Counter[str] = field(default_factory=Counter)
    bad: list[dict[str, object]] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Take another one in."""
        self.counts += other.counts
        self.bad += other.bad


def cheaper_forks() -> None:
    """Have this process's memory in pages so large that few entries are copied per fork: a third of what a small operation takes."""
    gc.collect()
    gc.freeze()
    if not Path("/proc/self/maps").exists():
        return
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for line in Path("/proc/self/maps").read_text().splitlines():
        if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) rw-p \S+ \S+ 0 ", line):
            start, stop = -(-int(found[1], 16) // HUGE) * HUGE, int(found[2], 16) // HUGE * HUGE
            if stop > start:
                madvise(start, stop - start, COLLAPSE)


def tried(
    name: str,
    faults: list[tuple[str, Fault]],
    trials: Callable[[int], Callable[[Fault], Ending]],
    end: float,
    jobs: int,
) -> Tally:
    """Try faults of an operation, shared by forked processes, and tell of it on stderr.

    Args:
        name: of the operation.
        faults: kind and fault.
        trials: called with the number of a process, returns what it calls with each of its faults; what that raises is wrong.
        end: `time.monotonic()` after which no more is begun.
        jobs: number of processes.
    """
    began = time.monotonic()
    others = [each for each in threading.enumerate() if each is not threading.main_thread()]
    assert not others, others  # what they hold would be held for ever in a fork

    def share(number: int, results: Connection) -> None:
        mine, one = Tally(), trials(number)
        for kind, fault in faults[number::jobs]:
            if time.monotonic() > end:
                break
            try:
                mine.counts.update((kind, one(fault).how))
                mine.counts["tried"] += 1
            except Exception:  # noqa: BLE001  the next ones are still of interest
                why = traceback.format_exc().splitlines()[-6:]
                mine.bad.append({"operation": name, "kind": kind, "fault": str(fault), "why": why})
        results.send(mine)

    forks, processes, tally = get_context("fork"), [], Tally(Counter(meant=len(faults)))
    for number in range(jobs):
        receiving, sending = forks.Pipe(duplex=False)
        process = forks.Process(target=share, args=(number, sending))
        process.start()
        sending.close()
        processes.append((process, receiving))
    for process, receiving in processes:
        try:
            tally.add(receiving.recv())
        except EOFError:
            tally.bad.append({"operation": name, "why": "a process that tries faults ended without a word"})
        process.join()
    took, counts = time.monotonic() - began, tally.counts
    sys.stderr.write(f"{name}: {counts['tried']} of {len(faults)} faults, {len(tally.bad)} wrong, {took:.0f} s\n")
    sys.stderr.flush()
    return tally
