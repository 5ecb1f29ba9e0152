"""All connections together: how many, and how many bytes they make us keep. Whoever has kept us waiting for longest makes room.

Limits of one request do not bound what a thousand of them hold. A client that is not slow is the last to feel these bounds.
"""

import time
from collections.abc import Iterable
from heapq import nsmallest
from typing import Final, Protocol

from indexer.service.settings import ServeSettings

FREE: Final = 8 << 10
"""Bytes of a body that are not counted: what a query without a picture has."""
ROOM: Final = 32
"""Connections that make room at once, since finding those that wait for longest takes a look at all."""


class Connection(Protocol):
    """What is asked of a connection."""

    @property
    def waits_since(self) -> float | None:
        """When we began to wait for its client, by the monotonic clock; None: it is the client who waits."""

    @property
    def unsent(self) -> int:
        """Bytes that its client has not taken yet."""

    def leave(self) -> None:
        """End, without words."""

    def end(self, status: int, reason: str, detail: str) -> None:
        """Refuse what there is of a request, and end."""


class Hold:
    """The body of a request, from its first counted byte to its answer."""

    __slots__ = ("_crowd", "bytes", "connection", "whole")

    def __init__(self, crowd: "Crowd", connection: Connection) -> None:
        self._crowd, self.connection = crowd, connection
        self.bytes, self.whole = 0, False

    def release(self) -> None:
        """Count it no more."""
        if self in self._crowd.holds:
            del self._crowd.holds[self]
            self._crowd.held -= self.bytes
            self._crowd.released += self.bytes


class Crowd:
    """The connections of one service.

    Args:
        settings: of the service.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self.held = 0
        """Bytes of bodies that are being received or answered."""
        self.released = 0
        """Bytes of bodies that were let go of since somebody gave memory back to the system."""
        self.holds: dict[Hold, None] = {}
        """In the order in which they began."""

    def hold(self, connection: Connection) -> Hold:
        """Begin to count a body."""
        hold = Hold(self, connection)
        self.holds[hold] = None
        return hold

    def grow(self, hold: Hold, size: int) -> None:
        """Count bytes of a body; where all are too many, the oldest one of which more is to come is given up."""
        if hold not in self.holds:
            return
        hold.bytes += size
        self.held += size
        while self.held > self._settings.held_bytes:
            oldest = next((one for one in self.holds if not one.whole), hold)
            oldest.release()
            oldest.connection.end(429, "overloaded", "bodies of all requests are too large together; send it again")
            if oldest is hold:
                return

    def take(self, newest: Connection, connections: Iterable[Connection], count: int) -> bool:
        """Make room for a connection if there are too many; say whether it may stay."""
        if count <= self._settings.connections:
            return True
        waiting = [
            (since, id(one), one) for one in connections if one is not newest and (since := one.waits_since) is not None
        ]
        for _, _, one in nsmallest(ROOM, waiting):
            one.leave()
        return bool(waiting)

    def send(self, newest: Connection, connections: Iterable[Connection]) -> None:
        """Give up clients that take nothing, the longest first, where what they have not taken is too much."""
        stuck = [(one.waits_since or time.monotonic(), id(one), one) for one in connections if one.unsent]
        total = sum(one.unsent for _, _, one in stuck)
        for _, _, one in sorted(stuck):
            if total <= self._settings.unsent_bytes:
                return
            if one is not newest:
                total -= one.unsent
                one.leave()
