import asyncio
import json

import pytest

from indexer.service.guard import COOKIE, Guard, endpoint_of, read_body, session_of
from indexer.service.health import Health
from indexer.service.lanes import ClientGoneError
from indexer.service.metrics import Metrics
from indexer.service.settings import ServeSettings

TOKEN = "0123456789abcdef"
HOST = ("host", "127.0.0.1:8360")
JSON = ("content-type", "application/json")


async def echo(scope, receive, send):
    body = await read_body(receive)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


class Answer:
    def __init__(self, sent, taken):
        self.taken = taken
        self.status = sent[0]["status"] if sent else None
        self.headers = {name.decode(): value.decode() for name, value in (sent[0]["headers"] if sent else ())}
        self.body = b"".join(message.get("body", b"") for message in sent[1:])
        self.reason = json.loads(self.body)["reason"] if self.status and self.status >= 400 else None


def ask(guard, *headers, path="/v1/search", method="POST", chunks=(b"",)):
    """Send a request through a guard as a server would."""
    messages = [
        {"type": "http.request", "body": chunk, "more_body": at + 1 < len(chunks)} for at, chunk in enumerate(chunks)
    ]
    sent, taken = [], []

    async def receive():
        if not messages:
            return {"type": "http.disconnect"}
        taken.append(messages[0])
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "server": ("127.0.0.1", 8360),
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
    }
    asyncio.run(guard(scope, receive, send))
    return Answer(sent, sum(len(message["body"]) for message in taken))


def guarded(app=echo, health=None, **settings):
    health = health or Health(starting="")
    return Guard(app, ServeSettings(**settings), health, Metrics())


@pytest.fixture(autouse=True)
def no_linger(monkeypatch):
    monkeypatch.setattr("indexer.service.guard.LINGER", 0.0)


def test_what_may_pass_passes():
    body = b'{"key": "a"}'
    answer = ask(guarded(), HOST, JSON, ("content-length", str(len(body))), chunks=(body,))
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("host", "evil.example")], 421),
        ([("host", "127.0.0.1.evil.example")], 421),
        ([("host", "127.0.0.1:80:80")], 421),
        ([("host", "127.0.0.1/v1")], 421),
        ([("host", "")], 421),
        ([], 421),
        ([HOST, ("host", "evil.example")], 400),
        ([HOST, ("sec-fetch-site", "cross-site")], 403),
        ([HOST, ("sec-fetch-site", "same-site")], 403),
        ([HOST, ("origin", "http://evil.example")], 403),
        ([HOST, ("origin", "null")], 403),
        ([HOST, ("content-length", "5"), ("content-type", "text/plain")], 415),
        ([HOST, ("content-length", "5"), ("content-type", "application/x-www-form-urlencoded")], 415),
        ([HOST, ("content-length", "5"), ("content-type", "multipart/form-data; boundary=x")], 415),
        ([HOST, ("content-length", "5")], 415),
        ([HOST, ("transfer-encoding", "chunked")], 415),
        ([HOST, JSON, ("content-length", "65537")], 413),
        ([HOST, JSON, ("content-length", "9" * 4000)], 413),
        ([HOST, ("content-type", "image/png"), ("content-length", str((32 << 20) + 1))], 413),
        ([HOST, JSON, ("content-length", "5"), ("content-length", "7")], 400),
    ],
)
def test_what_may_not_pass_is_refused_before_its_body_is_read(headers, status):
    answer = ask(guarded(), *headers, chunks=(b"x" * 1000,))
    assert (answer.status, answer.taken) == (status, 0)


@pytest.mark.parametrize("host", ["localhost:8360", "LOCALHOST", "[::1]:8360", "127.0.0.1", "photos.example"])
def test_hosts_that_are_served(host):
    assert ask(guarded(host_names=("Photos.example",)), ("host", host), method="GET").status == 200


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "TRACE", "CONNECT", "PROPFIND"])
def test_other_methods_are_refused(method):
    assert ask(guarded(), HOST, method=method).status == 405


@pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD"])
def test_only_a_post_has_a_body(method):
    answer = ask(guarded(), HOST, JSON, ("content-length", "5"), method=method, chunks=(b"x" * 5,))
    assert (answer.status, answer.taken, answer.headers["connection"]) == (400, 0, "close")


def test_a_body_is_counted_as_it_comes_whatever_it_said_of_itself():
    chunks = (b"x" * (64 << 10),) * 10
    answer = ask(guarded(), HOST, JSON, ("transfer-encoding", "chunked"), chunks=chunks)
    assert (answer.status, answer.reason, answer.headers["connection"]) == (413, "too-large", "close")
    assert answer.taken <= 2 * (64 << 10)


def test_a_page_of_another_site_may_link_to_ours():
    assert ask(guarded(), HOST, ("sec-fetch-site", "cross-site"), path="/", method="GET").status == 200


PROTECTED = ["/v1/search", "/v1/batch", "/v1/index", "/v1/items/a", "/v1/images/1", "/metrics", "/openapi.json", "/x"]


@pytest.mark.parametrize("path", PROTECTED)
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Bearer wrong")],
        [("authorization", f"Basic {TOKEN}")],
        [("authorization", "Bearer ")],
        [("cookie", f"{COOKIE}={TOKEN}")],
        [("cookie", f"{COOKIE}=")],
        [("cookie", "\x00=;;;")],
    ],
)
def test_nothing_is_told_without_the_token(path, headers):
    answer = ask(guarded(token=TOKEN), HOST, *headers, path=path, method="GET")
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("path", PROTECTED)
@pytest.mark.parametrize(
    "header", [("authorization", f"Bearer {TOKEN}"), ("cookie", f"a=b; {COOKIE}={session_of(TOKEN)}")]
)
def test_the_token_or_its_session_opens_everything(path, header):
    assert ask(guarded(token=TOKEN), HOST, header, path=path, method="GET").status == 200


@pytest.mark.parametrize("path", ["/", "/page/app.js", "/healthz", "/readyz", "/v1/session"])
def test_the_page_and_probes_need_no_token(path):
    assert ask(guarded(token=TOKEN), HOST, path=path, method="GET").status == 200


def test_nothing_is_asked_before_it_is_ready_but_whether_it_is():
    health = Health()
    assert ask(guarded(health=health), HOST, method="GET").status == 503
    assert ask(guarded(health=health), HOST, path="/readyz", method="GET").status == 200


def test_connections_end_while_the_service_drains():
    answer = ask(guarded(health=Health("", draining=True)), HOST, method="GET")
    assert (answer.status, answer.headers["connection"]) == (200, "close")


def test_a_client_that_went_away_gets_nothing():
    async def leave(scope, receive, send):
        raise ClientGoneError

    assert ask(guarded(leave), HOST).status is None


def test_a_fault_becomes_an_answer(caplog):
    async def fail(scope, receive, send):
        raise RuntimeError("secret")

    answer = ask(guarded(fail), HOST)
    assert (answer.status, answer.reason) == (500, "fault")
    assert "secret" in caplog.text


def test_requests_are_counted_under_few_names():
    names = {endpoint_of(f"/v1/items/{number}") for number in range(9)} | {endpoint_of(f"/{x}") for x in "abc"}
    assert names == {"/v1/items/", "other"}


def test_the_session_does_not_tell_the_token():
    assert TOKEN not in session_of(TOKEN)
    assert session_of(TOKEN) != session_of(TOKEN + "x")
