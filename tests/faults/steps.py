"""Operations in processes of their own, which end or fail at one of their steps: the durable calls that `durable.on_step` is told of."""

import ctypes
import gc
import os
import resource
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from typing import Final

from encoder.errors import HashgrainError
from encoder.runtime import durable

SECONDS: Final = 120
"""After which an operation is ended; none takes one on an idle machine."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at a step."""

    at: int
    """Number of the step, from 0; -1: none."""
    error: int | None = None
    """Of the system call that fails; None: the process is killed before the step."""
    lasting: bool = False
    """Whether all later steps fail too, save those that remove: a disk that stays full."""
    after: float | None = None
    """Seconds after which the process is killed, wherever it is."""
    calls: Path | None = None
    """Folder: a step is then a system call on a file below it, which the preloaded `failing.c` tells of and ends."""
    part: bool = False
    """Whether such a call, if it reads or writes, does half of it."""
    limit: tuple[int, int] | None = None
    """Resource of `resource.setrlimit` and what there is of it; of memory and handles beyond what the process has."""


@dataclass(slots=True)
class Ending:
    """What became of an operation."""

    how: str
    """done, refused (in a line), killed, or failed (with what should not have been)."""
    said: str = ""
    steps: list[tuple[str, str]] = field(default_factory=list)
    """Name and path of those that were begun; the last one is the one that failed, unless more followed."""


def attempt(operation: Callable[[], object], fault: Fault | None = None) -> Ending:
    """Do an operation in a forked process, and have a fault happen to it."""
    reading, writing = os.pipe()
    gc.freeze()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _inside(operation, fault, writing)
    os.close(writing)
    killer = (
        Timer(fault.after, os.kill, (child, signal.SIGKILL)) if fault is not None and fault.after is not None else None
    )
    if killer is not None:
        killer.start()
    with os.fdopen(reading, errors="replace") as pipe:
        lines = pipe.read().split("\0")[:-1]
    if killer is not None:
        killer.cancel()
        killer.join()
    _, status = os.waitpid(child, 0)
    steps = [(name, path) for line in lines if line.startswith("step ") for _, name, path in [line.split(" ", 2)]]
    ended = [line for line in lines if not line.startswith("step ")]
    if os.WIFSIGNALED(status):
        killed = fault is not None and fault.error is None and os.WTERMSIG(status) == signal.SIGKILL
        return Ending("killed" if killed else "failed", f"signal {os.WTERMSIG(status)}", steps)
    how, _, said = (ended or ["failed without a word"])[0].partition(" ")
    return Ending(how, said, steps)


def attempt_here(operation: Callable[[], object], fault: Fault | None = None) -> Ending:
    """Do an operation in this process, and have a step of it fail: as a process does that lives on after the error."""
    ending = Ending("")
    assert fault is None or (fault.error is not None and fault.limit is None), (
        "what ends a process needs one of its own"
    )
    try:
        ending.how, ending.said = _disturbed(
            operation, fault, lambda name, path: ending.steps.append((name, str(path)))
        )
    finally:
        durable.on_step = None
    return ending


def _inside(operation: Callable[[], object], fault: Fault | None, pipe: int) -> None:
    """Do it, tell the pipe of each step and of the end, and leave."""

    def tell(text: str) -> None:
        os.write(pipe, text.encode() + b"\0")

    try:
        signal.alarm(SECONDS)
        if fault is not None and fault.limit is not None:
            _limit(*fault.limit)
        if fault is not None and fault.calls is not None:
            _preloaded(fault, pipe)
            how, said = _disturbed(operation, None, lambda *_: None)
        else:
            how, said = _disturbed(operation, fault, lambda name, path: tell(f"step {name} {path}"))
        tell(f"{how} {said}")
    finally:
        os._exit(0)


def _disturbed(
    operation: Callable[[], object], fault: Fault | None, begun: Callable[[str, Path], object]
) -> tuple[str, str]:
    """Do it, say which steps are begun, and return how it ended and what it said."""
    count = 0

    def on_step(name: str, path: Path) -> None:
        nonlocal count
        number, count = count, count + 1
        begun(name, path)
        if fault is None or not 0 <= fault.at <= number:
            return
        if number == fault.at and fault.error is None:
            os.kill(os.getpid(), signal.SIGKILL)
        if fault.error is not None and (
            number == fault.at or (fault.lasting and name not in {"unlink", "rmtree", "close"})
        ):
            raise OSError(fault.error, os.strerror(fault.error), str(path))

    try:
        durable.on_step = on_step
        operation()
    except HashgrainError as err:
        return "refused", f"{err.reason}: {err}"
    except MemoryError:  # which `console.run` says in a line
        return "refused", "no-resources: no memory"
    except BaseException:  # noqa: BLE001  whatever a user would see
        return "failed", traceback.format_exc()
    return "done", ""


def _preloaded(fault: Fault, pipe: int) -> None:
    """Have the preloaded library tell of each call, and end one."""
    ending = 2 if fault.part else 3 if fault.error is None else 1 if fault.lasting else 0  # as `enum ending`
    library = ctypes.CDLL(None)
    library.faults_arm(os.fsencode(str(fault.calls)), ctypes.c_long(fault.at), ending, fault.error or 0, pipe)


def _limit(which: int, most: int) -> None:
    if which == resource.RLIMIT_NOFILE:
        lowest = os.dup(0)
        os.close(lowest)
        most += lowest
    if which == resource.RLIMIT_AS:
        most += int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(which, (most, resource.getrlimit(which)[1]))
