"""Images added and removed over HTTP: found, shown and filtered from the next query on."""

import json
import shutil
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlencode

import pytest

import indexer
from encoder.errors import HashgrainError, Reason
from encoder.runtime.publish import exclusive
from indexer.client import Client
from indexer.query import ByImage, ByKey
from indexer.verify import verify
from tests.support.pictures import encoded
from tests.support.services import serving


@pytest.fixture(scope="module")
def index(tmp_path_factory, index_folder):
    folder = tmp_path_factory.mktemp("written") / "index"
    shutil.copytree(index_folder, folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("items")


@pytest.fixture(scope="module")
def service(index, folder):
    with serving(index, "--writable", folder) as service:
        yield service


@pytest.fixture(scope="module")
def client(service):
    with Client(f"http://127.0.0.1:{service.port}/", timeout=60) as client:
        yield client


def post(service, key, content, labels=None):
    values = {"key": key} | ({} if labels is None else {"labels": labels})
    status, _, body = service.ask(
        "POST", f"/v1/items?{urlencode(values)}", content, {"Content-Type": "application/octet-stream"}
    )
    return status, json.loads(body)


def delete(service, key):
    status, _, body = service.ask("DELETE", f"/v1/items/{quote(key)}")
    return status, json.loads(body)


def nearest(client, content):
    return client.query(ByImage(content), level="fine", k=1).hits[0]


def test_an_added_image_is_found_filtered_and_shown(client, index):
    assert client.info().writable
    picture = encoded(500, "PNG")
    changed = client.add("new/é 1.jpg", picture, {"name": "added", "fine": 77, "tags": ["a", "b"]})
    assert changed.key == "new/é 1.jpg"
    assert changed.generation == client.generation > "gen-000001"
    assert client.item(changed.key).row == changed.row
    assert nearest(client, picture).key == changed.key
    found = client.query(ByKey("pic-007"), k=5, where="label.fine = 77").hits
    assert [hit.key for hit in found] == [changed.key]
    assert {"name": "added", "fine": 77, "folder": "new"}.items() <= found[0].labels.items()
    assert found[0].image() is not None
    assert client.image(changed.row) == picture
    opened = indexer.open(index)
    assert opened.image(opened.find(changed.key)) == picture


def test_the_same_key_replaces(client):
    before = client.info().rows
    first = client.add("twice", encoded(510), {"name": "old"})
    second = client.add("twice", encoded(511), {"name": "new"})
    assert (second.row, second.generation) != (first.row, first.generation)
    assert client.info().rows == before + 1
    assert nearest(client, encoded(511)).key == "twice"
    assert client.image(second.row) == encoded(511)
    assert client.item("twice").labels["name"] == "new"
    assert client.add("pic-003", encoded(512)).key == "pic-003"
    assert client.info().rows == before + 1


def test_a_removed_item_is_gone_and_an_unknown_one_is_said(client, service):
    client.add("a/going.png", encoded(520))
    changed = client.remove("a/going.png")
    assert changed.row is None
    with pytest.raises(HashgrainError, match="going") as caught:
        client.find("a/going.png")
    assert caught.value.reason is Reason.KEY_UNKNOWN
    assert delete(service, "a/going.png")[0] == 404
    assert client.remove("pic-050").generation == client.generation
    assert "pic-050" not in [hit.key for hit in client.query(ByKey("pic-051"), k=100)]


def test_what_waits_together_becomes_one_generation_and_each_has_its_own_outcome(service, client):
    """Good pictures, bad ones, removals of keys that are there and that are not, all at once."""
    for number in range(3):
        client.add(f"doomed-{number}", encoded(530 + number))
    before = client.info().rows

    def change(number):
        kind = number % 4
        if kind == 0:
            status, said = post(service, f"many/{number}.x", encoded(540 + number, "WEBP"), json.dumps({"n": number}))
        elif kind == 1:
            status, said = post(service, f"bad/{number}", b"\xff\xd8\xff no picture")
        elif kind == 2 and number < 12:
            status, said = delete(service, f"doomed-{number // 4}")
        else:
            status, said = delete(service, f"never-{number}")
        return number, status, said

    with ThreadPoolExecutor(24) as pool:
        outcomes = list(pool.map(change, range(24)))
    expected = {0: 201, 1: 422, 2: 200, 3: 404}
    assert [status for _, status, _ in outcomes] == [
        404 if number % 4 == 2 and number >= 12 else expected[number % 4] for number in range(24)
    ]
    assert client.info().rows == before + 6 - 3
    made = {said["generation"] for _, status, said in outcomes if status in {200, 201}}
    assert len(made) < 9
    for number in range(0, 24, 4):
        item = client.item(f"many/{number}.x")
        assert item.labels["n"] == number
        assert client.image(item.row) == encoded(540 + number, "WEBP")


def test_labels_of_keys_that_share_a_beginning_stay_apart(service, client):
    keys = ["side", "side.left", "side.left.png", "side.right", "sidecar"]
    with ThreadPoolExecutor(len(keys)) as pool:
        done = list(
            pool.map(lambda at: post(service, keys[at], encoded(570 + at), json.dumps({f"of_{at}": at})), range(5))
        )
    assert [status for status, _ in done] == [201] * 5
    for at, key in enumerate(keys):
        assert client.item(key).labels == {f"of_{at}": at}


@pytest.mark.parametrize(
    "key",
    ["", "/etc/passwd", "../up", "a/../b", "a//b", "a/", ".hidden", "a/.hidden", "line\nbreak", "nul\0", "k" * 513],
)
def test_keys_that_would_not_come_back_are_refused(service, key):
    status, said = post(service, key, encoded(1))
    assert (status, said["reason"]) == (400, "bad-value")


@pytest.mark.parametrize(
    "key", ["k" * 512, "ü" * 200, "tab here ", "a\\b", "__x__/y", "x.json", "x.tar", "100%", "é?&#+", "a.b/c.d"]
)
def test_keys_that_are_odd_come_back(service, client, key):
    status, said = post(service, key, encoded(580), '{"n": 1}')
    assert (status, said.get("key")) == (201, key), said
    item = client.item(key)
    assert (item.key, item.labels["n"]) == (key, 1)
    assert delete(service, key)[0] == 200


@pytest.mark.parametrize("labels", ["[1]", "{", '{"a": {"b": null}, "c"}', "nonsense", "5"])
def test_labels_that_are_none_are_refused(service, labels):
    status, said = post(service, "labelled", encoded(1), labels)
    assert (status, said["reason"]) == (400, "bad-value")


def test_another_writer_is_waited_for_and_then_said(service, index, folder):
    shards = len(list((folder / "shards").iterdir()))
    with exclusive(index):
        began = time.monotonic()
        status, said = post(service, "kept-out", encoded(590))
        assert (status, said["reason"]) == (429, "busy")
        assert 5 <= time.monotonic() - began < 15
    assert len(list((folder / "shards").iterdir())) == shards
    held = exclusive(index)
    held.__enter__()
    threading.Timer(1, held.__exit__, (None, None, None)).start()
    assert post(service, "let-in", encoded(591))[0] == 201


def test_what_was_added_is_a_shard_like_any_other(client, folder, index):
    (folder / "shards" / "items-000900.tar").write_bytes(b"of a change that was cut off")
    client.add("plain", encoded(600), {"x": 1})
    newest = max((folder / "shards").glob("items-*.tar"))
    assert newest.name == "items-000901.tar"
    with tarfile.open(newest) as tar:
        assert tar.getnames() == ["plain.jpeg", "plain.json"]
    assert [path.name for path in (folder / "codes").glob(f"{newest.stem}*")]
    assert "plain" in [hit.key for hit in client.query(ByImage(encoded(600)), level="fine", k=1).hits]
    verify(index, lambda *_: None)


def test_a_service_that_is_not_writable_says_so(index_folder):
    with serving(index_folder) as service:
        for status, said in (
            post(service, "key", encoded(1)),
            delete(service, "pic-001"),
        ):
            assert (status, said["reason"]) == (403, "not-allowed")


def test_pictures_of_added_items_are_shown_where_folders_were_named(index, shards_folder, tmp_path):
    with (
        serving(index, "--writable", tmp_path / "more", "--images-under", shards_folder) as service,
        Client(f"http://127.0.0.1:{service.port}/", timeout=60) as client,
    ):
        changed = client.add("beside", encoded(610))
        assert client.image(client.find(changed.key)) == encoded(610)
        assert client.image(client.find("pic-020")) == encoded(20)
