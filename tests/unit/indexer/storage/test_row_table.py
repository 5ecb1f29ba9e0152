import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.codes.strings import TextColumn
from encoder.errors import HashgrainError
from indexer.storage import row_table
from indexer.storage.columns import write_column, write_text
from indexer.storage.row_table import AskedKeys, RowTable, hash_keys

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=5)


def table_of(folder, keys):
    hashes = row_table.hash_keys(keys)
    order = np.argsort(hashes, kind="stable")
    for left in folder.glob("*.npy"):
        left.unlink()
    write_column(folder / "keys.order.npy", order)
    write_column(folder / "keys.hashes.npy", hashes[order])
    write_text(folder, "keys", [TextColumn.of(keys)])
    write_column(folder / "places.npy", np.zeros((len(keys), 2), np.uint64))
    return RowTable(folder, len(keys), [])


@given(st.lists(NAMES, unique=True, max_size=30), st.lists(NAMES, max_size=10), st.booleans())
def test_keys_lead_to_their_rows_and_others_to_none(tmp_path, keys, others, as_column):
    table, asked = table_of(tmp_path, keys), [*keys[::-1], *others, *keys[:3]]
    expected = [keys.index(key) if key in keys else -1 for key in asked]
    assert table.rows_of(AskedKeys.of(TextColumn.of(asked) if as_column else asked)).tolist() == expected
    assert table.rows_of(AskedKeys.of(asked, hash_keys(asked))).tolist() == expected
    assert [table.find(key) for key in asked] == [None if row < 0 else row for row in expected]


def test_keys_that_share_a_hash_are_told_apart(tmp_path, monkeypatch):
    def four_hashes(keys):
        return np.array([len(key) % 4 for key in keys], dtype=np.uint64)

    monkeypatch.setattr(row_table, "hash_keys", four_hashes)
    keys = ["a", "bb", "b", "ccccc", "c", "", "dddd"]
    table = table_of(tmp_path, keys)
    assert table.rows_of(AskedKeys.of(["c", "ccccc", "x", "dddd", "", "bb", "b", "a"])).tolist() == [
        4,
        3,
        -1,
        6,
        5,
        1,
        2,
        0,
    ]


def test_bytes_that_are_not_text_are_a_key_of_nobody(tmp_path):
    table = table_of(tmp_path, ["a", "\N{REPLACEMENT CHARACTER}", "?"])
    assert table.rows_of(AskedKeys.of(["\udcff", "?", "\udcff"])).tolist() == [-1, 2, -1]
    assert table.find("\udcff") is None


def test_rows_and_offsets_of_a_stranger_are_not_followed(tmp_path):
    table_of(tmp_path, ["a", "b"])
    (tmp_path / "keys.order.npy").unlink()
    write_column(tmp_path / "keys.order.npy", np.array([2, -1]))
    with pytest.raises(HashgrainError, match=r"keys.order.npy leads out of the 2 rows; build the index again"):
        RowTable(tmp_path, 2, []).find("a")
    table_of(tmp_path, ["a", "b"])
    (tmp_path / "keys.offsets.npy").unlink()
    write_column(tmp_path / "keys.offsets.npy", np.array([2**63, 2**63 + 1, 2], np.uint64))
    assert RowTable(tmp_path, 2, []).rows_of(AskedKeys.of(["a", "b"])).tolist() == [-1, -1]
