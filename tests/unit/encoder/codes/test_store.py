"""Stores of code files: what appears there is whole, and a URL holds what a folder does."""

import threading
from dataclasses import asdict

import pytest

from encoder.codes.file import open_codes
from encoder.codes.store import FolderStore, UrlStore, store_at
from encoder.errors import HashgrainError, Reason
from encoder.images.expand import expand
from encoder.stream.job import encode
from encoder.stream.settings import EncodeSettings


def places(folder):
    folder.mkdir(exist_ok=True)
    return [FolderStore(folder), UrlStore(f"local://{folder}")]


@pytest.mark.parametrize("number", [0, 1])
def test_whoever_else_puts_a_file_it_appears_whole(tmp_path, number):
    store = places(tmp_path / "there")[number]
    contents = [bytes([value]) * (2 << 20) for value in range(4)]
    for value, content in enumerate(contents):
        (tmp_path / f"{value}").mkdir()
        (tmp_path / f"{value}/a.h5").write_bytes(content)
    threads = [
        threading.Thread(target=lambda value=value: [store.put(tmp_path / f"{value}/a.h5") for _ in range(5)])
        for value in range(4)
    ]
    for thread in threads:
        thread.start()
    seen = 0
    while any(thread.is_alive() for thread in threads):
        if (tmp_path / "there/a.h5").exists():
            assert (tmp_path / "there/a.h5").read_bytes() in contents
            seen += 1
    assert seen
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["a.h5"]
    assert (store.names(), store.has("a"), store.has("b")) == (["a"], True, False)
    store.remove(["a"])
    assert (store.names(), store.has("a")) == ([], False)


def test_codes_at_a_url_are_those_of_a_folder_and_are_kept_and_built(
    command, codes_folder, shards_folder, model_path, tmp_path
):
    url, shards = f"local://{tmp_path}/codes", expand([str(shards_folder)])
    first = encode(shards, model_path, url, EncodeSettings(batch=8))
    again = encode(shards, model_path, url, EncodeSettings(batch=8))
    assert (first.encoded, again.encoded, again.skipped, again.rows) == (60, 0, 3, 60)
    assert [path.name for path in sorted((tmp_path / "codes").iterdir())] == [
        path.name for path in sorted(codes_folder.iterdir()) if path.name != ".lock"
    ]
    for shard in shards:
        with open_codes(codes_folder / f"{shard.name}.h5") as here, store_at(url).opened(shard.name) as there:
            for level in here.header.bits:
                assert (here.codes(level) == there.codes(level)).all()
            assert list(here.keys()) == list(there.keys())
            said, wanted = asdict(there.header), asdict(here.header)
            assert said["shard"].pop("relative") is None
            wanted["shard"].pop("relative")
            assert said == wanted
    code, out, err = command("indexer", "build", url, "--out", tmp_path / "index")
    assert code == 0, err
    assert ": 60 rows," in out
    assert list((tmp_path / "index").rglob("model.safetensors"))  # it was brought along


def test_another_model_is_refused_at_a_url_too(shards_folder, model_path, tmp_path):
    url = f"local://{tmp_path}/codes"
    (tmp_path / "codes").mkdir()
    (tmp_path / "codes/model.safetensors").write_bytes(b"another")
    with pytest.raises(HashgrainError) as error:
        encode(expand([str(shards_folder)]), model_path, url, EncodeSettings(batch=8))
    assert error.value.reason is Reason.MODEL_MISMATCH


def test_a_damaged_file_at_a_url_is_told_by_its_url_and_made_again(shards_folder, model_path, tmp_path):
    url, shards = f"local://{tmp_path}/codes", expand([str(shards_folder)])
    encode(shards, model_path, url, EncodeSettings(batch=8))
    path = tmp_path / f"codes/{shards[0].name}.h5"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"!")
    with pytest.raises(HashgrainError, match=f"code file {url}/") as error, store_at(url).opened(shards[0].name):
        pass
    assert error.value.reason is Reason.CODES_DAMAGED
    assert encode(shards, model_path, url, EncodeSettings(batch=8)).encoded == 20
    assert path.read_bytes() == whole


def test_a_store_that_takes_nothing_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HashgrainError, match="cannot write") as error:
        UrlStore(f"local://{tmp_path}/file").put(tmp_path / "file", "a.h5")
    assert error.value.reason is Reason.WRITE_FAILED
