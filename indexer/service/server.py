"""A service from start to end: the listener first, then the index and the model warm, then ready; on a signal all in reverse."""

import gc
import logging
import socket
import sys
import threading
import time
from types import FrameType
from typing import Final

import uvicorn

from encoder.errors import HashgrainError, Reason, why
from encoder.images.limits import Limits
from encoder.runtime.console import notice
from indexer.index import Index
from indexer.service.app import make_app
from indexer.service.encoding import QueryEncoder
from indexer.service.holder import Holder, canary
from indexer.service.metrics import Metrics
from indexer.service.settings import ServeSettings
from indexer.service.state import Lanes, State
from indexer.service.static import Page
from indexer.settings import Combine, CombineSettings, Engine, SearchSettings

TURN: Final = 0.0005
"""Seconds that a thread may keep the interpreter while others wait; with the 5 ms that Python itself has, answers wait as long."""
_LOG: Final = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """A server that says it is not ready before it stops listening, and ends what is under way.

    Args:
        config: of uvicorn.
        state: of the service.
    """

    def __init__(self, config: uvicorn.Config, state: State) -> None:
        super().__init__(config)
        self._state, self._leave_at = state, 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Begin to drain; at a second signal, leave at once."""
        if self._state.draining:
            self.should_exit = self.force_exit = True
            return
        self._state.draining = True
        self._leave_at = time.monotonic() + self._state.settings.drain

    async def on_tick(self, counter: int) -> bool:
        """End listening some time after the signal."""
        if self._leave_at and time.monotonic() >= self._leave_at:
            self.should_exit = True
        return await super().on_tick(counter)


def serve(index: Index, settings: ServeSettings, *, with_model: bool = True) -> None:
    """Serve an index until a signal ends it.

    Args:
        index: opened.
        settings: how.
        with_model: whether pictures can be queries.

    Raises:
        HashgrainError: `bad-value` where the address cannot be listened at.
    """
    sys.setswitchinterval(TURN)
    listener = listen(settings.host, settings.port)
    state = make_state(index, settings, with_model=with_model)
    config = uvicorn.Config(
        make_app(state),
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=int(settings.keep_alive),
        timeout_graceful_shutdown=int(settings.stop_within),
        limit_concurrency=settings.connections,
    )
    server = Server(config, state)
    stop = threading.Event()
    threading.Thread(target=_begin, args=(state, server, stop, url_of(listener)), name="refresh", daemon=True).start()
    try:
        server.run([listener])
    finally:
        stop.set()
        for lane in state.lanes.all():
            lane.close()


def make_state(index: Index, settings: ServeSettings, *, with_model: bool = True) -> State:
    """Return what endpoints stand on; nothing is warm yet."""
    metrics = Metrics()
    said = index.limits
    encoder = QueryEncoder(Limits(min(said.max_bytes, settings.max_body), min(said.max_pixels, settings.max_pixels)))
    has_model = with_model and index.manifest.model is not None

    def verify(newer: Index) -> None:
        warm_searches(newer, settings.warm_bytes)
        canary(newer)
        if has_model and newer.manifest.fingerprint != holder.current.manifest.fingerprint:
            encoder.warm(newer)

    holder = Holder(index, verify, settings.grace, metrics.swapped)
    return State(settings, holder, Lanes(settings, encoder, metrics), encoder, metrics, Page(), has_model)


def warm_up(state: State) -> None:
    """Do all that a first query would have to wait for."""
    index = state.holder.current
    state.starting = "the index is being read"
    warm_searches(index, state.settings.warm_bytes)
    canary(index)
    if state.has_model:
        state.starting = "the model is being loaded"
        state.encoder.warm(index)
    gc.collect()
    gc.freeze()  # what is there now stays: no collection looks at it again
    state.starting = ""


def warm_searches(index: Index, most_bytes: int) -> None:
    """Load the kernels of each kind of search, and read codes once, up to so many bytes."""
    left = most_bytes
    bits = index.manifest.bits
    if not index.ntotal:
        return
    first = {level: index.codes(level, index.live_rows()[:1]) for level in bits} if index.manifest.live else {}
    for level, code in first.items():
        for exact in (True, False):
            index.search(level, code, SearchSettings(k=10, exact=exact, engine=Engine.SCAN))
        size = index.ntotal * bits[level] // 8
        if (left := left - size) < 0:
            break
    if len(first) > 1:
        settings = SearchSettings(k=10, engine=Engine.SCAN)
        index.combine(first, CombineSettings(Combine.SUM, tuple(first), settings))


def _begin(state: State, server: Server, stop: threading.Event, url: str) -> None:
    try:
        warm_up(state)
    except Exception as err:  # noqa: BLE001 - the thread's border
        notice(f"error: {err}")
        server.should_exit = True
        return
    notice(f"ready: {url}")
    state.holder.watch(state.settings.refresh, stop)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        HashgrainError: `bad-value`.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, OverflowError) as err:
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"{host}:{port} cannot be listened at ({why(err) if isinstance(err, OSError) else err}); give another address or port",
        ) from err
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the address of the page."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
