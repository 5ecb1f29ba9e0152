"""A service as a process: ready, under load, with new generations, hostile clients, and to its end."""

import json
import random
import shutil
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException

import pytest

import indexer
from encoder.images.expand import expand
from encoder.levels import Level
from encoder.stream.job import encode
from encoder.stream.settings import EncodeSettings
from indexer.query import ByKey
from tests.support.pictures import encoded, labelled_members, write_tar
from tests.support.services import serving

TOKEN = "0123456789abcdef-token"


@pytest.fixture(scope="module")
def service(index_folder):
    with serving(index_folder) as service:
        yield service


def keys(answer):
    return [(hit["key"], hit["distance"]) for hit in answer["answers"][0]["hits"]]


def test_the_first_query_is_as_fast_as_the_hundredth(service):
    def photo():
        began = time.perf_counter()
        status, _, body = service.ask("POST", "/v1/search?k=3", encoded(7), {"Content-Type": "image/jpeg"})
        assert status == 200, body
        return time.perf_counter() - began

    first, others = photo(), sorted(photo() for _ in range(100))
    assert first < max(3 * others[-1], 0.5)


def test_answers_are_those_of_the_index(service, index_folder):
    opened = indexer.open(index_folder)
    for level in Level:
        expected = [(hit.key, hit.distance) for hit in opened.query(ByKey("pic-007"), level=level, exclude_self=True)]
        assert keys(service.search(key="pic-007", level=level)) == expected


def test_many_clients_are_answered_together(service):
    def ask(number):
        answer = service.search(key=f"pic-{number % 60:03d}", level="fine", exclude_self=False)
        return keys(answer)[0] == (f"pic-{number % 60:03d}", 0), answer["batch"]

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(ask, range(400)))
    assert all(right for right, _ in answers)
    assert max(batch for _, batch in answers) > 1


