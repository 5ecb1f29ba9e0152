"""`indexer serve` on a cluster of three nodes: the answers of one machine, whatever is lost on the way, and no generation mixed."""

import json
import os
import random
import re
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import indexer
from benchmarks.living import build as build_drawn
from benchmarks.living import write_code_file
from benchmarks.service.swaps import Generation, ask, publish
from encoder.codes.file import list_code_files
from indexer.build import build
from indexer.client import Client
from indexer.index import Index
from indexer.query import Answer
from indexer.service.ray_app import application
from indexer.settings import BuildSettings
from tests.support.clusters import add_node
from tests.support.pictures import encoded
from tests.support.services import Service, serving

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]  # what Ray's own modules warn of at import
KILLS = int(os.environ.get("HASHGRAIN_KILLS", "2"))
"""Processes that are killed while queries go on, and then nodes; a campaign sets more."""
SEED = int(os.environ.get("SEED", "0"))
TOKEN = "0123456789abcdef-token"
JPEG = {"Content-Type": "image/jpeg"}


@pytest.fixture(scope="module")
def index(tmp_path_factory, codes_folder):
    """Three segments with pictures and labels, a row removed."""
    folder = tmp_path_factory.mktemp("sliced") / "index"
    first, *others = list_code_files([codes_folder])
    build([first], folder, BuildSettings())
    for other in others:
        with indexer.writer(folder, compact=False) as writer:
            writer.add([other])
    with indexer.writer(folder, compact=False) as writer:
        writer.remove(["pic-009"])
    return folder


def on(cluster, *options):
    return ("--engine", "ray", "--address", cluster.address, *options)


@pytest.fixture(scope="module")
def proxies(cluster):
    """Serve's own way in, at a port of this machine; with the first start of Serve in a cluster, or not at all."""
    from ray import serve

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    return port


@pytest.fixture(scope="module")
def sliced(cluster, proxies, index):
    """Three slices, each held by one process; without one of them, answers are partial."""
    with serving(index, *on(cluster, "--slices", 3, "--partial")) as service:
        yield service


@pytest.fixture(scope="module")
def local(index):
    with serving(index) as service:
        yield service


def plain(body):
    """Return an answer without what depends on time."""
    said = json.loads(body)
    for one in said.get("responses", [said]) if isinstance(said, dict) else ():
        for name in ("ms", "batch"):
            one.pop(name, None)
    return said


def post(**asked):
    return "POST", "/v1/search", asked, None


REQUESTS = [
    *(post(key=f"pic-{number:03d}", level=level) for number in (0, 25, 59) for level in ("coarse", "fine", "fused")),
    post(key="pic-030", k=5, offset=3, exclude_self=False),
    post(key="pic-030", k=100, level="fine", explain=True),
    post(key="pic-030", radius=28, level="fine"),
    post(codes={"fine": "00" * 8}, level="fine", k=7),
    post(codes={"fine": "ff" * 8}, level="fine", k=7, histogram=True),
    post(key="pic-001", where="label.fine = 2", k=50),
    post(key="pic-001", where="no-such-field = 1"),
    post(key="pic-001", where="((("),
    *(post(key="pic-041", levels=["coarse", "fine"], combine=how, k=9) for how in ("sum", "rrf", "cascade", "each")),
    post(positive=["pic-002", "pic-050"], negative=["pic-021"], level="fine"),
    post(key="pic-033", positive=["pic-002"], level="fused"),
    post(key="pic-009"),
    post(key="nowhere"),
    post(codes={"fine": "00"}, level="fine"),
    ("POST", "/v1/batch", {"queries": [{"key": f"pic-{number:03d}"} for number in (3, 33, 57)]}, None),
    ("POST", "/v1/search?k=5&level=fine", encoded(7), JPEG),
    ("POST", "/v1/search?k=5&rerank=20&level=fine", encoded(44), JPEG),
    ("GET", "/v1/index", None, None),
    ("GET", "/v1/items/pic-044", None, None),
    ("GET", "/v1/items/pic-009", None, None),
    ("GET", "/v1/images/3", None, None),
    ("GET", "/v1/images/9", None, None),
    ("GET", "/v1/thumbnails/45?side=96", None, None),
    ("GET", "/v1/images/600", None, None),
    ("GET", "/v1/explain?query=pic-003&hit=pic-044&level=fine", None, None),
    ("GET", "/", None, None),
    ("GET", "/openapi.json", None, None),
]


