"""A service from start to end: the listener first, then the index and the model warm, then ready; on a signal all in reverse."""

import asyncio
import ctypes
import gc
import logging
import resource
import socket
import sys
import threading
import time
from contextlib import ExitStack
from functools import partial
from types import FrameType
from typing import Any, Final

import numpy as np
import uvicorn

from encoder.errors import HashgrainError, Reason, why
from encoder.images.limits import Limits
from encoder.runtime.console import notice
from encoder.runtime.publish import make_folder
from indexer.index import Index
from indexer.query import ByKey
from indexer.service.app import make_app
from indexer.service.crowd import Crowd
from indexer.service.encoding import QueryEncoder
from indexer.service.holder import Holder, canary, random_rows
from indexer.service.lanes import Lane
from indexer.service.metrics import NO_GAUGES, Gauges, Metrics, open_files, resident_bytes
from indexer.service.protocol import patient, sweep
from indexer.service.settings import ServeSettings
from indexer.service.state import Lanes, State
from indexer.service.static import Page
from indexer.service.thumbnails import Thumbnails
from indexer.settings import Combine, CombineSettings, Engine, SearchSettings
from indexer.storage.current import number_of
from indexer.storage.warm import read_files

TURN: Final = 0.0005
"""Seconds that a thread may keep the interpreter while others wait; with the 5 ms that Python itself has, answers wait as long."""
BACKLOG: Final = 1024
"""Connections that wait to be taken."""
GIVE_BACK: Final = 32 << 20
"""Bytes of bodies after which memory is given back: what lies between them, freed in pieces, would stay."""
RETURNED: Final = 8 << 20
"""Bytes of a block of memory that goes back to the system as soon as it is free: a body, pixels of a large picture."""
TICKS: Final = 10
"""Of the server, ten of which pass per second."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Source: malloc.h of glibc."""
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
        self._crowd: Crowd = config.http.crowd  # type: ignore[union-attr]  # `configured` made it
        self.failure: Exception | None = None
        """Why the service could not be made ready."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Begin to drain; at a second signal, leave at once."""
        health = self._state.health
        if health.draining or health.starting:
            self.should_exit = self.force_exit = True
        health.draining = True
        self._leave_at = time.monotonic() + self._state.settings.drain

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and look after slow clients."""
        await super().startup(sockets)
        self._sweeping = asyncio.ensure_future(sweep(self.server_state.connections))

    async def on_tick(self, counter: int) -> bool:
        """End listening some time after the signal."""
        if self._leave_at and time.monotonic() >= self._leave_at:
            self.should_exit = True
        if counter % TICKS == 0 and self._crowd.released > GIVE_BACK:
            self._crowd.released = 0
            await asyncio.get_running_loop().run_in_executor(self._state.few, _give_back)
        return await super().on_tick(counter)


def serve(index: Index, settings: ServeSettings, *, with_model: bool = True, gauges: Gauges = NO_GAUGES) -> None:
    """Serve an index until a signal ends it.

    Args:
        index: opened.
        settings: how.
        with_model: whether pictures can be queries.
        gauges: more numbers for `/metrics`, as `Metrics.watch` takes them.

    Raises:
        HashgrainError: `bad-value` where the address cannot be listened at; what makes the index or its model
            unusable; `write-failed` for the folder of what is added.
    """
    sys.setswitchinterval(TURN)
    _return_memory()
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # what strangers send is no news
    if settings.writable is not None:
        make_folder(settings.writable)
    listener = listen(settings.host, settings.port)
    state = make_state(index, settings, with_model=with_model)
    state.metrics.watch(gauges)
    server = Server(configured(state), state)
    stop = threading.Event()
    beginning = threading.Thread(
        target=_begin, args=(state, server, stop, url_of(listener)), name="refresh", daemon=True
    )
    beginning.start()
    try:
        server.run([listener])
    finally:
        stop.set()
        for lane in state.lanes.all():
            lane.close()
    if server.failure is not None:
        raise server.failure


def configured(state: State) -> uvicorn.Config:
    """Return what uvicorn is to do."""
    settings = state.settings
    _raise_handles(settings.connections)
    return uvicorn.Config(
        make_app(state),
        loop="asyncio",  # uvicorn takes another one where it happens to be installed, which no figure speaks for
        http=patient(settings),
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=int(settings.keep_alive),
        timeout_graceful_shutdown=int(settings.stop_within),
    )


def _return_memory() -> None:
    """Let large blocks go back to the system: glibc learns to keep those of a size that was freed before, up to 32 MiB each."""
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(M_MMAP_THRESHOLD, RETURNED)
        mallopt(M_TRIM_THRESHOLD, 2 * RETURNED)  # what is smaller is kept at hand, as before


def _give_back() -> None:
    """Give the system all pages that hold nothing; some milliseconds."""
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def _raise_handles(connections: int) -> None:
    """Let the process have a handle per connection, beside those of the index, where the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, 4 * connections)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def make_state(index: Index, settings: ServeSettings, *, with_model: bool = True) -> State:
    """Return what endpoints stand on; nothing is warm yet."""
    metrics, said = Metrics(), index.limits
    encoder = QueryEncoder(
        Limits(min(said.max_bytes, settings.max_body), min(said.max_pixels, settings.max_pixels)), metrics
    )
    lanes = Lanes(settings, encoder, metrics)
    has_model = with_model and index.has_model

    def verify(newer: Index) -> None:
        if has_model and newer.manifest.fingerprint != holder.current.manifest.fingerprint:
            lanes.encode.within(lambda: encoder.warm(newer))
        warm_searches(newer, settings.warm_bytes)
        canary(newer)

    holder = Holder(index, verify, settings.grace, metrics.swapped)
    thumbnails = Thumbnails(encoder.limits)
    state = State(settings, holder, lanes, encoder, thumbnails, metrics, Page(), has_model)
    metrics.watch(
        {
            "hashgrain_generation": (
                "Number of the generation that is served.",
                lambda: number_of(holder.current.generation),
            ),
            "hashgrain_rows": ("Rows of it, without removed ones.", lambda: holder.current.manifest.live),
            "hashgrain_resident_bytes": ("Memory of the process.", resident_bytes),
            "hashgrain_thumbnail_bytes": ("Thumbnails that are kept.", lambda: thumbnails.bytes),
            "hashgrain_open_files": ("Handles of the process.", open_files),
        }
        | {f"hashgrain_waiting_{lane.name}": ("Jobs that wait.", partial(_waiting, lane)) for lane in lanes.all()}
    )
    return state


