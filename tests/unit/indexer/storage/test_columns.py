"""Columns as .npy files: what is written is mapped, and what a stranger wrote is refused before it is believed."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from encoder.codes.strings import TextColumn
from encoder.errors import HashgrainError, Reason
from indexer.storage.columns import ColumnWriter, map_column, map_text, read_npy_header, write_column, write_text
from tests.support.hostile import HOSTILE_NPY, npy


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.uint32, np.int64, np.uint64, np.float64])
@pytest.mark.parametrize("shape", [(0,), (3,), (2, 3), (0, 2), (2, 0)])
def test_a_column_comes_back_as_it_was_written(tmp_path, rng, dtype, shape):
    values = rng.integers(0, 2, shape).astype(dtype)
    write_column(tmp_path / "a.npy", values)
    mapped = map_column(tmp_path / "a.npy", dtype, shape)
    assert mapped.dtype == dtype
    assert np.array_equal(mapped, values)
    assert np.array_equal(np.load(tmp_path / "a.npy"), values)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_headers_are_read_as_numpy_writes_them(tmp_path, version):
    path = tmp_path / "a.npy"
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.arange(6, dtype=np.uint64).reshape(2, 3), version)
    with path.open("rb") as file:
        header = read_npy_header(file)
    assert header.dtype == np.uint64
    assert header.shape == (2, 3)
    assert header.data_at + 48 == path.stat().st_size


def test_a_growing_column_ends_with_its_count(tmp_path):
    with ColumnWriter(tmp_path / "a.npy", np.uint64) as column:
        for start in range(0, 30, 10):
            column.append(np.arange(start, start + 10, dtype=np.uint64))
    assert map_column(tmp_path / "a.npy", np.uint64, (30,)).tolist() == list(range(30))


@pytest.mark.parametrize("name", HOSTILE_NPY)
def test_an_npy_file_that_is_none_is_refused_at_once(tmp_path, name):
    (tmp_path / "a.npy").write_bytes(HOSTILE_NPY[name])
    began = time.monotonic()
    with pytest.raises(HashgrainError) as refused:
        map_column(tmp_path / "a.npy", np.uint64, (2,))
    assert time.monotonic() - began < 1
    assert refused.value.reason is Reason.INDEX_DAMAGED
    assert "a.npy" in str(refused.value)


def test_a_header_takes_no_time_that_grows_with_its_spaces(tmp_path):
    (tmp_path / "a.npy").write_bytes(npy(b"{" + (b" " * 20 + b"'shape': (" + b" " * 2000) * 30 + b"!", bytes(16)))
    began = time.monotonic()
    with pytest.raises(HashgrainError):
        map_column(tmp_path / "a.npy", np.uint64, (2,))
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("offsets", "text"),
    [
        ([0, 2, 1, 4], b"abcd"),
        ([0, 2**63, 3, 4], b"abcd"),
        ([1, 2, 3, 4], b"abcd"),
        ([0, 1, 2, 3], b"a\xff\xff"),
        ([0, 1, 2, 3], "ä1".encode()),
    ],
    ids=["falling", "huge", "late", "no text", "parted"],
)
def test_text_is_read_within_its_bytes_or_refused(tmp_path, offsets, text):
    write_column(tmp_path / "keys.offsets.npy", np.array(offsets, np.uint64))
    write_column(tmp_path / "keys.text.npy", np.frombuffer(text, np.uint8))
    column = map_text(tmp_path, "keys", 3)
    assert column.fault()
    readings: list[Callable[[], object]] = [
        *(partial(column.__getitem__, row) for row in range(3)),
        partial(list, column),
    ]
    refused = []
    for read in readings:
        try:
            read()
        except HashgrainError as err:
            refused.append(err)
    assert refused or offsets[0]  # a first row that begins late is legal for that row, but not for the column
    assert {err.reason for err in refused} == {Reason.INDEX_DAMAGED}
    assert all("keys.text.npy" in str(err) for err in refused)


def test_text_that_is_sound_has_no_fault(tmp_path):
    words = ["", "ä", "日本", "", "z"]
    write_text(tmp_path, "keys", [TextColumn.of(words)])
    column = map_text(tmp_path, "keys", len(words))
    assert column.fault() is None
    assert list(column) == words == [column[row] for row in range(len(words))]


@pytest.mark.parametrize("row", [-1, 5, 2**40])
def test_a_row_that_is_not_there_is_damage(tmp_path, row):
    write_text(tmp_path, "keys", [TextColumn.of(["a"] * 5)])
    with pytest.raises(HashgrainError, match=f"row {row} is not among its 5"):
        map_text(tmp_path, "keys", 5)[row]


def test_a_file_that_is_there_is_not_written_over(tmp_path):
    (tmp_path / "a.npy").symlink_to("elsewhere")
    with pytest.raises(FileExistsError):
        write_column(tmp_path / "a.npy", np.arange(3))
    assert not (tmp_path / "elsewhere").exists()
