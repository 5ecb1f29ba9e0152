"""The endpoints. Each takes the request and returns bytes that were made in a lane: the loop only reads and writes."""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from http import HTTPStatus
from typing import Final, TypeAlias

import numpy as np
from fastapi import FastAPI
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from encoder.enum_names import named
from encoder.errors import HashgrainError, Reason
from encoder.images.region import Region, RegionMode
from indexer.opened import Opened
from indexer.query import ByImage, ByKey, Query
from indexer.service.encoding import Picture
from indexer.service.explanations import explanation
from indexer.service.guard import COOKIE, JSON, App, Guard, Receive, Scope, Send, read_body, session_of
from indexer.service.holder import random_rows
from indexer.service.info import index_info, items
from indexer.service.items import Change, check_key, checked_labels
from indexer.service.lanes import ClientGoneError, Lane
from indexer.service.parse import batch_request, picture_request, search_request
from indexer.service.pictures import SAFE, original
from indexer.service.problems import RefusedError, problem
from indexer.service.schema import document
from indexer.service.search import gone, search, search_batch
from indexer.service.state import State
from indexer.service.thumbnails import SIDES
from indexer.wire import Changed, as_bytes

Endpoint: TypeAlias = Callable[[State, Request], Awaitable[Response]]
JSON_TYPE: Final = JSON.encode()
MOST_RANDOM: Final = 60


