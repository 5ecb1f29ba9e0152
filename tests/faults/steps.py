"""Operations in processes of their own, which end or fail at one of their steps: the durable calls that `durable.on_step` is told of."""

import ctypes
import gc
import mmap
import os
import resource
import signal
import struct
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, Timer
from typing import Final

from encoder.errors import HashgrainError
from encoder.runtime import durable

ROOM: Final = 4 << 20
"""Bytes of what an operation tells: an addition tells 140 kB."""
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


class _Notes:
    """What a forked process tells the one that forked it.

    It is memory of both: what was told stays there when the process is killed, no limit of files touches it, and nobody is woken.
    As `struct notes` of `failing.c` has it: the bytes that are used, then lines with a null behind each.
    """

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, _HEAD.size + ROOM)
        self._turn = Lock()

    def add(self, line: str) -> None:
        data = line.encode(errors="surrogateescape") + b"\0"
        with self._turn:
            (used,) = _HEAD.unpack_from(self.memory)
            start = _HEAD.size + used
            self.memory[start : start + len(data)] = data
            _HEAD.pack_into(self.memory, 0, used + len(data))


def notes_in(memory: bytes) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the steps that were noted, name and path, and the other lines."""
    (used,) = _HEAD.unpack_from(memory)
    lines = memory[_HEAD.size : _HEAD.size + used].decode(errors="replace").split("\0")[:-1]
    steps = [(name, path) for line in lines if line.startswith("step ") for _, name, path in [line.split(" ", 2)]]
    return steps, [line for line in lines if not line.startswith("step ")]


_HEAD: Final = struct.Struct("l")


def attempt(operation: Callable[[], object], fault: Fault | None = None) -> Ending:
    """Do an operation in a forked process, and have a fault happen to it."""
    notes = _Notes()
    gc.freeze()
    child = os.fork()
    if child == 0:
        _inside(operation, fault, notes)
    killer = (
        Timer(fault.after, os.kill, (child, signal.SIGKILL)) if fault is not None and fault.after is not None else None
    )
    if killer is not None:
        killer.start()
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # its number stays its own until the killer is gone
    if killer is not None:
        killer.cancel()
        killer.join()
    _, status = os.waitpid(child, 0)
    steps, ended = notes_in(notes.memory[:])
    notes.memory.close()
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


def _inside(operation: Callable[[], object], fault: Fault | None, notes: _Notes) -> None:
    """Do it, note each step and the end, and leave."""
    try:
        signal.alarm(SECONDS)
        if fault is not None and fault.limit is not None:
            _limit(*fault.limit)
        if fault is not None and fault.calls is not None:
            _preloaded(fault, notes)
            how, said = _disturbed(operation, None, lambda *_: None)
        else:
            how, said = _disturbed(operation, fault, lambda name, path: notes.add(f"step {name} {path}"))
        notes.add(f"{how} {said}")
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


def _preloaded(fault: Fault, notes: _Notes) -> None:
    """Have the preloaded library note each call, and end one."""
    address = ctypes.byref(ctypes.c_char.from_buffer(notes.memory))
    ctypes.CDLL(None).faults_arm(
        os.fsencode(str(fault.calls)), ctypes.c_long(fault.at), endings_number(fault), fault.error or 0, address,
        ctypes.c_long(ROOM),
    )  # fmt: skip


def endings_number(fault: Fault) -> int:
    """Return what the preloaded library calls what happens: its `enum ending`."""
    return 2 if fault.part else 3 if fault.error is None else 1 if fault.lasting else 0


def _limit(which: int, most: int) -> None:
    if which == resource.RLIMIT_NOFILE:
        lowest = os.dup(0)
        os.close(lowest)
        most += lowest
    if which == resource.RLIMIT_AS:
        most += int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(which, (most, resource.getrlimit(which)[1]))
