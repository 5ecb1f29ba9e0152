"""What an author can do who computes all digests again: verify says what does not agree."""

import json
import shutil

import numpy as np
import pytest

from encoder.codes.file import list_code_files
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from indexer.build import build
from indexer.settings import BuildSettings, Dedupe, IndexKind
from indexer.storage.columns import map_column, write_column
from indexer.storage.current import MANIFEST
from indexer.verify import verify
from tests.support.hostile import generation_of, reseal_index

ROWS = 40
SEGMENT = "segment-000"


@pytest.fixture(scope="session")
def original(tmp_path_factory, codes_folder):
    """An index with lists, shared codes, labels and a model."""
    folder = tmp_path_factory.mktemp("verified")
    build(list_code_files([codes_folder]), folder / "index", BuildSettings(IndexKind.IVF, nlist=4, dedupe=Dedupe.OFF))
    return folder / "index"


@pytest.fixture
def index(original, tmp_path):
    return shutil.copytree(original, tmp_path / "index")


def segment_of(index):
    return generation_of(index) / SEGMENT


def said_of(index):
    with pytest.raises(HashgrainError) as caught:
        verify(index, lambda *_: None)
    assert caught.value.reason is Reason.INDEX_DAMAGED
    return str(caught.value)


def test_an_index_is_whole_as_it_was_built(index):
    assert verify(index, lambda *_: None).ntotal == 60
    reseal_index(index)
    assert verify(index, lambda *_: None).ntotal == 60


def test_a_list_holds_the_codes_of_its_rows(index):
    path = segment_of(index) / "fine.ivf.faiss"
    data = bytearray(path.read_bytes())
    flat = np.fromfile(segment_of(index) / "fine.flat.faiss", np.uint8)[-60 * 8 :].reshape(60, 8)
    at = data.index(flat[0].tobytes(), 400)
    data[at] ^= 1
    path.write_bytes(data)
    reseal_index(index)
    assert "holds codes that are not those of its rows" in said_of(index)


def test_a_code_stands_in_the_list_it_is_nearest_to(index):
    path = segment_of(index) / "fine.ivf.faiss"
    data = bytearray(path.read_bytes())
    start = data.index(b"IBxF") + 33  # of the nested header of the centroids
    centroids = np.frombuffer(data, np.uint8, 32, start).reshape(4, 8)
    data[start : start + 32] = np.roll(centroids, 1, axis=0).tobytes()
    path.write_bytes(data)
    reseal_index(index)
    assert "nearer to others" in said_of(index)


def test_keys_are_text_at_whole_characters(index):
    path = segment_of(index) / "keys.text.npy"
    data = bytearray(path.read_bytes())
    data[-1] = 0xFF
    path.write_bytes(data)
    reseal_index(index)
    assert "keys" in said_of(index)


def test_labels_are_text(index):
    path = segment_of(index) / "labels.text.npy"
    data = bytearray(path.read_bytes())
    data[-1] = 0xFF
    path.write_bytes(data)
    reseal_index(index)
    assert "label 'name': its text is not UTF-8" in said_of(index)


def test_the_presence_of_a_label_is_true_or_false(index):
    path = segment_of(index) / "labels.present.npy"
    data = bytearray(path.read_bytes())
    data[-1] = 2
    path.write_bytes(data)
    reseal_index(index)
    assert "neither true nor false" in said_of(index)


def test_a_key_is_live_once(tmp_path, write_codes):
    codes = {Level.FINE: np.arange(ROWS, dtype=np.uint8).reshape(ROWS, 1)}
    build([write_codes("a", codes, keys=[f"{n:03}" for n in range(ROWS)])], tmp_path / "index", BuildSettings())
    path = segment_of(tmp_path / "index")
    text = (path / "keys.text.npy").read_bytes()
    (path / "keys.text.npy").write_bytes(text.replace(b"001", b"000"))
    hashes = map_column(path / "keys.hashes.npy", np.uint64, (ROWS,)).copy()
    order = map_column(path / "keys.order.npy", np.int64, (ROWS,)).copy()
    of_row = np.empty(ROWS, np.uint64)
    of_row[order] = hashes
    of_row[1] = of_row[0]
    order = np.argsort(of_row, kind="stable")
    for name, values in (("hashes", of_row[order]), ("order", order)):
        (path / f"keys.{name}.npy").unlink()
        write_column(path / f"keys.{name}.npy", values)
    reseal_index(tmp_path / "index")
    assert "does not lead back to row 1" in said_of(tmp_path / "index")


