"""The examples run as they stand."""

import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

import indexer
from encoder.levels import Level
from indexer import Engine, SearchSettings
from tests.support.pictures import encoded

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch, capsys):
    """Run an example as it stands, and return what it prints."""

    def run(name, *arguments):
        monkeypatch.setattr("sys.argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return run


def test_search(example, index_folder, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(encoded(33))
    lines = example("search.py", index_folder, tmp_path / "photo.jpg", "key:pic-007")
    assert lines[0] == str(tmp_path / "photo.jpg")
    assert lines[1].startswith("  1. pic-033, 0 bits")
    assert lines[6] == "key:pic-007"
    assert "pic-007" not in "".join(lines[7:12])
    assert lines[-2].startswith("by sum: [('pic-033', 0.0), ")
    assert lines[-1].endswith(" bytes of pic-033")


def test_walk(example, index_folder):
    lines = example("walk.py", index_folder)
    assert (
        lines[0]
        == "60 rows, bits per level: {<Level.FINE: 'fine'>: 64, <Level.MID: 'mid'>: 64, <Level.COARSE: 'coarse'>: 64, <Level.FUSED: 'fused'>: 64}"
    )
    assert lines[1].startswith("pic-007 {")
    assert "one bit off: 1 bit" in lines
    assert lines[-1] == "itself first: 1.0"


def test_living(example, codes_folder, tmp_path):
    lines = example("living.py", codes_folder, tmp_path / "index")
    assert lines[0] == "gen-000001: 60 rows, +60 -0"
    assert lines[1].removeprefix("still open: ") == lines[3].removeprefix("as before: ") != lines[2].partition(": ")[2]
    assert [line.split()[1:3] for line in lines[4:7]] == [["build:", "60"], ["remove:", "59"], ["rollback:", "60"]]
    assert lines[7] == f"60 codes of 64 bits in {tmp_path}/exported/fine.npy"


def test_service(index_folder, monkeypatch):
    monkeypatch.setenv("HASHGRAIN_INDEX", str(index_folder))
    client = TestClient(runpy.run_path(str(EXAMPLES / "service.py"))["app"])
    found = client.post("/search?level=fine&k=3", content=encoded(33)).json()
    assert [hit["rank"] for hit in found] == [1, 2, 3]
    assert (found[0]["key"], found[0]["query"]) == ("pic-033", "upload")
    assert "pic-007" not in [hit["key"] for hit in client.get("/similar/pic-007").json()]
    assert client.get(f"/picture/{found[0]['key']}").content == encoded(33)
    refused = client.post("/search", content=b"no image")
    assert (refused.status_code, refused.json()["reason"]) == (400, "image-rejected")
    assert client.get("/similar/nobody").status_code == 400
    assert client.get("/picture/nobody").json()["reason"] == "key-unknown"


def test_importing_the_index_loads_no_engine():
    code = "import indexer, sys; print([name for name in ('faiss', 'numba', 'torch', 'pyarrow', 'h5py') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("engine", [Engine.AUTO, Engine.SCAN, Engine.FAISS])
def test_threads_at_once_get_the_answers_of_one(index_folder, engine):
    index = indexer.open(index_folder)
    codes, settings = index.codes(Level.MID, np.arange(60)), SearchSettings(7, engine=engine)
    alone = [found.rows.tolist() for found in index.search(Level.MID, codes, settings)]
    with ThreadPoolExecutor(8) as pool:
        for answers in pool.map(lambda _: index.search(Level.MID, codes, settings), range(40)):
            assert [found.rows.tolist() for found in answers] == alone
