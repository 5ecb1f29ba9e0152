"""What clients do that mean harm, kind by kind: each sends many requests over raw sockets and counts how they were answered."""

import asyncio
import json
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

import numpy as np

from benchmarks.service.bombs import bombs, largest

MIB = 1 << 20
LOOPBACK = "127.0.0.1"
JSON, PICTURE = "application/json", "image/jpeg"
TOGETHER = 32
"""Requests under way at once, where a kind says nothing else."""
PATIENCE = 30.0
"""Seconds to wait for an answer: longer than the service waits for anybody, but for those that do not read."""
CUT = "cut"
"""The connection was closed without an answer."""
SILENT = "silent"
"""Neither came."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is attacked."""

    port: int
    keys: Sequence[str]
    """Of rows that are there."""
    codes: str
    """Hexadecimal, of a row at level fine."""


Attack = Callable[[Target, int], Awaitable[Counter[str]]]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of harm."""

    attack: Attack
    count: int
    """Of requests or of connections, at full size."""
    may: frozenset[str] = field(default_factory=frozenset)
    """How it may be answered beside 4xx."""


def post(body: bytes, content_type: str = JSON, target: str = "/v1/search", head: Iterable[str] = ()) -> bytes:
    """Return a whole request."""
    return begun(target, [f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *head]) + body


def begun(target: str, head: Iterable[str], method: str = "POST") -> bytes:
    """Return a request up to its body."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {LOOPBACK}", *head, "", ""]).encode("latin-1")


def get(target: str, *head: str) -> bytes:
    """Return a whole request."""
    return begun(target, head, "GET")


class Line:
    """A connection."""

    def __init__(self, receive_buffer: int | None = None) -> None:
        self._socket = socket.socket()
        self._socket.setblocking(False)
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)

    async def open(self, port: int) -> bool:
        """Connect; say whether somebody took it."""
        try:
            await asyncio.wait_for(asyncio.get_running_loop().sock_connect(self._socket, (LOOPBACK, port)), PATIENCE)
        except OSError:  # of which a timeout is one
            return False
        return True

    async def say(self, data: bytes, patience: float = PATIENCE) -> bool:
        """Send; say whether it could be."""
        try:
            await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(self._socket, data), patience)
        except OSError:
            return False
        return True

    async def hear(self, patience: float = PATIENCE, most: int = 1 << 16) -> bytes:
        """Return what comes next, nothing at the end.

        Raises:
            OSError: nothing comes, or the connection was reset.
        """
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self._socket, most), patience)

    async def status(self, patience: float = PATIENCE) -> str:
        """Return the status of the first answer."""
        heard = b""
        try:
            while b"\r\n" not in heard and (part := await self.hear(patience)):
                heard += part
        except TimeoutError:
            return SILENT
        except OSError:
            pass
        return heard[9:12].decode("latin-1") or CUT

    def close(self, *, reset: bool = False) -> None:
        """End it; `reset`: with an error at the other side, as a machine that goes away does."""
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


async def exchange(port: int, parts: Iterable[bytes], patience: float = PATIENCE) -> str:
    """Send bytes over a connection of their own; return how they were answered."""
    line = Line()
    try:
        if not await line.open(port):
            return CUT
        for part in parts:
            if not await line.say(part):
                break
        return await line.status(patience)
    finally:
        line.close()


async def each(work: Iterable[Awaitable[str]], together: int = TOGETHER) -> Counter[str]:
    """Do some at a time; count what became of them."""
    seen, left = Counter[str](), iter(work)

    async def take() -> None:
        for one in left:
            seen[await one] += 1

    await asyncio.gather(*(take() for _ in range(together)))
    return seen


def repeated(requests: Sequence[bytes], count: int) -> Iterator[bytes]:
    """Yield so many of them, in turn."""
    for number in range(count):
        yield requests[number % len(requests)]


def table(make: Callable[[Target], Sequence[bytes]]) -> Attack:
    """Return the attack that sends whole requests."""

    async def attack(target: Target, count: int) -> Counter[str]:
        return await each(exchange(target.port, [one]) for one in repeated(make(target), count))

    return attack


# bodies


