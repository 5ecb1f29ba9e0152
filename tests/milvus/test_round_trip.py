"""An index in a Milvus server: the one at MILVUS_URI, else the engine of Milvus Lite 2.5 under MILVUS_LITE, the folder of that package.

Milvus Lite 3 knows no binary vectors, and brings a FAISS that would overwrite ours: it is not imported here, its server is started.
"""

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pymilvus
import pytest

from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from indexer.build import build
from indexer.changes import milvus_rows
from indexer.changes.milvus_rows import MilvusCollection, export_to_milvus
from indexer.changes.writer import writer
from indexer.index import Index
from indexer.settings import BuildSettings, SearchSettings

pytestmark = pytest.mark.milvus
NAME = "hashgrain_test"


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    if given := os.environ.get("MILVUS_URI"):
        yield given
        return
    lib = Path(os.environ["MILVUS_LITE"]) / "lib"
    folder = tmp_path_factory.mktemp("milvus")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    arguments = [str(lib / "milvus"), str(folder / "lite.db"), address, "ERROR"]
    with subprocess.Popen(arguments, cwd=folder, env={**os.environ, "LD_LIBRARY_PATH": str(lib)}) as server:
        try:
            wait_for(address)
            yield f"http://{address}"
        finally:
            server.terminate()


def wait_for(address):
    host, _, port = address.partition(":")
    for _ in range(100):
        try:
            socket.create_connection((host, int(port)), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"no server at {address}")


@pytest.fixture
def client(uri):
    opened = pymilvus.MilvusClient(uri=uri, token=os.environ.get("MILVUS_TOKEN", ""))
    opened.drop_collection(NAME)
    yield opened
    opened.drop_collection(NAME)
    opened.close()


@pytest.fixture
def to(uri, client):
    return MilvusCollection(NAME, uri, os.environ.get("MILVUS_TOKEN"))


@pytest.fixture
def index(tmp_path, write_codes, rng):
    codes = {Level.FINE: rng.integers(0, 256, (300, 8), np.uint8), Level.MID: rng.integers(0, 256, (300, 2), np.uint8)}
    labels = [{"n": row, "share": row / 7, "tags": ("a", f"ü{row % 3}"), "odd": bool(row % 2)} for row in range(300)]
    write_codes("a", codes, labels=labels)
    build([tmp_path / "codes/a.h5"], tmp_path / "index", BuildSettings())
    with writer(tmp_path / "index") as opened:
        opened.remove(["a-0", "a-17"])
    return tmp_path / "index"


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(milvus_rows, "BATCH_ROWS", 64)


def test_keys_codes_and_labels_come_back(index, to, client):
    report = export_to_milvus(index, to)
    assert (report.rows, report.sent) == (298, 298)
    opened = Index(index)
    rows = opened.snapshot.live_rows().tolist()
    found = {row["row"]: row for row in client.query(NAME, filter="", output_fields=["*"], limit=1_000)}
    assert sorted(found) == rows
    for row in rows:
        assert found[row]["key"] == opened.key(row)
        for level in (Level.FINE, Level.MID):
            assert found[row][f"codes_{level}"] == [opened.codes(level, np.array([row]))[0].tobytes()]
        labels = found[row]["labels"]
        own = {name: list(value) if isinstance(value, tuple) else value for name, value in opened.labels(row).items()}
        assert (labels if isinstance(labels, dict) else json.loads(labels)) == own


@pytest.mark.parametrize("level", [Level.FINE, Level.MID])
@pytest.mark.parametrize("k", [1, 10, 100])
def test_milvus_finds_the_same_distances(index, to, client, level, k, rng):
    export_to_milvus(index, to, [level])
    opened = Index(index)
    size = opened.snapshot.manifest.bits[level] // 8
    queries = np.concatenate([opened.codes(level, np.arange(5)), rng.integers(0, 256, (5, size), np.uint8)])
    theirs = client.search(
        NAME,
        [query.tobytes() for query in queries],
        anns_field=f"codes_{level}",
        limit=k,
        search_params={"metric_type": "HAMMING"},
    )
    for hits, ours in zip(theirs, opened.search(level, queries, SearchSettings(k)), strict=True):
        assert [hit["distance"] for hit in hits] == ours.distances.tolist()


def test_a_label_is_a_filter(index, to, client):
    export_to_milvus(index, to)
    found = client.query(NAME, filter='labels["n"] >= 290 and labels["odd"] == true', output_fields=["row"])
    assert sorted(row["row"] for row in found) == [291, 293, 295, 297, 299]


def test_a_run_that_was_cut_off_goes_on_and_doubles_nothing(index, to, client, monkeypatch):
    class Cut(Exception):
        pass

    def batches(block, real=milvus_rows.batches):
        for number, batch in enumerate(real(block)):
            if number == 2:
                raise Cut
            yield batch

    with monkeypatch.context() as patched:
        patched.setattr(milvus_rows, "batches", batches)
        with pytest.raises(Cut):
            export_to_milvus(index, to)
    assert client.query(NAME, filter="", output_fields=["count(*)"])[0]["count(*)"] == 128
    assert export_to_milvus(index, to).sent == 298 - 128
    assert export_to_milvus(index, to).sent == 0
    assert client.query(NAME, filter="", output_fields=["count(*)"])[0]["count(*)"] == 298


def test_another_collection_stays_unless_it_is_to_be_replaced(index, to, client):
    export_to_milvus(index, to)
    for changed in ("levels", "generation"):
        if changed == "generation":
            with writer(index) as opened:
                opened.remove(["a-1"])
        with pytest.raises(HashgrainError, match="exists and is not of this generation and these levels") as caught:
            export_to_milvus(index, to, [Level.FINE] if changed == "levels" else None)
        assert caught.value.reason is Reason.EXISTS
    assert export_to_milvus(index, to, overwrite=True).rows == 297
    assert client.query(NAME, filter="", output_fields=["count(*)"])[0]["count(*)"] == 297


def test_rows_that_somebody_else_added_are_noticed(index, to, client):
    export_to_milvus(index, to)
    client.upsert(NAME, [{"key": "theirs", "row": 0, "labels": {}, "codes_fine": bytes(8), "codes_mid": bytes(2)}])
    with pytest.raises(HashgrainError, match=f"{NAME}' at .* has 299 rows, expected 298"):
        export_to_milvus(index, to)


def test_what_the_server_refuses_is_one_line(index, to):
    with pytest.raises(
        HashgrainError, match="'no-name': Milvus at .* did not make it: .*; look at the server"
    ) as caught:
        export_to_milvus(index, MilvusCollection("no-name", to.uri, to.token))
    assert caught.value.reason is Reason.WRITE_FAILED


def test_the_command(index, to, command, tmp_path):
    (tmp_path / "token").write_text("root:Milvus\n")
    given = ("--to", "milvus", "--uri", to.uri, "--token-file", tmp_path / "token")
    code, out, _ = command("indexer", "export", NAME, *given, "--index", index)
    assert (code, out.splitlines()[0].partition(" in the ")[2]) == (0, f"collection {NAME} at {to.server}, 298 sent")
    code, out, _ = command("indexer", "export", NAME, *given, "--index", index, "--json")
    assert (code, json.loads(out)["sent"]) == (0, 0)
