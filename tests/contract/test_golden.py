"""Files of each format version, kept as bytes: what was written once is read for ever, and the newest written the same again."""

import json
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from encoder.bits import pack
from encoder.codes.file import CodeFileWriter, open_codes
from encoder.codes.header import CodeHeader, ShardRecord
from encoder.codes.rules import Rules
from encoder.codes.strings import TextColumn
from encoder.errors import Reject
from encoder.images.limits import Limits
from encoder.images.shards import ShardKind
from encoder.levels import Level
from indexer.settings import SearchSettings
from indexer.verify import verify

GOLDEN = Path(__file__).parents[1] / "golden"


def write_golden(folder: Path) -> Path:
    """Two rows with labels of every kind and a reject; every byte is decided here."""
    record = ShardRecord(
        "golden", ShardKind.TAR, "/data/golden.tar", 10240, "a" * 64, "10240:1", None, "", "../golden.tar"
    )
    rules = Rules(Limits(1000, 2000), "near:3", "f" * 64, 2)
    bits = np.zeros((2, 16), dtype=np.bool_)
    bits[0, [0, 9]] = bits[1, 15] = True
    with CodeFileWriter(folder, {Level.FINE: 8, Level.FUSED: 16}) as writer:
        codes, places = pack(bits), np.array([[512, 100], [1536, 7]], np.uint64)
        keys, digests = ["first", "zweite/ß"], b"d" * 16 + b"e" * 16
        writer.add_rows(keys, places, digests, {Level.FINE: codes[:, :1], Level.FUSED: codes})
        writer.label(0, {"fine": 1, "name": "é"}, "first")
        writer.label(1, {"fine": -2}, "zweite/ß")
        writer.reject("bad", Reject.TRUNCATED, "ends early")
        path = folder / "golden-v2.h5"
        writer.finish(path, CodeHeader("b" * 64, "fp32", {}, record, 0, 0, 0, 1, rules, {".md": 2}))
    return path


@pytest.mark.parametrize("version", [1, 2])
def test_the_golden_code_file_is_read_as_it_was_written(version):
    with open_codes(GOLDEN / f"golden-v{version}.h5") as file:
        assert (file.header.seen, file.header.rows, file.header.rejects, file.header.bad_labels) == (3, 2, 1, 1)
        assert file.header.bits == {Level.FINE: 8, Level.FUSED: 16}
        assert list(file.keys()) == ["first", "zweite/ß"]
        assert file.places().tolist() == [[512, 100], [1536, 7]]
        assert file.codes(Level.FINE).tolist() == [[1], [0]]
        assert file.codes(Level.FUSED).tolist() == [[1, 2], [0, 128]]
        assert np.asarray(file.label("fine").values).tolist() == [1, -2]
        name = file.label("name")
        assert isinstance(name.values, TextColumn)
        assert (list(name.values), name.present.tolist()) == (["é", ""], [True, False])
        [reject] = file.rejects()
        assert (reject.key, reject.reject, reject.detail) == ("bad", Reject.TRUNCATED, "ends early")
        if version == 1:
            assert (file.digests(), file.header.rules, file.header.shard.relative) == (None, Rules(), None)
        else:
            digests = file.digests()
            assert digests is not None
            assert [digest.tobytes() for digest in digests] == [b"d" * 16, b"e" * 16]
            assert file.header.rules == Rules(Limits(1000, 2000), "near:3", "f" * 64, 2)
            assert (file.header.shard.relative, file.header.skipped) == ("../golden.tar", {".md": 2})


def test_the_golden_code_file_opens_without_this_project():
    with h5py.File(GOLDEN / "golden-v1.h5") as file:
        assert file["codes/fused"][:].tolist() == [[1, 2], [0, 128]]
        assert json.loads(file.attrs["header"])["fingerprint"] == "b" * 64
        offset = file["codes/fused"].id.get_offset()
    mapped = np.memmap(GOLDEN / "golden-v1.h5", dtype=np.uint8, mode="r", offset=offset, shape=(2, 2))
    assert mapped.tolist() == [[1, 2], [0, 128]]


def test_the_user_block_is_the_one_in_the_specification():
    data = (GOLDEN / "golden-v1.h5").read_bytes()
    lines = data[:512].rstrip(b"\0").decode().splitlines()
    assert lines[:2] == ["hashgrain-codes 1", f"bytes {len(data)}"]
    assert data[512:520] == b"\x89HDF\r\n\x1a\n"


def test_the_writer_still_writes_what_the_golden_file_holds(tmp_path):
    """Content, not bytes: another HDF5 version may lay the same datasets out in another order. Version 1 named no kinds of labels."""

    def content(path):
        with h5py.File(path) as file:
            found = {"header": json.loads(file.attrs["header"]), "bit_order": file.attrs["bit_order"]}
            file.visititems(
                lambda name, item: found.update(
                    {name: item[:].tolist()} if isinstance(item, h5py.Dataset) else {name: dict(item.attrs)}
                )
            )
            return found

    assert content(write_golden(tmp_path)) == content(GOLDEN / "golden-v2.h5")


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_index_of_an_earlier_version_is_read(tmp_path, version):
    with tarfile.open(GOLDEN / f"index-v{version}.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    index = verify(tmp_path, lambda *_: None)
    assert [index.key(row) for row in range(2)] == ["first", "zweite/ß"]
    assert [index.labels(row) for row in range(2)] == [{"fine": 1, "name": "é"}, {"fine": -2}]
    assert index.codes(Level.FUSED, np.arange(2)).tolist() == [[1, 2], [0, 128]]
    queries = np.array([[1, 2], [1, 128]], np.uint8)
    for exact in (True, False):
        found = index.search(Level.FUSED, queries, SearchSettings(2, exact=exact))
        assert [one.rows.tolist() for one in found] == [[0, 1], [1, 0]]
        assert [one.distances.tolist() for one in found] == [[0, 3], [1, 2]]
    assert (index.manifest.live, index.manifest.history) == (2, ())


@pytest.mark.parametrize(("part", "version"), [("code file", 2), ("model file", 1), ("index", 4)])
def test_every_part_of_the_format_is_specified(part, version):
    text = (Path(__file__).parents[2] / "docs/FORMAT.md").read_text().lower()
    assert f"## {part}, version {version}" in text
