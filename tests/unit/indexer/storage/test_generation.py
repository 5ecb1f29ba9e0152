import shutil
from pathlib import Path

import numpy as np
import pytest

from encoder.codes.file import list_code_files
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from indexer.build import build
from indexer.settings import BuildSettings, Dedupe, IndexKind
from indexer.storage import generation
from indexer.storage.generation import check_readable
from indexer.storage.manifest import MANIFEST, write_manifest
from indexer.verify import verify

SETTINGS = BuildSettings(IndexKind.IVF, nlist=2, dedupe=Dedupe.ON, overwrite=True)


@pytest.fixture
def built(tmp_path, codes_folder):
    """An index, and code files that are to take its place: with labels, a model, inverted lists and shared codes."""
    codes = shutil.copytree(codes_folder, tmp_path / "codes")
    build(list_code_files([codes]), tmp_path / "index", SETTINGS)
    return tmp_path / "index", list_code_files([codes])


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def assert_old_one_stays(index, files):
    before = contents(index)
    with pytest.raises(
        HashgrainError, match="was left as it was: what was written beside it cannot be read back"
    ) as caught:
        build(files, index, SETTINGS)
    assert caught.value.reason is Reason.WRITE_FAILED
    assert "build the index again" not in str(caught.value)
    assert contents(index) == before
    assert [path.name for path in index.glob("gen-*")] == ["gen-000001"]
    assert verify(index, lambda *_: None).ntotal == 60


def test_a_code_file_that_makes_no_index_does_not_replace_one(built, write_codes):
    index, _ = built
    before = contents(index)
    with pytest.raises(HashgrainError) as caught:
        build([write_codes("a", {Level.FINE: np.zeros((1, 8), np.uint8)}, shard_path="/a\0b.tar")], index, SETTINGS)
    assert caught.value.reason is Reason.CODES_DAMAGED
    assert contents(index) == before


def harmed(data, harm):
    match harm:
        case "flip":
            return bytes([data[0] ^ 255]) + data[1:]
        case "zero":
            return bytes(min(128, len(data))) + data[128:]
        case "cut":
            return data[:-1]


@pytest.mark.parametrize("harm", ["flip", "zero", "cut", "gone"])
def test_a_harm_to_any_file_of_a_generation_is_noticed(built, harm):
    folder = built[0] / "gen-000001"
    paths = list(contents(folder))
    assert {path.suffix for path in paths} == {".npy", ".faiss", ".json", ".safetensors"}
    for path in paths:
        if path.name == "model.safetensors" and harm in {"flip", "zero"}:
            continue  # only its digest would tell
        data = path.read_bytes()
        path.unlink() if harm == "gone" else path.write_bytes(harmed(data, harm))
        with pytest.raises(HashgrainError) as caught:
            check_readable(folder)
        assert caught.value.reason is Reason.INDEX_DAMAGED, path
        path.write_bytes(data)
    check_readable(folder)


@pytest.mark.parametrize("name", [MANIFEST, "segment-000/keys.text.npy", "segment-000/fine.ivf.faiss"])
def test_a_disk_that_loses_what_was_written_does_not_replace_an_index(built, monkeypatch, name):
    index, files = built

    def write_and_harm(folder, manifest):
        write_manifest(folder, manifest)
        (folder / name).write_bytes(harmed((folder / name).read_bytes(), "flip"))

    monkeypatch.setattr(generation, "write_manifest", write_and_harm)
    assert_old_one_stays(index, files)
    monkeypatch.undo()
    assert build(files, index, SETTINGS).generation == "gen-000002"


def test_a_model_that_was_not_copied_whole_does_not_replace_an_index(built, monkeypatch):
    index, files = built
    copyfile = shutil.copyfile

    def copy_and_flip(source, target):
        copyfile(source, target)
        data = bytearray(Path(target).read_bytes())
        data[-1] ^= 1
        Path(target).write_bytes(data)

    monkeypatch.setattr(shutil, "copyfile", copy_and_flip)
    assert_old_one_stays(index, files)
