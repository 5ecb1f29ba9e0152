"""What needs no server; tests/milvus has the round trip."""

import socket
import sys

import numpy as np
import pymilvus
import pytest

from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from indexer.build import build
from indexer.changes import milvus_rows
from indexer.changes.export_rows import ExportRows
from indexer.changes.milvus_rows import MilvusCollection, batches, export_to_milvus
from indexer.settings import BuildSettings


@pytest.fixture
def make(tmp_path, write_codes, rng):
    def index(labels, keys=None):
        rows = len(labels)
        codes = {
            Level.FINE: rng.integers(0, 256, (rows, 8), np.uint8),
            Level.MID: rng.integers(0, 256, (rows, 2), np.uint8),
        }
        write_codes("a", codes, labels=labels, keys=keys)
        build([tmp_path / "codes/a.h5"], tmp_path / "index", BuildSettings())
        return tmp_path / "index"

    return index


def test_the_schema_has_a_binary_vector_per_level_and_keys_that_are_unique():
    bits = {Level.FINE: 64, Level.MID: 16}
    schema = milvus_rows._schema(pymilvus, bits, "said").to_dict()
    fields = {field["name"]: field for field in schema["fields"]}
    assert list(fields) == ["key", "row", "codes_fine", "codes_mid", "labels"]
    assert fields["key"]["is_primary"]
    assert not schema["auto_id"]
    assert {name: (field["type"], field.get("params", {}).get("dim")) for name, field in fields.items()} == {
        "key": (pymilvus.DataType.VARCHAR, None),
        "row": (pymilvus.DataType.INT64, None),
        "codes_fine": (pymilvus.DataType.BINARY_VECTOR, 64),
        "codes_mid": (pymilvus.DataType.BINARY_VECTOR, 16),
        "labels": (pymilvus.DataType.JSON, None),
    }
    assert schema["description"] == "said"


@pytest.mark.parametrize(("nlist", "kind"), [(None, "BIN_FLAT"), (7, "BIN_IVF_FLAT")])
def test_every_level_has_an_index_by_hamming_distance(nlist, kind):
    for index, level in zip(
        milvus_rows._index(pymilvus, {Level.FINE: 64, Level.MID: 16}, nlist), ("fine", "mid"), strict=True
    ):
        assert (index.field_name, index.index_type) == (f"codes_{level}", kind)
        configs = index.get_index_configs()
        assert configs["metric_type"] == "HAMMING"
        assert configs.get("nlist") == nlist


def test_rows_as_milvus_takes_them(make, monkeypatch):
    monkeypatch.setattr(milvus_rows, "BATCH_ROWS", 3)
    rows = ExportRows(make([{"n": 1, "tags": ("a", "ü")}, {"f": 0.5}, {}, {"odd": True}]), None)
    [block] = rows.blocks()
    parts = list(batches(block))
    assert [len(part) for part in parts] == [3, 1]
    sent = [row for part in parts for row in part]
    assert [row["labels"] for row in sent] == [{"n": 1, "tags": ("a", "ü")}, {"f": 0.5}, {}, {"odd": True}]
    assert [(row["key"], row["row"]) for row in sent] == [(f"a-{row}", row) for row in range(4)]
    for level in (Level.FINE, Level.MID):
        assert [row[f"codes_{level}"] for row in sent] == [code.tobytes() for code in block.codes[level]]


def test_a_request_stays_small_where_labels_are_long(make, monkeypatch):
    monkeypatch.setattr(milvus_rows, "BATCH_BYTES", 2_500)
    [block] = ExportRows(make([{"caption": "x" * 1_000}] * 7), None).blocks()
    assert [len(part) for part in batches(block)] == [3, 3, 1]


def test_what_is_too_long_for_milvus_is_told(make):
    [block] = ExportRows(make([{"caption": "x" * 70_000}]), None).blocks()
    with pytest.raises(HashgrainError, match=r"labels of 'a-0' have 70,\d+ bytes, Milvus takes 65,535"):
        list(batches(block))


def test_a_key_that_is_too_long_for_milvus_is_told(make):
    [block] = ExportRows(make([{}], keys=["ä" * 40_000]), None).blocks()
    with pytest.raises(HashgrainError, match=r"the key of 'ä+' have? 80,000 bytes"):
        list(batches(block))


@pytest.mark.parametrize("uri", ["", "milvus.db", "/tmp/milvus.db", "http://", "ftp://host"])
def test_what_is_not_the_address_of_a_server_is_refused(uri):
    with pytest.raises(HashgrainError, match="not the address of a Milvus server") as caught:
        MilvusCollection("c", uri)
    assert caught.value.reason is Reason.BAD_VALUE


def test_no_secret_of_an_address_is_shown():
    to = MilvusCollection("c", "https://me:secret@host:19530", "secret")
    assert to.server == "host:19530"
    assert "secret" not in f"{to.server}"


def test_a_server_that_does_not_answer_is_one_line(make):
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        to = MilvusCollection("c", f"http://127.0.0.1:{taken.getsockname()[1]}", timeout=1)
        with pytest.raises(
            HashgrainError, match=rf"Milvus at 127.0.0.1:{taken.getsockname()[1]} did not answer"
        ) as caught:
            export_to_milvus(make([{}]), to)
    assert caught.value.reason is Reason.WRITE_FAILED


def test_a_package_that_is_not_installed_is_one_line(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(HashgrainError, match=r"pymilvus, which is not installed .*; pip install 'hashgrain\[milvus\]'"):
        export_to_milvus(make([{}]), MilvusCollection("c", "http://127.0.0.1:1"))
