"""Whose turn it is: answers come first, and what is got ready behind them fills the pauses between two."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from subprocess import Popen
from threading import Event
from typing import Final

from encoder.runtime.locks import ForkLock

BREATH: Final = 0.0001
"""Seconds that the work lets go of the interpreter, so that whoever waits for it has it."""
PATIENCE: Final = 0.05
"""Seconds that the work lets pass at most: answers that come one upon another must not stop it for good."""
LONG: Final = 0.02
"""Seconds from which on an answer does not mind what else is done."""
LEARNS: Final = 0.2
"""How much the last pause between two answers counts in the usual one."""
LEAST_SHARE: Final = 0.3
"""Of the time that a process behind the answers gets, however many there are."""


class Turns:
    """Answers that are under way, and the pauses between them."""

    def __init__(self) -> None:
        self._lock = ForkLock()
        self._idle = Event()
        self._idle.set()
        self._under_way, self._began, self._ended, self._pause = 0, 0.0, 0.0, 0.0
        self._process: Popen[bytes] | None = None
        self._started = self._halted = 0.0

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Count an answer as under way."""
        with self._lock:
            now = self._began = time.perf_counter()
            if not self._under_way:
                self._pause += LEARNS * (min(now - self._ended, 1) - self._pause)
                self._idle.clear()
                self._halt(now)
            self._under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1
                if not self._under_way:
                    self._ended = time.perf_counter()
                    self._go_on()
                    self._idle.set()

    def wait(self) -> None:
        """Wait for a turn of the work: no answer is under way, and none is due soon."""
        time.sleep(BREATH)
        ends = time.perf_counter() + PATIENCE
        while (now := time.perf_counter()) < ends:
            if self._under_way:
                if now > self._began + LONG:
                    return
                self._idle.wait(min(ends, self._began + LONG) - now)
            elif not self._pause / 2 < now - self._ended < 2 * self._pause:
                return
            else:  # an answer is due: what is begun now could not be broken off when it comes
                time.sleep(min(self._pause / 16, ends - now))

    @contextmanager
    def behind(self, process: "Popen[bytes]") -> Iterator[None]:
        """Halt a process while answers are under way. It must end with this one even when it is halted."""
        with self._lock:
            self._process, self._started, self._halted = process, time.perf_counter(), 0.0
        try:
            yield
        finally:
            with self._lock:
                self._go_on()
                self._process = None

    def in_child(self) -> None:
        """Forget what was under way in the process that this one was forked from."""
        self._under_way, self._process = 0, None
        self._idle.set()

    def _halt(self, now: float) -> None:
        if self._process is not None and self._halted < (1 - LEAST_SHARE) * (now - self._started):
            self._signal(self._process, "SIGSTOP")

    def _go_on(self) -> None:
        if self._process is not None:
            self._halted += time.perf_counter() - self._began
            self._signal(self._process, "SIGCONT")

    @staticmethod
    def _signal(process: "Popen[bytes]", name: str) -> None:
        if hasattr(signal, name) and hasattr(os, "kill"):
            with suppress(OSError):  # it has ended
                process.send_signal(getattr(signal, name))