def test_a_model_is_a_model(index):
    (generation_of(index) / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    reseal_index(index)
    assert "not a model file" in said_of(index)


def test_a_removed_row_is_counted(index):
    write_column(segment_of(index) / "live.npy", np.full(8, 0xFF, np.uint8))

    def edit(content):
        content["files"][f"{SEGMENT}/live.npy"] = [136, "0" * 64]
        content["segments"][0] |= {"live": f"{SEGMENT}/live.npy", "removed": 3}

    reseal_index(index, edit)
    reseal_index(index)
    assert "0 rows removed, 3 by its manifest" in said_of(index)


def test_a_file_that_may_not_be_read_is_not_called_damaged(index, monkeypatch):
    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("indexer.verify.sha256_of", refuse)
    with pytest.raises(HashgrainError, match="cannot be read .Permission denied.; give an index") as caught:
        verify(index, lambda *_: None)
    assert caught.value.reason is Reason.INDEX_MISSING


HARMS = {
    "no files": lambda content: content.update(files={}),
    "files of a list": lambda content: content.update(files=[]),
    "no segments": lambda content: content.update(segments=[]),
    "a model that is a column": lambda content: content.update(model=f"{SEGMENT}/places.npy"),
    "a model that is a folder": lambda content: content.update(model=SEGMENT),
    "a model out of the index": lambda content: content.update(model="../../model"),
    "a file out of the index": lambda content: content["files"].update({"/etc/passwd": [1, "0"]}),
    "live rows that are not there": lambda content: content["segments"][0].update(live="segment-000/live.npy"),
    "2^60 rows": lambda content: content["segments"][0].update(rows=2**60),
    "a level of 2^40 bits": lambda content: content["segments"][0]["levels"]["fine"].update(nbits=2**40),
    "a level of 12 bits": lambda content: content["segments"][0]["levels"]["fine"].update(nbits=12),
    "2^40 lists": lambda content: content["segments"][0]["levels"]["fine"].update(nlist=2**40),
    "rows of a half": lambda content: content["segments"][0].update(rows=60.0),
    "a label twice": lambda content: content["segments"][0].update(labels=2 * content["segments"][0]["labels"]),
    "a label of another kind": lambda content: content["segments"][0]["labels"][0].update(kind="texts"),
    "a shard of no kind": lambda content: content["segments"][0]["shards"][0].update(kind="exe"),
    "a shard that begins late": lambda content: content["segments"][0]["shards"][0].update(first_row=2**40),
    "limits of text": lambda content: content.update(limits={"max_bytes": "x"}),
    "surprise": lambda content: content.update(surprise=1),
    "a size that lies": lambda content: content["files"].update({f"{SEGMENT}/places.npy": [2**40, "0"]}),
    "history of text": lambda content: content.update(history="x"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_manifest_that_lies_is_refused(index, harm):
    reseal_index(index, HARMS[harm])
    said_of(index)


@pytest.mark.parametrize("name", [MANIFEST, f"{SEGMENT}/places.npy", "model.safetensors"])
def test_a_name_of_controls_reaches_no_terminal(index, name, command):
    def edit(content):
        content["files"]["x\x1b]8;;[/red]"] = content["files"].pop(name, [1, "0"])

    reseal_index(index, edit)
    code, out, err = command("indexer", "verify", "--index", index)
    assert code == 1
    assert "\x1b" not in out + err
    assert json.loads((generation_of(index) / MANIFEST).read_text())
