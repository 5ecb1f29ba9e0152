"""What every request passes before an endpoint sees it, and what every answer takes along. One ASGI middleware.

Paths are those of the scope, never of a URL put together from headers (CVE-2026-48710). No answer lets another origin read it,
and no request with a body is of a kind that a browser sends across origins without asking first.
"""

import asyncio
import hashlib
import hmac
import io
import time
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from types import MappingProxyType
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from starlette.responses import Response

from indexer.service.health import Health
from indexer.service.lanes import ClientGoneError
from indexer.service.metrics import Metrics
from indexer.service.problems import RefusedError, let_go, problem, refusal
from indexer.service.settings import LOOPBACK, ServeSettings

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE: Final = "hashgrain-session"
LINGER: Final = 1.0
"""Seconds that a connection is kept whose body nobody will read, so that the client reads why before it is cut off."""
POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)
FREE: Final = frozenset({"/", "/healthz", "/readyz", "/v1/session"})
"""Paths that take no token, as do the files of the page; a session is checked where it is made."""
ENDPOINTS: Final = MappingProxyType(
    dict.fromkeys(("/v1/search", "/v1/batch", "/v1/index", "/v1/random", "/v1/explain", "/v1/items", "/v1/session"), "")
    | dict.fromkeys(("/healthz", "/readyz", "/metrics", "/openapi.json", "/"), "")
)
PREFIXES: Final = ("/v1/items/", "/v1/images/", "/v1/thumbnails/", "/page/")
METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE"})
JSON: Final = "application/json"


def endpoint_of(path: str) -> str:
    """Return what a request is counted as: one of a few names, whatever its path."""
    if path in ENDPOINTS:
        return path
    return next((prefix for prefix in PREFIXES if path.startswith(prefix)), "other")


def session_of(token: str) -> str:
    """Return what the cookie of a session holds, from which the token cannot be told."""
    return hmac.digest(token.encode(), b"hashgrain session", hashlib.sha256).hex()


class Guard:
    """The middleware.

    Args:
        app: what answers.
        settings: of the service.
        health: whether requests are answered.
        metrics: who keeps count.
    """

    def __init__(self, app: App, settings: ServeSettings, health: Health, metrics: Metrics) -> None:
        self._app, self._settings, self._health, self._metrics = app, settings, health, metrics
        self._hosts = {*LOOPBACK, "[::1]", settings.host.lower(), *(name.lower() for name in settings.host_names)}
        token = settings.token
        self._bearer = None if token is None else token.encode()
        self._session = None if token is None else session_of(token).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            return
        exchange = _Exchange(self, receive, send)
        try:
            exchange.limit = self._check(scope, exchange)
        except RefusedError as err:
            await exchange.refuse(err)
        else:
            try:
                await self._app(scope, exchange.receive, exchange.send)
            except ClientGoneError as err:
                let_go(err)
                self._metrics.rejected("client-gone")
            except Exception as err:
                if exchange.status:
                    raise
                await exchange.answer(problem(err))
        if (hold := scope.get("hold")) is not None:
            hold.release()
        self._metrics.answered(endpoint_of(scope["path"]), exchange.status, time.perf_counter() - exchange.began)

    @property
    def draining(self) -> bool:
        """Whether the service goes away."""
        return self._health.draining

    def _check(self, scope: Scope, exchange: "_Exchange") -> int:
        """Return how many bytes the body may have.

        Raises:
            RefusedError: the request is not taken.
        """
        headers = _headers(scope)
        path, method = scope["path"], scope["method"]
        self._check_host(scope, headers)
        if method not in METHODS:
            raise RefusedError(405, "method-unknown", f"method {method[:20]!r}; expected GET, POST or DELETE")
        limit = self._check_body(method, headers, exchange)
        if path != "/" and headers.get(b"sec-fetch-site", b"none") not in {b"none", b"same-origin"}:
            raise RefusedError(403, "cross-site", "the request comes from another site; open the page of this service")
        if (origin := headers.get(b"origin")) is not None and _host_of(origin) != headers[b"host"].decode("latin-1"):
            raise RefusedError(403, "cross-site", "the request comes from another site; open the page of this service")
        if self._bearer is not None and path not in FREE and not path.startswith("/page/"):
            self._check_token(headers)
        if self._health.starting and path.startswith("/v1/"):
            raise RefusedError(503, "not-ready", self._health.starting, {"Retry-After": "1"})
        return limit

    def _check_host(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name, colon, port = host.rpartition(":")
        if not colon or host.endswith("]"):
            name, port = host, ""
        bound = scope.get("server") or ("",)
        own = f"[{bound[0]}]" if ":" in str(bound[0]) else bound[0]
        if (name not in self._hosts and name != own) or not (port.isdigit() or not port):
            raise RefusedError(
                421,
                "host-unknown",
                f"host {host[:80]!r} is not served here; ask for 127.0.0.1, or serve that name, too",
            )

    def _check_body(self, method: str, headers: dict[bytes, bytes], exchange: "_Exchange") -> int:
        length, chunked = headers.get(b"content-length"), b"transfer-encoding" in headers
        exchange.unread = chunked or (length is not None and length != b"0")
        if not exchange.unread:
            return 0
        if method != "POST":
            raise RefusedError(400, "bad-value", f"a {method} with a body; expected none")
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
        if kind == JSON:
            limit = self._settings.max_json
        elif kind.startswith("image/") or kind == "application/octet-stream":
            limit = self._settings.max_body
        else:
            raise RefusedError(
                415, "type-unknown", f"content type {kind[:80]!r}; expected application/json, or image/* for a picture"
            )
        if length is not None and not chunked and (len(length) > 15 or int(length) > limit):
            raise _too_large(limit)
        return limit

    def _check_token(self, headers: dict[bytes, bytes]) -> None:
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._bearer or b""):
            return
        try:
            cookie = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1")).get(COOKIE)
        except CookieError:
            cookie = None
        if cookie is not None and hmac.compare_digest(cookie.value.encode(), self._session or b""):
            return
        raise RefusedError(
            401, "token-missing", "the token of this service is missing or wrong; send Authorization: Bearer TOKEN",
            {"WWW-Authenticate": "Bearer"},
        )  # fmt: skip

    def count(self, reason: str) -> None:
        """Count a refusal."""
        self._metrics.rejected(reason)


