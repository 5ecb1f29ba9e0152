"""A level of an index: which lists are probed under a filter, and what memory a search takes."""

import numpy as np
import pytest

from indexer.engines.scan import driver as running
from indexer.matches import Bounds
from indexer.row_mask import row_set
from indexer.settings import BuildSettings, Dedupe, Engine, IndexKind, SearchSettings
from indexer.storage.manifest import Tuned
from indexer.storage.segment import LevelPart
from tests.support.level_indexes import sub_index

ROWS, BITS = 4000, 64


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def two_camps(rng):
    """Codes near all zeros in the first half, near all ones in the other."""
    camps = np.repeat(np.array([[0], [255]], dtype=np.uint8), ROWS // 2, axis=0)
    return np.repeat(camps, BITS // 8, axis=1) ^ (rng.random((ROWS, BITS // 8)) < 0.2)


def lists_of(folder, codes, nlist, dedupe=Dedupe.OFF):
    return sub_index(folder, [codes], [BuildSettings(IndexKind.IVF, nlist=nlist, dedupe=dedupe)])


@pytest.mark.parametrize("dedupe", [Dedupe.OFF, Dedupe.ON])
def test_rows_that_pass_are_found_though_they_lie_in_other_lists(tmp_path, rng, dedupe):
    codes = two_camps(rng)
    index = lists_of(tmp_path, codes, 2, dedupe)
    passing = np.arange(ROWS) >= ROWS // 2 - 5  # five in the camp of the query
    wanted = SearchSettings(10, engine=Engine.SCAN, nprobe=1)
    [found] = index.search(codes[:1], wanted, row_set(passing))
    [exact] = index.search(codes[:1], SearchSettings(10, exact=True), row_set(passing))
    assert found.rows.tolist() == exact.rows.tolist()
    assert len(found.rows) == 10


def test_a_recall_holds_for_what_a_filter_leaves(tmp_path, rng):
    centres = rng.integers(0, 256, (60, BITS // 8), dtype=np.uint8)
    codes = centres[rng.integers(0, 60, ROWS)] ^ np.packbits(rng.random((ROWS, BITS)) < 0.2, axis=1)
    queries = codes[:200] ^ np.packbits(rng.random((200, BITS)) < 0.1, axis=1)
    index = lists_of(tmp_path, codes, 64)

    def recall(settings, rows):
        found, exact = (index.search(queries, each, rows) for each in (settings, SearchSettings(10, exact=True)))
        return np.mean([np.isin(a.rows, b.rows).mean() for a, b in zip(found, exact, strict=True)])

    recalls = {n: recall(SearchSettings(10, engine=Engine.SCAN, nprobe=n), None) for n in (1, 2, 4, 8, 16, 32)}
    record = index.parts[0].record
    object.__setattr__(record, "tuned", Tuned(10, recalls))
    rows = row_set(rng.random(ROWS) < 0.5)
    asked = SearchSettings(10, engine=Engine.SCAN, recall=0.9)
    assert index._nprobes(asked, rows)[0] > index._nprobes(asked, None)[0]  # the share is .5, not all and not exact
    assert recall(asked, rows) >= 0.9


def test_what_an_exact_search_does_not_need_is_not_opened(tmp_path, rng, monkeypatch):
    index = lists_of(tmp_path, two_camps(rng), 2)
    monkeypatch.setattr(LevelPart, "ivf", property(lambda _: pytest.fail("the lists were opened")))
    assert len(index.search(np.zeros((1, BITS // 8), np.uint8), SearchSettings(3, exact=True), None)[0].rows) == 3


def test_one_query_with_many_answers_does_not_make_room_for_as_many_of_all(tmp_path, rng):
    codes = np.zeros((100_000, BITS // 8), dtype=np.uint8)
    index = sub_index(tmp_path, [codes], [BuildSettings(IndexKind.FLAT, dedupe=Dedupe.OFF)])
    queries = np.full((500, BITS // 8), 255, dtype=np.uint8)
    queries[7] = 0
    found = index.search(queries, SearchSettings(None, 3, engine=Engine.SCAN, exact=True), None)
    assert [len(one.rows) for one in found] == [100_000 if at == 7 else 0 for at in range(500)]


def test_batches_are_smaller_where_distances_are_large():
    terms = Bounds(10)
    few = running.batches(np.zeros((1024, 8), np.uint8), terms, 65_000)[0]
    many = running.batches(np.zeros((1024, 8), np.uint8), terms, 64)[0]
    assert len(few) * 65_000 <= running.CANDIDATES
    assert len(many) == running.BATCH


def test_entries_of_a_filter_are_looked_up_once(tmp_path, rng):
    codes = np.repeat(rng.integers(0, 256, (50, BITS // 8), dtype=np.uint8), 4, axis=0)
    index = sub_index(tmp_path, [codes], [BuildSettings(IndexKind.FLAT, dedupe=Dedupe.ON)])
    rows = row_set(np.arange(200) % 3 == 0)
    assert index._entries_of(rows) is index._entries_of(rows)
    assert index._entries_of(row_set(np.zeros(200, bool))) is not index._entries_of(rows)
