import numpy as np

from indexer import row_mask
from indexer.row_mask import row_set, size_of


def test_the_rows_of_a_set_are_counted_once_and_those_of_another_anew(monkeypatch):
    counted, bitwise_count = [], np.bitwise_count

    def count(words):
        counted.append(len(words))
        return bitwise_count(words)

    monkeypatch.setattr(np, "bitwise_count", count)
    before = len(row_mask._SIZES)
    for size in range(100):  # memory of a set that is gone is used again
        rows = row_set(np.arange(100) < size)
        assert [size_of(rows), size_of(rows)] == [size, size]
    assert len(counted) == 100
    del rows
    assert len(row_mask._SIZES) == before
