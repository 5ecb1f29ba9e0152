import resource
import time
from itertools import pairwise

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.codes.file import (
    MAGIC,
    USER_BLOCK,
    CodeFileWriter,
    _seal,
    list_code_files,
    open_codes,
)
from encoder.codes.header import CodeHeader, ShardRecord
from encoder.errors import HashgrainError, Reason, Reject
from encoder.images.shards import ShardKind
from encoder.levels import Level
from tests.support.hostile import HOSTILE_CODES

label_values = st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(max_size=5))
labels = st.dictionaries(st.sampled_from(["a", "b/c", "", "é"]), label_values, max_size=3)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.text(min_size=1, max_size=6), labels), max_size=8), st.integers(1, 4))
def test_what_is_written_is_read_back(write_codes, rows, size):
    rng = np.random.default_rng(len(rows))
    codes = {level: rng.integers(0, 256, (len(rows), size * (n + 1)), dtype=np.uint8) for n, level in enumerate(Level)}
    places = [(n * 1000, n + 1) for n in range(len(rows))]
    rejects = [("bad", Reject.CORRUPT, "no image")]
    path = write_codes(
        "a", codes, keys=[key for key, _ in rows], labels=[label for _, label in rows], places=places, rejects=rejects
    )
    with open_codes(path) as file:
        assert (file.header.seen, file.header.rows, file.header.rejects) == (len(rows) + 1, len(rows), 1)
        assert list(file.keys()) == [key for key, _ in rows]
        assert file.places().tolist() == [list(place) for place in places]
        for level in Level:
            assert (file.codes(level) == codes[level]).all()
            assert (file.codes(level, 1, 3) == codes[level][1:3]).all()
        assert [(row.key, row.reject, row.detail) for row in file.rejects()] == rejects
        for name in file.label_fields():
            column = file.label(name)
            assert column.present.tolist() == [name in label for _, label in rows]
            for value, (_, label) in zip(column.to_list(), rows, strict=True):
                assert name not in label or value in (label[name], str(label[name]))
        assert {name for _, label in rows for name in label} == set(file.label_fields())


def small(write_codes, name="a"):
    return write_codes(
        name, {Level.FINE: np.arange(80, dtype=np.uint8).reshape(10, 8)}, labels=[{"fine": n} for n in range(10)]
    )


def reason_of(path):
    with pytest.raises(HashgrainError) as caught, open_codes(path):
        pass
    assert "\n" not in str(caught.value)
    return caught.value.reason


def test_the_same_rows_give_the_same_bytes(write_codes, tmp_path):
    first, second = small(write_codes).read_bytes(), write_codes
    again = second(
        "a",
        {Level.FINE: np.arange(80, dtype=np.uint8).reshape(10, 8)},
        labels=[{"fine": n} for n in range(10)],
        folder=tmp_path / "again",
    )
    assert again.read_bytes() == first


def test_every_cut_is_noticed(write_codes, tmp_path):
    whole, cut = small(write_codes).read_bytes(), tmp_path / "cut.h5"
    for length in [*range(0, USER_BLOCK + 64, 7), *range(USER_BLOCK, len(whole), 211), len(whole) - 1]:
        cut.write_bytes(whole[:length])
        assert reason_of(cut) is (Reason.CODES_DAMAGED if length > len(f"{MAGIC} ") else Reason.CODES_MISSING)


def test_every_flipped_bit_is_noticed(write_codes, tmp_path, rng):
    whole, path = small(write_codes).read_bytes(), tmp_path / "flip.h5"
    for place in [*range(USER_BLOCK), *rng.integers(USER_BLOCK, len(whole), 500).tolist()]:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        begins = Reason.CODES_MISSING if place <= len(MAGIC) else Reason.TOO_NEW
        assert reason_of(path) in {Reason.CODES_DAMAGED, begins if place <= len(f"{MAGIC} ") else Reason.CODES_DAMAGED}


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY\x01\x00", b"\x89HDF\r\n\x1a\n", b"hashgrain-index 1\n"])
def test_nobody_is_told_to_delete_what_we_did_not_write(tmp_path, data):
    path = tmp_path / "codes.npy"
    path.write_bytes(data)
    with pytest.raises(HashgrainError, match="is not a code file") as caught, open_codes(path):
        pass
    assert caught.value.reason is Reason.CODES_MISSING
    assert "delete" not in str(caught.value).replace(str(path), "")


