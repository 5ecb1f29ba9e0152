"""The slices of one generation, held by other processes that are asked over lines: replicas, and what is done when one is gone."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from encoder.errors import HashgrainError, Reason
from indexer.slices.lines import HOLD, Address, BrokenLineError, Line, NotHeldError

PATIENCE: Final = 60.0
"""Seconds that a slice may take for an answer."""
HOLD_SECONDS: Final = 24 * 3600.0
"""Seconds that a slice may take for a new generation, which it may have to copy; a process that is gone is noticed earlier."""
TURN: Final = 0.25
"""Seconds between two looks at whether a process that is waited for is still there."""
LOOK_EVERY: Final = 2.0
"""Seconds between two looks at which processes there are."""
LOOK_SOON: Final = 0.2
"""The same while a slice has none."""
_LOG: Final = logging.getLogger(__name__)


class Seen(NamedTuple):
    """Which processes hold a slice."""

    addresses: Sequence[Address]
    whole: bool = True
    """There is no other."""


@dataclass(eq=False, slots=True)
class Replica:
    """A process that holds a slice."""

    address: Address
    idle: deque[Line] = field(default_factory=deque)
    up: bool = True
    """It answered when it was last asked."""
    gone: bool = False
    """Nobody knows it any more."""
    under_way: int = 0

    def hang_up(self) -> None:
        """Close the lines that nobody uses."""
        with suppress(IndexError):
            while True:
                self.idle.pop().close()


class Replicas:
    """The processes that hold slices, and lines to them. Safe for several threads.

    Args:
        slices: how many.
        look: returns which there are now, by slice; what it raises leaves what was known.
        secret: of the run.
    """

    def __init__(self, slices: int, look: Callable[[], Sequence[Seen]], secret: bytes) -> None:
        self.slices, self._look, self._secret = slices, look, secret
        self._of: list[tuple[Replica, ...]] = [()] * slices
        self._poked, self._stopped = threading.Event(), threading.Event()
        self.look()
        self._thread = threading.Thread(target=self._watch, name="replicas", daemon=True)
        self._thread.start()

    def of(self, number: int) -> list[Replica]:
        """Return the processes that hold a slice and answer, the least busy first."""
        return sorted((one for one in self._of[number] if one.up and not one.gone), key=lambda one: one.under_way)

    @property
    def up(self) -> list[int]:
        """How many processes answer, by slice."""
        return [len(self.of(number)) for number in range(self.slices)]

    def line(self, replica: Replica) -> Line:
        """Return a line to a process.

        Raises:
            BrokenLineError: it does not answer.
        """
        with suppress(IndexError):
            return replica.idle.pop()
        return Line(replica.address, self._secret)

    def failed(self, replica: Replica) -> None:
        """Ask a process nothing more until it answers again."""
        replica.up = False
        replica.hang_up()
        self._poked.set()

    def look(self) -> None:
        """Find out which processes there are, and which of those that failed answer again."""
        try:
            found = self._look()
        except Exception as err:  # noqa: BLE001 - whatever the cluster raises; what was known may still be right
            _LOG.debug("where slices are is not known now: %s", err)
            found = [Seen((), whole=False)] * self.slices
        for number, seen in enumerate(found):
            before = {one.address: one for one in self._of[number]}
            now = [before.get(address, Replica(address, up=False)) for address in seen.addresses]
            left = [one for one in before.values() if one not in now]
            for one in now if seen.whole else (*now, *left):
                self._try(one)
            if seen.whole:
                self._of[number] = tuple(now)
                for one in left:
                    one.gone = True
                    one.hang_up()
            else:
                self._of[number] = (*now, *left)

    def _try(self, replica: Replica) -> None:
        """Find out whether a process that failed, or is new, answers."""
        if not replica.up:
            with suppress(BrokenLineError):
                replica.idle.append(Line(replica.address, self._secret))
                replica.up = True

    def close(self) -> None:
        """Hang up, and look no more."""
        self._stopped.set()
        self._poked.set()
        self._thread.join(10)
        for replica in [one for of in self._of for one in of]:
            replica.hang_up()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            self._poked.wait(LOOK_EVERY if all(self.up) else LOOK_SOON)
            self._poked.clear()
            if not self._stopped.is_set():
                self.look()


@dataclass(eq=False, slots=True)
class _Call:
    """One slice's part of a call, at one process after the other."""

    number: int
    called: tuple[Any, ...]
    replicas: list[Replica]
    """Those that have not been asked."""
    replica: Replica | None = None
    line: Line | None = None


