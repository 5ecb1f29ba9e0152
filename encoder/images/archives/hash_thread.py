"""Digests made in a thread beside those who read: SHA-256 takes several times as long as reading a tar does."""

import hashlib
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Protocol, Self

from encoder.runtime.telemetry import Stage, Telemetry

if TYPE_CHECKING:
    from hashlib import _Hash

AHEAD: Final = 4
"""Updates that may wait or be at work when `update` returns."""


class Hasher(Protocol):
    """What makes a digest of bytes in order, as those of `hashlib` do."""

    def update(self, data: bytes, /) -> None:
        """Take the next bytes, and maybe look at them later."""

    def hexdigest(self) -> str:
        """Return the digest of all bytes so far."""


class HashThread:
    """Makes digests in a thread that lives as long as the context.

    Args:
        telemetry: its time is written down here.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._work: SimpleQueue[tuple[_Hash, bytes] | threading.Event | None] = SimpleQueue()
        self._free: SimpleQueue[None] = SimpleQueue()
        for _ in range(AHEAD):
            self._free.put(None)
        self._thread = threading.Thread(target=self._run, name="hash", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._work.put(None)
        self._thread.join()

    def sha256(self) -> Hasher:
        """Return a digest whose updates return before they are done."""
        return _Digest(self)

    def hash(self, digest: "_Hash", data: bytes) -> None:
        """Let a digest take bytes, when its turn comes."""
        self._free.get()
        self._work.put((digest, data))

    def wait(self) -> None:
        """Return when all that was handed over is done."""
        done = threading.Event()
        self._work.put(done)
        done.wait()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            if isinstance(work, threading.Event):
                work.set()
                continue
            with self._telemetry.span(Stage.HASH):
                digest, data = work
                digest.update(data)
            self._free.put(None)


class _Digest:
    def __init__(self, thread: HashThread) -> None:
        self._hash, self._thread = hashlib.sha256(), thread

    def update(self, data: bytes, /) -> None:
        self._thread.hash(self._hash, data)

    def hexdigest(self) -> str:
        self._thread.wait()
        return self._hash.hexdigest()