HOSTILE = [
    b"GET /v1/index HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"GET /v1/index HTTP/1.1\r\n\r\n",
    b"GET http://evil.example/v1/index HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"GET /page/..%2f..%2fapp.py HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /page/../app.py HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /v1/images/..%2f..%2fetc%2fpasswd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nContent-Type: application/json\r\n\r\n[[[[[",
    b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\nContent-Type: application/json\r\n\r\n",
    b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\nzz\r\n",
    b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 9\r\n\r\n--x\r\n\r\n--",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nRange: bytes=" + b"0-0," * 9000 + b"\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    b"A" * 100_000,
]


def raw(service, request, chunks=()):
    """Send bytes, and return what comes until the other side closes, or a second of silence."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as client:
        try:
            client.sendall(request)
            for chunk in chunks:
                client.sendall(chunk)
        except OSError:
            pass  # cut off: what was said before is read below
        answer = b""
        client.settimeout(1.5)
        try:
            while part := client.recv(65536):
                answer += part
        except OSError:
            pass
        return answer


@pytest.mark.parametrize("request_bytes", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_requests_get_a_refusal(service, request_bytes):
    answer = raw(service, request_bytes)
    assert answer.startswith(b"HTTP/1.1 4"), answer[:200]
    assert b"root:" not in answer
    assert service.ask("GET", "/healthz")[0] == 200


def test_giant_bodies_cost_little_memory(service):
    service.search(key="pic-001")
    before = service.memory
    head = b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\n"
    chunk = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
    for headers, chunks in (
        (b"Content-Length: 1073741824\r\n\r\n", [b"x" * (1 << 20)] * 64),
        (b"Transfer-Encoding: chunked\r\n\r\n", [chunk] * 200),
        (b"Transfer-Encoding: chunked\r\n\r\n", [b"1\r\nx\r\n" * 10_000] * 20),
    ):
        answer = raw(service, head + headers, chunks)
        assert answer.startswith(b"HTTP/1.1 4") or not answer, answer[:200]
    assert service.memory - before < 50 << 20
    assert service.search(key="pic-001")


def test_an_image_that_is_a_bomb_is_rejected(service):
    from io import BytesIO

    from PIL import Image

    buffer = BytesIO()
    Image.new("1", (40_000, 40_000)).save(buffer, "PNG")
    before = service.memory
    status, _, body = service.ask("POST", "/v1/search", buffer.getvalue(), {"Content-Type": "image/png"})
    assert (status, json.loads(body)["reason"]) == (422, "image-rejected")
    assert service.memory - before < 50 << 20


def test_slow_clients_do_not_keep_others_from_an_answer(service):
    slow = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(200)]
    try:
        for client in slow:
            client.sendall(b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        began = time.perf_counter()
        assert service.search(key="pic-001")
        assert time.perf_counter() - began < 5
    finally:
        for client in slow:
            client.close()


def test_random_ids_are_refused_or_found(service):
    choose = random.Random(5)
    pieces = ["..", "/", "%2f", "%00", "etc", "passwd", "0", "59", "60", "-1", "\\", "%252e", ";", "?", "x" * 300]
    for _ in range(200):
        row = "".join(choose.choices(pieces, k=choose.randrange(1, 6)))
        status, headers, body = service.ask("GET", f"/v1/{choose.choice(['images', 'thumbnails', 'items'])}/{row}")
        assert status in {200, 400, 404, 405, 410}, (row, status)
        if status == 200:
            assert headers["content-type"].startswith(("image/", "application/json"))
        assert b"root:" not in body


def test_a_token_is_needed_for_everything_that_tells_something(index_folder, tmp_path):
    (tmp_path / "token").write_text(TOKEN + "\n")
    with serving(index_folder, "--token-file", tmp_path / "token", "--no-model") as service:
        paths = json.loads(service.ask("GET", "/openapi.json", None, {"Authorization": f"Bearer {TOKEN}"})[2])["paths"]
        assert len(paths) > 8
        for path in [*paths, "/openapi.json", "/nothing"]:
            if path not in {"/healthz", "/readyz"}:
                assert service.ask("GET", path.replace("{", "").replace("}", ""))[0] == 401, path
        status, headers, _ = service.ask("POST", "/v1/session", None, {"Authorization": f"Bearer {TOKEN}"})
        assert status == 204
        assert {"HttpOnly", "SameSite=strict"} <= set(headers["set-cookie"].split("; "))
        cookie = headers["set-cookie"].partition(";")[0]
        assert service.ask("GET", "/v1/images/3", None, {"Cookie": cookie})[0] == 200
        assert service.ask("POST", "/v1/session", None, {"Authorization": "Bearer no"})[0] == 401
        status, _, body = service.ask(
            "POST", "/v1/search", encoded(1), {"Content-Type": "image/jpeg", "Authorization": f"Bearer {TOKEN}"}
        )
        assert (status, json.loads(body)["reason"]) == (422, "model-invalid")


def test_what_cannot_be_served_ends_with_a_line(command, index_folder, tmp_path):
    code, _, err = command("indexer", "serve", index_folder, "--host", "0.0.0.0", "--port", 0)
    assert (code, "give a token" in err) == (1, True)
    code, _, err = command("indexer", "serve", tmp_path / "nothing")
    assert (code, "indexer build" in err) == (1, True)
    code, _, err = command("indexer", "serve", index_folder, "--port", 0, "--writable", "/dev/null/items")
    assert (code, err.count("\n"), "choose another one (--writable)" in err) == (1, 1, True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = command("indexer", "serve", index_folder, "--port", taken.getsockname()[1])
    assert (code, "cannot be listened at" in err) == (1, True)


@pytest.fixture
def living(index_folder, tmp_path, model_path):
    """A copy of the index, and code files of 20 rows more."""
    shutil.copytree(index_folder, tmp_path / "index")
    write_tar(tmp_path / "more.tar", labelled_members(60, 20))
    encode(expand([str(tmp_path / "more.tar")]), model_path, tmp_path / "codes", EncodeSettings(batch=8))
    return tmp_path


def test_new_generations_are_served_without_losing_a_request(living):
    files = sorted((living / "codes").glob("*.h5"))
    with serving(living / "index") as service:
        faults, answered, stop = list[object](), list[str](), threading.Event()
        rows = {service.search(key="pic-001")["generation"]: 60}

        def ask(number):
            connection = HTTPConnection("127.0.0.1", service.port, timeout=30)
            body = json.dumps({"key": f"pic-{number:03d}", "k": 1, "level": "fine", "exclude_self": False})
            while not stop.is_set():
                connection.request("POST", "/v1/search", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                content = json.loads(answer.read())
                if (
                    answer.status != 200
                    or keys(content) != [(f"pic-{number:03d}", 0)]
                    or content["rows"] != rows.get(content["generation"], content["rows"])
                ):
                    faults.append(content)
                else:
                    answered.append(content["generation"])
            connection.close()

        with ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(ask, number) for number in range(8)]
            for turn in range(6):
                with indexer.writer(living / "index", compact=False) as writer:
                    if turn % 2:
                        writer.remove([f"pic-{row:03d}" for row in range(60, 80)])
                    else:
                        writer.add(files)
                now = indexer.open(living / "index").generation
                rows[now] = 60 if turn % 2 else 80
                deadline = time.monotonic() + 30
                while service.search(key="pic-001", k=1)["generation"] != now:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            stop.set()
            for one in asking:
                one.result()
        assert not faults
        assert len(set(answered)) > 1
        former = min(answered)
        assert service.ask("GET", f"/v1/images/1?generation={former}")[0] in {200, 410}


def test_it_drains(index_folder):
    with serving(index_folder, "--no-model") as service:
        codes, stop = list[int](), threading.Event()
        refused = list[Exception]()

        def ask():
            while not stop.is_set():
                try:
                    codes.append(service.ask("POST", "/v1/search", {"key": "pic-001"})[0])
                except (OSError, HTTPException) as err:
                    refused.append(err)
                    return

        with ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(ask) for _ in range(8)]
            time.sleep(0.5)
            service.process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            while service.ask("GET", "/readyz")[0] != 503:
                assert time.monotonic() - began < 1
            _, errors = service.process.communicate(timeout=20)
            stop.set()
            for one in asking:
                one.result()
        assert service.process.returncode == 0, errors
        assert set(codes) == {200}
        # the system resets connections that nobody had accepted yet; one that was accepted is not left without an answer
        assert {type(err) for err in refused} <= {ConnectionRefusedError, ConnectionResetError}, refused


def test_a_second_signal_ends_it_at_once(index_folder):
    with (
        serving(index_folder, "--no-model") as service,
        socket.create_connection(("127.0.0.1", service.port)) as waiting,
    ):
        waiting.sendall(
            b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\n"
        )
        service.process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        service.process.send_signal(signal.SIGINT)
        service.process.communicate(timeout=5)
