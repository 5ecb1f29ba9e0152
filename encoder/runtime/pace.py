"""How long a job still takes: the time that each of its parts has been seen to take, and a guess for those to come."""

import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Part:
    """A stretch of a job whose units take about as long as one another."""

    units: float
    """That it has in all."""
    guess: float
    """What a unit takes, until some are measured: seconds, or as a multiple of the units of parts of the same `scale`."""
    scale: str = ""
    """Parts that a faster machine would speed up alike; those that are measured say what the guesses of the others mean."""
    done: float = 0.0
    measured: float = 0.0
    """Of `done`, in this run."""
    seconds: float = 0.0
    """That `measured` took."""


@dataclass(slots=True)
class Pace:
    """Turns units done into a share of the whole and a time left.

    Args:
        parts: by name.
        done: units that an earlier run has done, by name.
    """

    parts: Mapping[Hashable, Part]
    share: float = 0.0
    """Of the time of the whole job, that is done; it never falls."""
    left: float | None = None
    """Seconds; None before anything is measured."""
    _last: float = field(default_factory=lambda: time.monotonic())  # noqa: PLW0108  looked up when it is called

    def skip(self, name: Hashable, done: float | None = None) -> None:
        """Take units (default: all) as done, by an earlier run or because they are not needed; their time does not count."""
        part = self.parts[name]
        part.done = part.units if done is None else min(done, part.units)
        self._last = time.monotonic()

    def reach(self, name: Hashable, done: float) -> None:
        """Say that a part has come to `done` units; the time since the last call was spent on it."""
        part, now = self.parts[name], time.monotonic()
        part.seconds += now - self._last
        part.measured += max(0.0, done - part.done)
        part.done, self._last = min(done, part.units), now
        self._estimate()

    def _estimate(self) -> None:
        costs = {name: self._cost(part) for name, part in self.parts.items()}
        total = sum(part.units * costs[name] for name, part in self.parts.items())
        left = sum((part.units - part.done) * costs[name] for name, part in self.parts.items())
        self.left, self.share = left, max(self.share, 1 - left / total if total else 1.0)

    def _cost(self, part: Part) -> float:
        """Return the seconds of a unit."""
        if part.measured:
            return part.seconds / part.measured
        like = [other for other in self.parts.values() if other.scale == part.scale and other.measured]
        seconds = sum(other.seconds for other in like)
        guessed = sum(other.measured * other.guess for other in like)
        return part.guess * (seconds / guessed if guessed else 1.0)
