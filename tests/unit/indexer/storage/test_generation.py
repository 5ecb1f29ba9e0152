import errno
import os
import shutil

import numpy as np
import pytest

from encoder.codes.file import list_code_files
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from encoder.runtime import durable
from encoder.runtime.publish import PARTIAL, exclusive
from indexer.build import build
from indexer.index import Index
from indexer.settings import BuildSettings, Dedupe, IndexKind
from indexer.storage import generation
from indexer.storage.current import MANIFEST, read_current, write_manifest
from indexer.storage.generation import check_readable, copy_file, gc, next_generation
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

    def copy_and_flip(source, target):
        copy_file(source, target)
        data = bytearray(target.read_bytes())
        data[-1] ^= 1
        target.write_bytes(data)

    monkeypatch.setattr("indexer.build.copy_file", copy_and_flip)
    assert_old_one_stays(index, files)


def test_all_that_is_written_is_on_the_disk_before_it_is_current(built, monkeypatch):
    index, files = built
    seen: list[tuple[str, str]] = []
    monkeypatch.setattr(durable, "on_step", lambda name, path: seen.append((name, str(path))))
    report = build(files, index, SETTINGS)
    partial = index / f"{report.generation}{PARTIAL}"
    before = seen[: seen.index(("pointer", str(index)))]
    paths = [partial / path.relative_to(index / report.generation) for path in (index / report.generation).rglob("*")]
    assert len(paths) > 30
    for path in (partial, *paths):
        made, rename = ("sync-folder", "mkdir") if path == partial or not path.suffix else ("fsync", "create")
        assert before.count((rename, str(path))) == 1
        assert before.index((made, str(path))) < before.index(("rename", str(index / report.generation)))
    assert before[-2:] == [("rename", str(index / report.generation)), ("sync-folder", str(index))]


def test_a_change_links_what_stays_and_continues_the_history(built):
    index, _ = built
    folder, manifest = read_current(index)
    with exclusive(index), next_generation(index, (folder, manifest)) as new:
        assert (new.segment_name(), new.segment_name()) == ("segment-001", "segment-002")
        written = new.publish(manifest, "relocate", of="gen-000001")
    assert read_current(index) == (index / "gen-000002", written)
    assert [(change.generation, change.what, change.rows, change.of) for change in written.history] == [
        ("gen-000001", "build", 60, None),
        ("gen-000002", "relocate", 60, "gen-000001"),
    ]
    assert written.files == manifest.files
    for name in written.files:
        assert (index / "gen-000002" / name).samefile(folder / name)


def test_a_disk_without_links_gets_copies(built, monkeypatch):
    index, _ = built
    folder, manifest = read_current(index)

    def refuse(*_, **__):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with exclusive(index), next_generation(index, (folder, manifest)) as new:
        new.publish(manifest, "relocate")
    monkeypatch.undo()
    assert not (index / "gen-000002/segment-000/places.npy").samefile(folder / "segment-000/places.npy")
    assert verify(index, lambda *_: None).ntotal == 60


def changed(index, times, keep):
    for _ in range(times):
        with exclusive(index), next_generation(index, read_current(index)) as new:
            new.publish(read_current(index)[1], "relocate", keep=keep)


def names(index):
    return sorted(path.name for path in index.glob("gen-*"))


def test_old_generations_go_and_those_that_are_read_stay(built):
    index, _ = built
    reader = Index(index)
    changed(index, 4, keep=3)
    assert names(index) == ["gen-000001", "gen-000003", "gen-000004", "gen-000005"]
    assert reader.key(0)
    shutil.copytree(
        index / "gen-000005", index / "gen-000009"
    )  # as a writer leaves it that is killed before the pointer moves
    with exclusive(index):
        assert gc(index, 2) == ["gen-000003", "gen-000009"]
        del reader
        assert gc(index, 1) == ["gen-000001", "gen-000004"]
        assert gc(index, 1) == []
    assert verify(index, lambda *_: None).ntotal == 60


def test_a_generation_that_was_never_published_goes_and_lends_nobody_its_number(built):
    index, _ = built
    shutil.copytree(index / "gen-000001", index / "gen-000004")
    changed(index, 1, keep=8)
    assert names(index) == ["gen-000001", "gen-000005"]


def test_what_fails_leaves_nothing_behind(built):
    index, _ = built
    folder, manifest = read_current(index)
    before = contents(index)

    def fill_the_disk():
        with next_generation(index, (folder, manifest)) as new:
            new.take_over(manifest.files)
            raise OSError(errno.ENOSPC, "No space left on device")

    with exclusive(index), pytest.raises(HashgrainError, match="No space left on device") as caught:
        fill_the_disk()
    assert caught.value.reason is Reason.WRITE_FAILED
    lock = index / ".lock"
    assert {path: data for path, data in contents(index).items() if path != lock} == {
        path: data for path, data in before.items() if path != lock
    }
