"""sync, import and export as a new user runs them: from shards that change, arrays of other programs, and back out again."""

import json
import shutil

import faiss
import numpy as np
import pytest
from pyarrow import parquet

from tests.support.pictures import labelled_members, write_tar


@pytest.fixture
def done(command):
    """Run a command that has to end well: its lines of output, or its JSON, and its notices."""

    def call(*arguments):
        code, out, err = command("indexer", *arguments)
        assert code == 0, err
        return json.loads(out) if "--json" in arguments else out.splitlines(), err.splitlines()

    return call


@pytest.fixture
def refused(command):
    """Run a command that has to end with one line of error."""

    def call(*arguments):
        code, out, err = command("indexer", *arguments)
        assert (code, out, "Traceback" in err) == (1, "", False)
        assert len(err.splitlines()) == 1
        return err

    return call


@pytest.fixture
def photos(tmp_path, monkeypatch, command, model_path):
    """A folder of two shards and its codes, and the current one; `encode()` brings the codes up to date."""
    monkeypatch.chdir(tmp_path)
    for name, first in (("a", 0), ("b", 20)):
        write_tar(tmp_path / f"shards/{name}.tar", labelled_members(first, 5))

    def encode(*more):
        assert command("encoder", "encode", "shards", "--model", model_path, "--out", "codes", *more)[0] == 0

    encode()
    return encode


def keys(done):
    """Return how many rows the index has, and their keys."""
    answers, _ = done("export", "keys", "--overwrite", "--json", "--form", "parquet", "--levels", "fine")
    return answers["rows"], parquet.read_table("keys/rows.parquet")["key"].to_pylist()


def test_an_index_follows_a_folder_of_shards(photos, done, tmp_path):
    lines, notices = done("sync")
    assert (lines[0], lines[1]) == ("index (gen-000001) is as its code files are: +10 -0, 10 rows", "  new: a.h5, b.h5")
    assert notices == []
    write_tar(tmp_path / "shards/c.tar", labelled_members(40, 3))
    write_tar(tmp_path / "shards/a.tar", labelled_members(0, 4))  # one picture less
    photos()
    assert done("sync", "--dry-run")[0][0] == "index would change: +7 -5, 12 rows"
    assert keys(done)[0] == 10
    report, _ = done("sync", "--json")
    assert (report["added"], report["removed"], report["rows"]) == (7, 5, 12)
    assert (report["new"], report["changed"], report["dropped"]) == (["c.h5"], ["a.h5"], [])
    assert "pic-004" not in keys(done)[1]
    assert done("sync", "--json")[0]["added"] == 0
    history, _ = done("history")
    assert [line.split()[2] for line in history[:2]] == ["build:", "sync:"]


def test_pictures_of_a_shard_that_was_deleted_disappear(photos, done, tmp_path):
    done("sync", "codes")
    shard = (tmp_path / "shards/b.tar").rename(tmp_path / "b.tar")
    lines, notices = done("sync", "codes")
    assert lines[0].endswith("is as its code files are: +0 -5, 5 rows")
    gone = tmp_path / "shards/b.tar"
    assert notices[0] == f"1 shard, {gone}, is gone: their rows are left out"
    assert keys(done)[1] == [f"pic-{row:03}" for row in range(5)]
    _, notices = done("build", "codes", "--out", "built")
    assert f"1 shard, {gone}, is gone" in notices[0]
    assert notices[0].endswith("(encoder encode --prune, indexer sync)")
    assert done("sync", "codes", "--keep-gone", "--json")[0]["added"] == 5
    shard.rename(gone)
    assert done("sync", "codes", "--json")[0]["rows"] == 10


def test_sync_of_what_is_not_there_and_of_codes_of_another_model(photos, refused, done, tmp_path, command):
    assert (
        "no code file (*.h5) at nowhere; encode some shards (encoder encode SHARDS --out CODES, --keep-gone)"
        in refused("sync", "nowhere")
    )
    assert not (tmp_path / "index").exists()
    done("sync")
    fit = "fit shards --out other.st --hash lsh --bits 32 --weights none --backbone alexnet --image-size 64"
    assert command("encoder", *fit.split())[0] == 0
    assert command("encoder", "encode", "shards/a.tar", "--model", "other.st", "--out", "codes", "--overwrite")[0] == 0
    assert "was made by model" in refused("sync")
    assert done("info", "--json")[0]["generation"] == "gen-000001"
    assert "on_duplicate: replace; expected error or first" in refused("sync", "--on-duplicate", "replace")
    assert "on_duplicate: x; expected one of error, first" in refused("sync", "--on-duplicate", "x")


