import shutil

import numpy as np
import pytest

from encoder.codes.file import open_codes
from encoder.codes.gone import missing_shards
from encoder.images.shards import ShardKind
from encoder.levels import Level


@pytest.fixture
def headers(tmp_path, write_codes):
    """Return the headers of code files of shards that are there, in a folder of two."""
    folder = tmp_path / "shards"
    folder.mkdir()

    def read(*names):
        found = {}
        for name in names:
            shard = folder / f"{name}.tar"
            shard.write_bytes(b"")
            path = write_codes(name, {Level.FINE: np.zeros((2, 1), np.uint8)}, shard_path=shard, kind=ShardKind.TAR)
            with open_codes(path) as file:
                found[path] = file.header
        return found

    return read


def test_a_shard_is_gone_where_its_folder_holds_other_things(headers, tmp_path):
    found = headers("a", "b")
    assert not missing_shards(found).gone
    (tmp_path / "shards/a.tar").unlink()
    missing = missing_shards(found)
    assert list(missing.gone.values()) == [str(tmp_path / "shards/a.tar")]
    assert missing.notices("they go") == [f"1 shard, {tmp_path}/shards/a.tar, is gone: they go"]


@pytest.mark.parametrize("unmount", [shutil.rmtree, lambda folder: [each.unlink() for each in folder.iterdir()]])
def test_a_shard_whose_folder_is_missing_or_empty_is_out_of_reach(headers, tmp_path, unmount):
    found = headers("a", "b", "c", "d")
    unmount(tmp_path / "shards")
    missing = missing_shards(found)
    assert not missing.gone
    assert len(missing.away) == 4
    (line,) = missing.notices("they go", "they stay")
    assert line.startswith("4 shards, ")
    assert missing.notices("they go") == []
    assert (
        "c.tar and 1 more, are out of reach: so are their folders, or disks are mounted there, so perhaps one is not mounted; they stay"
        in line
    )


def test_a_shard_that_stood_where_disks_are_mounted_is_out_of_reach(write_codes):
    path = write_codes("a", {Level.FINE: np.zeros((2, 1), np.uint8)}, shard_path="/nowhere")  # beside /proc
    with open_codes(path) as file:
        assert missing_shards({path: file.header}).away == {path: "/nowhere"}


def test_nothing_is_said_of_urls_and_of_codes_without_images(write_codes, tmp_path):
    codes = {Level.FINE: np.zeros((2, 1), np.uint8)}
    found = {}
    for name, shard, kind in (("a", "https://nowhere.example/a.tar", ShardKind.TAR), ("b", "/b.npy", ShardKind.NONE)):
        path = write_codes(name, codes, shard_path=shard, kind=kind)
        with open_codes(path) as file:
            found[path] = file.header
    assert missing_shards(found).notices("they go") == []