def test_every_request_is_answered_as_by_one_machine(sliced, local):
    for request in REQUESTS:
        (status, headers, body), expected = sliced.ask(*request), local.ask(*request)
        assert (status, headers["content-type"]) == (expected[0], expected[1]["content-type"]), (request, body)
        if headers["content-type"].endswith("json"):
            assert plain(body) == plain(expected[2]), request
        else:
            assert body == expected[2], request
    drawn = {item["key"] for item in json.loads(sliced.ask("GET", "/v1/random?count=60")[2])}
    assert drawn == {f"pic-{number:03d}" for number in range(60) if number != 9}


def test_the_process_that_answers_maps_no_row(sliced, local):
    def mapped(service):
        return re.findall(r"segment-\d+/\S+", Path(f"/proc/{service.process.pid}/maps").read_text())

    assert mapped(local)
    assert not mapped(sliced)


def holders(cluster):
    """Return the processes that hold a slice, by its number."""
    raylets = {
        process.process.pid for node in cluster.list_all_nodes() for process in node.all_processes.get("raylet", ())
    }
    found: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            title, status = (path / "cmdline").read_bytes().decode(), (path / "status").read_text()
        except OSError:
            continue
        number = re.match(r"ray::ServeReplica:hashgrain-\w+-\d+:slice-(\d+)", title)
        if number and int(re.findall(r"PPid:\s+(\d+)", status)[0]) in raylets:
            found.setdefault(int(number[1]), []).append(int(path.name))
    return found


