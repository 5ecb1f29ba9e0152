"""Who carries a question to the slices and their answers back: threads of this process, or actors of a cluster."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from indexer.settings import Trust
from indexer.slices.worker import SliceWorker


class Fan(Protocol):
    """The slices of one generation, wherever they are held. Safe for several threads."""

    def call(self, slices: Sequence[int], method: str, *args: Any) -> list[Any]:
        """Call a method of `SliceWorker` for several slices at once.

        Args:
            slices: their numbers.
            method: a public one.
            args: the same for all.

        Returns:
            What each returned, in the order of `slices`; None for a slice that is down, where partial answers are allowed.

        Raises:
            HashgrainError: `slice-down` with the number of a slice that is down, where they are not; what the method raises.
        """

    def at(self, pointer: bytes, parts: Sequence[range]) -> "Fan":
        """Return the slices of another generation of the same index, once each of them has it; this one goes on.

        Args:
            pointer: what the pointer held when the generation was the current one.
            parts: segments of each slice, `indexer.slices.cut.cut`; at most as many as there are slices.

        Raises:
            HashgrainError: `slice-down`, `index-missing`, `index-damaged`.
        """


class ThreadFan:
    """Slices that this process holds, each asked by a thread of its own.

    Args:
        path: folder of the index.
        pointer: of the generation.
        parts: segments of each slice.
        trust: what of the index is believed.
        earlier: the slices of the generation before; what is unchanged of them is not opened again.
    """

    def __init__(
        self,
        path: Path,
        pointer: bytes,
        parts: Sequence[range],
        trust: Trust = Trust(),
        earlier: "ThreadFan | None" = None,
    ) -> None:
        self._path, self._trust = path, trust
        before: list[SliceWorker | None] = [] if earlier is None else [*earlier.workers]
        before += [None] * (len(parts) - len(before))
        self.workers: list[SliceWorker] = [
            SliceWorker(path, part, pointer, trust=trust, earlier=old) for part, old in zip(parts, before, strict=False)
        ]
        self._threads = ThreadPoolExecutor(len(parts), "slice")

    def call(self, slices: Sequence[int], method: str, *args: Any) -> list[Any]:
        """See `Fan.call`; none of them is ever down."""
        asked = [self._threads.submit(getattr(self.workers[number], method), *args) for number in slices]
        return [answer.result() for answer in asked]

    def at(self, pointer: bytes, parts: Sequence[range]) -> "ThreadFan":
        """See `Fan.at`."""
        return ThreadFan(self._path, pointer, parts, self._trust, self)