def _chunked(content_type: str, chunk: int, total: int) -> Iterator[bytes]:
    yield begun("/v1/search", [f"Content-Type: {content_type}", "Transfer-Encoding: chunked"])
    one = b"%x\r\n" % chunk + b"x" * chunk + b"\r\n"
    together = max(1, MIB // len(one))
    for _ in range(-(-total // (chunk * together))):
        yield one * together


async def giant_bodies(target: Target, count: int) -> Counter[str]:
    """Bodies over every limit, by what is said of them and by what comes."""
    block = b"x" * MIB
    claimed = [
        (PICTURE, 33 * MIB),
        (PICTURE, 1 << 40),
        (PICTURE, 10**40),
        (JSON, 65 << 10),
        ("application/octet-stream", 1 << 62),
    ]

    def parts(number: int) -> Iterable[bytes]:
        if number % 8 < 5:
            content_type, length = claimed[number % 8]
            head = begun("/v1/search", [f"Content-Type: {content_type}", f"Content-Length: {length}"])
            return [head, *[block] * 40]
        if number % 8 == 5:
            return _chunked(JSON, 1, 1 << 17)
        return _chunked(PICTURE, 1 << 16 if number % 8 == 6 else 1, 40 * MIB if number % 8 == 6 else 2 * MIB)

    return await each((exchange(target.port, parts(number)) for number in range(count)), 8)


async def held_bodies(target: Target, count: int) -> Counter[str]:
    """Pictures of 32 MiB, all of them sent but for the last byte."""
    block = b"\xff\xd8\xff" + b"x" * (MIB - 3)
    head = begun("/v1/search", [f"Content-Type: {PICTURE}", f"Content-Length: {32 * MIB}"])
    return await each((exchange(target.port, [head, *[block] * 31, block[1:]]) for _ in range(count)), count)


async def whole_bodies(target: Target, count: int) -> Counter[str]:
    """Pictures of 32 MiB that are none, whole, many at once."""
    block = b"\xff\xd8\xff" + b"x" * (MIB - 3)
    head = begun("/v1/search", [f"Content-Type: {PICTURE}", f"Content-Length: {32 * MIB}"])
    return await each((exchange(target.port, [head, *[block] * 32]) for _ in range(count)), count)


# slow clients


async def _trickle(port: int, head: bytes, drop: bytes, seconds: float) -> str:
    line = Line()
    try:
        if not (await line.open(port) and await line.say(head)):
            return CUT
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                heard = await line.hear(0.5)
            except TimeoutError:
                if not await line.say(drop):
                    return CUT
            except OSError:
                return CUT
            else:
                return heard[9:12].decode("latin-1") or CUT
        return SILENT
    finally:
        line.close()


async def slow_headers(target: Target, count: int) -> Counter[str]:
    """Headers that never end, a byte at a time (slowloris)."""
    head = f"POST /v1/search HTTP/1.1\r\nHost: {LOOPBACK}\r\nX: ".encode()
    return await each((_trickle(target.port, head, b"x", PATIENCE) for _ in range(count)), count)


async def slow_bodies(target: Target, count: int) -> Counter[str]:
    """Bodies that never end, some bytes at a time."""
    whole = begun("/v1/search", [f"Content-Type: {PICTURE}", f"Content-Length: {20 * MIB}"])
    chunked = begun("/v1/search", [f"Content-Type: {JSON}", "Transfer-Encoding: chunked"])

    def one(number: int) -> Awaitable[str]:
        head, drop = (whole, b"x" * 100) if number % 2 else (chunked, b"1\r\nx\r\n")
        return _trickle(target.port, head, drop, PATIENCE)

    return await each((one(number) for number in range(count)), count)


async def readers_that_never_read(target: Target, count: int) -> Counter[str]:
    """Large answers that nobody takes; after some seconds it is seen what became of them."""
    asked = post(json.dumps({"key": target.keys[0], "level": "fine", "k": 10_000}).encode())

    async def one() -> str:
        line = Line(receive_buffer=4096)
        try:
            if not (await line.open(target.port) and await line.say(asked)):
                return CUT
            await asyncio.sleep(20)
            return await line.status()
        finally:
            line.close()

    return await each((one() for _ in range(count)), count)


async def held_headers(target: Target, count: int) -> Counter[str]:
    """30 KiB of headers that are as small as headers get, and never end."""
    head = get("/healthz")[:-2] + b"a:\r\n" * (30 * 1024 // 4)
    return await each((exchange(target.port, [head]) for _ in range(count)), count)


# what is not HTTP, or not quite


def forged_hosts(target: Target) -> Sequence[bytes]:
    """Hosts that are not this service."""
    hosts = [
        "evil.example", "", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "localhost:80:80", "[::1", "127.0.0.1:x",
        "127.0.0.1:8360/../", "0x7f.1", "127.1", "2130706433", "xn--localhost", "localhost\tx", ".", ":", "127.0.0.1,evil.example",
        "evil.example:" + str(target.port), "a" * 300, "\xe4.example", "127.0.0.1\x00.evil.example",
    ]  # fmt: skip
    made = [f"GET /v1/index HTTP/1.1\r\nHost: {host}\r\n\r\n" for host in hosts]
    made += [
        "GET /v1/index HTTP/1.1\r\n\r\n",
        "GET /v1/index HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nX-Forwarded-Host: 127.0.0.1\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: {LOOPBACK}\r\nHost: evil.example\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: {LOOPBACK}\r\nOrigin: http://evil.example\r\n\r\n",
        f"GET /v1/index HTTP/1.1\r\nHost: {LOOPBACK}\r\nOrigin: null\r\n\r\n",
        f"GET /v1/index HTTP/1.1\r\nHost: {LOOPBACK}\r\nOrigin: http://[\r\n\r\n",
        f"GET /v1/index HTTP/1.1\r\nHost: {LOOPBACK}\r\nSec-Fetch-Site: cross-site\r\n\r\n",
    ]
    return [one.encode("latin-1") for one in made]


def smuggled(_: Target) -> Sequence[bytes]:
    """Headers that two readers understand differently."""
    host = f"Host: {LOOPBACK}\r\nContent-Type: {JSON}\r\n"
    heads = [
        "Content-Length: 5\r\nContent-Length: 6", "Content-Length: 5, 5", "Content-Length: +5", "Content-Length: -5",
        "Content-Length: 0x5", "Content-Length: 5 5", "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5", "Transfer-Encoding: xchunked", "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked, identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding : chunked", " Transfer-Encoding: chunked", "Transfer-Encoding:\x0bchunked",
        "X: a\r\n Transfer-Encoding: chunked", "Content-Length: \xb2", "Content-Length:", "Content_Length: 5\r\nContent-Length: 9999999",
        f"Content-Length: 5\r\nHost: {LOOPBACK}", f"Content-Length: 5\r\nContent-Type: {PICTURE}", "Bad Name: x\r\nContent-Length: 5",
        "\x00: x\r\nContent-Length: 5", "X: \x00\r\nContent-Length: 5", "X: a\rb\r\nContent-Length: 5", ": x\r\nContent-Length: 5",
        "Content-Encoding: gzip\r\nContent-Length: 5", "Expect: 200-ok\r\nContent-Length: 5",
    ]  # fmt: skip
    made = [f"POST /v1/search HTTP/1.1\r\n{host}{head}\r\n\r\n" for head in heads]
    bodies = ["0\r\n\r\nGET /v1/index HTTP/1.1\r\nHost: evil.example\r\n\r\n", "5\r\n[[[[[\r\n0\r\n\r\n"]
    chunks = [
        "zz\r\nx", "-1\r\nx", "ffffffffffffffffff\r\nx", "5;" + "a" * 40_000 + "\r\n[[[[[\r\n0\r\n\r\n", "5\r\n[[[[[[[\r\n0\r\n\r\n",
        "5\n[[[[[\n0\n\n", "5\r\n[[[[[\r\n0\r\nHost: evil.example\r\nContent-Length: 7\r\n\r\n", " 5\r\n[[[[[\r\n0\r\n\r\n",
    ]  # fmt: skip
    whole = [one + bodies[number % 2] for number, one in enumerate(made)]
    whole += [f"POST /v1/search HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n{chunk}" for chunk in chunks]
    return [one.encode("latin-1") for one in whole]


def odd_lines(_: Target) -> Sequence[bytes]:
    """Methods, targets and versions that nobody expects."""
    methods = ["OPTIONS", "TRACE", "CONNECT", "PATCH", "PUT", "PROPFIND", "SEARCH", "PRI", "get", "GET\t", "QUERY"]
    made = [
        f"{method} /v1/search HTTP/1.1\r\nHost: {LOOPBACK}\r\n\r\n" for method in [*methods, "A" * 300, "", "G\x00T"]
    ]
    targets = [
        "http://evil.example/v1/nothing", "https://evil.example/", "//evil.example/v1/nothing", "*", "", "?", "#", "evil.example:443", "v1/index",
        "http://", "http:///v1/nothing", "/v1/nothing HTTP/1.1\r\nX:", "/\x00", "/ /", "/a b", "ftp://x/", "/" + "a" * 40_000, "/%", "/%zz",
        "/\\..\\..\\", "http://127.0.0.1:1/nothing", "http://user:pass@127.0.0.1/nothing", "/nothing#fragment", "/nothing?#", "/v1/search",
    ]  # fmt: skip
    made += [f"GET {target} HTTP/1.1\r\nHost: {LOOPBACK}\r\n\r\n" for target in targets]
    versions = ["HTTP/9.9", "HTTP/1", "HTTP/2.0", "HTTP/0.9", "HTTP/1.1.1", "http/1.1", "HTCPCP/1.0", ""]
    made += [f"GET /nothing {version}\r\nHost: {LOOPBACK}\r\n\r\n" for version in versions]
    made += [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "\x00" * 500, "A" * 100_000, "SSH-2.0-x\r\n",
        f"GET /nothing HTTP/1.1\nHost: {LOOPBACK}\n\n", f"GET /nothing HTTP/1.1\rHost: {LOOPBACK}\r\r",
        f"GET /nothing HTTP/1.1\r\nHost: {LOOPBACK}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n\r\n\x81\x85xxxx",
        f"GET /nothing HTTP/1.1\r\nHost: {LOOPBACK}\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: x\r\n\r\n",
        f"GET /nothing HTTP/1.1\r\nHost: {LOOPBACK}\r\nRange: bytes=" + "0-0," * 9000 + "\r\n\r\n",
        f"GET /nothing HTTP/1.1\r\nHost: {LOOPBACK}\r\n" + "X: y\r\n" * 20_000 + "\r\n",
        f"DELETE /v1/items/none HTTP/1.1\r\nHost: {LOOPBACK}\r\nContent-Length: 3\r\n\r\nabc",
        f"POST /v1/search HTTP/1.1\r\nHost: {LOOPBACK}\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 9\r\n\r\n--x\r\n\r\n--",
    ]  # fmt: skip
    return [one.encode("latin-1") for one in made]


def not_utf8(target: Target) -> Sequence[bytes]:
    """Bytes that are no text, wherever text is expected."""
    raw = b"\xff\xfe\xc0\x80\xed\xa0\x80"
    host = f"Host: {LOOPBACK}\r\n".encode()
    made = [
        b"GET /v1/items/" + raw + b" HTTP/1.1\r\n" + host + b"\r\n",
        b"GET /v1/explain?query=" + raw + b"&hit=x HTTP/1.1\r\n" + host + b"\r\n",
        b"GET /v1/items/x HTTP/1.1\r\n" + host + b"Cookie: " + raw + b"\r\nAuthorization: Bearer " + raw + b"\r\n\r\n",
        b"GET /v1/items/x HTTP/1.1\r\n" + host + b"If-None-Match: " + raw + b"\r\n\r\n",
        b"GET /v1/items/x HTTP/1.1\r\n" + host + b"\xff: x\r\n\r\n",
        b"GET /v1/items/x HTTP/1.1\r\n" + host + b"Origin: http://" + raw + b"\r\n\r\n",
    ]
    quoted = quote(raw)
    made += [get(f"/v1/items/{quoted}"), get(f"/v1/images/{quoted}"), get(f"/page/{quoted}"), get(f"/{quoted}")]
    made += [get(f"/v1/explain?query={quoted}&hit={quoted}"), get(f"/v1/images/x?generation={quoted}")]
    made += [
        post(b"x", PICTURE, f"/v1/search?where={quoted}&level={quoted}"),
        post(b"x", PICTURE, f"/v1/items?key={quoted}&labels={quoted}"),
    ]
    made += [
        post(raw),
        post(b'{"key": "' + raw + b'"}'),
        post(b'{"' + raw + b'": 1}'),
        post('{"key": "a"}'.encode("utf-16")),
    ]
    made += [
        post(b'{"key": "\\ud800"}'),
        post(b'{"where": "key = \'\\ud800\'", "codes": {"fine": "%s"}}' % target.codes.encode()),
    ]
    made += [post(b"\xef\xbb\xbf{}"), post(b"{}", "application/json; charset=utf-16"), post(b"{}", "\xff/\xff")]
    return made


# requests that cannot be answered


def bad_json(target: Target) -> Sequence[bytes]:
    """JSON that is none, or not what is asked for: no numbers, nesting, wrong kinds, huge numbers."""
    key = json.dumps(target.keys[0])
    values = [
        "NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e-400", "1" * 5000, "-" + "9" * 400, "1.5", "true", "null1", '""', '"10"', "[]", "{}", "-1",
        "10001", "1e9", "9223372036854775808", "0", "[" * 20_000, '{"a":' * 9_000, "[[" * 500 + "]]" * 500, "'1'", "1,", "/*1*/1", "0x10", "01", "+1",
    ]  # fmt: skip
    made = [f'{{"key": {key}, "k": {value}}}' for value in values]
    fields = {
        "offset": "-1 1e30 NaN 99999", "radius": "-1 NaN 4294967296 [1]", "max_false": "NaN Infinity -1 1e400 \"x\"", "nprobe": "-1 0 99999999999",
        "recall": "NaN 2 -1 Infinity", "rerank": "0 -1 100000 20", "weights": "[NaN] [1e9] [-1] 1", "budgets": "[0] [-1] [1e30]",
        "level": '"none" 1 [] null1 ""', "levels": '["fine","fine"] ["none"] "fine" [[]]', "combine": '"none" 1', "region": "[NaN,0,1,1] [0,0,2,1] [0,0] [1e400,0,1,1] [0,0,0,0]",
        "positive": '[1] ["nobody"] "x" [[]]', "codes": '{} {"fine":"zz"} {"fine":"0"} {"none":"00"} []', "explain": '1 "yes"', "surprise": "1",
    }  # fmt: skip
    made += [f'{{"key": {key}, "{name}": {value}}}' for name, values in fields.items() for value in values.split(" ")]
    wheres = [
        "(" * 4096,
        "(" * 4000 + "key = 'a'",
        "not " * 1000,
        "label.x ~ '" + "*" * 4000 + "'",
        "key ~ '" + "(a*)*" * 500,
        "a" * 4097,
        "\\u0000",
        "label." * 600,
    ]
    made += [f'{{"key": {key}, "where": "{where}"}}' for where in wheres]
    made += [
        "",
        "{",
        "[]",
        "1",
        "null",
        '"x"',
        "{}",
        "{]",
        '{"key"}',
        '{"key": "a"} x',
        '{"key": "' + "a" * 60_000 + '"}',
        '{"key": "nobody"}',
    ]
    made += [
        "[" * 60_000,
        '{"a":' * 12_000,
        '{"key": ' + "[" * 30_000 + "]" * 30_000 + "}",
        "{" + '"a": 1,' * 8_000 + '"b": 1}',
    ]
    several = [
        '{"queries": []}',
        '{"queries": {}}',
        '{"queries": [' + ",".join(["{}"] * 65) + "]}",
        '{"queries": ' + "[" * 30_000,
    ]
    several += [f'{{"queries": [{{"key": {key}, "k": {value}}}]}}' for value in ("NaN", "10001", "-1")]
    return [post(one.encode()) for one in made] + [post(one.encode(), target="/v1/batch") for one in several]


def bad_questions(target: Target) -> Sequence[bytes]:
    """Query strings that cannot be answered, of every endpoint that has one."""
    key = quote(target.keys[0])
    searches = [
        "k=NaN", "k=1e9", "k=-1", "k=10001", "k=" + "9" * 400, "k=1&k=2", "region=nan,nan,nan,nan", "region=0,0,inf,1", "region=" + "1," * 5000,
        "&".join(f"x{number}=1" for number in range(100)), "levels=,,,,", "levels=fine,fine", "surprise=1", "where=" + "(" * 4000, "key=x", "codes=x",
        "k=%F0%9D%9F%99", "radius=-1", "recall=nan", "max_false=inf", "weights=1,x", "combine=none", "&" * 4000, "=" * 4000, "k=1;k=2", "exact=maybe",
    ]  # fmt: skip
    made = [post(b"\xff\xd8\xff", PICTURE, f"/v1/search?{one}") for one in searches]
    deep = quote("[" * 8000)
    adds = [
        "", "key=", "key=..%2f..%2fx", "key=%2fetc%2fpasswd", "key=a%00b", "key=" + "a" * 513, "key=.x", "key=a%2f%2fb", "key=a%0ab", f"key=new&labels={deep}",
        "key=new&labels=%7B%22a%22:NaN%7D", "key=new&labels=1", "key=new&labels=%7B", "key=new&labels=%7B%22a%22:" + "1" * 5000 + "%7D", "key=new", "key=%ed%a0%80",
    ]  # fmt: skip
    made += [post(b"\xff\xd8\xff" + bytes(50), PICTURE, f"/v1/items?{one}") for one in adds]
    explains = [
        "",
        "query=x",
        f"query={key}&hit=nobody",
        f"query={key}&hit={key}&level=none",
        f"query={key}&hit={key}&region=1,1,1,1",
        f"query={key}&hit={key}&region=x",
    ]
    made += [get(f"/v1/explain?{one}") for one in explains]
    made += [get(f"/v1/random?count={one}") for one in ("0", "61", "-1", "NaN", "1e3", "9" * 5000, "%EF%BC%91", "")]
    made += [get(f"/v1/thumbnails/0?side={one}") for one in ("0", "97", "99999999", "-96", "x", "1e2")]
    made += [get(f"/v1/images/0?generation={one}") for one in ("gen-999999", "../..", "%00", "x" * 5000, "")]
    return made


async def random_ids(target: Target, count: int) -> Counter[str]:
    """Rows, keys and names of files that lead elsewhere."""
    rng = np.random.default_rng(5)
    pieces = [
        "..", "/", "%2f", "%2e%2e%2f", "%00", "etc", "passwd", "0", "59", "-1", "\\", "%5c", "%252e", ";", "?", "x" * 300, "%c0%ae", "~", "file:", "CON",
        "://", "9" * 16, "%0d%0aX:1", "1e3", "0x1", "%ff", ".git", "app.js", "proc/self/environ",
    ]  # fmt: skip
    homes = ["/v1/images/", "/v1/thumbnails/", "/v1/items/", "/page/", "/", "/v1/"]
    asked = [get(str(rng.choice(homes)) + "".join(rng.choice(pieces, rng.integers(1, 6)))) for _ in range(count)]
    return await each(exchange(target.port, [one]) for one in asked)


async def send_bombs(target: Target, count: int) -> Counter[str]:
    """Pictures that unpack to what no memory holds, as queries, as what is explained, and as what is added."""
    key = quote(target.keys[0])
    ways = ["/v1/search", "/v1/items?key=bomb", f"/v1/explain?hit={key}", "/v1/search?region=0.1,0.1,0.5,0.5"]
    asked = [post(data, "image/png", way) for _, data in bombs() for way in ways]
    return await each((exchange(target.port, [one]) for one in repeated(asked, count)), 8)


async def send_largest(target: Target, count: int) -> Counter[str]:
    """Pictures just within the limit: not hostile by themselves, but what they cost others is of interest."""
    asked = [post(data, "image/png") for _, data in largest()]
    return await each((exchange(target.port, [one]) for one in repeated(asked, count)), 8)


async def huge_answers(target: Target, count: int) -> Counter[str]:
    """As many hits as may be asked for, in every way, and as many queries as one request may have."""
    most = {"key": target.keys[0], "k": 10_000}
    asked: list[tuple[str, Mapping[str, object]]] = [
        ("/v1/search", most | {"level": "fine", "explain": True}),
        ("/v1/search", most | {"combine": "each"}),
        ("/v1/search", most | {"levels": ["fine", "mid", "coarse"], "combine": "sum"}),
        ("/v1/batch", {"queries": [most | {"level": "fine"}] * 64}),
        ("/v1/batch", {"queries": [most | {"combine": "each"}] * 64}),
        ("/v1/batch", {"queries": [{"key": target.keys[0], "level": "fine", "radius": 64}] * 64}),
    ]
    made = [post(json.dumps(body).encode(), target=path) for path, body in asked]
    return await each((exchange(target.port, [one]) for one in repeated(made, count)), 12)


# many at once


async def pipelined(target: Target, count: int) -> Counter[str]:
    """Thousands of requests over each connection, sent without waiting for an answer; how the first was answered."""
    burst = get("/nothing") * 5000
    return await each((exchange(target.port, [burst]) for _ in range(count)), count)


async def many_connections(target: Target, count: int) -> Counter[str]:
    """Connections that say nothing, or only begin to."""
    starts = [b"", b"G", b"GET / HTTP/1.1\r\n", f"POST /v1/search HTTP/1.1\r\nHost: {LOOPBACK}\r\nContent-".encode()]

    async def one(number: int) -> str:
        line = Line()
        try:
            if not await line.open(target.port) or not await line.say(starts[number % len(starts)] or b""):
                return CUT
            return await line.status()
        finally:
            line.close()

    return await each((one(number) for number in range(count)), count)


async def cut_connections(target: Target, count: int) -> Counter[str]:
    """Connections that end anywhere: within headers, within a body, before their answer, within it."""
    search = post(json.dumps({"key": target.keys[0], "level": "fine", "k": 1000}).encode())
    picture = post(b"\xff\xd8\xff" + bytes(50_000), PICTURE)
    heads = [search[:20], search[:-10], search, picture[:30_000], picture, get("/metrics")]

    async def one(number: int) -> str:
        line = Line()
        if not (await line.open(target.port) and await line.say(heads[number % len(heads)])):
            line.close()
            return CUT
        if number % 4 == 3:
            await asyncio.sleep(0.01)
        line.close(reset=number % 2 == 0)
        return "left"

    return await each((one(number) for number in range(count)), 64)


SLOW = frozenset({CUT})
"""Who does not read, or is cut off while still sending, may not come to read why."""
KINDS: Mapping[str, Kind] = {
    "forged hosts": Kind(table(forged_hosts), 500),
    "smuggled and doubled headers": Kind(table(smuggled), 500),
    "odd methods, targets, versions": Kind(table(odd_lines), 500),
    "not UTF-8": Kind(table(not_utf8), 300),
    "bad JSON, NaN, nesting, huge numbers": Kind(table(bad_json), 1500),
    "bad query strings": Kind(table(bad_questions), 600),
    "ids that lead elsewhere": Kind(random_ids, 2000, frozenset({"200"})),
    "bombs as pictures": Kind(send_bombs, 320, frozenset({"200", "201"})),
    "giant bodies, whole and chunked": Kind(giant_bodies, 80, SLOW),
    "32 MiB bodies, all but a byte": Kind(held_bodies, 200, SLOW),
    "32 MiB bodies, whole": Kind(whole_bodies, 100, SLOW),
    "headers by the byte": Kind(slow_headers, 500, SLOW),
    "bodies by the byte": Kind(slow_bodies, 500, SLOW),
    "thousands of tiny headers, held": Kind(held_headers, 500, SLOW),
    "readers that never read": Kind(readers_that_never_read, 200, SLOW | {"200"}),
    "huge answers": Kind(huge_answers, 60, SLOW | {"200"}),
    "pipelined requests": Kind(pipelined, 100, SLOW),
    "thousands of connections": Kind(many_connections, 3000, SLOW),
    "cut connections": Kind(cut_connections, 3000, frozenset({"left", CUT})),
    "largest pictures allowed": Kind(send_largest, 30, frozenset({"200"})),
}