class _Exchange:
    """One request and its answer, on their way through."""

    __slots__ = ("_bytes", "_guard", "_receive", "_send", "began", "limit", "status", "unread")

    def __init__(self, guard: Guard, receive: Receive, send: Send) -> None:
        self._guard, self._receive, self._send = guard, receive, send
        self.began = time.perf_counter()
        self._bytes, self.limit, self.status = 0, 0, 0
        self.unread = False
        """Whether bytes of the body may still come."""

    async def receive(self) -> Message:
        """Return what comes next, as long as it is not too much."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            if self._bytes > self.limit:
                raise _too_large(self.limit)
            self.unread = message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer, with the headers that every answer has."""
        kind = message["type"]
        if kind == "http.response.start":
            self.status = message["status"]
            given = message["headers"] = [*message.get("headers", ()), *HEADERS]
            if not any(name == b"content-security-policy" for name, _ in given):
                given.append((b"content-security-policy", POLICY))
            if self.unread or self._guard.draining:
                given.append((b"connection", b"close"))
        elif self.unread and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await asyncio.sleep(LINGER)
            message = {"type": kind}
        await self._send(message)

    async def refuse(self, err: RefusedError) -> None:
        """Say why a request is not taken."""
        self._guard.count(err.reason)
        await self.answer(refusal(err))

    async def answer(self, response: Response) -> None:
        """Send a whole answer."""
        await self.send(
            {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
        )
        await self.send({"type": "http.response.body", "body": response.body})


def _headers(scope: Scope) -> dict[bytes, bytes]:
    """Return the headers by name.

    Raises:
        RefusedError: one that decides about a request is there twice: whoever is before us may have read the other one.
    """
    pairs: list[tuple[bytes, bytes]] = scope["headers"]
    headers = dict(pairs)
    if len(headers) < len(pairs):
        seen = set[bytes]()
        for name, _ in pairs:
            if name in seen and name in {
                b"host",
                b"content-length",
                b"content-type",
                b"authorization",
                b"transfer-encoding",
            }:
                raise RefusedError(400, "bad-value", f"header {name.decode('latin-1')} is there twice")
            seen.add(name)
    return headers


def _host_of(origin: bytes) -> str:
    try:
        return urlsplit(origin.decode("latin-1")).netloc
    except ValueError:
        return ""


def _too_large(limit: int) -> RefusedError:
    return RefusedError(413, "too-large", f"the body is too large; expected {limit:,} bytes at most")


async def read_body(receive: Receive) -> bytes:
    """Return a whole body.

    Raises:
        ClientGoneError: the client went away before its end.
    """
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        whole: bytes = message["body"]
        return whole
    parts = io.BytesIO()  # what it holds becomes the body without a copy
    while message["type"] == "http.request":
        parts.write(message["body"])
        if not message.get("more_body", False):
            return parts.getvalue()
        message = await receive()
    raise ClientGoneError