def test_codes_of_another_program_become_an_index(done, tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    bits = rng.integers(0, 2, (300, 64), dtype=np.uint8)
    np.save("codes.npy", np.packbits(bits, axis=1))  # highest bit first, as numpy does
    (tmp_path / "keys.txt").write_text("".join(f"photo-{row}.jpg\n" for row in range(300)))
    (tmp_path / "labels.csv").write_text("key,kind\n" + "".join(f"photo-{row}.jpg,{row % 3}\n" for row in range(300)))
    first = "".join(map(str, bits[7, :16].tolist()))
    given = ("--level", "fine=codes.npy", "--keys", "keys.txt", "--labels", "labels.csv")
    lines, notices = done("import", *given, "--bit-order", "big", "--check", f"photo-7.jpg={first}")
    assert lines[0] == "300 rows imported into index (gen-000001): 300 rows"
    assert lines[1].startswith("  fine: 64 bits, ones ")
    assert (lines[2], notices) == ("  labels: kind", [])
    lines, _ = done("query", "key:photo-7.jpg", "-k", "3", "--where", "label.kind = 1")
    assert (lines[1].split()[2:4], len(lines)) == (["bits", "photo-7.jpg"], 4)
    expected = np.packbits(bits, axis=1, bitorder="little")
    flat = faiss.read_index_binary("index/gen-000001/segment-000/fine.flat.faiss")
    assert np.array_equal(faiss.vector_to_array(flat.xb).reshape(300, 8), expected)
    assert "is whole: 300 rows" in done("verify")[0][0]
    more, notices = done("import", *given[2:], "--npy", "codes.npy", "--level", "fine", "--bit-order", "big")
    assert more[0] == "300 rows imported into index (gen-000002): 300 rows"
    assert notices[:2] == [
        "300 earlier rows replaced",
        "bits were taken as big, which no check has proven; --check KEY=BITS does",
    ]
    done("remove", "photo-1.jpg")
    report, _ = done("export", "out", "--form", "faiss", "--json")
    assert (report["rows"], report["files"]) == (299, ["fine.faiss", "keys.txt", "labels.parquet"])
    back = ("--level", "fine=out/fine.faiss", "--keys", "out/keys.txt", "--labels", "out/labels.parquet")
    assert done("import", *back, "--index", "again", "--json")[0]["rows"] == 299
    ask = ("query", "key:photo-9.jpg", "-k", "20", "--where", "label.kind = 2")
    assert done(*ask)[0][1:] == done(*ask, "--index", "again")[0][1:]


def test_wrong_imports_and_exports_are_one_line_each(refused, done, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("codes.npy", np.arange(80, dtype=np.uint8).reshape(10, 8))
    level = ("--level", "fine=codes.npy")
    assert "does not say in which order its bits were packed" in refused("import", *level)
    wrong = refused("import", *level, "--bit-order", "little", "--check", "row-000000000=1")
    assert "begins with 0, expected 1; say the other bit order" in wrong
    assert "could not be read: No such file" in refused("import", *level, "--bit-order", "big", "--keys", "none.txt")
    code, _, err = command("indexer", "import", "--level", "codes.npy")
    assert (code, "expected LEVEL=PATH" in err) == (2, True)
    for alone in (["--npy", "codes.npy"], ["--npy", "codes.npy", "--level", "fine=codes.npy"], ["--keys", "none.txt"]):
        code, _, err = command("indexer", "import", *alone)
        assert (code, "expected --level LEVEL beside it" in err or "expected LEVEL=PATH" in err) == (2, True)
    assert not (tmp_path / "index").exists()
    done("import", *level, "--bit-order", "little")
    assert "holds no model" in refused("query", __file__)
    done("export", "out")
    assert "out exists; choose another folder, or replace it (--overwrite)" in refused("export", "out")
    assert "level mid is not in index (has: fine)" in refused("export", "new", "--levels", "mid")
    assert "no index at nowhere" in refused("export", "new", "--index", "nowhere")
    shutil.rmtree("index/gen-000001")
    assert "is damaged" in refused("import", *level, "--bit-order", "little")