def read_all(path):
    """Read everything of a code file."""
    with open_codes(path) as file:
        read = [file.keys(), file.places(), file.digests(), file.rejects(), file.bad_labels()]
        return (
            read
            + [file.codes(level) for level in file.header.bits]
            + [file.label(name) for name in file.label_fields()]
        )


@pytest.mark.parametrize("harm", HOSTILE_CODES)
def test_a_hostile_file_with_a_true_digest_is_refused_at_once(write_codes, harm):
    codes = {Level.FINE: np.arange(80, dtype=np.uint8).reshape(10, 8)}
    path = write_codes(
        "a", codes, labels=[{"fine": n} for n in range(10)], rejects=[("bad", Reject.CORRUPT, "no image")]
    )
    read_all(path)
    with h5py.File(path, "r+") as file:
        HOSTILE_CODES[harm](file)
    _seal(path)
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(HashgrainError) as refused:
        read_all(path)
    assert refused.value.reason is Reason.CODES_DAMAGED
    assert str(path) in str(refused.value)
    assert time.monotonic() - began < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


def test_a_newer_version_says_upgrade(write_codes):
    path = small(write_codes)
    path.write_bytes(path.read_bytes().replace(b"hashgrain-codes 2", b"hashgrain-codes 3", 1))
    with (
        pytest.raises(HashgrainError, match="format version 3, this program reads 2; upgrade hashgrain"),
        open_codes(path),
    ):
        pass


def test_missing_files_and_empty_folders_are_named(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(HashgrainError) as caught:
            list_code_files([path])
        assert caught.value.reason is Reason.CODES_MISSING


def test_labels_that_come_late_win_and_mixed_fields_become_strings(tmp_path, write_codes):
    path = write_codes("m", {Level.FINE: np.zeros((3, 1), np.uint8)}, labels=[{"x": 1}, {"x": "one"}, {}])
    with open_codes(path) as file:
        column = file.label("x")
        assert column.to_list() == ["1", "one", None]
        assert not file.label("nowhere").present.any()


@settings(max_examples=30)
@given(st.lists(st.tuples(st.text(max_size=6), labels), min_size=1, max_size=12), st.lists(st.integers(0, 12)))
def test_rows_in_runs_of_any_length_make_the_same_file(tmp_path_factory, rows, cuts):
    keys = [f"{number}{key}" for number, (key, _) in enumerate(rows)]
    places = np.array([(2**63 + n, n) for n in range(len(rows))], np.uint64)
    codes = np.arange(2 * len(rows), dtype=np.uint8).reshape(-1, 2)

    def written(edges):
        folder = tmp_path_factory.mktemp("runs")
        with CodeFileWriter(folder, {Level.FINE: 16}) as writer:
            for start, stop in pairwise(edges):
                digests = b"".join(bytes([n]) * 16 for n in range(start, stop))
                first = writer.add_rows(keys[start:stop], places[start:stop], digests, {Level.FINE: codes[start:stop]})
                assert first == start
                for row in range(start, stop):
                    writer.label(row, rows[row][1], keys[row])
            record = ShardRecord("runs", ShardKind.TAR, "/nowhere", 0, "0" * 64, "", None, "")
            writer.finish(folder / "runs.h5", CodeHeader("f" * 64, "fp32", {}, record, 0, 0, 0, 0))
        return (folder / "runs.h5").read_bytes()

    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    assert written(edges) == written(range(len(rows) + 1))


def test_what_was_read_counts_when_the_disk_fails_at_closing(write_codes, monkeypatch):
    path = write_codes("a", {Level.FINE: np.zeros((2, 1), np.uint8)})

    def refuse(file, close=h5py.File.close):
        close(file)
        raise RuntimeError("Can't decrement id ref count (unable to close file, errno = 5)")

    monkeypatch.setattr(h5py.File, "close", refuse)
    with open_codes(path) as file:
        assert len(file.keys()) == 2