class LineFan:
    """See `Fan`.

    Args:
        replicas: who is asked.
        pointer: of the generation.
        parts: segments of each slice.
        partial: whether a slice that is down is left out, else the whole call fails.
    """

    def __init__(self, replicas: Replicas, pointer: bytes, parts: Sequence[range], *, partial: bool = False) -> None:
        self._replicas, self._pointer, self._parts, self._partial = replicas, pointer, list(parts), partial

    def call(self, slices: Sequence[int], method: str, *args: Any) -> list[Any]:
        """See `Fan.call`: all are asked, then all are heard, by this thread alone."""
        calls = [
            _Call(number, (self._pointer, self._of(number), method, *args), self._replicas.of(number))
            for number in slices
        ]
        for one in calls:
            self._ask(one)
        outcomes = [self._hear(one) for one in calls]  # all of them: a line with an answer on it is of no use
        for outcome in outcomes:
            if isinstance(outcome, Exception) and not (self._partial and _is_down(outcome)):
                raise outcome
        return [None if isinstance(outcome, Exception) else outcome for outcome in outcomes]

    def at(self, pointer: bytes, parts: Sequence[range]) -> "LineFan":
        """See `Fan.at`: one process per slice will do, but every one that answers is asked to have it."""
        newer = LineFan(self._replicas, pointer, parts, partial=self._partial)
        holds = [
            [_Call(number, (pointer, newer._of(number), HOLD), [replica]) for replica in self._replicas.of(number)]
            for number in range(len(parts))
        ]
        for one in [one for of in holds for one in of]:
            newer._ask(one)
        for number, of in enumerate(holds):
            outcomes = [newer._hear(one, HOLD_SECONDS) for one in of] or [_down(number, "nothing holds it")]
            if all(isinstance(outcome, Exception) for outcome in outcomes):
                raise next((one for one in outcomes if not _is_down(one)), outcomes[0])
        return newer

    def _of(self, number: int) -> tuple[int, int]:
        return self._parts[number].start, self._parts[number].stop

    def _ask(self, one: _Call) -> None:
        """Send a call to the next process that takes it; none takes it: it has no line then."""
        one.line = None
        while one.replicas:
            one.replica = one.replicas.pop(0)
            try:
                line = self._replicas.line(one.replica)
                line.send(*one.called)
            except BrokenLineError:
                self._replicas.failed(one.replica)
            else:
                one.line = line
                one.replica.under_way += 1
                return

    def _hear(self, one: _Call, patience: float = PATIENCE) -> Any:
        """Return the answer to a call, or why there is none; a process that is gone is not the last that is asked."""
        until, why = time.monotonic() + patience, "nothing that holds it answers"
        while one.line is not None and one.replica is not None:
            line, replica = one.line, one.replica
            try:
                answer = _awaited(line, replica, until)
            except BrokenLineError as err:
                line.close()
                self._replicas.failed(replica)
                why = str(err)
            except NotHeldError as err:
                replica.idle.append(line)
                why = str(err)
            except Exception as err:  # noqa: BLE001 - of the method: it is raised once all slices were heard
                replica.idle.append(line)
                return err
            else:
                replica.idle.append(line)
                return answer
            finally:
                replica.under_way -= 1
            self._ask(one)
        return _down(one.number, why)


def _awaited(line: Line, replica: Replica, until: float) -> Any:
    """Return an answer.

    Raises:
        BrokenLineError: there will be none, or not in time.
    """
    while not line.answered(TURN):
        if replica.gone:
            raise BrokenLineError("the process is gone")
        if time.monotonic() > until:
            raise BrokenLineError("no answer came in time")
    return line.receive()


def _is_down(outcome: object) -> bool:
    return isinstance(outcome, HashgrainError) and outcome.reason is Reason.SLICE_DOWN


def _down(number: int, why: str) -> HashgrainError:
    return HashgrainError(
        Reason.SLICE_DOWN, f"slice {number} of the index does not answer ({why}); ask again, it is being started anew"
    )
