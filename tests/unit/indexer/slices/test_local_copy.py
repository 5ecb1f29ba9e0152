import json
import os
import threading

import numpy as np
import pytest

import indexer
from encoder.codes.file import list_code_files
from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from indexer.build import build
from indexer.settings import BuildSettings
from indexer.slices import local_copy
from indexer.slices.local_copy import KEPT, bring, copy_of, needed, read_pointer
from indexer.storage.current import read_current
from tests.support.servers import serving


@pytest.fixture
def index(tmp_path, write_codes, rng):
    """An index of two segments, with a removed row in the first."""
    for name in ("a", "b", "c"):
        write_codes(name, {Level.FINE: rng.integers(0, 256, (40, 8), np.uint8)})
    build(list_code_files([tmp_path / "codes" / "a.h5"]), tmp_path / "index", BuildSettings())
    with indexer.writer(tmp_path / "index", compact=False) as writer:
        writer.add([tmp_path / "codes" / "b.h5"])
        writer.remove(["a-3"])
    return tmp_path / "index"


def files_of(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_copy_has_the_files_of_its_segments_and_no_other(index, tmp_path):
    pointer = read_pointer(str(index))
    copy = copy_of(str(index), tmp_path / "copies")
    manifest = bring(str(index), pointer, copy, range(1))
    folder, again = read_current(copy, pointer)
    assert again == manifest
    assert files_of(folder) == sorted(["manifest.json", *needed(manifest, range(1))])
    assert {name.partition("/")[0] for name in needed(manifest, range(1))} >= {manifest.segments[0].name}
    assert manifest.segments[0].live in needed(manifest, range(1))
    assert not any(name.startswith(manifest.segments[1].name) for name in needed(manifest, range(1)))
    for name in needed(manifest, range(1)):
        assert (folder / name).read_bytes() == (index / folder.name / name).read_bytes()


def test_segments_that_an_earlier_generation_brought_are_linked(index, tmp_path, monkeypatch):
    copy, copied = tmp_path / "copy", list[str]()
    bring(str(index), read_pointer(str(index)), copy, range(2))
    real = local_copy._copy
    monkeypatch.setattr(local_copy, "_copy", lambda source, *rest: (copied.append(source), real(source, *rest)))
    with indexer.writer(index, compact=False) as writer:
        writer.add([tmp_path / "codes" / "c.h5"])
    manifest = bring(str(index), read_pointer(str(index)), copy, range(3))
    assert {source.split("/")[-2] for source in copied} == {manifest.segments[2].name}
    bring(str(index), read_pointer(str(index)), copy, range(3))
    assert len(copied) == len([name for name in manifest.files if name.startswith(manifest.segments[2].name)])


@pytest.mark.parametrize("damage", ["longer", "shorter", "other"])
def test_a_file_that_is_not_what_was_written_is_not_taken(index, tmp_path, damage):
    pointer = read_pointer(str(index))
    manifest = read_current(index, pointer)[1]
    name = max(needed(manifest, range(1, 2)), key=lambda name: manifest.files[name][0])
    path = index / read_current(index, pointer)[0].name / name
    data = path.read_bytes()
    path.unlink()
    path.write_bytes({"longer": data + b"\0", "shorter": data[:-1], "other": data[:-1] + bytes([data[-1] ^ 1])}[damage])
    with pytest.raises(HashgrainError) as found:
        bring(str(index), pointer, tmp_path / "copy", range(1, 2))
    assert found.value.reason is Reason.INDEX_DAMAGED
    assert not any(path.name == name.rpartition("/")[2] for path in (tmp_path / "copy").rglob("*"))


def test_a_manifest_that_the_pointer_was_not_written_for_is_refused(index, tmp_path):
    pointer = read_pointer(str(index))
    generation = read_current(index, pointer)[0].name
    said = json.dumps({"generation": generation, "manifest_sha256": "0" * 64}).encode()
    with pytest.raises(HashgrainError) as found:
        bring(str(index), said, tmp_path / "copy", None)
    assert found.value.reason is Reason.INDEX_DAMAGED
    for odd in (b"", b"[]", b'{"generation": "../x", "manifest_sha256": ""}', b'{"generation": "gen-x"}'):
        with pytest.raises(HashgrainError) as found:
            bring(str(index), odd, tmp_path / "copy", None)
        assert found.value.reason is Reason.INDEX_DAMAGED


def test_old_generations_go_and_those_in_use_stay(index, tmp_path):
    copy = tmp_path / "copy"
    pointer = read_pointer(str(index))
    manifest = bring(str(index), pointer, copy, range(2))
    held = indexer.open(index)  # the index keeps its own generations
    for number in range(KEPT + 2):
        with indexer.writer(index, compact=False) as writer:
            writer.remove([f"a-{10 + number}"])
        bring(str(index), read_pointer(str(index)), copy, range(2))
    assert len(list(copy.glob("gen-*"))) == KEPT
    assert held.ntotal == manifest.rows


def test_several_that_bring_at_a_time_copy_once(index, tmp_path, monkeypatch):
    copied, real = list[str](), local_copy._copy
    monkeypatch.setattr(local_copy, "_copy", lambda source, *rest: (copied.append(source), real(source, *rest)))
    pointer = read_pointer(str(index))
    threads = [
        threading.Thread(target=bring, args=(str(index), pointer, tmp_path / "copy", range(2))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(copied) == len(set(copied)) == len(needed(read_current(index, pointer)[1], range(2)))


def test_an_index_at_a_url_is_copied(index, tmp_path):
    with serving() as server:
        for path in index.rglob("*"):
            if path.is_file():
                server.files[f"/index/{os.path.relpath(path, index)}"] = path.read_bytes()
        url = server.url("index")
        pointer = read_pointer(url)
        assert pointer == read_pointer(str(index))
        manifest = bring(url, pointer, tmp_path / "copy", range(2))
        folder, _ = read_current(tmp_path / "copy", pointer)
        for name in needed(manifest, range(2)):
            assert (folder / name).read_bytes() == (index / folder.name / name).read_bytes()
        with pytest.raises(HashgrainError) as found:
            read_pointer(server.url("nowhere"))
        assert found.value.reason is Reason.INDEX_MISSING
