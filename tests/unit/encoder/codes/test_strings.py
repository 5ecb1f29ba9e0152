import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.codes.strings import TextColumn, TextsColumn
from encoder.errors import HashgrainError

TEXTS = st.lists(st.text(max_size=5), min_size=1, max_size=12)


@given(TEXTS, st.data())
def test_rows_that_are_taken_are_the_rows(texts, data):
    chosen = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=15))
    taken = TextColumn.of(texts).take(np.array(chosen, np.int64))
    assert list(taken) == [texts[row] for row in chosen]
    assert taken.fault() is None
    assert list(taken.encoded()) == [texts[row].encode() for row in chosen]


@given(st.lists(TEXTS, min_size=1, max_size=6), st.data())
def test_lists_that_are_taken_are_the_lists(lists, data):
    chosen = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=9))
    taken = TextsColumn.of(lists).take(np.array(chosen, np.int64))
    assert list(taken) == [tuple(lists[row]) for row in chosen]
    assert taken.fault() is None


@pytest.mark.parametrize("offsets", [[0, 3, 1, 2], [0, 1, 2**63, 2], [0, 1, 9, 9]], ids=["falling", "huge", "beyond"])
def test_rows_that_lead_out_of_the_text_are_not_taken(offsets):
    column = TextColumn(np.zeros(2, np.uint8), np.array(offsets, np.uint64), "keys.text.npy")
    with pytest.raises(HashgrainError, match=r"keys.text.npy is damaged: row \d leads from"):
        column.take(np.arange(3))
    items = TextColumn(np.zeros(0, np.uint8), np.zeros(3, np.uint64), "items.npy")
    with pytest.raises(HashgrainError, match=r"items.npy is damaged: row \d leads from"):
        TextsColumn(np.array(offsets, np.uint64), items).take(np.arange(3))
