"""How long the interpreter's lock is kept by a single step of any thread: the CPU time between two lines of Python.

Between two lines a thread gives the lock away if another wants it, so one line holds it for at most the CPU time that it takes. CPU
time is the thread's own: waiting for the lock or for a core does not count, as it does in what a thread notices that wakes late.
A machine with other work on it still adds chance: interrupts, page faults, time stolen from a virtual core. What is ours happens again,
so a line is named that takes too long in one of a hundred of its runs; the others are counted.
"""

import gc
import linecache
import re
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self

LONG: Final = 0.001
"""Seconds."""
SHARE: Final = 0.01
"""Of a line's runs that have to be long for it to be named."""
_WITHOUT = re.compile(
    r"_raw\.read\(|result = work\(\*args\)|torch\.zeros\(|malloc_trim\(|os\.fsync\(|\.write\(view\)|sha256_of|digest\.update\("
)
"""Calls that give the lock away for as long as they take. Digests and the CPU decode are what `null_gpu` times as `work`."""


@dataclass(slots=True)
class _Line:
    runs: int = 0
    long: list[float] = field(default_factory=list)
    """Seconds of those that were."""


class Holds:
    """Watches all Python code that the block runs, in this thread and in those that it starts; it runs several times as long."""

    def __enter__(self) -> Self:
        self._last, self._lines = threading.local(), defaultdict[tuple[str, int], _Line](_Line)
        self._collections, self._collecting = defaultdict[int, list[float]](list), 0.0
        gc.callbacks.append(self._note)
        threading.settrace(self._trace)
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        threading.settrace(None)
        gc.callbacks.remove(self._note)

    def __str__(self) -> str:
        runs = sum(line.runs for line in self._lines.values())
        held = {place: line for place, line in self._lines.items() if line.long and not _WITHOUT.search(_text(place))}
        named = {place: line for place, line in held.items() if len(line.long) >= SHARE * line.runs}
        chance = sum(len(line.long) for place, line in held.items() if place not in named)
        text = [
            f"{1e3 * max(line.long):.1f} ms at most, long in {len(line.long)} of {line.runs} runs: "
            f"{Path(place[0]).name}:{place[1]}: {_text(place)}"
            for place, line in sorted(named.items(), key=lambda item: -max(item[1].long))
        ]
        text += [
            f"{1e3 * max(times):.2f} ms at most, {len(times)} times: garbage collection of generation {generation}"
            for generation, times in sorted(self._collections.items())
        ]
        text.append(f"by chance {chance} of {runs:,} runs of a line took more than {1e3 * LONG:.0f} ms")
        return "\n".join(text)

    def _trace(self, frame: FrameType, _event: str, _arg: Any) -> Any:
        now, last = time.thread_time(), getattr(self._last, "step", None)
        if last is not None:
            line = self._lines[last[1]]
            line.runs += 1
            if now - last[0] > LONG:
                line.long.append(now - last[0])
        self._last.step = time.thread_time(), (frame.f_code.co_filename, frame.f_lineno)
        return self._trace

    def _note(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._collecting = time.thread_time()
        else:
            self._collections[info["generation"]].append(time.thread_time() - self._collecting)


def _text(place: tuple[str, int]) -> str:
    return linecache.getline(*place).strip()
