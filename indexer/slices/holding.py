"""A process that holds one slice of an index: it opens the generations that it is asked for, and keeps the last few."""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from encoder.errors import HashgrainError, Reason
from indexer.settings import Engine, SearchSettings, Trust
from indexer.slices.cut import cut
from indexer.slices.lines import HOLD, Address, Listener, NotHeldError
from indexer.slices.local_copy import bring, copy_of, needed, read_pointer
from indexer.slices.worker import SliceWorker
from indexer.storage.current import read_current
from indexer.storage.manifest import Manifest
from indexer.storage.warm import read_files

METHODS: Final = frozenset(name for name in vars(SliceWorker) if not name.startswith("_"))
"""What a slice may be asked."""
GRACE: Final = 60.0
"""Seconds after its last question for which a generation that is not the newest is kept."""
Asked: TypeAlias = tuple[bytes, range]
"""A generation by its pointer, and segments of it."""


@dataclass(frozen=True, slots=True)
class SliceSettings:
    """Which slice of what, in plain data."""

    index: str
    """Folder that every machine sees, or a URL."""
    number: int
    slices: int
    secret: bytes
    copy_to: str | None = None
    """Folder of a disk of the machine that its files are copied to; None: they are mapped where they are."""
    warm_bytes: int = 8 << 30
    """Bytes of codes that are read once before a generation is searched."""
    trust: Trust = Trust()


class Holding:
    """The generations of one slice, and a listener for those who ask.

    Args:
        settings: which.
        host: address of this machine to listen at.

    Raises:
        HashgrainError: `index-missing`, `index-damaged`, `write-failed`.
    """

    def __init__(self, settings: SliceSettings, host: str) -> None:
        self._settings = settings
        self._kept: OrderedDict[Asked, tuple[SliceWorker, float]] = OrderedDict()
        """By the time of the last question."""
        self._lock, self._opening = threading.Lock(), threading.Lock()
        self._open_newest()
        self._listener = Listener(host, settings.secret, self.answer)

    @property
    def address(self) -> Address:
        """Where it is asked."""
        return self._listener.address

    def answer(self, pointer: bytes, segments: tuple[int, int], method: str, *args: Any) -> Any:
        """Call a method of a generation's slice; one that is not open yet is opened first.

        Raises:
            HashgrainError: what the method raises; of `HOLD`, `index-missing` or `index-damaged`.
            NotHeldError: the generation cannot be opened, of any other method.
        """
        try:
            worker = self._worker((pointer, range(*segments)))
        except HashgrainError as err:
            if method == HOLD:
                raise
            raise NotHeldError(str(err)) from err
        if method == HOLD:
            return None
        if method not in METHODS:
            raise HashgrainError(Reason.BAD_VALUE, f"method {method!r}; expected one of {', '.join(sorted(METHODS))}")
        return getattr(worker, method)(*args)

    def check(self) -> None:
        """Raise when nobody can ask any more."""
        if not self._listener.is_open:
            raise HashgrainError(Reason.PROCESS_DIED, f"slice {self._settings.number} does not listen any more")

    def close(self) -> None:
        """Take no new questions."""
        self._listener.close()

    def _open_newest(self) -> None:
        """Open the current generation, so that the first question need not wait."""
        pointer, mine = read_pointer(self._settings.index), self._settings
        parts = cut(self._brought(pointer, None)[1], mine.slices)
        if mine.number < len(parts):
            self._worker((pointer, parts[mine.number]))

    def _brought(self, pointer: bytes, segments: range | None) -> tuple[Path, Manifest]:
        """Return a folder of this machine that has a generation's files, and what the generation says of itself."""
        index, copy_to = self._settings.index, self._settings.copy_to
        if copy_to is None:
            return Path(index), read_current(Path(index), pointer)[1]
        copy = copy_of(index, Path(copy_to))
        return copy, bring(index, pointer, copy, segments)

    def _worker(self, asked: Asked) -> SliceWorker:
        with self._lock:
            if (known := self._known(asked)) is not None:
                return known
        with self._opening:  # one at a time; whoever else wants it finds it then
            with self._lock:
                if (known := self._known(asked)) is not None:
                    return known
                earlier = next(reversed(self._kept.values()), (None, 0.0))[0]
            pointer, segments = asked
            folder, manifest = self._brought(pointer, segments)
            worker = SliceWorker(folder, segments, pointer, trust=self._settings.trust, earlier=earlier)
            names = needed(manifest, segments)
            generation = read_current(folder, pointer)[0]
            read_files(generation, {name: manifest.files[name] for name in names}, self._settings.warm_bytes)
            _load_kernels(worker, manifest)
            with self._lock:
                now = time.monotonic()
                for old in [each for each, (_, last) in self._kept.items() if last < now - GRACE]:
                    del self._kept[old]
                self._kept[asked] = worker, now
        return worker

    def _known(self, asked: Asked) -> SliceWorker | None:
        if (known := self._kept.pop(asked, None)) is None:
            return None
        self._kept[asked] = known[0], time.monotonic()
        return known[0]


def _load_kernels(worker: SliceWorker, manifest: Manifest) -> None:
    """Search once at each level: the first search of a process loads what it takes."""
    for row in worker.rows(worker.live_rows(1)):
        for level in manifest.bits:
            settings = SearchSettings(k=10, exact=True, engine=Engine.SCAN)
            worker.probe(level, row.codes[level][None], settings, None)
