"""A client answers as the index it asks for: same queries, same options, same answers, same errors."""

import inspect
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import indexer
from encoder.errors import HashgrainError, Reason
from encoder.images.region import Region
from encoder.levels import Level
from indexer.client import Client
from indexer.index import Index
from indexer.query import ByCode, ByExamples, ByImage, ByKey
from tests.support.pictures import encoded, picture
from tests.support.services import serving


@pytest.fixture(scope="module")
def opened(index_folder):
    return indexer.open(index_folder)


@pytest.fixture(scope="module")
def client(index_folder):
    with serving(index_folder) as service, Client(f"http://127.0.0.1:{service.port}/") as client:
        yield client


def code(opened, level):
    return opened.codes(level, np.array([7]))[0]


KEYS = [
    {},
    {"level": "fine", "k": 5},
    {"level": Level.MID, "k": np.int64(3), "exclude_self": True},
    {"radius": 20},
    {"k": 4, "where": "label.fine = 3"},
    {"k": 4, "where": "label.fine = 99"},
    {"levels": ["fine", "fused"], "combine": "sum", "weights": [2, 1], "k": 6},
    {"levels": ("coarse", "mid"), "budgets": (30,), "k": 6},
    {"levels": ["coarse", "fine"], "radii": [20, 30], "k": 6},
    {"levels": ["fine", "mid"], "combine": "rrf"},
    {"explain": True, "k": 3},
    {"exact": True, "engine": "auto"},
]


@pytest.mark.parametrize("options", KEYS, ids=str)
def test_keys_are_answered_as_by_the_index(client, opened, options):
    assert client.query(ByKey("pic-007"), **options) == opened.query(ByKey("pic-007"), **options)


def test_codes_and_examples_are_answered_as_by_the_index(client, opened):
    by_level = {level: code(opened, level) for level in Level}
    for query, options in (
        (ByCode(by_level), {"k": 4}),
        (ByCode(by_level, "mine"), {"levels": ["fine", "mid"], "combine": "sum"}),
        (ByCode(code(opened, Level.FINE)), {"level": "fine", "k": 3}),
        (ByExamples(("pic-003", "pic-012"), ("pic-040",)), {"level": "fine", "k": 4}),
        (ByExamples(("pic-003",), (), ByKey("pic-007")), {"k": 4}),
    ):
        assert client.query(query, **options) == opened.query(query, **options)


@pytest.mark.parametrize("kind", ["bytes", "path", "PIL", "array", "region"])
def test_pictures_are_answered_as_by_the_index(client, opened, tmp_path, kind):
    data = encoded(17)
    (tmp_path / "a.jpg").write_bytes(data)
    query = {
        "bytes": ByImage(data, "mine"),
        "path": tmp_path / "a.jpg",
        "PIL": ByImage(picture(17), "mine"),
        "array": ByImage(np.asarray(picture(17)), "mine"),
        "region": ByImage(data, "mine", Region(0.1, 0.2, 0.5, 0.5)),
    }[kind]
    options = {"level": "fine", "k": 6}
    assert client.query(query, **options) == opened.query(query, **options)


def test_a_batch_keeps_its_order(client, opened):
    queries = [
        ByKey("pic-001"),
        ByImage(encoded(3), "three"),
        ByCode({level: code(opened, level) for level in Level}),
    ] * 30
    assert client.query_batch(queries, k=2) == opened.query_batch(queries, k=2)
    assert client.query_batch([]) == []


def test_rows_pictures_and_items(client, opened):
    hit = client.query(ByKey("pic-007"), k=1)[0]
    assert hit.image() == opened.image(hit.row) == client.image(opened.find("pic-007"))
    assert client.find("pic-007") == opened.find("pic-007")
    item = client.item("pic-007")
    assert (item.key, item.shard) == ("pic-007", opened.shard(item.row))
    assert dict(item.labels) == dict(opened.labels(item.row))
    assert item.codes["fine"] == code(opened, Level.FINE).tobytes().hex()
    info = client.info()
    assert (info.rows, info.generation) == (60, opened.generation) == (60, client.generation)
    assert {level: of.bits for level, of in info.levels.items()} == opened.manifest.bits


