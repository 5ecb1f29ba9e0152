"""HTTP for slow and hostile clients: uvicorn has no limit for headers, and no time for anything but a kept connection.

Each connection notes when its request began; one sweep per second over all of them looks for those that took too long. A
request costs no timer of its own.
"""

import asyncio
import time
from http import HTTPStatus
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from indexer.service.crowd import FREE, Crowd, Hold
from indexer.service.guard import LINGER
from indexer.service.problems import RefusedError, refusal
from indexer.service.settings import ServeSettings

CORKED: Final = 4096
"""Bytes that are held at most: the head of an answer has some hundreds."""
SWEEP: Final = 1.0
"""Seconds between two looks at all connections."""
LAST_WORDS: Final = 1.0
"""Seconds in which a connection that was opened just before the end may still send its request."""


OVERHEAD: Final = 64
"""Bytes of memory that a header takes beside its own."""
PIECES, LEAST_PIECE = 1000, 64
"""Pieces of a body that may be of any size, and bytes that further ones have on average: each takes the loop some time."""


class EndedError(Exception):
    """Raised within the parser, which stops then: nobody wants to know the rest."""


class _Corked:
    """A transport that holds the head of an answer until its body comes: one packet, and one call of the system, for both."""

    __slots__ = ("_held", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop, self._held = transport, loop, b""

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Hold what comes first in a turn of the loop; write it with what comes next, or at the end of the turn."""
        if self._held:
            self._transport.write(self._held + data)
            self._held = b""
        elif len(data) > CORKED:
            self._transport.write(data)
        else:
            self._held = data
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what is held."""
        if self._held:
            self._transport.write(self._held)
            self._held = b""

    def close(self) -> None:
        """Close the transport after what is held."""
        self.flush()
        self._transport.close()


class PatientHttp(HttpToolsProtocol):
    """One connection. `settings` and `crowd` are attributes of a subclass, see `patient`."""

    settings: ServeSettings
    crowd: Crowd
    """All connections."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, or refuse one connection too many."""
        super().connection_made(transport)
        self._since = self._body_since = time.monotonic()
        self._head, self._body, self._pieces = 0, 0, 0
        """Bytes of the headers, and of the body, that have come so far."""
        self._in_body, self._ended = False, False
        self._unsent, self._unsent_since = 0, 0.0
        self._hold: Hold | None = None
        """Of the body that is coming, once it is not a small one."""
        if not self.crowd.take(self, self._all, len(self.connections)):
            self.end(429, "overloaded", "as many connections are open as may be; ask again in 1 s")

    def data_received(self, data: bytes) -> None:
        """Count the bytes of headers as they come."""
        if self._ended:
            return
        if not self._in_body:
            if not self._head:
                self._since = time.monotonic()
            self._head += len(data)
        super().data_received(data)
        if self._head > self.settings.header_bytes and not self._in_body:
            self._refuse_headers()

    def on_message_begin(self) -> None:
        """Begin with headers, of a request that may have come with the one before."""
        if self._ended:
            raise EndedError
        super().on_message_begin()
        if not self._head:
            self._head, self._since = 1, time.monotonic()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count those behind a body, too, which nobody reads."""
        if self._ended:
            raise EndedError
        if self._in_body:
            self._head += len(name) + len(value) + OVERHEAD
            if self._head > self.settings.header_bytes:
                self._refuse_headers()
        elif len(self.headers) < self.settings.headers:
            super().on_header(name, value)
        else:
            self._refuse_headers()

    def on_headers_complete(self) -> None:
        """Go on to the body."""
        self._head, self._body, self._pieces, self._in_body = 0, 0, 0, True
        self._body_since = time.monotonic()
        self._hold = None
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self.settings.header_bytes:
            self._refuse_headers()
            return
        if len(self.pipeline) >= self.settings.pipelined:
            self.leave()
            return
        if not self.url.startswith(b"/"):
            self._take_host()
        transport = self.transport
        self.transport = _Corked(transport, self.loop)  # type: ignore[assignment]  # what the answer is written to
        try:
            super().on_headers_complete()
        finally:
            self.transport = transport

    def _take_host(self) -> None:
        """Let the host of a target that is a whole URL count, not that of the header. Source: RFC 9112, 3.2.2."""
        url = httptools.parse_url(self.url)
        host = (url.host or b"") + (b":%d" % url.port if url.port else b"")
        self.headers[:] = [*((name, value) for name, value in self.headers if name != b"host"), (b"host", host)]

    def on_body(self, body: bytes) -> None:
        """Count the bytes of a body."""
        if self._ended:
            raise EndedError
        self._body += len(body)
        self._pieces += 1
        if self._pieces > PIECES + self._body // LEAST_PIECE:
            self.end(400, "bad-value", f"a body in pieces of under {LEAST_PIECE} bytes; send larger chunks")
            return
        super().on_body(body)
        if self._body > FREE:
            if self._hold is None:
                self._hold = self.scope["hold"] = self.crowd.hold(self)  # type: ignore[typeddict-unknown-key]
            self.crowd.grow(self._hold, len(body))

    def on_message_complete(self) -> None:
        """Wait for the next request."""
        if self._hold is not None:
            self._hold.whole = True
        if not self._ended:
            super().on_message_complete()
        self._head, self._in_body = 0, False

    def _refuse_headers(self) -> None:
        most = f"{self.settings.header_bytes:,} bytes of headers, or {self.settings.headers} of them"
        self.end(431, "headers-too-large", f"over {most}; expected less")

    def pause_writing(self) -> None:
        """See what clients have not taken, now that there is more of it."""
        super().pause_writing()
        self._unsent_since = time.monotonic()
        self.crowd.send(self, self._all)

    @property
    def unsent(self) -> int:
        """Bytes that the client has not taken yet."""
        return 0 if self.transport.is_closing() else self.transport.get_write_buffer_size()

    @property
    def waits_since(self) -> float | None:
        """When it began to wait for its client; None: its client waits."""
        if self.transport.is_closing():
            return None
        if self.transport.get_write_buffer_size():
            return self._unsent_since or None
        if self._in_body:
            return self._body_since
        return self._since if self._head or (cycle := self._current) is None or cycle.response_complete else None

    def leave(self) -> None:
        """Close the connection at once."""
        self._ended = True
        self.transport.abort()

    def sweep(self, now: float) -> None:
        """End the connection if its client takes too long over something."""
        settings = self.settings
        if self._ended or self.transport.is_closing():
            return
        taken = now - (self._body_since if self._in_body else self._since)
        if self.flow.read_paused:  # it is us who do not read
            pass
        elif self._in_body:
            expected = settings.body_rate * (taken - settings.body_start)
            if taken > settings.body_seconds or self._body < expected:
                self.end(408, "too-slow", f"{self._body:,} bytes of a body within {taken:.0f} s; send it faster")
        elif (self._head or self._current is None) and taken > settings.header_seconds:
            self.end(408, "too-slow", f"no whole request within {settings.header_seconds:g} s")
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        elif now - self._unsent_since > settings.stalled:
            self.transport.abort()

    def end(self, status: int, reason: str, detail: str) -> None:
        """Refuse what there is of a request, and close the connection once the client could read why."""
        if self._ended or self.transport.is_closing():
            return
        self._ended = True
        if (cycle := self._current) is not None and not cycle.response_complete:
            cycle.disconnected, cycle.body = True, bytearray()
            cycle.message_event.set()  # whoever reads the body is told that the client is gone
            if cycle.response_started:
                self.transport.abort()
                return
        later = {"Retry-After": "1"} if status == HTTPStatus.TOO_MANY_REQUESTS else {}
        response = refusal(RefusedError(status, reason, detail, later))
        lines = [name + b": " + value for name, value in (*response.raw_headers, (b"connection", b"close"))]
        self.flow.pause_reading()
        self.transport.write(STATUS_LINE[status] + b"\r\n".join([*lines, b"", bytes(response.body)]))
        self.transport.write_eof()
        self.loop.call_later(LINGER, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """Say that bytes are not HTTP."""
        self.end(400, "bad-value", msg)

    def shutdown(self) -> None:
        """Close the connection when what is under way has been answered; a request may be on its way just now."""
        if (cycle := self._current) is not None and not cycle.response_complete:
            cycle.keep_alive = False
        else:
            self.loop.call_later(LAST_WORDS, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if (cycle := self._current) is None or cycle.response_complete:
            self.transport.close()
        else:
            cycle.keep_alive = False

    @property
    def _all(self) -> "set[Any]":
        """All connections, which are of this class."""
        return self.connections

    @property
    def _current(self) -> RequestResponseCycle | None:
        """The request that came last; None: none has come yet."""
        return self.cycle


def patient(settings: ServeSettings) -> type[PatientHttp]:
    """Return the protocol with its settings, as uvicorn takes it: a class."""
    return type("PatientHttpOf", (PatientHttp,), {"settings": settings, "crowd": Crowd(settings)})


async def sweep(connections: "set[Any]") -> None:
    """Look at all connections now and then, for ever."""
    while True:
        await asyncio.sleep(SWEEP)
        now = time.monotonic()
        for connection in list(connections):
            connection.sweep(now)
