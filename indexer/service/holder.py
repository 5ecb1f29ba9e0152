"""The generation that is served, and its change for a newer one: loaded beside, tried, then taken with one assignment."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from encoder.errors import HashgrainError, Reason
from encoder.runtime.files import read_regular
from indexer.index import Index
from indexer.row_mask import in_set
from indexer.settings import Engine, SearchSettings
from indexer.storage.current import POINTER, POINTER_BYTES

CANARIES: Final = 8
"""Rows that a new generation has to find by their own codes and keys before it serves."""
_LOG: Final = logging.getLogger(__name__)


class Holder:
    """The index as requests see it: each takes `current` once, and keeps it to its end.

    Args:
        index: opened.
        verify: called with an index before it is served; what it raises keeps that out.
        grace: seconds for which the former generation is kept after a change.
        changed: called with a name after each try: `swap` or `refused`.
    """

    def __init__(
        self,
        index: Index,
        verify: Callable[[Index], None],
        grace: float = 60.0,
        changed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.current = index
        self._verify, self._grace, self._changed = verify, grace, changed
        self._former: tuple[Index, float] | None = None
        self._refused: bytes | None = None
        """The pointer of a generation that is not sound; it is not tried again."""
        self._swapping = threading.Lock()

    def of(self, generation: str | None) -> Index:
        """Return the index of a generation: the current one, or the former for a while.

        Raises:
            HashgrainError: `generation-missing`.
        """
        current, former = self.current, self._former
        if generation is None or generation == current.generation:
            return current
        if former is not None and generation == former[0].generation:
            return former[0]
        raise HashgrainError(
            Reason.GENERATION_MISSING,
            f"generation {generation[:80]!r} is not served any more, {current.generation} is; look the key up again",
        )

    def swap_if_newer(self) -> bool:
        """Go to the newest generation, and say whether there was a newer one that is sound."""
        with self._swapping:
            self._forget()
            current = self.current
            if current.is_current:
                return False
            if (pointer := _pointer(current.path)) == self._refused:
                return False
            try:
                newer = current.reopen()
                if newer is current:
                    return False
                self._verify(newer)
            except (HashgrainError, OSError, ArithmeticError, LookupError, ValueError) as err:
                if isinstance(err, HashgrainError) and err.reason is Reason.SLICE_DOWN:
                    return False  # nothing is wrong with the generation: it is tried again
                self._refused = pointer
                _LOG.warning("a new generation is not served, %s goes on: %s", current.generation, err)
                self._changed("refused")
                return False
            self._refused = None
            self._former = current, time.monotonic() + self._grace
            self.current = newer
            self._changed("swap")
            return True

    def watch(self, every: float, stop: threading.Event) -> None:
        """Look for newer generations until told to stop; a thread's work."""
        while not stop.wait(every):
            self.swap_if_newer()

    def _forget(self) -> None:
        if self._former is not None and time.monotonic() > self._former[1]:
            self._former = None


def _pointer(path: Path) -> bytes:
    """Return what the index's pointer holds now; nothing where it cannot be read."""
    try:
        return read_regular(path / POINTER, POINTER_BYTES, links=False)
    except (OSError, ValueError):
        return b""


def canary(index: Index) -> None:
    """Search a few rows of an index by their own codes, and look them up by their keys.

    Raises:
        HashgrainError: `index-damaged` when one is not found.
    """
    rows = random_rows(index, CANARIES, np.random.default_rng(0))
    if not len(rows):
        return
    for level in index.manifest.bits:
        settings = SearchSettings(k=1, exact=True, engine=Engine.SCAN)
        found = index.search(level, index.codes(level, rows), settings)
        if any(not len(one.distances) or one.distances[0] for one in found):
            raise HashgrainError(
                Reason.INDEX_DAMAGED,
                f"rows of {index.path} are not found by their own codes at level {level}; build the index again",
            )
    for row in rows.tolist():
        if index.find(index.key(row)) != row:
            raise HashgrainError(
                Reason.INDEX_DAMAGED,
                f"row {row} of {index.path} is not found by its key; build the index again",
            )


def random_rows(index: Index, count: int, rng: np.random.Generator) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Return int64[up to count], different rows that have not been removed, in no order."""
    live = index.passing(None)
    rows = rng.integers(0, index.ntotal, 4 * count) if index.ntotal else np.empty(0, np.int64)
    if live is not None:
        rows = rows[in_set(live, rows)]
    if len(np.unique(rows)) < count:  # few rows, or few of them left
        rows = rng.permutation(index.live_rows()[: 1 << 20])
    _, first = np.unique(rows, return_index=True)
    return rows[np.sort(first)][:count]
