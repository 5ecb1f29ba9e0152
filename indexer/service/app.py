"""The endpoints. Each takes the request and returns bytes that were made in a lane: the loop only reads and writes."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import TypeAlias
from urllib.parse import parse_qsl

import numpy as np
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from encoder.errors import HashgrainError, Reason
from indexer.service.holder import random_rows
from indexer.service.info import index_info, items
from indexer.service.parse import picture_request, search_request
from indexer.service.problems import RefusedError, problem
from indexer.service.search import search
from indexer.service.state import State
from indexer.wire import as_bytes

JSON = "application/json"
Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]
MOST_RANDOM = 60


def make_app(state: State) -> FastAPI:
    """Return the application."""
    app = FastAPI(title="hashgrain", docs_url=None, redoc_url=None, openapi_url=None)
    for method, path, endpoint in routes(state):
        app.add_api_route(path, endpoint, methods=[method], response_model=None)
    return app


def routes(state: State) -> Sequence[tuple[str, str, Endpoint]]:
    """Return every endpoint: method, path, and what answers."""

    def of(function: Callable[[State, Request], Awaitable[Response]]) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            try:
                return await function(state, request)
            except Exception as err:  # noqa: BLE001 - the border: every failure becomes an answer
                return problem(err)

        return endpoint

    return (
        ("POST", "/v1/search", of(searched)),
        ("GET", "/v1/index", of(described)),
        ("GET", "/v1/random", of(some)),
        ("GET", "/v1/items/{key:path}", of(item)),
        ("GET", "/healthz", of(healthy)),
        ("GET", "/readyz", of(ready)),
        ("GET", "/metrics", of(measured)),
        ("GET", "/", of(page)),
        ("GET", "/page/{name}", of(page)),
    )


async def searched(state: State, request: Request) -> Response:
    """Answer a query by picture (the body), or by what JSON says."""
    began = time.perf_counter()
    body = await request.body()
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == JSON:
        asked, picture = search_request(body, state.settings), None
    else:
        pairs = parse_qsl(request.url.query, keep_blank_values=True, max_num_fields=64)
        asked, picture = picture_request(pairs, state.settings), body
    return Response(await search(state, request, asked, picture, began), 200, None, JSON)


async def described(state: State, _: Request) -> Response:
    """Say what is served."""
    index = state.holder.current
    if (known := state.infos.get(index.generation)) is None:
        known = await request_thread(state, lambda: index_info(index, state.settings, has_model=state.has_model))
        state.infos = {index.generation: known}
    return Response(known, 200, {"Cache-Control": "no-cache"}, JSON)


async def some(state: State, request: Request) -> Response:
    """Return rows at random."""
    count = whole(request, "count", 12, 1, MOST_RANDOM)
    index = state.holder.current

    def draw() -> bytes:
        found = items(index, random_rows(index, count, np.random.default_rng()).tolist())
        return as_bytes([asdict(one) for one in found])

    return Response(await request_thread(state, draw), 200, {"Cache-Control": "no-store"}, JSON)


async def item(state: State, request: Request) -> Response:
    """Return what is known of a key."""
    index, key = state.holder.current, request.path_params["key"]

    def look() -> bytes:
        return as_bytes(asdict(items(index, [index.find(key)])[0]))

    return Response(await request_thread(state, look), 200, {"Cache-Control": "no-store"}, JSON)


async def healthy(_: State, __: Request) -> Response:
    """Say that the process lives."""
    return Response(b'{"status":"alive"}', 200, None, JSON)


async def ready(state: State, _: Request) -> Response:
    """Say whether requests should be sent here: the first is answered as fast as the hundredth."""
    if state.draining or state.starting:
        waits = "the service is going away" if state.draining else state.starting
        raise RefusedError(503, "not-ready", waits, {"Retry-After": "1"})
    return Response(as_bytes({"status": "ready", "generation": state.holder.current.generation}), 200, None, JSON)


async def measured(state: State, _: Request) -> Response:
    """Return what Prometheus asks for."""
    return Response(state.metrics.text(), 200, None, "text/plain; version=0.0.4; charset=utf-8")


async def page(state: State, request: Request) -> Response:
    """Return a file of the page."""
    return state.page.answer(request, request.path_params.get("name", "index.html"))


async def request_thread(state: State, function: Callable[[], bytes]) -> bytes:
    """Do something short outside the loop."""
    return await asyncio.get_running_loop().run_in_executor(state.few, function)


def whole(request: Request, name: str, default: int, least: int, most: int) -> int:
    """Return a number of the query string.

    Raises:
        HashgrainError: `bad-value`.
    """
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 16 and least <= int(text) <= most):
        raise HashgrainError(Reason.BAD_VALUE, f"{name}: {text[:40]!r}; expected a whole number, {least:,} to {most:,}")
    return int(text)
