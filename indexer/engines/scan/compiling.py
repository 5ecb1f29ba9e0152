"""A process that compiles kernels for another one and keeps them on disk: `python -m indexer.engines.scan.compiling flat:2`.

It takes the lowest priority and ends with the process that waits for it, whose end closes its standard input.
"""

import ctypes
import fcntl
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread

from indexer.engines.kit import Kind, Kit
from indexer.engines.scan.kits import compile_kit, folder_of_kernels

PR_SET_PDEATHSIG = 1
"""Source: Linux's include/uapi/linux/prctl.h."""
LOWEST = 19
"""Of the priorities that setpriority(2) knows."""


def main() -> None:
    """Compile the kits that are named."""
    _step_back()
    _end_even_when_halted()
    Thread(target=_end_with_parent, daemon=True).start()
    if (folder := folder_of_kernels()) is not None:  # one at a time: what another process compiles is found there
        fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX)
    for name in sys.argv[1:]:
        kind, _, words = name.partition(":")
        compile_kit(Kit(Kind(kind), int(words)))


def _step_back() -> None:
    """Take the lowest priority, also where Linux shares cores out among sessions first: sched(7), on autogroups."""
    os.setpriority(os.PRIO_PROCESS, 0, LOWEST)
    if hasattr(os, "SCHED_IDLE"):  # whoever wakes up has the core at once
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    group = Path("/proc/self/autogroup")
    if os.access(group, os.W_OK):
        with suppress(OSError):
            os.setsid()
            group.write_text(str(LOWEST))


def _end_even_when_halted() -> None:
    """Be killed when the thread that waits for this process ends, since one that is halted sees no input end: prctl(2)."""
    with suppress(OSError, AttributeError):  # other systems have none of it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # not through a buffer, whose lock the interpreter waits for at its end
    os._exit(1)


if __name__ == "__main__":
    main()