def wait_until(holds, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_whole(service):
    status, _, body = service.ask("POST", "/v1/search", {"codes": {"fine": "00" * 8}, "level": "fine", "k": 60})
    return status == 200 and "partial" not in json.loads(body)


def test_without_a_slice_answers_are_partial_until_it_is_back(cluster, sliced, local):
    asked = post(codes={"fine": "0f" * 8}, level="fine", k=60)
    whole = plain(local.ask(*asked)[2])
    (pid,) = holders(cluster)[1]
    os.kill(pid, signal.SIGKILL)
    partial = list[dict[str, Any]]()
    deadline = time.monotonic() + 60
    while not partial or "partial" in partial[-1]:
        assert time.monotonic() < deadline
        status, _, body = sliced.ask(*asked)
        assert status == 200, body
        partial.append(plain(body))
    assert partial[-1] == whole
    assert len(partial) > 1
    for answer in partial[:-1]:
        assert answer["missing"] == [1]
        expected = [hit for hit in whole["answers"][0]["hits"] if not 20 <= hit["row"] < 40]
        assert [hit["key"] for hit in answer["answers"][0]["hits"]] == [hit["key"] for hit in expected]
    assert holders(cluster)[1] != [pid]


def test_with_two_replicas_nothing_is_refused_when_processes_and_nodes_are_lost(cluster, index, local, sliced):
    """Kill a process that holds a slice, or a node, at random moments, while answers are held against those of one machine."""
    rng = random.Random(SEED)
    asked = [post(codes={"fine": f"{number:016x}"}, level="fine", k=12) for number in range(40)]
    asked += [post(key=f"pic-{number:03d}", level="fused") for number in range(60) if number != 9]
    expected = [plain(local.ask(*one)[2]) for one in asked]
    told, stop = Counter[str](), threading.Event()

    def go(service, seed):
        mine = random.Random(seed)
        while not stop.is_set():
            at = mine.randrange(len(asked))
            status, headers, body = service.ask(*asked[at])
            if status == 503:
                assert headers["retry-after"] == "1"
                told[json.loads(body)["reason"]] += 1
            else:
                told["right" if plain(body) == expected[at] else f"wrong: {asked[at]} {body!r}"] += 1

    sliced.stop()
    with serving(index, *on(cluster, "--slices", 3, "--replicas", 2)) as service:
        threads = [threading.Thread(target=go, args=(service, seed)) for seed in range(2)]
        for thread in threads:
            thread.start()
        try:
            for kill in range(KILLS):
                time.sleep(rng.uniform(0, 2))
                if kill % 2:
                    node = rng.choice(cluster.list_all_nodes()[1:])  # the first has the head
                    cluster.remove_node(node, allow_graceful=False)
                    add_node(cluster)
                else:
                    of = holders(cluster)
                    os.kill(rng.choice(of[rng.choice(sorted(of))]), signal.SIGKILL)
                wait_until(lambda: {len(pids) for pids in holders(cluster).values()} == {2} and is_whole(service), 300)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert told["right"] > 20 * KILLS
        assert set(told) <= {"right", "slice-down"}
        assert service.stop()[0] == 0
    wait_until(lambda: not holders(cluster), 30)


def test_behind_the_proxies_of_serve_it_is_the_same_service(cluster, proxies, index, local, tmp_path):
    from ray import serve

    (tmp_path / "token").write_text(TOKEN)
    arguments = {"index": str(index), "token_file": str(tmp_path / "token"), "slices": 2, "cores": 0.1}
    serve.run(application(arguments), name="proxied", route_prefix="/")
    behind, known = Service(local.process, proxies), {"Authorization": f"Bearer {TOKEN}"}
    try:
        for method, path, body, headers in REQUESTS:
            status, _, said = behind.ask(method, path, body, known | (headers or {}))
            expected = local.ask(method, path, body, headers)
            assert status == expected[0], (path, said)
            if expected[1]["content-type"] == "application/json" and path != "/openapi.json":
                assert plain(said) == plain(expected[2]), path
        assert behind.ask("POST", "/v1/search", {"key": "pic-001"})[0] == 401
        assert b"hashgrain_slices_down 0.0" in behind.ask("GET", "/metrics", None, known)[2]
    finally:
        serve.delete("proxied")


def test_no_answer_mixes_generations(cluster, tmp_path):
    path = tmp_path / "index"
    build_drawn(path, 2000)
    codes = [write_code_file(tmp_path, f"new{number}", 200, number + 5) for number in range(4)]
    for one in codes[:2]:
        with indexer.writer(path, compact=False) as writer:
            writer.add([one])
    index = Index(path)
    known = {index.generation: Generation(index)}
    keys = known[index.generation].keys[:2000]
    answers, failed, stop = list[Answer](), Counter[str](), threading.Event()
    copies = ("--copy-to", tmp_path / "copies")
    with (
        serving(path, "--no-model", *on(cluster, "--slices", 3, *copies)) as service,
        Client(f"http://127.0.0.1:{service.port}") as client,
    ):
        threads = [threading.Thread(target=ask, args=(client, keys, seed, stop, answers, failed)) for seed in range(3)]
        for thread in threads:
            thread.start()
        publish(path, codes[2:], 8, known, 0.7)
        wait_until(lambda: json.loads(service.ask("GET", "/v1/index")[2])["generation"] == list(known)[-1])
        time.sleep(0.5)
        stop.set()
        for thread in threads:
            thread.join()
    seen = {answer.generation for answer in answers}
    assert len(seen) > 4
    assert not [answer for answer in answers if not known[answer.generation].is_right(answer)]
    assert set(failed) <= {"key-unknown"}  # a removed one
    assert list((tmp_path / "copies").glob("index-*/gen-*/segment-000"))