@pytest.mark.parametrize(
    ("query", "options"),
    [
        (ByKey("nobody"), {}),
        (ByKey("pic-007"), {"where": "label.fine ="}),
        (ByKey("pic-007"), {"level": "finest"}),
        (ByKey("pic-007"), {"k": 0}),
        (ByKey("pic-007"), {"rerank": 20}),
        (ByCode(np.zeros(3, np.uint8)), {"level": "fine"}),
        (ByCode(np.zeros(8, np.float32)), {"level": "fine"}),
        (ByCode(np.zeros(8, np.uint8)), {"levels": ["fine", "mid"]}),
        (b"no picture", {}),
        (Path("/nowhere/a.jpg"), {}),
        ("pic-007", {}),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_with_the_same_reason(client, opened, query, options):
    reasons = []
    for asked in (opened, client):
        with pytest.raises(HashgrainError) as caught:
            asked.query(query, **options)
        reasons.append(caught.value.reason)
        assert str(caught.value).count("\n") == 0
    assert reasons[0] is reasons[1]


def test_an_unknown_option_is_a_type_error_and_an_engine_is_the_services(client):
    with pytest.raises(TypeError, match="unexpected keyword argument 'kk'"):
        client.query(ByKey("pic-007"), kk=3)
    with pytest.raises(HashgrainError, match="the service chooses"):
        client.query(ByKey("pic-007"), engine="faiss")


@pytest.mark.parametrize("name", ["query", "query_batch"])
def test_signatures_are_those_of_the_index(name):
    assert inspect.signature(getattr(Client, name)) == inspect.signature(getattr(Index, name))


def test_threads_share_a_client(client, opened):
    expected, found = opened.query(ByKey("pic-007"), k=3), []
    threads = [threading.Thread(target=lambda: found.append(client.query(ByKey("pic-007"), k=3))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8


def test_a_service_that_is_not_there_or_something_else_is_one_line():
    with pytest.raises(HashgrainError) as caught:
        Client("http://127.0.0.1:9").query(ByKey("a"))
    assert caught.value.reason is Reason.INDEX_MISSING
    for url in ("index", "ftp://host/", "http://", "file:///etc"):
        with pytest.raises(HashgrainError, match="not the URL of a service"):
            Client(url)


@pytest.fixture
def scripted():
    """A server that answers each request with the next of some statuses, and closes the connection after each."""
    said: list[tuple[int, dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            status, headers, body = said.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True  # without a word, as a service does whose time to keep one is over

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", said
    server.shutdown()
    server.server_close()


def test_a_busy_service_is_waited_for_and_a_closed_connection_opened_again(scripted):
    url, said = scripted
    item = b'{"key":"a","row":3,"generation":"g","shard":"s","labels":{},"codes":{}}'
    busy = b'{"reason":"overloaded","detail":"as much is waiting as may"}'
    with Client(url, timeout=5) as client:
        said += [(200, {}, item), (429, {"Retry-After": "0"}, busy), (200, {}, item)]
        assert [client.find("a"), client.find("a")] == [3, 3]
        said += [(429, {"Retry-After": "60"}, busy)]
        with pytest.raises(HashgrainError, match="as much is waiting") as caught:
            client.find("a")
        assert caught.value.reason is Reason.BUSY
        said += [(200, {}, b"<html>a login page</html>"), (502, {}, b"<html>bad gateway</html>")]
        for word in ("did not answer with JSON", "answered 502"):
            with pytest.raises(HashgrainError, match=word) as caught:
                client.find("a")
            assert caught.value.reason is Reason.INDEX_MISSING


def test_an_image_without_rgb_is_sent_whole(client, opened):
    grey = Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16)
    assert client.query(ByImage(grey, "grey"), k=3) == opened.query(ByImage(grey, "grey"), k=3)


def test_the_command_line_asks_a_service_as_it_asks_an_index(command, client, index_folder, tmp_path):
    token = tmp_path / "token"
    token.write_text("unused\n")
    for arguments in (
        ("key:pic-007", "-k", 3),
        ("key:pic-001", "--where", "label.fine = 3"),
        ("--like", "pic-003", "--json"),
    ):
        asked = command("indexer", "query", *arguments, "--url", client.url, "--token-file", token)
        assert asked == command("indexer", "query", *arguments, "--index", index_folder)
    for wrong, word in (
        (("key:a", "--url", client.url), "key 'a' is not among"),
        (("key:a", "--url", "http://127.0.0.1:9"), "cannot be used"),
        (("key:a", "--token-file", token), "is for a service"),
        (("key:a", "--url", client.url, "--save-html", tmp_path / "page.html"), "is for an index at hand"),
    ):
        status, out, err = command("indexer", "query", *wrong)
        assert (status > 0, out) == (True, "")
        assert word in err
        assert "Traceback" not in err