def make_app(state: State) -> Guard:
    """Return the whole application, guarded."""
    app = FastAPI(title="hashgrain", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    for method, path, endpoint in ROUTES:
        app.add_api_route(path, _of(state, endpoint), methods=[method], response_model=None)
    app.add_exception_handler(HTTPException, _unrouted)
    return Guard(_Direct(state, app), state.settings, state.health, state.metrics)


def _of(state: State, function: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint as FastAPI calls it; every failure becomes an answer before it sees one."""

    async def endpoint(request: Request) -> Response:
        try:
            return await function(state, request)
        except ClientGoneError:
            raise
        except Exception as err:  # noqa: BLE001 - the border
            return problem(err)

    return endpoint


async def _unrouted(request: Request, err: Exception) -> Response:
    """Answer what has no endpoint, or none of its method."""
    status = err.status_code if isinstance(err, HTTPException) else 500
    path = request.scope["path"][:80]
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (getattr(err, "headers", None) or {}).get("Allow", "another")
        return problem(
            RefusedError(405, "method-unknown", f"{request.method} of {path!r}; expected {allowed}", {"Allow": allowed})
        )
    return problem(RefusedError(404, "not-found", f"path {path!r} is not one of this service; see /openapi.json"))


class _Direct:
    """What is asked most goes to its endpoint by its path alone: routing costs as much as a search of a small index."""

    def __init__(self, state: State, app: App) -> None:
        self._state, self._app = state, app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/v1/search" and scope["method"] == "POST":
            body = await _searched(self._state, scope, receive)
            length = b"%d" % len(body)
            headers = [(b"content-type", b"application/json"), (b"content-length", length)]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        else:
            await self._app(scope, receive, send)


async def searched(state: State, request: Request) -> Response:
    """Answer a query; `_Direct` does the same without a request and a response."""
    return Response(await _searched(state, request.scope, request.receive), 200, None, JSON)


async def _searched(state: State, scope: Scope, receive: Receive) -> bytes:
    """Answer a query by picture (the body), or by what JSON says."""
    began = time.perf_counter()
    body = await read_body(receive)
    kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    if kind.partition(b";")[0].strip().lower() == JSON_TYPE:
        asked, picture = search_request(body, state.settings), None
    else:
        asked, picture = picture_request(scope["query_string"], state.settings), body
    return await search(state, receive, asked, picture, began)


async def searched_batch(state: State, request: Request) -> Response:
    """Answer several queries by what JSON says."""
    began = time.perf_counter()
    asked = batch_request(await read_body(request.receive), state.settings)
    return Response(await search_batch(state, request.receive, asked.queries, began), 200, None, JSON)


async def described(state: State, _: Request) -> Response:
    """Say what is served."""
    index = state.holder.current
    if (known := state.infos.get(index.generation)) is None:
        known = await in_thread(state, lambda: index_info(index, state.settings, has_model=state.has_model))
        state.infos = {index.generation: known}
    return Response(known, 200, {"Cache-Control": "no-cache"}, JSON)


async def some(state: State, request: Request) -> Response:
    """Return rows at random."""
    count = whole(request, "count", 12, 1, MOST_RANDOM)
    index = state.holder.current

    def draw() -> bytes:
        found = items(index, random_rows(index, count, np.random.default_rng()).tolist())
        return as_bytes([asdict(one) for one in found])

    return Response(await in_thread(state, draw), 200, {"Cache-Control": "no-store"}, JSON)


async def item(state: State, request: Request) -> Response:
    """Return what is known of a key."""
    index, key = state.holder.current, request.path_params["key"]

    def look() -> bytes:
        return as_bytes(asdict(items(index, [index.find(key)])[0]))

    return Response(await in_thread(state, look), 200, {"Cache-Control": "no-store"}, JSON)


async def added(state: State, request: Request) -> Response:
    """Add the picture that is the body, in the place of one that has its key; answered once it is found."""
    lane, params = _change_lane(state), request.query_params
    key, labels = params.get("key", ""), checked_labels(params.get("labels", ""))
    check_key(key)
    if not state.has_model:
        raise HashgrainError(Reason.MODEL_INVALID, "this service has no model, so nothing can be added")
    picture = Picture(state.holder.current, await read_body(request.receive))
    await state.lanes.encode.submit(picture, picture.group)  # so that a bad one is refused by itself
    done, _ = await lane.submit(Change(state.holder, key, picture.content, labels))
    return Response(as_bytes(asdict(done)), 201, None, JSON)


async def removed(state: State, request: Request) -> Response:
    """Remove a key; answered once it is not found any more."""
    done, _ = await _change_lane(state).submit(Change(state.holder, request.path_params["key"]))
    return Response(as_bytes(asdict(done)), 200, None, JSON)


def _change_lane(state: State) -> Lane[Change, Changed]:
    """Return who makes changes.

    Raises:
        HashgrainError: `not-allowed`.
    """
    if state.lanes.change is None:
        raise HashgrainError(Reason.NOT_ALLOWED, "this service only reads; start it with a folder for what is added")
    return state.lanes.change


async def image(state: State, request: Request) -> Response:
    """Return the image file of a row, from its place."""
    snapshot, row = _row(state, request)

    def read() -> Response:
        picture = original(snapshot, row)
        return _picture(request, picture.data, picture.media_type)

    answer: Response = (await state.lanes.pictures.submit(read, gone=gone(request.receive)))[0]
    return answer


async def thumbnail(state: State, request: Request) -> Response:
    """Return the image of a row in a small square."""
    (snapshot, row), side = _row(state, request), whole(request, "side", SIDES[1], 1, SIDES[-1])

    def make() -> Response:
        return _picture(request, state.thumbnails.get(snapshot, row, side), "image/jpeg")

    answer: Response = (await state.lanes.pictures.submit(make, gone=gone(request.receive)))[0]
    return answer


def _row(state: State, request: Request) -> tuple[Opened, int]:
    """Return a row, and the generation in which it is one.

    Raises:
        HashgrainError: `bad-value`, `generation-missing`.
    """
    text = request.path_params["row"]
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise HashgrainError(Reason.BAD_VALUE, f"row {text[:40]!r}; expected a whole number, as answers have it")
    return state.holder.of(request.query_params.get("generation")).snapshot, int(text)


def _picture(request: Request, data: bytes, media_type: str) -> Response:
    """Return a picture; a browser keeps it for as long as a row is sure to be the same one."""
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    kept = "max-age=3600" if "generation" in request.query_params else "no-cache"
    headers = {"ETag": etag, "Cache-Control": f"private, {kept}", **SAFE}
    if request.headers.get("if-none-match") == etag:
        return Response(None, 304, headers)
    return Response(data, 200, headers, media_type)


async def explained(state: State, request: Request) -> Response:
    """Say what a hit is near its query for; the query is a key, or the picture that is the body."""
    index, params = state.holder.current, request.query_params
    if not state.has_model:
        raise HashgrainError(Reason.MODEL_INVALID, "this service has no model, so nothing can be explained")
    query: Query = ByKey(params.get("query", ""), *_looked_at(params))
    if request.method == "POST":
        query = ByImage(await read_body(request.receive), "picture", *_looked_at(params))
    hit, level = params.get("hit", ""), params.get("level")

    def explain() -> bytes:
        return as_bytes(asdict(explanation(index, query, hit, level)))

    found: bytes = (await state.lanes.explain.submit(explain, gone=gone(request.receive)))[0]
    return Response(found, 200, {"Cache-Control": "no-store"}, JSON)


def _looked_at(params: QueryParams) -> tuple[Region | None, RegionMode | None]:
    """Return the region of a query string, and how it becomes a code."""
    region, mode = params.get("region"), params.get("region_mode")
    return (
        None if region is None else Region.parse(region),
        None if mode is None else named(RegionMode, mode, "region_mode"),
    )


async def session(state: State, request: Request) -> Response:
    """Give a browser that knows the token a cookie, since pictures on a page are asked for without headers."""
    if (token := state.settings.token) is None:
        return Response(None, 204)
    given = request.headers.get("authorization", "").encode("latin-1").partition(b" ")
    if given[0].lower() != b"bearer" or not hmac.compare_digest(given[2].strip(), token.encode()):
        raise RefusedError(401, "token-missing", "the token is missing or wrong; send Authorization: Bearer TOKEN")
    answer = Response(None, 204)
    answer.set_cookie(COOKIE, session_of(token), httponly=True, samesite="strict")
    return answer


async def healthy(_: State, __: Request) -> Response:
    """Say that the process lives."""
    return Response(b'{"status":"alive"}', 200, None, JSON)


async def ready(state: State, _: Request) -> Response:
    """Say whether requests should be sent here: the first is answered as fast as the hundredth."""
    if waits := state.health.waits_for:
        raise RefusedError(503, "not-ready", waits, {"Retry-After": "1"})
    return Response(as_bytes({"status": "ready", "generation": state.holder.current.generation}), 200, None, JSON)


async def measured(state: State, _: Request) -> Response:
    """Return what Prometheus asks for."""
    return Response(state.metrics.text(), 200, None, "text/plain; version=0.0.4; charset=utf-8")


async def openapi(state: State, _: Request) -> Response:
    """Return the OpenAPI document."""
    return Response(document(state.settings), 200, {"Cache-Control": "no-cache"}, JSON)


async def page(state: State, request: Request) -> Response:
    """Return a file of the page."""
    return state.page.answer(request, request.path_params.get("name", "index.html"))


async def in_thread(state: State, function: Callable[[], bytes]) -> bytes:
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


ROUTES: Final[tuple[tuple[str, str, Endpoint], ...]] = (
    ("POST", "/v1/search", searched),
    ("POST", "/v1/batch", searched_batch),
    ("GET", "/v1/index", described),
    ("GET", "/v1/random", some),
    ("GET", "/v1/items/{key:path}", item),
    ("POST", "/v1/items", added),
    ("DELETE", "/v1/items/{key:path}", removed),
    ("GET", "/v1/images/{row}", image),
    ("GET", "/v1/thumbnails/{row}", thumbnail),
    ("GET", "/v1/explain", explained),
    ("POST", "/v1/explain", explained),
    ("POST", "/v1/session", session),
    ("GET", "/healthz", healthy),
    ("GET", "/readyz", ready),
    ("GET", "/metrics", measured),
    ("GET", "/openapi.json", openapi),
    ("GET", "/", page),
    ("GET", "/page/{name}", page),
)
"""Every endpoint: method, path, and what answers."""
