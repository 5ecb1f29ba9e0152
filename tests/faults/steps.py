"""Operations in processes of their own, which end or fail at one of their steps: the durable calls that `durable.on_step` is told of."""

import gc
import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from encoder.errors import HashgrainError
from encoder.runtime import durable

SECONDS: Final = 120
"""After which an operation is ended; none takes one on an idle machine."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at a step."""

    at: int
    """Number of the step, from 0."""
    error: int | None = None
    """Of the system call that fails; None: the process is killed before the step."""
    lasting: bool = False
    """Whether all later steps fail too, save those that remove: a disk that stays full."""


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
    with os.fdopen(reading, errors="replace") as pipe:
        lines = pipe.read().split("\0")[:-1]
    _, status = os.waitpid(child, 0)
    steps = [(name, path) for line in lines if line.startswith("step ") for _, name, path in [line.split(" ", 2)]]
    ended = [line for line in lines if not line.startswith("step ")]
    if os.WIFSIGNALED(status):
        killed = fault is not None and fault.error is None and os.WTERMSIG(status) == signal.SIGKILL
        return Ending("killed" if killed else "failed", f"signal {os.WTERMSIG(status)}", steps)
    how, _, said = (ended or ["failed without a word"])[0].partition(" ")
    return Ending(how, said, steps)


def _inside(operation: Callable[[], object], fault: Fault | None, pipe: int) -> None:
    """Do it, tell the pipe of each step and of the end, and leave."""
    count = 0

    def tell(text: str) -> None:
        os.write(pipe, text.encode() + b"\0")

    def on_step(name: str, path: Path) -> None:
        nonlocal count
        number, count = count, count + 1
        tell(f"step {name} {path}")
        if fault is None or number < fault.at:
            return
        if number == fault.at and fault.error is None:
            os.kill(os.getpid(), signal.SIGKILL)
        if fault.error is not None and (
            number == fault.at or (fault.lasting and name not in {"unlink", "rmtree", "close"})
        ):
            raise OSError(fault.error, os.strerror(fault.error), str(path))

    try:
        signal.alarm(SECONDS)
        durable.on_step = on_step
        operation()
        tell("done")
    except HashgrainError as err:
        tell(f"refused {err}")
    except BaseException:  # noqa: BLE001  whatever a user would see
        tell(f"failed {traceback.format_exc()}")
    finally:
        os._exit(0)