def _waiting(lane: Lane[Any, Any]) -> float:
    return lane.waiting


def warm_up(state: State) -> None:
    """Do all that a first query would have to wait for, in the threads that will answer it."""
    index, lanes = state.holder.current, state.lanes
    state.health.starting = "the index is being read"
    for lane in (lanes.quick, lanes.heavy):
        lane.within(partial(warm_searches, index, state.settings.warm_bytes))
    canary(index)
    if state.has_model:
        state.health.starting = "the model is being loaded"
        lanes.encode.within(partial(state.encoder.warm, index))
    gc.collect()
    gc.freeze()  # what is there now stays: no collection looks at it again
    state.health.starting = ""


def warm_searches(index: Index, most_bytes: int) -> None:
    """Read the files of an index once, up to so many bytes, and load the kernels of each kind of search."""
    read_files(index.folder, index.manifest.files, most_bytes)
    bits, left = index.manifest.bits, most_bytes
    rows = random_rows(index, 1, np.random.default_rng(0))
    if not len(rows):
        return
    first = {level: index.codes(level, rows) for level in bits}
    for level, code in first.items():
        if (left := left - index.ntotal * bits[level] // 8) >= 0:
            index.search(level, code, SearchSettings(k=10, exact=True, engine=Engine.SCAN))
        index.search(level, code, SearchSettings(k=10, engine=Engine.SCAN))
    if len(first) > 1 and left >= 0:
        settings = CombineSettings(Combine.SUM, tuple(first), SearchSettings(k=10, engine=Engine.SCAN))
        index.combine(first, settings)
    index.query(ByKey(index.key(int(rows[0]))), level=next(iter(bits)), k=10, engine=Engine.SCAN)


def _begin(state: State, server: Server, stop: threading.Event, url: str) -> None:
    notice(f"listening at {url}; it is ready when the index and the model are loaded")
    try:
        warm_up(state)
    except Exception as err:  # noqa: BLE001 - the thread's border
        server.failure = err
        server.should_exit = True
        return
    notice(f"ready: {url}")
    state.holder.watch(state.settings.refresh, stop)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        HashgrainError: `bad-value`.
    """
    with ExitStack() as stack:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, kind, protocol, _, address = found[0]
            listener = stack.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError as err:
            raise HashgrainError(
                Reason.BAD_VALUE, f"{host}:{port} cannot be listened at ({why(err)}); give another address or port"
            ) from err
        stack.pop_all()
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the address of the page."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
